"""Intervals of TAR at FAR over pairs of templates: subjects are drawn again."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from gif_jax.evaluation import bootstrap
from gif_jax.evaluation.ijb.templates import Templates

# The impostors that intervals are made of: times the largest FAR, and at least. Of few subjects, one drawn several
# times may have so many of the largest scores that a replicate needs more; but then all pairs together are not many.
_TAIL, _LEAST = 1.5, 2**18
# Intervals of the FARs up to each take so many of the replicates: at .1 millions of pairs are weighed for each, and the
# interval is too narrow to need more.
_SHARES = {1e-2: 1.0, 1e-1: 0.2}


class Weights:
  """What is the same in every mode: counts, and whose the pairs are, for resampling subjects."""

  def __init__(self, templates: Templates):
    subject, same = templates.subject.astype(np.int32), templates.same
    self.subjects, self.genuine = int(subject.max()) + 1, int(np.count_nonzero(same))
    self.left, self.right, self.same = subject[templates.left], subject[templates.right], same
    impostors = csr_array(
      (np.ones(len(same) - self.genuine), (self.left[~same], self.right[~same])), shape=(self.subjects,) * 2
    )
    self.impostors = impostors
    self.totals: dict[bytes, int] = {}
    self.counts = {
      'images': len(templates.template),
      'templates': len(subject),
      'pairs': len(same),
      'genuine': self.genuine,
      'subjects': self.subjects,
    }

  def total(self, drawn: np.ndarray) -> int:
    """Weight of all impostor pairs together. The same draws come in every mode, so sums are kept."""
    key = drawn.tobytes()
    if key not in self.totals:
      self.totals[key] = int(drawn @ (self.impostors @ drawn.astype(np.float64)))
    return self.totals[key]

  def intervals(self, score: np.ndarray, fars: Sequence[float], replicates: int) -> dict[float, tuple[float, float]]:
    """{far: (low, high)} of TAR at each FAR."""
    intervals: dict[float, tuple[float, float]] = {}
    least = 0.0
    impostor = np.flatnonzero(~self.same)
    for most, share in _SHARES.items():
      some = [far for far in fars if least < far <= most]
      if some:
        tail = self._tail(score, impostor, max(_LEAST, math.ceil(_TAIL * max(some) * len(impostor))))
        intervals |= bootstrap.tar_intervals(tail, some, self.subjects, math.ceil(share * replicates), nearest=True)
      least = most
    return intervals

  def _tail(self, score, impostor, k):
    """All genuine pairs and the k impostor pairs of the largest scores."""
    some = k < len(impostor)
    if some:
      impostor = impostor[np.argpartition(-score[impostor], k)[:k]]
    impostor = impostor[np.argsort(-score[impostor], kind='stable')]
    return bootstrap.Tail(
      score[self.same],
      self.left[self.same],
      score[impostor],
      self.left[impostor],
      self.right[impostor],
      self.total if some else None,
    )
