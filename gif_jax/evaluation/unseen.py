"""People kept apart by a run, as a benchmark: verification on balanced pairs, and all pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gif_jax.core.pair_counts import usable_pairs
from gif_jax.data.drawn_pairs import balanced_pairs
from gif_jax.data.formats.records import Person
from gif_jax.data.sets.base import Faces
from gif_jax.evaluation.all_pairs.protocol import check_all_pairs, evaluate_all_pairs
from gif_jax.evaluation.result import Result
from gif_jax.evaluation.verification.folds import verify

_RULE = (
  'Accuracy over 10 contiguous folds of balanced pairs, drawn once, each with the threshold on the squared L2 distance '
  'that is best on the others.'
)


@dataclass(frozen=True)
class UnseenPeople:
  """n faces of people nobody trains on. See `benchmark.Benchmark`.

  Attributes:
    name: of the set.
    images: the faces.
    pairs: how many to draw, a multiple of 20; as many as exist are taken.
  """

  name: str
  images: Faces
  pairs: int
  people: Sequence[Person] = ()
  fingerprint: str = ''

  @property
  def identity(self) -> np.ndarray:
    """Labels of the faces: int64 [n]."""
    return self.images.labels()

  def check(self) -> None:
    """Raises EvaluationError where there are no genuine or no impostor pairs, or too many."""
    check_all_pairs(self.name, self.identity)

  def evaluate(self, embedding: np.ndarray, norm: np.ndarray | None, replicates: int) -> list[Result]:
    """Ten-fold accuracy of balanced pairs, without intervals, then `evaluate_all_pairs`."""
    del norm
    identity = self.identity
    pairs = usable_pairs(np.unique(identity, return_counts=True)[1].tolist(), self.pairs)
    left, right, same = balanced_pairs(identity, pairs)
    accuracy = verify(embedding, left, right, same)
    metrics = {'accuracy': accuracy.accuracy, 'std': accuracy.std}
    return [
      Result(self.name, 'balanced pairs', '', _RULE, {'pairs': pairs}, metrics),
      evaluate_all_pairs(self.name, identity, embedding, replicates),
    ]


def pixel_embedding(images: np.ndarray) -> np.ndarray:
  """The raw-pixel baseline, which a network must beat before its metrics mean anything.

  uint8 [n, h, w, 3] -> float32 [n, h * w]: grey (Rec. 601), the image's own mean taken off, unit rows. Can also be the
  `embed` of `extract`.
  """
  images = np.asarray(images)
  red, green, blue = (images[..., channel].astype(np.float32) for channel in range(3))
  grey = (0.299 * red + 0.587 * green + 0.114 * blue).reshape(len(images), -1)
  return _unit(grey - grey.mean(axis=1, keepdims=True))


def _unit(rows: np.ndarray) -> np.ndarray:
  rows = np.asarray(rows, np.float32)
  return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
