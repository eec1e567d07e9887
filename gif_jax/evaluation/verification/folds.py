"""Ten-fold verification as insightface does it, of pairs that all count once or by weights, as a bootstrap needs it.

recognition/arcface_torch/eval/verification.py: the folds are contiguous, each is measured with a threshold that the
others choose, and a pair is accepted if the squared L2 distance of its unit vectors is below, not at, the threshold.
"""

from typing import NamedTuple

import numpy as np
from sklearn.preprocessing import normalize

THRESHOLDS = np.arange(0, 4, 0.01)  # of accuracy
FINE = np.arange(0, 4, 0.001)  # of VAL
_PAIRS = 4096  # taken to float64 at a time


class Folds:
  """Pairs in contiguous folds, whose sizes differ by at most one, the larger ones first, as of scikit-learn's KFold.

  Weights are float64 [pairs], whole numbers: a pair of weight 2 counts like two pairs of its fold. What has no weight
  behind it, such as the accuracy of a fold that weighs nothing, is NaN.
  """

  def __init__(self, distance: np.ndarray, same: np.ndarray, folds: int = 10):
    """distance float64 [pairs], squared L2, 0..4; same bool [pairs].

    Raises ValueError for fewer pairs than folds, or fewer than two folds.
    """
    if not 2 <= folds <= len(same):
      raise ValueError(f'{len(same)} pairs cannot be split into {folds} folds: take 2 to {len(same)} folds')
    self.folds, self.distance, self.same = folds, distance, np.asarray(same, bool)
    self.fold = np.repeat(np.arange(folds), [len(part) for part in np.array_split(self.same, folds)])
    self.first = self._first_accepting(THRESHOLDS)
    self.first_fine = self._first_accepting(FINE)[~self.same]

  def accuracy(self, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy of each fold with the threshold that is most often right on the others, the first of equals.

    Returns accuracy, threshold: float64 [folds].
    """
    signed = np.where(self.same, weight, -weight)
    # Right are the genuine pairs accepted, and all impostors but those accepted.
    gain = self._accepted(self.first, signed, len(THRESHOLDS))[:, :-1]
    best = np.argmax(gain.sum(0) - gain, axis=1)
    right = gain[np.arange(self.folds), best] + self._sums(np.where(self.same, 0, weight))
    return _share(right, self._sums(weight)), THRESHOLDS[best]

  def val(self, weight: np.ndarray, target: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """TAR and FAR of each fold at the threshold where the others have the FAR `target`: insightface's VAL.

    Returns val, far, threshold: float64 [folds]. Where the others never reach the target the threshold is 0, which
    accepts nothing.
    """
    accepted = self._accepted(self.first_fine, weight[~self.same], len(FINE))
    others = accepted.sum(0) - accepted
    threshold = _crossing(_share(others[:, :-1], others[:, -1:]), target)
    taken = weight * (self.distance < threshold[self.fold])
    shares = (_share(self._sums(taken * kind), self._sums(weight * kind)) for kind in (self.same, ~self.same))
    return *shares, threshold

  def _first_accepting(self, thresholds):
    """Of each pair, its fold and the first threshold above its distance, as one number, for `_accepted`."""
    return self.fold * (len(thresholds) + 1) + np.searchsorted(thresholds, self.distance, side='right')

  def _accepted(self, first, weight, thresholds):
    """Weight accepted at each threshold, and in the last column all weight: float64 [folds, thresholds + 1]."""
    counts = np.bincount(first, weight, self.folds * (thresholds + 1))
    return counts.reshape(self.folds, -1).cumsum(1)

  def _sums(self, weight):
    return np.bincount(self.fold, weight, self.folds)


def _crossing(far, target):
  """Thresholds of FINE at which rows far [folds, thresholds], rising from 0, have the FAR `target`: float64 [folds].

  As SciPy up to 1.9.2 interpolates (interp1d, kind 'slinear', a stable sort): most thresholds share their FAR with
  others, and the line goes from the last one of the largest FAR that is not above the target to the first one of the
  next FAR. SciPy from 1.9.3 on refuses repeated FARs, so that insightface's file only runs with older ones. A target
  that is the largest FAR of all, and of several thresholds, gives 0 there.
  """
  above = np.minimum((far <= target).sum(1), far.shape[1] - 1)
  row = np.arange(len(far))
  low, high = far[row, above - 1], far[row, above]
  per_width = _share(1.0, high - low)  # in SciPy's order, to the last bit
  crossing = FINE[above - 1] * (per_width * (high - target)) + FINE[above] * (per_width * (target - low))
  return np.where((far[:, -1] >= target) & (high > low), crossing, 0.0)


def _share(part, total):
  """part / total, NaN where total is 0."""
  shape = np.broadcast_shapes(np.shape(part), np.shape(total))
  return np.divide(part, total, out=np.full(shape, np.nan), where=total > 0)


class Verification(NamedTuple):
  """Result of `verify`.

  Attributes:
    accuracy: mean over folds, 0..1.
    std: population standard deviation over folds.
    fold_accuracies: float64 [folds].
    thresholds: float64 [folds], squared L2 distance chosen for each fold on the others.
  """

  accuracy: float
  std: float
  fold_accuracies: np.ndarray
  thresholds: np.ndarray


def verify(
  embedding: np.ndarray, left: np.ndarray, right: np.ndarray, same: np.ndarray, folds: int = 10
) -> Verification:
  """Ten-fold verification accuracy as reported for LFW, CFP-FP, AgeDB and their kin (protocol of insightface).

  A pair counts as the same person if the squared L2 distance of its unit vectors is below a threshold of
  `THRESHOLDS`; each of the contiguous folds uses the threshold that is best on the other folds (the first of
  equals).

  Args:
    embedding: float [n, d]; rows are normalised here, in float64. Rows of zeros stay zeros.
    left: int64 [pairs], image numbers.
    right: int64 [pairs], image numbers.
    same: bool [pairs].
    folds: number of contiguous folds; sizes differ by at most one, the larger ones first.

  Raises:
    ValueError: fewer pairs than folds, or fewer than two folds.
  """
  pairs = Folds(pair_distances(embedding, left, right), same, folds)
  accuracies, thresholds = pairs.accuracy(np.ones(len(same)))
  return Verification(float(accuracies.mean()), float(accuracies.std()), accuracies, thresholds)


def pair_distances(embedding: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
  """Squared L2 distances of unit vectors: float64 [pairs], 0..4, to the bit those of insightface's verification.py.

  embedding: float [n, d], may be memory-mapped; left, right: int64 [pairs], image numbers. Memory for some pairs at a
  time.
  """
  distance = np.empty(len(left))
  for start in range(0, len(left), _PAIRS):
    rows = slice(start, start + _PAIRS)
    a, b = (normalize(np.asarray(embedding[side[rows]], np.float64)) for side in (left, right))
    distance[rows] = np.sum(np.square(a - b), axis=1)
  return distance
