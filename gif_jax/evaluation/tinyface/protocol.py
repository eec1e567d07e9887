"""TinyFace's search: which images of a gallery with distractors are of the probe's person?

A tie counts against: an image is found behind all others of the same score.
"""

from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from gif_jax.evaluation.bootstrap import draws, summarise
from gif_jax.evaluation.result import EvaluationError, Hardest, Result, hardest

_RANKS = (1, 5, 20)
_BLOCK = 2**24  # cosines held at once
_ROWS = 65536  # embeddings normalised at once
_PATIENCE = 5  # seconds before a bar is shown
_RULE = (
  'Every probe is searched for among all gallery images, distractors included. rank: share of probes with an image of '
  'their person among the best (CVLface). map: mean over probes of the area under precision against recall, trapezia '
  "from place to place (compute_AP of the scripts for TinyFace, after Market-1501); at most scikit-learn's average "
  'precision.'
)


class Search(NamedTuple):
  """Who is searched for among whom.

  Attributes:
    name: of the benchmark.
    identity: int64 [n], -1 of distractors.
    probe: int64 [q], which images are probes.
    gallery: int64 [g], which images are the gallery.
  """

  name: str
  identity: np.ndarray
  probe: np.ndarray
  gallery: np.ndarray

  def mated(self) -> np.ndarray:
    """Which probes are of a person of the gallery: bool [q]. Raises EvaluationError where none is."""
    probe_person = self.identity[self.probe]
    mated = np.isin(probe_person, self.identity[self.gallery]) & (probe_person >= 0)
    if not mated.any():
      raise EvaluationError(f'{self.name}: no probe is of a person of the gallery; are these lists of one set?')
    return mated


def evaluate_search(search: Search, embedding: np.ndarray, replicates: int) -> Result:
  """Rank rates and mAP of a search; embedding, replicates as of `benchmark.measure`.

  Metrics are means over the probes whose person is in the gallery; intervals resample the people of these probes.
  hardest: the genuine pairs of smallest cosine, of a probe and the nearest image of its person; and of the probes whose
  nearest image is somebody else's, the pairs with that image of largest cosine.

  Raises EvaluationError where no probe has an image in the gallery.
  """
  probe_person, gallery_person = search.identity[search.probe], search.identity[search.gallery]
  mated = search.mated()
  probe, people = search.probe[mated], np.unique(gallery_person[gallery_person >= 0])
  ranking = _search(embedding, probe, search.gallery, probe_person[mated], gallery_person)
  counts = {
    'probes': len(probe),
    'probes of nobody': int(np.sum(~mated)),
    'gallery': len(gallery_person),
    'distractors': int(np.sum(gallery_person < 0)),
    'people': len(people),
  }
  names = [f'rank{rank}' for rank in _RANKS] + ['map']
  values = np.column_stack([np.less_equal.outer(ranking.rank, _RANKS), ranking.precision])
  metrics, intervals = summarise(names, values.mean(0), _drawn_means(values, probe_person[mated], replicates))
  worst = _hardest(ranking, probe, search.gallery)
  return Result(search.name, 'search', '', _RULE, counts, metrics, intervals, hardest=worst)


class _Ranking(NamedTuple):
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
  rows: list[tuple] = []
  size = max(1, _BLOCK // len(gallery))
  with tqdm(total=len(probe), desc='searching', unit='probe', delay=_PATIENCE) as bar:
    for start in range(0, len(probe), size):
      scores = probes[start : start + size] @ known.T
      rows += [_one(score, order[first[i] : last[i]]) for i, score in enumerate(scores, start)]
      bar.update(len(scores))
  return _Ranking(*map(np.array, zip(*rows)))


def _one(score, own):
  """A row of `_Ranking`, of a probe with these cosines, float32 [g], the images `own` being of its person."""
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


def _hardest(ranking, probe, gallery) -> Hardest:
  missed = np.flatnonzero(ranking.rank > 1)
  cosine = np.append(ranking.genuine_cosine, ranking.impostor_cosine[missed])
  right = gallery[np.append(ranking.genuine, ranking.impostor[missed])]
  return hardest(cosine, np.arange(len(cosine)) < len(probe), np.append(probe, probe[missed]), right)
