"""Intervals by resampling identities: against scikit-learn, by hand, and against samples that are really new."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from gif_jax.evaluation import bootstrap
from gif_jax.evaluation.bootstrap import Tail


def _all_pairs(z, identity):
  left, right = np.triu_indices(len(z), 1)
  return (z @ z.T)[left, right], identity[left], identity[right]


def _tail(z, identity, share=1.0):
  """The tail of all pairs; with a share below 1 of so many impostors, weighed by the formula."""
  score, left, right = _all_pairs(z, identity)
  same = left == right
  falling = np.argsort(-score[~same], kind='stable')
  falling = falling[: int(share * len(falling))]
  images = np.bincount(identity)

  def total(weights):
    drawn = weights * images
    return (drawn.sum() ** 2 - (drawn**2).sum()) // 2

  return Tail(
    score[same],
    left[same],
    score[~same][falling],
    left[~same][falling],
    right[~same][falling],
    total if share < 1 else None,
  )


def _people(rng, m=40, images=4, d=16):
  centre = rng.normal(size=(m, d))
  z = np.repeat(centre, images, 0) + rng.normal(size=(m * images, d))
  return (z / np.linalg.norm(z, axis=1, keepdims=True)), np.repeat(np.arange(m), images)


FARS = (1e-3, 1e-2, 1e-1)


@pytest.mark.parametrize('share', [1.0, 0.3])
def test_with_everybody_once_it_is_the_curve_of_scikit_learn(share):
  z, identity = _people(np.random.default_rng(0))
  z = np.round(z, 1)  # ties
  score, left, right = _all_pairs(z, identity)
  fpr, tpr, _ = roc_curve(left == right, score, drop_intermediate=False)
  expected = tpr[np.searchsorted(fpr, FARS, side='right') - 1]
  np.testing.assert_array_equal(bootstrap.tars(_tail(z, identity, share), FARS, 40), expected)


def test_nearest_by_hand():
  tail = Tail(
    np.array([0.9, 0.7, 0.5, 0.3]), np.zeros(4, int), np.array([0.8, 0.6, 0.6, 0.4, 0.2]), np.arange(5), np.arange(5)
  )
  # (FAR, TAR) at 0: 1/4 (above .8); at .2: 2/4 (above .6); at .6: 3/4 (above .4); at .8: 4/4; at 1: 4/4.
  assert bootstrap.tars(tail, (0.3, 0.4, 0.41, 0.71, 0.0), 5, nearest=True).tolist() == [0.5, 0.75, 0.75, 1.0, 0.25]
  assert bootstrap.tars(tail, (0.3, 0.4, 0.59, 0.6, 1.0), 5).tolist() == [0.5, 0.5, 0.5, 0.75, 1.0]


def test_a_replicate_is_the_curve_of_the_people_drawn():
  """Weights against a set in which everybody drawn twice is there as two people who are not compared."""
  z, identity = _people(np.random.default_rng(1), m=12)
  weights = next(bootstrap.draws(12, 1, seed=5))
  assert weights.sum() == 12 and weights.max() > 1
  copies = [(person, copy) for person in range(12) for copy in range(weights[person])]
  rows = np.concatenate([np.flatnonzero(identity == person) for person, _ in copies])
  who, copy = np.repeat(np.arange(len(copies)), 4), np.repeat([person for person, _ in copies], 4)
  score, left, right = _all_pairs(z[rows], who)
  compared = (left == right) | (copy[np.triu_indices(len(rows), 1)[0]] != copy[np.triu_indices(len(rows), 1)[1]])
  fpr, tpr, _ = roc_curve((left == right)[compared], score[compared], drop_intermediate=False)
  found = bootstrap._Curve(_tail(z, identity)).tar(weights, FARS, False)
  np.testing.assert_allclose(found, tpr[np.searchsorted(fpr, FARS, side='right') - 1], atol=1e-12)
  np.testing.assert_allclose(bootstrap._Curve(_tail(z, identity, 0.5)).tar(weights, FARS, False), found, atol=1e-12)


@pytest.mark.slow
def test_intervals_hold_the_figure_of_the_population():
  """95 % intervals of 40 people, against TAR of 1500 of the same kind: most must hold it, and not by being wide."""
  z, identity = _people(np.random.default_rng(2), m=600)
  truth = bootstrap.tars(_tail(z, identity, 0.2), (1e-2,), 600)[0]
  held, width = 0, []
  for seed in range(40):
    tail = _tail(*_people(np.random.default_rng(100 + seed)))
    low, high = bootstrap.tar_intervals(tail, (1e-2,), 40, 200)[1e-2]
    held += low <= truth <= high
    width.append(high - low)
  assert held >= 33 and np.mean(width) < 0.4


def test_no_replicates_no_intervals():
  assert bootstrap.tar_intervals(_tail(*_people(np.random.default_rng(3))), FARS, 40, 0) == {}


def test_interval_leaves_out_what_could_not_be_measured():
  low, high = bootstrap.interval([*np.linspace(0, 1, 101), np.nan])
  assert (low, high) == pytest.approx((0.025, 0.975))
  assert np.isnan(bootstrap.interval([np.nan, np.nan])).all()
