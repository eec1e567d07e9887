"""Identification rates, against cases worked out by hand."""

import numpy as np
import pytest

from gif_jax.identification.metrics import digit_accuracy, rank_rates


def test_digit_accuracy_counts_each_digit_apart():
  log_probs = np.log(np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.7, 0.3]]]))
  assert digit_accuracy(log_probs, np.array([[0, 1], [1, 0]], np.uint8)) == [0.5, 1.0]


def test_rank_rates_by_hand():
  candidates = np.array([[3, 1, -1], [0, 2, 1], [5, 4, 3], [2, -1, -1]])
  label = np.array([3, 1, 0, 7])
  assert rank_rates(candidates, label, (1, 2, 3)) == {1: 0.25, 2: 0.25, 3: 0.5}
  with pytest.raises(ValueError, match='rank 5 needs as many candidates, got 3'):
    rank_rates(candidates, label)
