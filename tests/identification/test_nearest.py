"""Identification rates and matching, against cases worked out by hand and a plain sort."""

import numpy as np
import pytest

from gif_jax.identification.nearest import digit_accuracy, nearest, rank_rates


def test_digit_accuracy_counts_each_digit_apart():
  log_probs = np.log(np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.7, 0.3]]]))
  assert digit_accuracy(log_probs, np.array([[0, 1], [1, 0]], np.uint8)) == [0.5, 1.0]


def test_rank_rates_by_hand():
  candidates = np.array([[3, 1, -1], [0, 2, 1], [5, 4, 3], [2, -1, -1]])
  label = np.array([3, 1, 0, 7])
  assert rank_rates(candidates, label, (1, 2, 3)) == {1: 0.25, 2: 0.25, 3: 0.5}
  with pytest.raises(ValueError, match='rank 5 needs as many candidates, got 3'):
    rank_rates(candidates, label)


@pytest.mark.parametrize('block', [2**24, 70])
def test_nearest_agrees_with_sorting_all_cosines(block, monkeypatch):
  monkeypatch.setattr('gif_jax.identification.nearest._BLOCK', block)
  rng = np.random.default_rng(0)
  z, h = rng.normal(size=(10, 8)), rng.normal(size=(53, 8)).astype(np.float16)
  h[20] = h[40] = h[3]  # ties across blocks
  cosine = z @ (h / np.linalg.norm(h.astype(float), axis=1, keepdims=True)).T
  result = nearest(z, h, 6)
  np.testing.assert_array_equal(result, np.argsort(-cosine.round(6), axis=1, kind='stable')[:, :6])
  assert result.dtype == np.int64


def test_nearest_pads_beyond_m():
  assert nearest(np.array([[0.0, 2.0]]), np.eye(2), 3).tolist() == [[1, 0, -1]]
