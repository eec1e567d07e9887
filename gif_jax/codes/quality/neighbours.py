"""Whether people with like vectors have like codes: nearest neighbours of a sample among all identities."""

from typing import NamedTuple

import numpy as np
from tqdm import tqdm

SAMPLE = 4096  # identities whose neighbours are looked for
BLOCK = 2**22  # cosines held at once: 16 MB, which malloc keeps for the next block; above 32 MB it does not
ROWS = 8192  # vectors in float32 at a time, at most
ALIKE = 1e-6  # cosines that differ by less are the same but for rounding
BINS = np.linspace(-1.01, 1.01, 203)  # of the histograms of cosines; rounding may leave [-1, 1]


class Neighbours(NamedTuple):
  """What lies nearest to a sample of n identities among all m, by cosine of code vectors.

  label: int64 [n], the sample.
  nearest, cosine: int64 [n], float32 [n]: the nearest other identity.
  stranger, stranger_cosine: the same among those who share no digit at the beginning; -1 and -inf where there is none.
  shared: float64 [l]: share of the sample whose nearest neighbour has the same first 1, 2 .. l digits (the last is 0);
    NaN if all pairs are equally similar, as they are with two people, so that nobody is nearest.
  chance: float64 [l]: the same for any other identity taken at random: exact, from the sizes of the nodes.
  smallest, mean, largest: of the cosines of the sample with everybody else.
  histogram: int64, of the cosines within the sample (each pair twice), in BINS.
  """

  label: np.ndarray
  nearest: np.ndarray
  cosine: np.ndarray
  stranger: np.ndarray
  stranger_cosine: np.ndarray
  shared: np.ndarray
  chance: np.ndarray
  smallest: float
  mean: float
  largest: float
  histogram: np.ndarray


def code_order(codes: np.ndarray) -> np.ndarray:
  """The identities in the order of their codes, int64 [m]: the people below any node are neighbours in it."""
  return np.lexsort(codes.T[::-1])


def starts(codes: np.ndarray) -> np.ndarray:
  """Where a new row begins in ordered codes uint8 [n, j]: int64, the first is 0. With j = 0 all rows are the same."""
  return np.flatnonzero(np.append(True, (codes[1:] != codes[:-1]).any(1)))


def neighbours(
  codes: np.ndarray, vectors: np.ndarray, *, sample: int = SAMPLE, seed: int = 0, progress: bool = True
) -> Neighbours:
  """Compares `sample` identities (all, if there are fewer) with every one; cost sample * m * d, memory bounded.

  Args:
    codes: uint8 [m, l], unique rows, m >= 2.
    vectors: float [m, d], memory-mapped or not; compared by cosine, so their length does not matter.
    sample, seed: how many are drawn, and which.
    progress: show a bar over identities.
  """
  m = len(codes)
  order = code_order(codes)
  place = np.sort(np.random.default_rng(seed).permutation(m)[:sample])  # in `order`
  search = _Search(codes, vectors, order, place)
  rows = min(ROWS, max(1, BLOCK // len(place)))
  with tqdm(total=m, desc='neighbours', unit='id', unit_scale=True, disable=not progress) as bar:
    for start in range(0, m, rows):
      search.look(start, min(start + rows, m))
      bar.update(min(rows, m - start))
  label, near, far = order[place], search.near, search.far
  largest = float(near.cosine.max())
  shared = np.logical_and.accumulate(codes[label] == codes[near.label], axis=1).mean(0)
  if largest - search.smallest < ALIKE:
    shared[:] = np.nan
  return Neighbours(
    label,
    near.label,
    near.cosine,
    far.label,
    far.cosine,
    shared,
    _chance(codes[order], place),
    search.smallest,
    search.mean(),
    largest,
    search.histogram,
  )


class _Best:
  """The most similar identity so far of each in the sample."""

  def __init__(self, n: int):
    self.cosine, self.label = np.full(n, -np.inf, np.float32), np.full(n, -1, np.int64)

  def take(self, cosine: np.ndarray, label: np.ndarray) -> None:
    """Cosines float32 [n, b] with the identities `label` int64 [b]."""
    column = cosine.argmax(1)
    value = np.take_along_axis(cosine, column[:, None], 1)[:, 0]
    better = value > self.cosine
    self.cosine[better], self.label[better] = value[better], label[column[better]]


class _Search:
  """Everything is in the order of codes, so that those who share a first digit with a row are a block of columns."""

  def __init__(self, codes: np.ndarray, vectors: np.ndarray, order: np.ndarray, place: np.ndarray):
    self.vectors, self.order, self.place = vectors, order, place
    self.first = codes[order, 0]
    self.sample = _unit(vectors[order[place]])
    self.near, self.far = _Best(len(place)), _Best(len(place))
    self.total, self.smallest = np.zeros(vectors.shape[1]), np.inf
    self.histogram = np.zeros(len(BINS) - 1, np.int64)

  def look(self, start: int, stop: int) -> None:
    """Compares the sample with the identities start..stop-1 of the order."""
    label = self.order[start:stop]
    block = _unit(self.vectors[label])
    cosine = self.sample @ block.T
    self.total += block.sum(0, dtype=np.float64)
    self.smallest = min(self.smallest, float(cosine.min()))  # with oneself it is the largest there is
    own = slice(*np.searchsorted(self.place, (start, stop)))
    column = self.place[own] - start
    cosine[np.arange(len(self.place))[own], column] = -np.inf
    self.histogram += np.histogram(cosine[:, column], len(BINS) - 1, (BINS[0], BINS[-1]))[0]
    self.near.take(cosine, label)
    self._hide_relatives(cosine, start, stop)
    self.far.take(cosine, label)

  def mean(self) -> float:
    pairs = len(self.place) * (len(self.order) - 1)
    own = np.square(self.sample, dtype=np.float64).sum()
    return float((self.sample.sum(0, dtype=np.float64) @ self.total - own) / pairs)

  def _hide_relatives(self, cosine: np.ndarray, start: int, stop: int) -> None:
    row_digit, column_digit = self.first[self.place], self.first[start:stop]
    for digit in np.unique(column_digit):
      rows = slice(*(np.searchsorted(row_digit, digit, side) for side in ('left', 'right')))
      columns = slice(*(np.searchsorted(column_digit, digit, side) for side in ('left', 'right')))
      cosine[rows, columns] = -np.inf


def _unit(rows: np.ndarray) -> np.ndarray:
  rows = rows.astype(np.float32)
  return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _chance(ordered: np.ndarray, place: np.ndarray) -> np.ndarray:
  """Mean share of the others who have the same first 1, 2 .. l digits: float64 [l]; codes uint8 [m, l] in order."""
  m, l = ordered.shape
  shares = []
  for j in range(1, l + 1):
    first = starts(ordered[:, :j])
    size = np.diff(first, append=m)
    shares.append(np.mean(size[np.searchsorted(first, place, 'right') - 1] - 1) / (m - 1))
  return np.array(shares)
