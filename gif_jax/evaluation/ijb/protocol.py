"""Evaluates IJB-B and IJB-C: embeddings -> templates -> scores of pairs -> TAR at FAR, in four modes; and 1:N.

A mode says what of an image enters its template: N1 the embedding with its length, N0 without; D1 times the score of
the face detector, D0 not. Papers report different ones, and theirs differ by more than models do.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.sparse import csr_array
from sklearn.metrics import roc_curve

from gif_jax.evaluation.ijb.intervals import Weights
from gif_jax.evaluation.ijb.search import evaluate_galleries
from gif_jax.evaluation.ijb.templates import Templates
from gif_jax.evaluation.result import (
  EvaluationError,
  Hardest,
  Result,
  hardest,
  histogram,
  rate_name,
  resolvable,
  thinned,
)

FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
# (embedding's length, detector's score) of each mode, and who reports it; the one to quote first.
_MODES = {
  'N1D1': (True, True, 'what arcface_torch reports (eval_ijbc.py)'),
  'N0D1': (False, True, "what CVLface's board reports"),
  'N1D0': (True, False, 'what CVLface measures besides; no board reports it'),
  'N0D0': (False, False, 'plain averages, for comparison; no board reports it'),
}
_RULE = (
  "Embeddings {} their length and {} the detector's score, averaged over each medium, summed over the media of a "
  'template, cosine of templates; TAR at the point of the ROC (collinear points left out) nearest to each FAR: {}.'
)
_ROWS = 4096  # embeddings in float64 at a time
_LEFT = 512  # templates whose scores with others are worked out at a time
_DENSE = 0.02  # share of the pairs of a block from which on all of them are cheaper than those asked for
_GATHERED = 16384  # pairs whose templates are gathered at a time
_DIGITS = 14  # of a score, after the point
_CANCELLED = 1e-6  # share of the lengths of its images from which on a template is more than the rounding of float32


def evaluate_templates(templates: Templates, embedding: np.ndarray, replicates: int) -> list[Result]:
  """Every mode of 1:1, and of 1:N where there are lists of it; the rest as of `benchmark.measure`.

  A threshold is half-way between the score of the last pair accepted at the point that gives TAR and the next score; a
  FAR at which the point accepts no pair has none. hardest: of each template the image of the largest detector score.
  Raises EvaluationError as `template_embeddings` does.
  """
  weights = Weights(templates)
  z = template_embeddings(
    embedding,
    templates.template,
    templates.media,
    templates.detector,
    called=lambda i: f'{templates.name}: template {templates.template_ids[i]}',
  )
  results = [_result(templates, mode, z[mode], weights, replicates) for mode in _MODES]
  if templates.search:
    results += [evaluate_galleries(templates.name, z[mode], templates.search, mode, replicates) for mode in _MODES]
  return results


def template_embeddings(
  embedding: np.ndarray,
  template: np.ndarray,
  media: np.ndarray,
  detector: np.ndarray,
  modes: Sequence[str] = tuple(_MODES),
  called: Callable[[int], str] = 'template {}'.format,
) -> dict[str, np.ndarray]:
  """Unit embeddings of the templates in each mode: {mode: float64 [t, d]}.

  Args:
    embedding: float [n, d], read once, some rows at a time, in order: may be memory-mapped.
    template: int [n], 0..t-1, each at least once; media: int [n]; detector: float [n], above 0. In any order.
    modes: some of N1D1, N0D1, N1D0, N0D0.
    called: what template i is called in errors.

  Raises:
    EvaluationError: the score of an image is not above 0 or not finite; or the images of a template cancel out, are 0
      or not finite, so that it has no direction. Names the template.
  """
  _check_scores(detector, template, called)
  t = int(template.max()) + 1
  share = 1 / _of_one_medium(template, media)
  z = {mode: np.zeros((t, embedding.shape[1])) for mode in modes}
  lengths = {mode: np.zeros(t) for mode in modes}
  for start in range(0, len(embedding), _ROWS):
    rows = slice(start, start + _ROWS)
    x = embedding[rows].astype(np.float64)
    length = np.maximum(np.sqrt(np.einsum('nd,nd->n', x, x)), 1e-12)
    here, place = np.unique(template[rows], return_inverse=True)
    for mode in modes:
      keeps_length, scored, _ = _MODES[mode]
      part = share[rows] * (detector[rows].astype(np.float64) if scored else 1)
      weight = part if keeps_length else part / length
      z[mode][here] += csr_array((weight, (place, np.arange(len(x)))), shape=(len(here), len(x))) @ x
      lengths[mode][here] += np.bincount(place, part * length if keeps_length else part)
  for mode, sums in z.items():
    length = np.sqrt(np.einsum('td,td->t', sums, sums))
    _check_directions(length > _CANCELLED * lengths[mode], mode, called)
    sums /= length[:, None]
  return z


def _check_scores(detector, template, called):
  usable = np.isfinite(detector) & (detector > 0)
  if not usable.all():
    image = int(np.argmin(usable))
    raise EvaluationError(
      f"{called(template[image])}: the detector's score of image {image} is {detector[image]}, but images are weighted "
      'with it: give scores above 0, such as probabilities.'
    )


def _check_directions(usable, mode, called):
  if not usable.all():
    raise EvaluationError(
      f'{called(int(np.argmin(usable)))}: in {mode} its images cancel out, are 0 or not finite, so that nothing can be '
      f'compared with it ({np.count_nonzero(~usable)} such templates): look at the embeddings of its images.'
    )


def _of_one_medium(template, media):
  """How many images of its template are of each image's medium: int64 [n]."""
  order = np.lexsort((media, template))
  new = (np.diff(template[order]) != 0) | (np.diff(media[order]) != 0)
  group = np.empty(len(order), np.int64)
  group[order] = np.append(0, np.cumsum(new))
  return np.bincount(group)[group]


def pair_scores(z: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
  """Cosines of pairs of unit rows of z, float64 [t, d]; left, right int32 [p] -> float64 [p].

  Pairs are taken in blocks by their left rows. Where many of all pairs of a block are asked for, all of them are worked
  out, in one product; where few are, these alone.
  """
  scores = np.empty(len(left))
  block = (left // _LEFT).astype(np.uint16 if len(z) < _LEFT * 65536 else np.int64)  # the former is sorted in O(p)
  order = np.argsort(block, kind='stable')
  ends = np.cumsum(np.bincount(block))
  for start, stop in zip(np.append(0, ends), ends):
    pairs = order[start:stop]
    scores[pairs] = _block_scores(z, left[pairs], right[pairs])
  # The last bits of a product depend on its shape: without them equal templates have equal cosines in every block.
  return np.round(scores, _DIGITS, out=scores)


def _block_scores(z, left, right):
  (rows, row), (columns, column) = _numbered(left, len(z)), _numbered(right, len(z))
  if len(left) > _DENSE * len(rows) * len(columns):
    return (z[rows] @ z[columns].T)[row, column]
  scores = np.empty(len(left))
  for start in range(0, len(left), _GATHERED):
    part = slice(start, start + _GATHERED)
    scores[part] = np.einsum('pd,pd->p', z[left[part]], z[right[part]])
  return scores


def _numbered(values, t):
  """The distinct values, rising, and which of them each is; like numpy.unique for values 0..t-1, without a sort."""
  used = np.zeros(t, bool)
  used[values] = True
  return np.flatnonzero(used), (np.cumsum(used) - 1)[values]


def _result(templates, mode, z, weights, replicates):
  keeps_length, scored, who = _MODES[mode]
  rule = _RULE.format('with' if keeps_length else 'without', 'times' if scored else 'without', who)
  score = pair_scores(z, templates.left, templates.right)
  fars = resolvable(FARS, len(score) - weights.genuine)
  far, tar, threshold = roc_curve(templates.same, score)
  points = nearest_points(far, fars)
  cosines = {name: _accepted_from(score, threshold[point]) for name, point in zip(map(rate_name, fars), points)}
  intervals = weights.intervals(score, fars, replicates)
  return Result(
    templates.name,
    '1:1',
    mode,
    rule,
    weights.counts,
    {f'tar@far={rate_name(target)}': float(tar[point]) for target, point in zip(fars, points)},
    {f'tar@far={rate_name(target)}': interval for target, interval in intervals.items()},
    {name: float(cosine) for name, cosine in cosines.items() if math.isfinite(cosine)},
    thinned(far, tar),
    histogram(score, templates.same),
    _hardest(templates, score),
  )


def _accepted_from(score, last):
  """Half-way between the smallest score that is accepted and the next one, so that rounding changes no decision."""
  return (last + score[score < last].max(initial=-1)) / 2


def nearest_points(far: np.ndarray, targets: Sequence[float]) -> list[int]:
  """The point of a ROC, far [k] rising, nearest to each target; of equally near ones the last: it has the larger TAR.

  As eval_ijbc.py of arcface_torch has it: differences are compared as they are in float64.
  """
  falling = far[::-1]
  return [len(far) - 1 - int(np.abs(falling - target).argmin()) for target in targets]


def _hardest(templates, score) -> Hardest:
  """The hardest pairs, each template shown as its image of the largest detector score."""
  order = np.lexsort((-templates.detector, templates.template))
  shown = order[np.unique(templates.template[order], return_index=True)[1]]
  pairs = hardest(score, templates.same, templates.left, templates.right)
  return pairs._replace(left=shown[pairs.left], right=shown[pairs.right])
