"""Digit names: children numbered alike under every parent of a level, so that a digit means something by itself."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from gif_jax.codes.kmeans import kmeans

ROUNDS = 8  # of matching and prototype update
SECOND = 0.1  # weight of a cosine beside the share of identities who keep their digit
LEARN_FROM = 1024  # parents that the prototypes are learnt from


def align(residual: np.ndarray, parent: np.ndarray, v: int, rng: np.random.Generator) -> np.ndarray:
  """Names the children of one level (docs/method.md, "Digit names").

  v unit prototypes are shared by the level; under every parent, its children are matched one to one to the prototypes
  such that the cosines of residual and prototype have the largest sum. Prototypes start from balanced k-means over the
  residuals and are then the mean direction of the residuals matched to them.

  Args:
    residual: float32 [e, d]: child centroid minus parent centroid. Scaled to unit rows in place.
    parent: int64 [e]: ascending; at most v children each.
    v: digit values.
    rng: which parents the prototypes are learnt from, and their seeds.

  Returns int64 [e]: the digit of each child, distinct under a parent.
  """
  _unit(residual)
  start = np.flatnonzero(np.diff(parent, prepend=-1))
  part = np.sort(rng.permutation(len(start))[:LEARN_FROM])
  return _match(residual, start, _prototypes(*_children(residual, start, part), v, rng))


def rename(residual: np.ndarray, parent: np.ndarray, prototypes: np.ndarray, kept: np.ndarray) -> np.ndarray:
  """Names the children of one level such that as many identities as possible keep their digit; otherwise as `align`.

  Under every parent the children are matched one to one to the values of the digit, by the share of a child's
  identities that had the value before, `kept` float32 [e, v], and in second place by the cosine of its residual with
  the value's prototype, a row of `prototypes` float32 [v, d]. Residuals and prototypes are scaled in place.
  """
  likeness = kept + SECOND * (_unit(residual) @ _unit(prototypes).T)
  return _best(likeness, np.flatnonzero(np.diff(parent, prepend=-1)))


def _children(residual: np.ndarray, start: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The residuals of the parents in `part` only, and where each of these parents starts."""
  size = np.diff(start, append=len(residual))[part]
  first = np.cumsum(size) - size
  return residual[np.arange(size.sum()) + np.repeat(start[part] - first, size)], first


def _prototypes(residual: np.ndarray, start: np.ndarray, v: int, rng: np.random.Generator) -> np.ndarray:
  """[v, d]: the directions shared by the level."""
  n = len(residual)
  everyone = np.ones((1, n), bool)
  digit = kmeans(residual[None], everyone, v, -(-n // v), ROUNDS, rng)[0]
  for _ in range(ROUNDS):
    member = (digit == np.arange(v)[:, None]).astype(np.float32)
    prototypes = _unit(member @ residual)
    digit = _match(residual, start, prototypes)
  return prototypes


def _match(residual: np.ndarray, start: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
  return _best(residual @ prototypes.T, start)


def _best(likeness: np.ndarray, start: np.ndarray) -> np.ndarray:
  """The matching of every parent's children to values with the largest sum of likeness [e, v]."""
  nodes = np.split(likeness, start[1:])
  return np.concatenate([linear_sum_assignment(node, maximize=True)[1] for node in nodes])


def _unit(rows: np.ndarray) -> np.ndarray:
  """Unit rows, in place; a zero row (children of equal vectors) stays zero and fits every prototype alike."""
  norm = np.linalg.norm(rows, axis=1, keepdims=True)
  rows /= np.where(norm > 0, norm, 1)
  return rows
