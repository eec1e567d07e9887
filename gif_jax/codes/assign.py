"""Balanced assignment: every point to a child of its node, no child over its capacity."""

import numpy as np


def assign(cost: np.ndarray, node: np.ndarray, capacity: int | np.ndarray) -> np.ndarray:
  """Places every point at a cheap child of its node such that no child exceeds its capacity.

  In rounds, for all nodes at once: each free point bids for the cheapest child of its node that is still open; a child
  bid for by more points than it has places keeps the bids with the largest margin (what the second best open child
  would cost more) and closes. Where no capacity binds, that is one round and every point gets its cheapest child.

  Args:
    cost: float32 [n, v], finite: what each child of its own node would cost each point.
    node: int [n]: the node each point belongs to, 0..N-1, in any order.
    capacity: places per child: one number, or an array that broadcasts to [N, v].

  Returns int64 [n]: the child of each point. Exact: it succeeds for every input in which no node holds more points than
  its children have places, and raises ValueError for any other.
  """
  n, v = cost.shape
  node = np.asarray(node, np.int64)
  count = int(node.max()) + 1 if n else 0
  places = np.array(np.broadcast_to(capacity, (count, v)), np.int64)
  if np.any(np.bincount(node, minlength=count) > places.sum(1)):
    raise ValueError('a node holds more points than its children have places: raise the capacity')
  child = np.empty(n, np.int64)
  free = np.arange(n)
  while len(free):
    best, margin = _bid(cost[free], places[node[free]] > 0)
    bid = node[free] * v + best
    won = _winners(bid, margin, places.reshape(-1))
    child[free[won]] = best[won]
    places -= np.bincount(bid[won], minlength=places.size).reshape(places.shape)
    free = free[~won]
  return child


def _bid(cost: np.ndarray, is_open: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The cheapest open child of each point, and by how much the second best is dearer (inf without a second)."""
  cost = np.where(is_open, cost, np.inf)
  best = cost.argmin(1)
  rows = np.arange(len(cost))
  lowest = cost[rows, best]
  cost[rows, best] = np.inf
  return best, cost.min(1) - lowest


def _winners(bid: np.ndarray, margin: np.ndarray, places: np.ndarray) -> np.ndarray:
  """Which bids are kept: all of a child with room for all, elsewhere the largest margins (earlier points at a tie)."""
  size = np.bincount(bid, minlength=len(places))
  won = (size <= places)[bid]
  lost = np.flatnonzero(~won)
  lost = lost[np.lexsort((-margin[lost], bid[lost]))]
  crowd = bid[lost]
  rank = np.arange(len(lost)) - np.searchsorted(crowd, crowd)
  won[lost] = rank < places[crowd]
  return won
