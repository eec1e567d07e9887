"""Balanced k-means of many nodes at once: a batch of point sets, padded to one size."""

import numpy as np

from gif_jax.codes.assign import assign

TRIALS = 4  # candidates per seed, of which the best is kept (greedy k-means++)
SEEDS_FROM = 64  # times v: points that a large node draws its seeds from
FAR = np.float32(1e30)  # distance to the nearest of no seeds: every point is equally likely


def kmeans(
  points: np.ndarray,
  real: np.ndarray,
  v: int,
  capacity: int,
  iterations: int,
  rng: np.random.Generator,
  begin: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
  """Splits each of k point sets into v children of at most `capacity` points by Lloyd's iterations.

  Args:
    points: float32 [k, n, d], padded by repeating points of the same set.
    real: bool [k, n], False at padding.
    v: children per set.
    capacity: places per child; no set may hold more than v * capacity points.
    iterations: of Lloyd, at least 1.
    rng: for the seeds.
    begin: children int64 [k, n] that the points start with, and centres float32 [k, v, d] of the children that no point
      starts with; None: the centres start at k-means++ seeds.

  Returns int64 [k, n]: the child of each point, 0..v-1 (padding: 0).
  """
  k, n, _ = points.shape
  node = np.nonzero(real)[0]
  child = np.zeros((k, n), np.int64)
  centres = _means(points, real, *begin) if begin else _seeds(points, real, v, rng)
  for iteration in range(iterations):
    if iteration:
      centres = _means(points, real, child, centres)
    # Under capacities from the first iteration on: centres that first move freely end up worse where nodes are full.
    child[real] = assign(_distances(points, centres)[real], node, capacity)
  return child


def _distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
  """Squared distances [k, n, v], less the point's own squared norm, which is the same for every centre."""
  return np.einsum('kvd,kvd->kv', centres, centres)[:, None] - 2 * (points @ centres.swapaxes(1, 2))


def _means(points: np.ndarray, real: np.ndarray, child: np.ndarray, centres: np.ndarray) -> np.ndarray:
  """The mean of each child's points [k, v, d]; a child without points keeps its centre."""
  member = ((child[..., None] == np.arange(centres.shape[1])) & real[..., None]).astype(np.float32)
  size = member.sum(1)[..., None]
  return np.where(size > 0, (member.swapaxes(1, 2) @ points) / np.maximum(size, 1), centres)


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


def _sample(
  points: np.ndarray, real: np.ndarray, most: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
  k, n, _ = points.shape
  if n <= most:
    return points, real
  index = (rng.random((k, most)) * real.sum(1)[:, None]).astype(np.int64)  # real points come before padding
  return points[np.arange(k)[:, None], index], np.ones((k, most), bool)


def _draw(weight: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """TRIALS points per row of weight [k, n], likely in proportion to it; with no weight left, any: int64 [k, TRIALS]."""
  total = np.cumsum(weight, 1, dtype=np.float64)
  aim = rng.random((len(weight), TRIALS)) * total[:, -1:]
  index = (total[:, :, None] <= aim[:, None]).sum(1)
  return np.minimum(index, weight.shape[1] - 1)
