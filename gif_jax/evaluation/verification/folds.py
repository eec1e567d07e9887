"""Ten-fold verification as insightface does it, of pairs that all count once or by weights, as a bootstrap needs it.

recognition/arcface_torch/eval/verification.py: the folds are contiguous, each is measured with a threshold that the
others choose, and a pair is accepted if the squared L2 distance of its unit vectors is below, not at, the threshold.
"""

import numpy as np

THRESHOLDS = np.arange(0, 4, 0.01)  # of accuracy
FINE = np.arange(0, 4, 0.001)  # of VAL


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
  found = FINE[above - 1] * (per_width * (high - target)) + FINE[above] * (per_width * (target - low))
  return np.where((far[:, -1] >= target) & (high > low), found, 0.0)


def _share(part, whole):
  """part / whole, NaN where whole is 0."""
  shape = np.broadcast_shapes(np.shape(part), np.shape(whole))
  return np.divide(part, whole, out=np.full(shape, np.nan), where=whole > 0)
