"""Cosines that are the same bits everywhere: in any order of summation, on any processor, in blocks of any shape.

Unit vectors are rounded to multiples of 2^-24. Their products are then multiples of 2^-48, and no partial sum of them
exceeds 1 by more than that rounding, so that float64 holds every one of them: whoever adds them up, however, arrives at
the same cosine, and equal vectors give equal cosines. The rounding moves a cosine by 2e-8 (one standard deviation, for
whatever d), half as much as float32 does. Rows are sorted by identity.
"""

from typing import NamedTuple

import numpy as np

_UNIT = 2**24
_ROWS = 4096  # embeddings normalised at a time
_VALUES = 2**17  # of one side of the pairs compared at a time: more would not stay in a core's cache
_PAIRS = 2**18  # pairs looked at together: are they a good part of a block?
_DENSE = 16  # comparing so many pairs as a block costs less than one by itself
_BLOCK = 2**22  # cosines of all pairs at a time


class Images(NamedTuple):
  """Images sorted by identity, those of one identity being neighbours.

  Attributes:
    z: float32 [n, d], unit vectors rounded to multiples of 2^-24; 0 for an embedding of 0.
    order: int64 [n], number of each in the set it was given in.
    person: int32 [n], 0..m-1, rising.
    end: int64 [n], row after the last one of its identity: the genuine partners after row i end there, and the
      impostors begin.
  """

  z: np.ndarray
  order: np.ndarray
  person: np.ndarray
  end: np.ndarray

  def genuine(self) -> int:
    """Number of genuine pairs."""
    return int(np.sum(self.end - 1 - np.arange(len(self.end))))

  def impostors(self) -> int:
    """Number of impostor pairs."""
    return int(np.sum(len(self.end) - self.end))

  def drawn(self, k: int) -> 'Images':
    """`k` of them at random, always the same ones."""
    rows = np.sort(np.random.default_rng(0).choice(len(self.z), k, replace=False))
    person = np.unique(self.person[rows], return_inverse=True)[1].astype(np.int32)
    return Images(self.z[rows], self.order[rows], person, np.searchsorted(person, person, side='right'))


def sorted_images(embedding: np.ndarray, identity: np.ndarray) -> Images:
  """Images of embeddings float [n, d], which may be memory-mapped, and identities int [n]."""
  _, person = np.unique(identity, return_inverse=True)
  order = np.argsort(person, kind='stable')
  person = person[order].astype(np.int32)
  z = np.empty(embedding.shape, np.float32)
  for start in range(0, len(z), _ROWS):
    rows = np.asarray(embedding[order[start : start + _ROWS]], np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    z[start : start + _ROWS] = np.rint(rows / np.where(length > 0, length, 1) * _UNIT) / _UNIT
  return Images(z, order, person, np.searchsorted(person, person, side='right'))


def cosines(z: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
  """Of the rows left, rising, and right, int [p], of z [n, d]: float64 [p].

  Cost: about 1 us a pair for d = 512, and much less where one in a few of all pairs of some neighbours is wanted.
  """
  cosine = np.empty(len(left))
  for start in range(0, len(left), _PAIRS):
    some = slice(start, start + _PAIRS)
    # Numbers of Python: rows are int32, whose products may be too large for it.
    first, until = int(right[some].min()), int(right[some].max()) + 1
    rows = slice(int(left[some][0]), int(left[some][-1]) + 1)
    if (rows.stop - rows.start) * (until - first) <= _DENSE * len(left[some]):
      block = z[rows].astype(np.float64) @ z[first:until].astype(np.float64).T
      cosine[some] = block[left[some] - rows.start, right[some] - first]
    else:
      cosine[some] = _one_by_one(z, left[some], right[some])
  return cosine


def _one_by_one(z, left, right):
  cosine = np.empty(len(left))
  size = max(1, _VALUES // z.shape[1])
  for start in range(0, len(left), size):
    some = slice(start, start + size)
    cosine[some] = np.vecdot(z[left[some]].astype(np.float64), z[right[some]].astype(np.float64))
  return cosine


def genuine_pairs(images: Images) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """All genuine pairs: left, right int32 [g], rows; cosine float64 [g]."""
  count = images.end - 1 - np.arange(len(images.end))
  left = np.repeat(np.arange(len(count), dtype=np.int32), count)
  first = np.cumsum(count) - count
  right = (np.arange(len(left)) - first[left] + left + 1).astype(np.int32)
  return left, right, cosines(images.z, left, right)


def all_impostors(images: Images) -> np.ndarray:
  """Cosines of all impostor pairs, float64 [N], rising. Takes 16 bytes for each of the n (n - 1) / 2 pairs."""
  n, rising, done = len(images.z), np.empty(images.impostors()), 0
  z, size = images.z.astype(np.float64), max(1, _BLOCK // max(1, n))
  for start in range(0, n, size):
    end = images.end[start : start + size]
    cosine = z[start : start + size] @ z[start:].T
    other = cosine[np.arange(start, n) >= end[:, None]]
    rising[done : done + len(other)] = other
    done += len(other)
  rising.sort()
  return rising
