"""Codes for people who come later: the free leaves nearest to their vectors. Nobody else's code changes."""

import math
from fractions import Fraction

import numpy as np

from gif_jax.codes.assign import assign

ROWS = 16384  # vectors read at a time
NUMBERS = 1 << 23  # float32 numbers of children's centroids held at a time


def placeholders(m: int, slack: float, free: int, seed: int) -> np.ndarray:
  """Identities, int64 [k], whose vectors are to be given codes twice, so that room is left where people are.

  k is m * slack, or as many codes as are `free`. People who come later look like those who are here: the second codes,
  given to nobody, lie where they will be wanted, and not only where few people are.
  """
  k = min(int(m * Fraction(str(slack))), free)
  return np.sort(np.resize(np.random.default_rng(seed).permutation(m), k))


def extend_codes(codes: np.ndarray, vectors: np.ndarray, v: int, newcomers: np.ndarray) -> np.ndarray:
  """Descends the tree of an existing table with all newcomers at once (docs/method.md, "Newcomers").

  At every level each newcomer bids for the children of its node (`assign`), at the squared distance to a child's
  centroid, the mean vector of the identities below it. A child at depth j has v**(l-j) places less its identities. A
  child without identities stands where its digit usually lies: at its parent's centroid plus the mean residual, over
  the level, of children with that digit; at its parent's centroid where no parent has such a child.

  Args:
    codes: uint8 [m, l], unique rows, digits 0..v-1.
    vectors: float [m, d], the code vectors; may be memory-mapped. ROWS of them are read at a time, and only those of
      nodes that newcomers come to or that residuals are learnt from.
    v: values of a digit.
    newcomers: float32 [k, d], finite, in the space of `vectors`.

  Returns uint8 [k, l]: unique, and distinct from all rows of `codes`. A function of the arguments.
  Raises ValueError where fewer than k codes are free, with the cure, or where a newcomer's vector is not finite.
  """
  (m, l), k = codes.shape, len(newcomers)
  newcomers = np.asarray(newcomers, np.float32)
  _check(newcomers, vectors, m, l, v)
  new_codes = np.empty((k, l), np.uint8)
  node = np.zeros(m + k, np.int64)  # of everybody: the old, then the newcomers
  guess = np.zeros((1, newcomers.shape[1]), np.float32)  # where a node without identities lies
  for j in range(l):
    digit = codes[:, j].astype(np.int64)
    visited, own = np.unique(node[m:], return_inverse=True)
    rows, below = _members(node[:m], digit, visited, v)
    count = np.bincount(below, minlength=len(visited) * v).reshape(-1, v)
    places = min(v ** (l - j - 1), m + k) - count
    usual = np.zeros((v, guess.shape[1]), np.float32)
    if j and np.any((count == 0) & (places > 0)):  # the root has no other parents to learn from
      usual = _usual(vectors, node[:m], digit, v)
    cost, centroid = _costs(newcomers, own, vectors, rows, below, count, guess, usual)
    child = assign(cost, own, places)
    new_codes[:, j] = child
    parent, value = np.divmod(np.unique(own * v + child), v)
    guess = centroid[parent] + usual[value]
    node = np.unique(node * v + np.concatenate([digit, child]), return_inverse=True)[1]
  return new_codes


def _check(newcomers: np.ndarray, vectors: np.ndarray, m: int, l: int, v: int) -> None:
  if newcomers.ndim != 2 or newcomers.shape[1:] != vectors.shape[1:]:
    raise ValueError(f"newcomers must be [k, {vectors.shape[1]}] as the table's vectors, got {newcomers.shape}")
  bad = np.flatnonzero(~np.isfinite(newcomers).all(1))
  if len(bad):
    raise ValueError(f'the vector of newcomer {bad[0]} is not finite ({len(bad)} such): look at its images')
  k, free = len(newcomers), v**l - m
  if k > free:
    raise ValueError(
      f'{free} of the {v}**{l} codes are free, {k} are wanted. Make the table of the {m} people again with '
      f'tokenizer.slack={math.ceil(1000 * k / m) / 1000:g} and tokenizer.v=0 (or with a larger tokenizer.v or l). All '
      'codes change then, so networks trained with this table must be trained again'
    )


def _members(node: np.ndarray, digit: np.ndarray, parents: np.ndarray, v: int) -> tuple[np.ndarray, np.ndarray]:
  """The identities below `parents` [P], ascending numbers of nodes, and the child each is below: 0..P*v-1."""
  rows = np.flatnonzero(np.isin(node, parents))
  return rows, np.searchsorted(parents, node[rows]) * v + digit[rows]


def _sums(vectors: np.ndarray, rows: np.ndarray, below: np.ndarray, size: int) -> np.ndarray:
  """The sum of the vectors `rows` below each of `size` children: float32 [size, d]."""
  total = np.zeros((size, vectors.shape[1]), np.float32)
  for start in range(0, len(rows), ROWS):
    part = below[start : start + ROWS]
    order = np.argsort(part, kind='stable')
    present, first = np.unique(part[order], return_index=True)
    block = np.asarray(vectors[rows[start : start + ROWS][order]], np.float32)
    total[present] += np.add.reduceat(block, first, axis=0)
  return total


def _usual(vectors: np.ndarray, node: np.ndarray, digit: np.ndarray, v: int) -> np.ndarray:
  """The mean of (vector - centroid of its node) by value of the digit: float32 [v, d].

  Learnt from as many nodes as NUMBERS allows, spread evenly; a child without siblings has no residual.
  """
  d = vectors.shape[1]
  parents = np.unique(node)
  parents = parents[:: math.ceil(len(parents) * v * d / NUMBERS)]
  rows, below = _members(node, digit, parents, v)
  count = np.bincount(below, minlength=len(parents) * v).reshape(-1, v)
  total = _sums(vectors, rows, below, count.size).reshape(-1, v, d)
  total -= count[:, :, None].astype(np.float32) * (total.sum(1) / count.sum(1)[:, None].astype(np.float32))[:, None]
  siblings = (count > 0).sum(1) > 1
  size = np.maximum(count[siblings].sum(0), 1).astype(np.float32)
  return total[siblings].sum(0) / size[:, None]


def _costs(
  newcomers: np.ndarray,
  own: np.ndarray,
  vectors: np.ndarray,
  rows: np.ndarray,
  below: np.ndarray,
  count: np.ndarray,
  guess: np.ndarray,
  usual: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """What each child of its node costs each newcomer, float32 [k, v], and the centroids of the N nodes, float32 [N, d].

  own [k]: each newcomer's node, 0..N-1. rows, below, count [N, v]: who is below which child of the nodes. guess [N, d]:
  where nodes without identities lie. The cost lacks |newcomer|^2, which is the same for all children.
  """
  (n, v), d = count.shape, newcomers.shape[1]
  cost, centroid = np.empty((len(own), v), np.float32), np.empty((n, d), np.float32)
  order = np.argsort(own, kind='stable')
  start = np.searchsorted(own[order], np.arange(n + 1))
  step = max(1, NUMBERS // (v * d))
  for first in range(0, n, step):
    some = slice(first, min(first + step, n))
    inside = (below >= some.start * v) & (below < some.stop * v)
    total = _sums(vectors, rows[inside], below[inside] - some.start * v, (some.stop - some.start) * v)
    children = total.reshape(-1, v, d)
    centroid[some] = _centroids(children, count[some], guess[some], usual)
    energy = np.einsum('nvd,nvd->nv', children, children)
    for i in range(some.start, some.stop):
      who = order[start[i] : start[i + 1]]
      cost[who] = energy[i - first] - 2 * newcomers[who] @ children[i - first].T
  return cost, centroid


def _centroids(children: np.ndarray, count: np.ndarray, guess: np.ndarray, usual: np.ndarray) -> np.ndarray:
  """Turns the sums [N, v, d] of nodes' children into centroids, in place; returns the nodes' own, float32 [N, d]."""
  size = count.sum(1)
  own = np.where(size[:, None] > 0, children.sum(1) / np.maximum(size, 1)[:, None].astype(np.float32), guess)
  children /= np.maximum(count, 1)[:, :, None].astype(np.float32)
  node, digit = np.nonzero(count == 0)
  children[node, digit] = own[node] + usual[digit]
  return own
