"""Evaluates searches: who of a gallery is in the probe? IJB's 1:N protocol, on templates, and TinyFace's, on images.

A tie counts against: a person is found behind everybody else of the same score.
"""

from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from gif_jax.evaluation.bootstrap import draws, interval
from gif_jax.evaluation.result import EvaluationError, Hardest, Result, hardest, rate_name

_FPIRS = (1e-4, 1e-3, 1e-2, 1e-1, 1)
_RANKS = (1, 5, 10)  # of IJB
_SEARCH_RANKS = (1, 5, 20)  # of TinyFace
_BLOCK = 2**24  # cosines held at once
_ROWS = 65536  # embeddings normalised at once
_PATIENCE = 5  # seconds before a bar is shown

_GALLERIES_RULE = (
  'Every template of probe_mixed is searched for in each gallery; figures are means of the galleries (insightface, '
  'ijb_evals.py). tpir@fpir: share of the probes with their subject in the gallery for whom it scores above everybody '
  'else and above the threshold, number max(int(n FPIR) - 1, 0) from the top of the best scores of the n other probes. '
  'rank: share of the former whose subject is among the best; rank@joined: in one search among the people of all '
  'galleries (insightface, ijb_1n.py).'
)
_SEARCH_RULE = (
  'Every probe is searched for among all gallery images, distractors included. rank: share of probes with an image of '
  'their person among the best (CVLface). map: mean over probes of the area under precision against recall, trapezia '
  "from place to place (compute_AP of the scripts for TinyFace, after Market-1501); at most scikit-learn's average "
  'precision.'
)


def evaluate_galleries(name: str, vectors: np.ndarray, galleries: Any, mode: str, replicates: int) -> Result:
  """The 1:N protocol of a set of templates, in one mode.

  Args:
    name: of the benchmark.
    vectors: unit vectors float64 [t, d] of all templates.
    galleries: as `evaluation.ijb.galleries` opens them: `galleries` of (name, template [g], subject [g]), `probe` [q]
      and `probe_subject` [q]; templates are numbers 0..t - 1.
    mode: how images became vectors, such as N1D1.
    replicates: of the bootstrap over the subjects of probes; the galleries stay, thresholds are chosen anew.
  """
  figures, intervals = search_galleries(vectors, galleries, replicates)
  subjects = np.unique(galleries.probe_subject)
  counts = {'probes': len(galleries.probe), 'subjects': len(subjects)}
  for gallery, _, subject in galleries.galleries:
    mated = int(np.isin(galleries.probe_subject, subject).sum())
    counts[f'gallery {gallery}'] = len(subject)
    counts[f'mated {gallery}'], counts[f'not mated {gallery}'] = mated, len(galleries.probe) - mated
  return Result(name, '1:N', mode, _GALLERIES_RULE, counts, figures, intervals)


def search_galleries(vectors: np.ndarray, galleries: Any, replicates: int) -> tuple[dict, dict]:
  """figures {name: share}, intervals {name: (low, high)}; arguments as of `evaluate_galleries`.

  'tpir@fpir=1e-2' and 'rank1' are means of the galleries, each counting as much, whereas top1 of ijb_evals.py counts
  every probe as much; 'rank1@joined' is of one search among all their people. Above means strictly above: less than the
  share FPIR of the n probes of nobody is accepted, none where FPIR is below 2 / n. There the threshold is the best of
  all scores, which replicates could only lower, so that there is no interval. What cannot be measured, as no probe is
  of anybody in a gallery or all are, is left out.
  """
  matches = _match(vectors, galleries)
  parts = [_Ranking(matches.home == i, matches.genuine, matches.above[i], best) for i, best in enumerate(matches.best)]
  joined = _Ranking(matches.home >= 0, matches.genuine, matches.above.sum(0), matches.best.max(0))
  subjects, person = np.unique(galleries.probe_subject, return_inverse=True)

  def measured(weights):
    shares = np.mean([np.append(part.tpirs(weights), part.ranks(weights)) for part in parts], axis=0)
    return np.append(shares, joined.ranks(weights))

  ranks = [f'rank{rank}' for rank in _RANKS]
  names = [f'tpir@fpir={rate_name(fpir)}' for fpir in _FPIRS] + ranks + [f'{rank}@joined' for rank in ranks]
  values = measured(np.ones(len(person), np.int64))
  drawn = [measured(weights[person]) for weights in draws(len(subjects), replicates)]
  figures, intervals = _reported(names, values, drawn)
  fewest = min(len(part.others) for part in parts)
  extreme = [name for name, fpir in zip(names, _FPIRS) if not _place(fewest, fpir)]
  return figures, {name: ends for name, ends in intervals.items() if name not in extreme}


def _place(n, fpir):
  """Place of the threshold, from 0, among n best scores."""
  return max(int(n * fpir) - 1, 0)


def _reported(names, values, drawn):
  """figures and intervals, of what could be measured: values [k], drawn, one such for each replicate."""
  figures = {name: float(value) for name, value in zip(names, values) if np.isfinite(value)}
  columns = dict(zip(names, np.array(drawn).T))
  intervals = {name: interval(columns[name]) for name in figures if drawn and np.isfinite(columns[name]).any()}
  return figures, intervals


class _Match(NamedTuple):
  """Probes against galleries.

  Attributes:
    home: int64 [q], the gallery that a probe's subject is in; -1 none.
    genuine: float64 [q], its score there; -inf none.
    best: float64 [galleries, q], the best score of anybody else.
    above: int64 [galleries, q], how many others have at least the genuine score.
  """

  home: np.ndarray
  genuine: np.ndarray
  best: np.ndarray
  above: np.ndarray


def _match(vectors, galleries):
  template, subject = (np.concatenate(parts) for parts in list(zip(*galleries.galleries))[1:])
  last = np.cumsum([len(gallery[1]) for gallery in galleries.galleries])
  first = np.append(0, last[:-1])
  order = np.argsort(subject)
  column = order[np.minimum(np.searchsorted(subject[order], galleries.probe_subject), len(subject) - 1)]
  mated = subject[column] == galleries.probe_subject
  home = np.where(mated, np.searchsorted(last, column, side='right'), -1)
  known, q = vectors[template], len(mated)
  found = _Match(home, np.full(q, -np.inf), np.empty((len(last), q)), np.empty((len(last), q), np.int64))
  for start in range(0, q, size := max(1, _BLOCK // len(known))):
    rows = slice(start, start + size)
    score = vectors[galleries.probe[rows]] @ known.T
    own = np.flatnonzero(mated[rows]), column[rows][mated[rows]]
    found.genuine[rows][mated[rows]] = score[own]
    score[own] = -np.inf
    reached = score >= found.genuine[rows][:, None]
    found.best[:, rows] = np.maximum.reduceat(score, first, axis=1).T
    found.above[:, rows] = np.add.reduceat(reached, first, axis=1, dtype=np.int64).T
  return found


class _Ranking:
  """One gallery's figures under changing weights of probes; what is the same for all weights is worked out once."""

  def __init__(self, mated, genuine, above, best):
    """mated bool [q]: whose subject is in the gallery; genuine, above, best [q]: as of `_Match`."""
    self.mated, others = np.flatnonzero(mated), np.flatnonzero(~mated)
    self.hits = np.less.outer(above[self.mated], _RANKS).astype(np.float64)
    self.others = others[np.argsort(-best[others], kind='stable')]
    first = self.mated[above[self.mated] == 0]
    self.first = first[np.argsort(-genuine[first], kind='stable')]
    # For every score a threshold may be, how many of those found first are above it.
    self.above = np.searchsorted(-genuine[self.first], -best[self.others], side='left')

  def ranks(self, weights):
    """Shares of mated probes found at each rank: float64 [ranks]."""
    weights = weights[self.mated].astype(np.float64)
    return weights @ self.hits / weights.sum() if weights.any() else np.full(len(_RANKS), np.nan)

  def tpirs(self, weights):
    """TPIR at each FPIR: float64 [fpirs]."""
    seen, mated = np.cumsum(weights[self.others]), weights[self.mated].sum()
    if not mated or not len(seen) or not seen[-1]:
      return np.full(len(_FPIRS), np.nan)
    threshold = np.searchsorted(seen, [_place(seen[-1], fpir) for fpir in _FPIRS], side='right')
    found = np.append(0, np.cumsum(weights[self.first]))
    return found[self.above[threshold]] / mated


def check_search(benchmark) -> np.ndarray:
  """Which probes are of a person of the gallery: bool [q]. Raises EvaluationError where none is."""
  probe_person = benchmark.identity[benchmark.probe]
  mated = np.isin(probe_person, benchmark.identity[benchmark.gallery]) & (probe_person >= 0)
  if not mated.any():
    raise EvaluationError(f'{benchmark.name}: no probe is of a person of the gallery; are these lists of one set?')
  return mated


def evaluate_search(benchmark, embedding: np.ndarray, norm: np.ndarray | None, replicates: int) -> list[Result]:
  """See `benchmarks.measure`; benchmark: `TinyFaceSet`, with `probe` [q], `gallery` [g] and `identity` [n], -1 nobody.

  Figures are means over the probes whose person is in the gallery; intervals resample the people of these probes.
  hardest: the genuine pairs of smallest cosine, of a probe and the nearest image of its person; and of the probes whose
  nearest image is somebody else's, the pairs with that image of largest cosine.

  Raises EvaluationError where no probe has an image in the gallery.
  """
  del norm
  probe_person, gallery_person = benchmark.identity[benchmark.probe], benchmark.identity[benchmark.gallery]
  mated = check_search(benchmark)
  probe, people = benchmark.probe[mated], np.unique(gallery_person[gallery_person >= 0])
  found = _search(embedding, probe, benchmark.gallery, probe_person[mated], gallery_person)
  counts = {
    'probes': len(probe),
    'probes of nobody': int(np.sum(~mated)),
    'gallery': len(gallery_person),
    'distractors': int(np.sum(gallery_person < 0)),
    'people': len(people),
  }
  names = [f'rank{rank}' for rank in _SEARCH_RANKS] + ['map']
  values = np.column_stack([np.less_equal.outer(found.rank, _SEARCH_RANKS), found.precision])
  figures, intervals = _reported(names, values.mean(0), _drawn_means(values, probe_person[mated], replicates))
  worst = _hardest(found, probe, benchmark.gallery)
  return [Result(benchmark.name, 'search', '', _SEARCH_RULE, counts, figures, intervals, hardest=worst)]


class _Found(NamedTuple):
  """What a search says of probes: rank int64 [p], precision float64 [p]; the nearest image of the probe's person and
  of anybody else, as places in the gallery int64 [p], and their cosines float32 [p]."""

  rank: np.ndarray
  precision: np.ndarray
  genuine: np.ndarray
  genuine_cosine: np.ndarray
  impostor: np.ndarray
  impostor_cosine: np.ndarray


def _search(embedding, probe, gallery, person, gallery_person):
  """A block of probes at a time against the whole gallery, which is held once, in float32: 4 g d bytes."""
  probes, known = _unit(embedding, probe), _unit(embedding, gallery)
  order = np.argsort(gallery_person, kind='stable')
  first, last = (np.searchsorted(gallery_person[order], person, side=side) for side in ('left', 'right'))
  found, size = [], max(1, _BLOCK // len(gallery))
  with tqdm(total=len(probe), desc='searching', unit='probe', delay=_PATIENCE) as bar:
    for start in range(0, len(probe), size):
      scores = probes[start : start + size] @ known.T
      found += [_one(score, order[first[i] : last[i]]) for i, score in enumerate(scores, start)]
      bar.update(len(scores))
  return _Found(*map(np.array, zip(*found)))


def _one(score, own):
  """A row of `_Found`, of a probe with these cosines, float32 [g], the images `own` being of its person."""
  own = own[np.argsort(-score[own], kind='stable')]
  cosine = score[own]
  score[own] = -np.inf
  place = np.arange(1, len(own) + 1)
  rank = place + np.count_nonzero(score >= cosine[:, None], axis=1)
  # Precision at the place of each image of the person, and one place earlier; before the first it counts as 1.
  before = np.where(rank > 1, (place - 1) / np.maximum(rank - 1, 1), 1)
  other = score.argmax()
  return rank[0], (before + place / rank).mean() / 2, own[0], cosine[0], other, score[other]


def _unit(embedding, rows):
  """Rows of an embedding, which may be memory-mapped, as unit vectors float32 [k, d]."""
  unit = np.empty((len(rows), embedding.shape[1]), np.float32)
  for start in range(0, len(rows), _ROWS):
    block = np.asarray(embedding[rows[start : start + _ROWS]], np.float64)
    unit[start : start + _ROWS] = block / np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12)
  return unit


def _drawn_means(values, person, replicates):
  """Means of values [p, k] over probes, for each draw of their people, float64 [k] each."""
  people, number = np.unique(person, return_inverse=True)
  sums = np.stack([np.bincount(number, column) for column in values.T], axis=1)
  probes = np.bincount(number)
  return [weights @ sums / (weights @ probes) for weights in draws(len(people), replicates)]


def _hardest(found, probe, gallery) -> Hardest:
  missed = np.flatnonzero(found.rank > 1)
  cosine = np.append(found.genuine_cosine, found.impostor_cosine[missed])
  right = gallery[np.append(found.genuine, found.impostor[missed])]
  return hardest(cosine, np.arange(len(cosine)) < len(probe), np.append(probe, probe[missed]), right)
