"""Verification: are two images the same person? LFW's ten-fold protocol; TAR at FAR of any ROC."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sklearn.preprocessing import normalize

from gif_jax.evaluation.verification.folds import Folds

_PAIRS = 4096  # taken to float64 at a time


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
  `folds.THRESHOLDS`; each of the contiguous folds uses the threshold that is best on the other folds (the first of
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


def tar_of_roc(fpr: np.ndarray, tpr: np.ndarray, fars: Sequence[float]) -> np.ndarray:
  """TAR at the largest FAR of a ROC that is not above each target: float64, one per entry of `fars`.

  A target below 1 / (impostor pairs) cannot be resolved and gives the TAR at FAR 0, a lower bound.
  """
  return tpr[np.searchsorted(fpr, fars, side='right') - 1]


def pixel_embedding(images: np.ndarray) -> np.ndarray:
  """The raw-pixel baseline, which a network must beat before its figures mean anything.

  uint8 [n, h, w, 3] -> float32 [n, h * w]: grey (Rec. 601), the image's own mean taken off, unit rows. Can also be the
  `embed` of `extract`.
  """
  images = np.asarray(images)
  grey = sum(weight * images[..., c].astype(np.float32) for c, weight in enumerate((0.299, 0.587, 0.114)))
  grey = grey.reshape(len(grey), -1)
  return _unit(grey - grey.mean(axis=1, keepdims=True))


def _unit(rows: np.ndarray) -> np.ndarray:
  rows = np.asarray(rows, np.float32)
  return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
