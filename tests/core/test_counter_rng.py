"""Permutations by counters: bijections, another for every seed and counter, as even as chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gif_jax.core import counter_rng


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.integers(1, 3000), st.integers(-(2**40), 2**40), st.integers(0, 2**40))
def test_a_permutation(n, seed, epoch):
  assert np.array_equal(np.sort(counter_rng.permuted(np.arange(n), n, seed, epoch)), np.arange(n))


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(1, 2**40), st.lists(st.integers(0, 2**40), min_size=1, max_size=50))
def test_a_place_does_not_depend_on_the_others(n, places):
  places = np.array(places) % n
  epochs = places % 3
  together = counter_rng.permuted(places, n, 5, epochs)
  assert together.dtype == np.int64 and (together >= 0).all() and (together < n).all()
  for place, epoch, found in zip(places, epochs, together):
    assert counter_rng.permuted(np.array([place]), n, 5, epoch) == found


@pytest.mark.slow
@pytest.mark.parametrize('n', [7, 12, 100])
def test_every_place_is_as_likely(n):
  """Chi-squared over 4000 epochs: n * n counts with (n - 1)**2 degrees of freedom."""
  found = np.stack([counter_rng.permuted(np.arange(n), n, 1, epoch) for epoch in range(4000)])
  counts = np.stack([np.bincount(found[:, place], minlength=n) for place in range(n)])
  freedom = (n - 1) ** 2
  squares = ((counts - 4000 / n) ** 2 / (4000 / n)).sum()
  assert abs(squares - freedom) < 4 * (2 * freedom) ** 0.5


def test_the_first_images_of_millions_are_spread_evenly_and_unrelated():
  n, k = 42_474_557, 200_000
  first, then = (counter_rng.permuted(np.arange(k), n, 1, epoch) for epoch in (0, 1))
  counts = np.histogram(first, 100, (0, n))[0]
  assert ((counts - k / 100) ** 2 / (k / 100)).sum() < 99 + 4 * (2 * 99) ** 0.5
  for a, b in ((first, then), (first[1:], first[:-1]), (first, np.arange(k))):
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / k**0.5
