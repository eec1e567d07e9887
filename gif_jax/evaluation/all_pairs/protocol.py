"""TAR at FAR over all pairs of a labelled set, down to 1e-9 (InsightFace's MFR has 1.3e12 pairs of 242 143 people).

Exact means: the metrics are those of a ROC over the cosines of all pairs as `exact_cosines` defines them, to the last
bit and whatever the devices, the processes and the shape of blocks. They differ from those of cosines computed in
float32 by what float32 sums are off by, about 1e-7 in a cosine.
"""

import math
from typing import NamedTuple

import numpy as np

from gif_jax.evaluation import bootstrap, result
from gif_jax.evaluation.all_pairs.exact_cosines import Images, all_impostors, genuine_pairs, sorted_images
from gif_jax.evaluation.all_pairs.impostors import Impostors, most_alike
from gif_jax.evaluation.result import Curve, EvaluationError, Histogram, Result, rate_name, resolvable

_FARS = [float(f'1e-{exponent}') for exponent in range(1, 10)]
_TAIL = 5_000_000  # impostor pairs kept, at most
_GENUINE = 200_000_000  # genuine pairs, at most: all are kept, 16 bytes each
_FEW = 2**24  # pairs all of which may be held at once, 16 bytes each
_SAMPLE = 4096  # images whose pairs show how the impostors of a larger set are spread; 8.4 million pairs
_SPARE = 1.5  # what the largest FAR accepts so many times over: replicates of the bootstrap may accept more

_RULE = (
  'Every pair of different images once. TAR at the largest FAR that is not above the target; cosines exact, of unit '
  'vectors rounded to 2^-24.'
)
_SPREAD = ' The histogram of impostors is counted from a cosine of {:.3f} on and estimated from {} random images below.'


def evaluate_all_pairs(name: str, identity: np.ndarray, embedding: np.ndarray, replicates: int) -> Result:
  """TAR at FAR over all pairs of images with identities int64 [n]; the rest as of `benchmark.measure`.

  FARs: the powers of ten from 1e-1 down to 1e-9 that accept at least one impostor pair, and not so many that they
  could not be kept (3.3 million: 4000 images have 1e-1 and below, 200 000 have 1e-4 and below). A threshold is half-way
  between the last cosine that is accepted and the next impostor's: whoever accepts from it on has just this FAR and
  TAR, and is not upset by rounding. The curve ends where the pairs kept end: at 1.5 times the largest FAR, or at 1 for
  up to 5800 images.

  Raises:
    EvaluationError: no genuine pairs or more than 2e8 of them, or fewer than 10 impostor pairs.
  """
  check_all_pairs(name, identity)
  images = sorted_images(embedding, np.asarray(identity))
  total = images.impostors()
  fars = _fars(total)
  genuine = _Genuine.of(images)
  tail = most_alike(images, min(total, math.ceil(_SPARE * fars[0] * total) + 1))
  spread, sampled = _spread(images)
  points = {far: _point(genuine.rising, tail.cosine, int(far * total * (1 + 1e-12))) for far in fars}
  intervals = bootstrap.tar_intervals(_tail(images, genuine, tail), fars, int(images.person[-1]) + 1, replicates)
  curve = _curve(genuine.rising, tail.cosine if sampled else spread[::-1], total)
  return Result(
    name,
    'all pairs',
    '',
    _RULE + (_SPREAD.format(_edge(tail), sampled) if sampled else ''),
    _counts(images),
    {f'tar@far={rate_name(far)}': tar for far, (tar, _) in points.items()},
    {f'tar@far={rate_name(far)}': both for far, both in intervals.items()},
    {rate_name(far): threshold for far, (_, threshold) in points.items()},
    result.thinned(*curve),
    _histogram(genuine.cosine, tail, spread, total),
    _hardest(images, genuine, tail),
  )


def _fars(impostors):
  return [far for far in resolvable(_FARS, impostors) if math.ceil(_SPARE * far * impostors) < _TAIL]


def check_all_pairs(name: str, identity: np.ndarray) -> None:
  """Raises EvaluationError for a set whose pairs are too few, or too many, for anything to be measured with it."""
  impostors = _check_pairs(np.asarray(identity), f'{name}: ')
  if not _fars(impostors):
    raise EvaluationError(f'{name}: {impostors} impostor pairs cannot resolve a FAR of 1e-1: add people.')


def _check_pairs(identity, name) -> int:
  """How many impostor pairs there are. Raises EvaluationError where a kind of pairs lacks, or genuine ones are many."""
  counts = np.unique(identity, return_counts=True)[1].tolist()
  genuine = sum(count * (count - 1) // 2 for count in counts)
  impostors = sum(counts) * (sum(counts) - 1) // 2 - genuine
  if not genuine or not impostors:
    raise EvaluationError(
      f'{name}all pairs need genuine and impostor pairs among them: pass two or more identities, one with two or more '
      'images'
    )
  if genuine > _GENUINE:
    raise EvaluationError(f'{name}{genuine} genuine pairs, more than {_GENUINE}: take fewer images of each identity.')
  return impostors


class _Genuine(NamedTuple):
  """All genuine pairs: left, right int32 [g], rows of the sorted images; cosine float64 [g], and the same rising."""

  left: np.ndarray
  right: np.ndarray
  cosine: np.ndarray
  rising: np.ndarray

  @classmethod
  def of(cls, images: Images) -> '_Genuine':
    left, right, cosine = genuine_pairs(images)
    return cls(left, right, cosine, np.sort(cosine))


def _spread(images):
  """Cosines of impostor pairs, float64, rising, and the number of images they were drawn from: 0 if they are all."""
  n = len(images.z)
  if n * (n - 1) // 2 <= _FEW:
    return all_impostors(images), 0
  return all_impostors(images.drawn(_SAMPLE)), _SAMPLE


def _accepted(rising, above):
  """How many genuine pairs have cosines above each of `above`."""
  return len(rising) - np.searchsorted(rising, above, side='right')


def _point(rising, tail, most):
  """TAR and threshold where at most `most` impostors are accepted: from above the next impostor's cosine on."""
  following = tail[most]
  accepted = int(_accepted(rising, following))
  lowest = [rising[-accepted]] if accepted else []
  lowest = np.min([*lowest, *tail[: np.searchsorted(-tail, -following)][-1:]], initial=np.inf)
  # Where nothing is accepted, anything above.
  threshold = (following + lowest) / 2 if np.isfinite(lowest) else np.nextafter(following, np.inf)
  return accepted / len(rising), float(threshold)


def _curve(rising, falling, total) -> Curve:
  """Points of a ROC: `falling` are the best impostor cosines of `total`, or all of them."""
  following = np.append(0, np.flatnonzero(falling[1:] < falling[:-1]) + 1)  # impostors accepted at each point
  far, tar = following / total, _accepted(rising, falling[following]) / len(rising)
  if len(falling) == total:
    far, tar = np.append(far, 1), np.append(tar, 1)
  return Curve(far, tar)


def _tail(images, genuine, tail):
  """For the bootstrap, of whose replicates the images of a person drawn twice are not impostors of each other."""
  images_of = np.bincount(images.person)

  def total(weights):
    drawn = weights * images_of
    return (drawn.sum() ** 2 - (drawn**2).sum()) // 2

  person = images.person
  return bootstrap.Tail(genuine.cosine, person[genuine.left], tail.cosine, person[tail.left], person[tail.right], total)


def _counts(images):
  return {
    'images': len(images.z),
    'identities': int(images.person[-1]) + 1,
    'genuine': images.genuine(),
    'impostor': images.impostors(),
  }


def _edge(tail):
  """Upper edge of the bin in which the tail ends: bins above it are counted."""
  edges = np.linspace(-1, 1, result._BINS + 1)
  return edges[min(np.searchsorted(edges, tail.cosine[-1], side='right'), result._BINS)]


def _histogram(genuine: np.ndarray, tail: Impostors, spread, total) -> Histogram:
  """Impostors are counted above the bin in which the tail ends; the others are spread as those of the sample are."""
  cosine = np.concatenate([genuine, tail.cosine])
  both = result.histogram(cosine, np.arange(len(cosine)) < len(genuine))
  counts = result.histogram(spread, np.zeros(len(spread), bool)).impostor
  if len(spread) < total:
    last = np.searchsorted(both.edges, _edge(tail)) - 1
    below = counts[: last + 1]
    if not below.any():
      below[last] = 1
    left = total - both.impostor[last + 1 :].sum()
    rounded = np.rint(np.cumsum(below) * (left / below.sum())).astype(np.int64)
    counts = np.append(np.diff(rounded, prepend=0), both.impostor[last + 1 :])
  return both._replace(impostor=counts)


def _hardest(images, genuine, tail):
  few = slice(2 * result._HARDEST)
  left, right = (
    images.order[np.concatenate([getattr(genuine, side), getattr(tail, side)[few]])] for side in ('left', 'right')
  )
  cosine = np.concatenate([genuine.cosine, tail.cosine[few]])
  same = np.arange(len(cosine)) < len(genuine.cosine)
  return result.hardest(cosine, same, np.minimum(left, right), np.maximum(left, right))
