"""Balanced k-means of many nodes at once: a batch of point sets, padded to one size."""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csc_matrix

from gif_jax.codes.assign import assign

TRIALS = 4  # candidates per seed, of which the best is kept (greedy k-means++)
SEEDS_FROM = 64  # times v: points that a large node draws its seeds from
MOST = 65536  # points of a set that Lloyd's iterations look at; all are assigned to the centres found
FAR = np.float32(1e30)  # distance to the nearest of no seeds: every point is equally likely
ROWS = 16384  # points brought to float32 at a time


def kmeans(
  points: np.ndarray, real: np.ndarray, v: int, capacity: int, iterations: int, rng: np.random.Generator
) -> np.ndarray:
  """Splits each of k point sets into v children of at most `capacity` points by Lloyd's iterations.

  A set of more than 65536 points is iterated over a sample of that many, under capacities in proportion, and all its
  points are assigned at the end: centres of so many points hardly move with more of them (faiss takes 256 a centre).

  Args:
    points: float [k, n, d], padded by repeating points of the same set; may be memory-mapped, and is read in slices.
    real: bool [k, n], False at padding, which comes last.
    v: children per set.
    capacity: places per child; no set may hold more than v * capacity points.
    iterations: of Lloyd, at least 1.
    rng: for the seeds and the sample.

  Returns int64 [k, n]: the child of each point, 0..v-1 (padding: 0).
  """
  centres = _seeds(points, real, v, rng)
  n = points.shape[1]
  if n > MOST:
    some, part = _sample(points, real, MOST, rng)
    child, centres = _lloyd(some, part, centres, -(-capacity * MOST // n), iterations)
    centres, iterations = _means(some, part, child, centres), 1
  return _lloyd(points, real, centres, capacity, iterations)[0]


def _lloyd(
  points: np.ndarray, real: np.ndarray, centres: np.ndarray, capacity: int, iterations: int
) -> tuple[np.ndarray, np.ndarray]:
  """The children of all points, int64 [k, n], and the centres that they were assigned to."""
  node = np.nonzero(real)[0]
  child = np.zeros(real.shape, np.int64)
  for iteration in range(iterations):
    if iteration:
      centres = _means(points, real, child, centres)
    # Under capacities from the first iteration on: centres that first move freely end up worse where nodes are full.
    child[real] = assign(_distances(points, centres)[real], node, capacity)
  return child, centres


def _slices(points: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
  """The points [k, n, d] as float32, as many of each set at a time as make ROWS."""
  step = max(1, ROWS // len(points))
  for start in range(0, points.shape[1], step):
    part = slice(start, start + step)
    yield part, points[:, part].astype(np.float32, copy=False)


def _distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
  """Squared distances float32 [k, n, v], less the point's own squared norm, which is the same for every centre."""
  distances = np.empty((*points.shape[:2], centres.shape[1]), np.float32)
  for part, some in _slices(points):
    np.matmul(some, -2 * centres.swapaxes(1, 2), out=distances[:, part])
  distances += np.einsum('kvd,kvd->kv', centres, centres)[:, None]
  return distances


def _means(points: np.ndarray, real: np.ndarray, child: np.ndarray, centres: np.ndarray) -> np.ndarray:
  """The mean of each child's points [k, v, d]; a child without points keeps its centre."""
  k, v, d = centres.shape
  group = np.arange(k)[:, None] * v + child
  total = np.zeros((k * v, d), np.float32)
  for part, some in _slices(points):
    index = group[:, part].ravel()
    share = real[:, part].ravel().astype(np.float32)
    total += csc_matrix((share, index, np.arange(len(index) + 1)), (k * v, len(index))) @ some.reshape(len(index), d)
  size = np.bincount(group[real], minlength=k * v).reshape(k, v, 1)
  return np.where(size > 0, total.reshape(k, v, d) / np.maximum(size, 1).astype(np.float32), centres)


def _seeds(points: np.ndarray, real: np.ndarray, v: int, rng: np.random.Generator) -> np.ndarray:
  """Greedy k-means++ (Arthur and Vassilvitskii 2007): [k, v, d], drawn from at most 64 * v points of each set."""
  points, real = _sample(points, real, SEEDS_FROM * v, rng)
  rows = np.arange(len(points))
  norms = np.einsum('knd,knd->kn', points, points)
  near = np.where(real, FAR, np.float32(0))
  centres = np.empty((len(points), v, points.shape[2]), np.float32)
  for seed in range(v):
    trials = points[rows[:, None], _draw(near, rng)]
    distance = np.maximum(_distances(points, trials) + norms[..., None], 0)
    nearer = np.minimum(near[..., None], distance)
    best = nearer.sum(1).argmin(1)
    near = nearer[rows, :, best]
    centres[:, seed] = trials[rows, best]
  return centres


def _sample(points: np.ndarray, real: np.ndarray, most: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
  """At most so many points of each set, float32 [k, most, d], drawn with replacement, and which of them are real."""
  k, n, _ = points.shape
  if n > most:
    index = np.sort((rng.random((k, most)) * real.sum(1)[:, None]).astype(np.int64), 1)  # real points come first
    points, real = points[np.arange(k)[:, None], index], np.ones((k, most), bool)
  return points.astype(np.float32, copy=False), real


def _draw(weight: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """TRIALS points per row of weight [k, n], likely in proportion to it; with no weight left, any: int64 [k, TRIALS]."""
  total = np.cumsum(weight, 1, dtype=np.float64)
  aim = rng.random((len(weight), TRIALS)) * total[:, -1:]
  index = (total[:, :, None] <= aim[:, None]).sum(1)
  return np.minimum(index, weight.shape[1] - 1)
