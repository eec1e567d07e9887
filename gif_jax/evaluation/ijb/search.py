"""IJB's 1:N protocol: who of a gallery is in the probe? On templates, in each mode.

A tie counts against: a person is found behind everybody else of the same score.
"""

from typing import NamedTuple

import numpy as np

from gif_jax.evaluation.bootstrap import draws, summarise
from gif_jax.evaluation.ijb.galleries import Galleries
from gif_jax.evaluation.result import Result, rate_name

_FPIRS = (1e-4, 1e-3, 1e-2, 1e-1, 1)
_RANKS = (1, 5, 10)
_BLOCK = 2**24  # cosines held at once
_RULE = (
  'Every template of probe_mixed is searched for in each gallery; metrics are means of the galleries (insightface, '
  'ijb_evals.py). tpir@fpir: share of the probes with their subject in the gallery for whom it scores above everybody '
  'else and above the threshold, number max(int(n FPIR) - 1, 0) from the top of the best scores of the n other probes. '
  'rank: share of the former whose subject is among the best; rank@joined: in one search among the people of all '
  'galleries (insightface, ijb_1n.py).'
)


def evaluate_galleries(name: str, vectors: np.ndarray, galleries: Galleries, mode: str, replicates: int) -> Result:
  """The 1:N protocol of a set of templates, in one mode.

  Args:
    name: of the benchmark.
    vectors: unit vectors float64 [t, d] of all templates.
    galleries: as `evaluation.ijb.galleries` opens them: `galleries` of (name, template [g], subject [g]), `probe` [q]
      and `probe_subject` [q]; templates are numbers 0..t - 1.
    mode: how images became vectors, such as N1D1.
    replicates: of the bootstrap over the subjects of probes; the galleries stay, thresholds are chosen anew.
  """
  metrics, intervals = search_galleries(vectors, galleries, replicates)
  subjects = np.unique(galleries.probe_subject)
  counts = {'probes': len(galleries.probe), 'subjects': len(subjects)}
  for gallery, _, subject in galleries.galleries:
    mated = int(np.isin(galleries.probe_subject, subject).sum())
    counts[f'gallery {gallery}'] = len(subject)
    counts[f'mated {gallery}'], counts[f'not mated {gallery}'] = mated, len(galleries.probe) - mated
  return Result(name, '1:N', mode, _RULE, counts, metrics, intervals)


def search_galleries(vectors: np.ndarray, galleries: Galleries, replicates: int) -> tuple[dict, dict]:
  """metrics {name: share}, intervals {name: (low, high)}; arguments as of `evaluate_galleries`.

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

  def measured(weights: np.ndarray) -> np.ndarray:
    shares = np.mean([np.append(part.tpirs(weights), part.ranks(weights)) for part in parts], axis=0)
    return np.append(shares, joined.ranks(weights))

  ranks = [f'rank{rank}' for rank in _RANKS]
  names = [f'tpir@fpir={rate_name(fpir)}' for fpir in _FPIRS] + ranks + [f'{rank}@joined' for rank in ranks]
  values = measured(np.ones(len(person), np.int64))
  drawn = [measured(weights[person]) for weights in draws(len(subjects), replicates)]
  metrics, intervals = summarise(names, values, drawn)
  fewest = min(len(part.others) for part in parts)
  extreme = [name for name, fpir in zip(names, _FPIRS) if not _place(fewest, fpir)]
  return metrics, {name: ends for name, ends in intervals.items() if name not in extreme}


def _place(n, fpir):
  """Place of the threshold, from 0, among n best scores."""
  return max(int(n * fpir) - 1, 0)


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
  match = _Match(home, np.full(q, -np.inf), np.empty((len(last), q)), np.empty((len(last), q), np.int64))
  for start in range(0, q, size := max(1, _BLOCK // len(known))):
    rows = slice(start, start + size)
    score = vectors[galleries.probe[rows]] @ known.T
    own = np.flatnonzero(mated[rows]), column[rows][mated[rows]]
    match.genuine[rows][mated[rows]] = score[own]
    score[own] = -np.inf
    reached = score >= match.genuine[rows][:, None]
    match.best[:, rows] = np.maximum.reduceat(score, first, axis=1).T
    match.above[:, rows] = np.add.reduceat(reached, first, axis=1, dtype=np.int64).T
  return match


class _Ranking:
  """One gallery's metrics under changing weights of probes; what is the same for all weights is worked out once."""

  def __init__(self, mated: np.ndarray, genuine: np.ndarray, above: np.ndarray, best: np.ndarray):
    """mated bool [q]: whose subject is in the gallery; genuine, above, best [q]: as of `_Match`."""
    self.mated, others = np.flatnonzero(mated), np.flatnonzero(~mated)
    self.hits = np.less.outer(above[self.mated], _RANKS).astype(np.float64)
    self.others = others[np.argsort(-best[others], kind='stable')]
    first = self.mated[above[self.mated] == 0]
    self.first = first[np.argsort(-genuine[first], kind='stable')]
    # For every score a threshold may be, how many of those who rank first are above it.
    self.above = np.searchsorted(-genuine[self.first], -best[self.others], side='left')

  def ranks(self, weights: np.ndarray) -> np.ndarray:
    """Shares of mated probes found at each rank: float64 [ranks]."""
    weights = weights[self.mated].astype(np.float64)
    return weights @ self.hits / weights.sum() if weights.any() else np.full(len(_RANKS), np.nan)

  def tpirs(self, weights: np.ndarray) -> np.ndarray:
    """TPIR at each FPIR: float64 [fpirs]."""
    seen, mated = np.cumsum(weights[self.others]), weights[self.mated].sum()
    if not mated or not len(seen) or not seen[-1]:
      return np.full(len(_FPIRS), np.nan)
    threshold = np.searchsorted(seen, [_place(seen[-1], fpir) for fpir in _FPIRS], side='right')
    accepted = np.append(0, np.cumsum(weights[self.first]))
    return accepted[self.above[threshold]] / mated
