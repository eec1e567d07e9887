"""Confidence intervals by resampling identities, not pairs: pairs of one person are anything but independent.

A replicate draws as many identities as there are, with replacement. A genuine pair of an identity drawn w times counts
w times, an impostor pair of identities drawn w and w' times w w' times (Bolle, Ratha and Pankanti, "Error analysis of
pattern recognition systems - the subsets bootstrap", CVIU 2004; Snijders and Borgatti, "Non-parametric standard errors
and tests for network statistics", Connections 1999).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

_LEVEL = 0.95
_MARKS = 32  # places up to which genuine pairs are counted beforehand


def draws(identities: int, replicates: int, seed: int = 0) -> Iterator[np.ndarray]:
  """Yields, for each replicate, how often every identity was drawn: int64 [identities]."""
  rng = np.random.default_rng(seed)
  for _ in range(replicates):
    yield np.bincount(rng.integers(identities, size=identities), minlength=identities)


def interval(values: Sequence[float]) -> tuple[float, float]:
  """The middle 95 % of the metrics of the replicates; NaN, where a replicate could not be measured, is left out.

  (NaN, NaN) where none could be.
  """
  if np.isnan(values).all():
    return np.nan, np.nan
  low, high = np.nanquantile(np.asarray(values, np.float64), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
  return float(low), float(high)


def summarise(
  names: Sequence[str], values: np.ndarray, replicates: Sequence[np.ndarray]
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
  """Metrics and intervals of what could be measured: values float [k], NaN where not, and one such per replicate."""
  metrics = {name: float(value) for name, value in zip(names, values) if np.isfinite(value)}
  columns = dict(zip(names, np.array(replicates).T))
  intervals = {name: interval(columns[name]) for name in metrics if replicates and np.isfinite(columns[name]).any()}
  return metrics, intervals


class Tail(NamedTuple):
  """Scores from which TAR at small FARs follows: all genuine pairs, and the impostor pairs of the largest scores.

  Attributes:
    genuine: [g], scores in any order.
    person: int [g], identity of each genuine pair.
    impostor: [k], scores, falling: at least half as many again as the largest FAR accepts.
    left: int [k], identity of one side of each.
    right: int [k], identity of the other.
    total: identities' weights int64 [m] -> that of all impostor pairs together; None where `impostor` is all of them.
  """

  genuine: np.ndarray
  person: np.ndarray
  impostor: np.ndarray
  left: np.ndarray
  right: np.ndarray
  total: Callable[[np.ndarray], int] | None = None


def tar_intervals(
  tail: Tail, fars: Sequence[float], identities: int, replicates: int, *, nearest: bool = False, seed: int = 0
) -> dict[float, tuple[float, float]]:
  """95 % intervals of TAR at each FAR: {far: (low, high)}; {} without replicates. Cost: O(k) a replicate.

  nearest: see `tars`.
  """
  if not replicates or not len(tail.impostor):
    return {}
  curve = _Curve(tail)
  replicated = [curve.tar(weights, fars, nearest) for weights in draws(identities, replicates, seed)]
  return {far: interval(values) for far, values in zip(fars, np.array(replicated).T)}


def tars(tail: Tail, fars: Sequence[float], identities: int, *, nearest: bool = False) -> np.ndarray:
  """TAR at each FAR with every identity once: float64, one per entry of `fars`.

  TAR is the largest at the largest FAR not above the target; with `nearest` at the FAR nearest to it, of equally near
  ones the larger.
  """
  return _Curve(tail).tar(np.ones(identities, np.int64), fars, nearest)


class _Curve:
  """The ROC of a tail under changing weights; what is the same for all weights is worked out once.

  Its points: 0 accepts no impostor, i all those of the i largest scores. A point accepts all genuine pairs above the
  next impostor score.
  """

  def __init__(self, tail: Tail):
    order = np.argsort(-tail.genuine, kind='stable')
    self.person = tail.person[order].astype(np.int32)
    self.step = max(2**14, len(order) // _MARKS)
    self.before = self._before()
    self.tail = tail._replace(left=tail.left.astype(np.int32), right=tail.right.astype(np.int32))
    # Impostors of one score are accepted together: only the last of each is a point.
    self.ends = np.flatnonzero(np.append(tail.impostor[1:] != tail.impostor[:-1], True))
    falling = -tail.genuine[order]
    self.above = np.searchsorted(falling, -tail.impostor[self.ends], side='left')
    # Beyond the tail nothing is known, but that genuine pairs of its last score are accepted too.
    last = np.searchsorted(falling, -tail.impostor[-1], side='right') if tail.total else len(falling)
    self.above = np.append(self.above, last)

  def _before(self):
    """Genuine pairs of each person before every `step`-th one, at last all: few sums instead of one over all pairs."""
    size = int(self.person.max(initial=-1)) + 1
    steps = range(0, len(self.person), self.step)
    counts = [np.bincount(self.person[start : start + self.step], minlength=size) for start in steps]
    return np.cumsum([np.zeros(size, np.int64), *counts], axis=0, dtype=np.int32)

  def _genuine(self, weights, ranks):
    """What the first `ranks` genuine pairs weigh, int64 [f], and what all do."""
    known = ranks // self.step
    weights = weights[: self.before.shape[1]]
    rest = [weights[self.person[self.step * mark : rank]].sum() for mark, rank in zip(known.tolist(), ranks.tolist())]
    return self.before[known] @ weights + rest, self.before[-1] @ weights

  def _accepted(self, weights):
    """What the first 1, 2, ... impostor pairs weigh: int64 [k]."""
    small = weights.max() < 256  # a byte each and products of two: half the time
    weights = weights.astype(np.uint8) if small else weights
    left, right = weights[self.tail.left], weights[self.tail.right]
    return np.cumsum(np.multiply(left, right, dtype=np.uint16 if small else np.int64), dtype=np.int64)

  def tar(self, weights: np.ndarray, fars: Sequence[float] | np.ndarray, nearest: bool) -> np.ndarray:
    """See `tars`; weights int64 [m], of the identities; NaN where no impostor pair weighs anything."""
    weights = weights.astype(np.int64)
    accepted = self._accepted(weights)
    total = self.tail.total(weights) if self.tail.total else accepted[-1]
    if not total:
      return np.full(len(fars), np.nan)
    fars = np.asarray(fars)
    # Many points may have one FAR, some impostors weighing nothing: the last of them accepts most.
    place = self._last_point(accepted, np.floor(fars * (1 + 1e-12) * total))
    if nearest:
      after = self._last_point(accepted, accepted[self.ends[np.minimum(place, len(self.ends) - 1)]])
      far, far_after = (np.where(at > 0, accepted[self.ends[at - 1]], 0) / total for at in (place, after))
      place = np.where(far_after - fars <= fars - far, after, place)
    genuine, all_genuine = self._genuine(weights, self.above[place])
    return genuine / all_genuine if all_genuine else np.full(len(fars), np.nan)

  def _last_point(self, accepted, most):
    """The last point at which the impostors accepted weigh no more than each of `most`."""
    return np.searchsorted(self.ends, np.searchsorted(accepted, most, side='right'), side='left')
