"""What an evaluation finds: metrics with their intervals, thresholds, curves, and the pairs that went wrong."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from gif_jax.core.errors import UserError

_BINS = 400  # of a histogram of cosines, .005 each
_POINTS = 2000  # of a curve, at most
_HARDEST = 12  # pairs of each kind


class EvaluationError(UserError):
  """Embeddings or settings that nothing can be measured with; the message names them and the cure."""


class Overlap(NamedTuple):
  """What a benchmark shares with the training set.

  Attributes:
    people: of the benchmark; 0 where it does not name them.
    by_name, by_picture: how many of them have the name of somebody trained on, or a picture trained on.
    trained_on: how many have either.
    images: of the benchmark.
    pictures: images of it that were trained on.
    left_out: whether those people are left out of the metrics; else all of the benchmark is measured.
  """

  people: int
  by_name: int
  by_picture: int
  trained_on: int
  images: int
  pictures: int
  left_out: bool

  @property
  def tainted(self) -> bool:
    """Whether metrics are of what the network has seen."""
    return bool(self.trained_on or self.pictures) and not self.left_out

  def words(self, name: str) -> str:
    """What is to be said of it, '' where nothing is shared; name: of the benchmark."""
    who = f'{self.trained_on} of {self.people} people were trained on'
    who = f'{who} ({self.by_name} by name, {self.by_picture} by picture)'
    what = f'{self.pictures} of {self.images} images are pictures that were trained on'
    if self.left_out:
      return f'{name}: {who} and are left out.' if self.trained_on else ''
    if not self.tainted:
      return ''
    return f'{name}: {who if self.people else what}; its metrics are too good to be those of unseen people.'


class Curve(NamedTuple):
  """A ROC: far, tar float64 [k], shares, both rising; tar[i] is what is accepted at far[i]."""

  far: np.ndarray
  tar: np.ndarray

  def tar_at(self, fars: Sequence[float] | np.ndarray) -> np.ndarray:
    """TAR at the largest FAR of the curve that is not above each target: float64, one per entry of `fars`.

    A target below 1 / (impostor pairs) cannot be resolved and gives the TAR at FAR 0, a lower bound.
    """
    return self.tar[np.searchsorted(self.far, fars, side='right') - 1]


class Histogram(NamedTuple):
  """Pairs by their cosine: edges float64 [b + 1], genuine and impostor int64 [b]."""

  edges: np.ndarray
  genuine: np.ndarray
  impostor: np.ndarray


class Hardest(NamedTuple):
  """Genuine pairs of the smallest cosines, then impostor pairs of the largest, the worst of each first.

  left, right int64 [k], numbers of images; cosine float64 [k]; same bool [k].
  """

  left: np.ndarray
  right: np.ndarray
  cosine: np.ndarray
  same: np.ndarray


class Result(NamedTuple):
  """What one protocol, in one mode, says of a model.

  Attributes:
    benchmark: its name, such as lfw or ijbc.
    protocol: '10 folds', '1:1', '1:N', 'search' or 'all pairs'.
    mode: which variant of the protocol, such as N1D1; '' where there is only one.
    rule: one or two sentences: how the metrics are defined, whose protocol it is.
    counts: {'pairs': 6000, 'genuine': 3000 ...}, what was measured on.
    metrics: {name: value}: 'accuracy', 'std', 'val@far=1e-3', 'tar@far=1e-4', 'tpir@fpir=1e-2', 'rank1' are shares,
      0..1; 'xnorm' is a length.
    intervals: {name: (low, high)}, 95 %, of the metrics that have one.
    thresholds: {FAR, such as '1e-4': the cosine from which on a pair is accepted}.
    curve: of the 1:1 protocols.
    histogram: of the 1:1 protocols.
    hardest: pairs of images, where the evaluator can tell; numbers of the benchmark's images.
    overlap: what the benchmark shares with the training set; None where nobody looked.
  """

  benchmark: str
  protocol: str
  mode: str
  rule: str
  counts: dict[str, int]
  metrics: dict[str, float]
  intervals: Mapping[str, tuple[float, float]] = MappingProxyType({})
  thresholds: Mapping[str, float] = MappingProxyType({})
  curve: Curve | None = None
  histogram: Histogram | None = None
  hardest: Hardest | None = None
  overlap: Overlap | None = None


def rate_name(rate: float) -> str:
  """1e-4 for .0001, .003 is 3e-3; 1 is 1."""
  if rate == 1:
    return '1'
  digits, exponent = f'{rate:.0e}'.split('e')
  return f'{digits}e{int(exponent)}'


def thinned(far: np.ndarray, tar: np.ndarray, points: int = _POINTS) -> Curve:
  """A curve of at most `points` that is drawn like the one of all points, on a linear and on a logarithmic axis.

  far, tar [k], both rising. Every point kept is one of those given.
  """
  if len(far) <= points:
    return Curve(np.asarray(far, np.float64), np.asarray(tar, np.float64))
  above = far[np.searchsorted(far, 0, side='right') :]
  grid = np.append(np.geomspace(above[0], 1, points - 3), 1) if len(above) else np.ones(1)
  # Of points of one FAR the last: it has the largest TAR. Before all, where the curve begins.
  kept = np.unique(np.append(0, np.searchsorted(far, np.append(0, grid), side='right') - 1))
  return Curve(np.asarray(far, np.float64)[kept], np.asarray(tar, np.float64)[kept])


def histogram(cosine: np.ndarray, same: np.ndarray) -> Histogram:
  """Counts of pairs with cosine [p] and same bool [p]."""
  edges = np.linspace(-1, 1, _BINS + 1)
  cosine = np.clip(cosine, -1, 1)
  genuine, impostor = (np.histogram(cosine[kind], edges)[0].astype(np.int64) for kind in (same, ~same))
  return Histogram(edges, genuine, impostor)


def hardest(cosine: np.ndarray, same: np.ndarray, left: np.ndarray, right: np.ndarray) -> Hardest:
  """The hardest of pairs with cosine [p] and same bool [p] between the images left and right, int [p]."""
  picked = []
  for kind, sign in ((same, 1), (~same, -1)):
    of_kind = np.flatnonzero(kind)
    score = sign * cosine[of_kind]
    if len(of_kind) > _HARDEST:
      few = np.argpartition(score, _HARDEST)[:_HARDEST]
      of_kind, score = of_kind[few], score[few]
    picked.append(of_kind[np.argsort(score, kind='stable')])
  rows = np.concatenate(picked)
  first, second = (np.asarray(side)[rows].astype(np.int64) for side in (left, right))
  return Hardest(first, second, cosine[rows].astype(np.float64), same[rows])


def check_shape(embedding: np.ndarray, images: int, name: str) -> None:
  """Raises EvaluationError unless `embedding` is float [images, d]."""
  if embedding.ndim != 2 or len(embedding) != images or not np.issubdtype(embedding.dtype, np.floating):
    raise EvaluationError(
      f'{name}: the embeddings are {embedding.dtype} {embedding.shape}, wanted floats [{images}, d]: a row for every '
      'image, in the order of the benchmark.'
    )


def check_embedding(embedding: np.ndarray, images: int, name: str) -> None:
  """Raises EvaluationError unless `embedding` is float [images, d] of finite rows that are not 0.

  Reads a block of rows at a time, so that it may be memory-mapped.
  """
  check_shape(embedding, images, name)
  for start in range(0, len(embedding), 65536):
    # inf or NaN anywhere in a row makes the sum so.
    length = np.abs(embedding[start : start + 65536]).sum(1, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(length) | (length == 0))
    if len(bad):
      what = 'is all zeros' if length[bad[0]] == 0 else 'is not finite'
      raise EvaluationError(
        f'{name}: the embedding of image {start + bad[0]} {what} ({len(bad)} such among {len(length)}): look at this '
        'image; if there is nothing wrong with it, at the weights of the network.'
      )


def resolvable(fars: Sequence[float], impostors: int) -> list[float]:
  """The FARs of at least one impostor pair; less cannot be measured."""
  return [far for far in fars if far * impostors >= 1 - 1e-9]
