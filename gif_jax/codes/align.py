"""Digit names: children numbered alike under every parent of a level, so that a digit means something by itself."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from gif_jax.codes.kmeans import kmeans

ROUNDS = 8  # of matching and prototype update
SECOND = 0.1  # weight of a cosine beside the share of identities who keep their digit


def learn_prototypes(residual: np.ndarray, parent: np.ndarray, v: int, rng: np.random.Generator) -> np.ndarray:
  """The v directions that the digit values of a level shall mean (docs/method.md, "Digit names").

  Prototypes start from balanced k-means over the residuals and are then, in turns, the mean direction of the residuals
  matched to them.

  Args:
    residual: float32 [e, d]: child centroid minus parent centroid. Scaled to unit rows in place.
    parent: int64 [e]: ascending; at most v children each.
    v: digit values.
    rng: for the first prototypes.

  Returns float32 [v, d], unit rows (zero where no residual is like it).
  """
  n = len(_unit(residual))
  everyone = np.ones((1, n), bool)
  digit = kmeans(residual[None], everyone, v, -(-n // v), ROUNDS, rng)[0]
  for _ in range(ROUNDS):
    member = (digit == np.arange(v)[:, None]).astype(np.float32)
    prototypes = _unit(member @ residual)
    digit = _best(residual @ prototypes.T, parent)
  return prototypes


def match(residual: np.ndarray, parent: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
  """Matches the children of every parent one to one to the prototypes such that the sum of cosines is largest.

  Args as for `learn_prototypes`. Returns int64 [e]: the digit of each child, distinct under a parent.
  """
  return _best(_unit(residual) @ prototypes.T, parent)


def rename(residual: np.ndarray, parent: np.ndarray, prototypes: np.ndarray, kept: np.ndarray) -> np.ndarray:
  """Names the children of one level such that as many identities as possible keep their digit; otherwise as `match`.

  Under every parent the children are matched one to one to the values of the digit, by the share of a child's
  identities that had the value before, `kept` float32 [e, v], and in second place by the cosine of its residual with
  the value's prototype, a row of `prototypes` float32 [v, d]. Residuals and prototypes are scaled in place.
  """
  return _best(kept + SECOND * (_unit(residual) @ _unit(prototypes).T), parent)


def _best(likeness: np.ndarray, parent: np.ndarray) -> np.ndarray:
  """The matching of every parent's children to values with the largest sum of likeness [e, v]."""
  # One call a parent: 8 microseconds each at v = 16, and a block-diagonal problem for all of them is no faster.
  nodes = np.split(likeness, np.flatnonzero(np.diff(parent)) + 1)
  return np.concatenate([linear_sum_assignment(node, maximize=True)[1] for node in nodes])


def _unit(rows: np.ndarray) -> np.ndarray:
  """Unit rows, in place; a zero row (children of equal vectors) stays zero and fits every prototype alike."""
  norm = np.linalg.norm(rows, axis=1, keepdims=True)
  rows /= np.where(norm > 0, norm, 1)
  return rows
