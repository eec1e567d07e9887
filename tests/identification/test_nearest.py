"""Matching with all vectors, against a plain sort."""

import numpy as np
import pytest

from gif_jax.identification.nearest import nearest


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
