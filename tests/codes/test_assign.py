"""Balanced assignment: capacities are laws, and the cost stays near the optimum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from gif_jax.codes.assign import assign


def _optimum(cost, places):
  """The least total cost, by the Hungarian method with every place a column."""
  columns = np.repeat(cost, places, axis=1)
  return columns[linear_sum_assignment(columns)].sum()


@settings(deadline=None)
@given(
  sizes=st.lists(st.integers(0, 30), min_size=1, max_size=8),
  v=st.integers(1, 6),
  spare=st.integers(0, 3),
  ties=st.booleans(),
  seed=st.integers(0, 1000),
)
def test_capacities_are_never_exceeded(sizes, v, spare, ties, seed):
  rng = np.random.default_rng(seed)
  node = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
  cost = np.zeros((len(node), v)) if ties else rng.standard_normal((len(node), v))
  capacity = -(-max(sizes) // v) + spare
  child = assign(cost.astype(np.float32), node, capacity)
  assert child.shape == node.shape
  filled = np.bincount(node * v + child, minlength=len(sizes) * v)
  assert filled.max(initial=0) <= capacity


@given(seed=st.integers(0, 1000))
@settings(deadline=None)
def test_free_capacity_gives_everyone_the_cheapest_child(seed):
  cost = np.random.default_rng(seed).standard_normal((50, 5)).astype(np.float32)
  assert np.array_equal(assign(cost, np.repeat([0, 1], 25), 25), cost.argmin(1))


def test_full_capacity_of_every_child_and_own_places_per_child():
  cost = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)
  places = np.array([[4, 0, 2], [1, 5, 0]])
  node = np.tile([0, 1], 6)
  child = assign(cost, node, places)
  assert np.array_equal(np.bincount(node * 3 + child, minlength=6), places.reshape(-1))


def test_a_contested_child_goes_to_who_would_pay_more():
  cost = np.array([[0, 1], [0, 5], [1, 0]], np.float32)
  assert assign(cost, np.zeros(3, int), np.array([[1, 2]])).tolist() == [1, 0, 1]


@pytest.mark.parametrize(('updates', 'bound'), [(0, 0.2), (8, 0.05)])
def test_cost_is_near_the_optimum(updates, bound):
  """With centres unrelated to the points, the hardest case, and with their means, as in Lloyd's iterations."""
  excess = []
  for seed in range(50):
    rng = np.random.default_rng(seed)
    points, centres = rng.standard_normal((12, 2)), rng.standard_normal((3, 2))
    for _ in range(updates):
      cost = ((points[:, None] - centres) ** 2).sum(-1).astype(np.float32)
      child = assign(cost, np.zeros(12, int), 4)
      centres = np.stack([points[child == c].mean(0) for c in range(3)])
    cost = ((points[:, None] - centres) ** 2).sum(-1).astype(np.float32)
    child = assign(cost, np.zeros(12, int), 4)
    excess.append(cost[np.arange(12), child].sum() / _optimum(cost, 4) - 1)
  assert min(excess) > -1e-5
  assert np.mean(excess) < bound


def test_nodes_do_not_influence_each_other():
  rng = np.random.default_rng(3)
  cost = rng.standard_normal((40, 4)).astype(np.float32)
  node = rng.permutation(np.repeat([0, 1], 20))
  together = assign(cost, node, 5)
  for each in (0, 1):
    assert np.array_equal(together[node == each], assign(cost[node == each], np.zeros(20, int), 5))


def test_too_many_points_raise():
  with pytest.raises(ValueError, match='raise the capacity'):
    assign(np.zeros((5, 2), np.float32), np.zeros(5, int), 2)


def test_no_points():
  assert assign(np.zeros((0, 2), np.float32), np.zeros(0, int), 2).shape == (0,)
