"""The nodes of one level of a tree: who is in each, and where their children lie."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.sparse import csc_matrix

ROWS = 16384  # vectors brought to float32 at a time


class Nodes(NamedTuple):
  """The N nodes of a level: order int64 [m], identities node by node; start, size int64 [N], each node's part of it."""

  order: np.ndarray
  start: np.ndarray
  size: np.ndarray

  @classmethod
  def of(cls, node: np.ndarray) -> 'Nodes':
    """node: int64 [m], the node of every identity, 0..N-1, none without identities."""
    size = np.bincount(node)
    return cls(np.argsort(node, kind='stable'), np.cumsum(size) - size, size)

  def members(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The identities of the nodes `which` int64 [k], int64 [n], and for each the position of its node in `which`."""
    size = self.size[which]
    owner = np.repeat(np.arange(len(which)), size)
    offset = self.start[which] - (np.cumsum(size) - size)
    return self.order[np.arange(len(owner)) + offset[owner]], owner

  def blocks(self) -> Iterator[np.ndarray]:
    """All nodes in order, in blocks of at most ROWS identities, or of one node that alone has more."""
    first, end = 0, self.start + self.size
    while first < len(end):
      last = max(first + 1, int(np.searchsorted(end, self.start[first] + ROWS, 'right')))
      yield np.arange(first, last)
      first = last


class Children(NamedTuple):
  """The e children of some nodes, ordered by node.

  parent: int64 [e], position of its node among those asked for. digit: int64 [e], the child's number under its node.
  size: int64 [e], its identities. centroid, residual: float32 [e, d], their mean, and that less the node's own mean.
  mean: float32 [k, d], of every node. identities, child: int64 [n], everyone under the nodes and where their child is.
  """

  parent: np.ndarray
  digit: np.ndarray
  size: np.ndarray
  centroid: np.ndarray
  residual: np.ndarray
  mean: np.ndarray
  identities: np.ndarray
  child: np.ndarray


def children(vectors: np.ndarray, nodes: Nodes, which: np.ndarray, digit: np.ndarray, v: int) -> Children:
  """The children that `digit`, integers 0..v-1 [m], makes of the nodes `which` int64 [k]; vectors float [m, d]."""
  identities, owner = nodes.members(which)
  key, child, size = np.unique(owner * v + digit[identities], return_inverse=True, return_counts=True)
  total = _sums(vectors, identities, child, len(key))
  parent, number = np.divmod(key, v)
  first = np.flatnonzero(np.diff(parent, prepend=-1))
  mean = np.add.reduceat(total, first) / np.add.reduceat(size, first)[:, None].astype(np.float32)
  total /= size[:, None].astype(np.float32)
  return Children(parent, number, size, total, total - mean[parent], mean, identities, child)


def centre(vectors: np.ndarray) -> np.ndarray:
  """The mean of all vectors [m, d]: float32 [d]."""
  m = len(vectors)
  return _sums(vectors, np.arange(m), np.zeros(m, np.int64), 1)[0] / np.float32(m)


def _sums(vectors: np.ndarray, rows: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
  """The sum of the vectors of every group, float32 [groups, d], read a slice at a time."""
  total = np.zeros((groups, vectors.shape[1]), np.float32)
  for start in range(0, len(rows), ROWS):
    some = vectors[rows[start : start + ROWS]].astype(np.float32, copy=False)
    one, index = np.ones(len(some), np.float32), group[start : start + ROWS]
    total += csc_matrix((one, index, np.arange(len(some) + 1)), (groups, len(some))) @ some
  return total
