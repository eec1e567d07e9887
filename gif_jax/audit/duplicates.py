"""Images that occur twice, byte for byte or nearly: among tens of millions, by sorting their hashes."""

import itertools

import cv2
import numpy as np
from tqdm import tqdm

from gif_jax.audit.image_hashes import Together
from gif_jax.core.workers import on_all_cores
from gif_jax.data.images import read_image

DISTANCE = 3  # bits of 64 by which the hashes of the same picture, from left to right, may differ
DOWN = 6  # and those from top to bottom: aligned faces are often alike in one of the two
ALIKE = 0.98  # correlation of brightness from which two pictures are the same one
_BANDS = (13, 13, 13, 13, 12)  # bits; 3 bits that differ leave two bands of five as they are
_REACH = 64  # images that share two bands are compared with so many that follow, at most
_SIDE = 32  # pixels a side that pictures are compared at; a different photograph of a scene differs there
_BLOCK = 128  # pairs that a process compares before it reports


def repeats(content: np.ndarray, person: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Which images have the bytes of an earlier one.

  content uint64 [n], hashes of the bytes; person int64 [n]. Returns (root, pairs):
    root int64 [n]: the first image with the same bytes, itself if there is none before.
    pairs int64 [k, 2]: every image for which there is an earlier one, rising, second; and that one, first: the first
      of the same person where there is one, else the first of all. So each image is counted once.
  """
  order = np.lexsort((person, content))  # stable: what is equal stays in order
  content, person = content[order], person[order]
  new = np.append(True, content[1:] != content[:-1])[: len(order)]
  new_person = new | np.append(True, person[1:] != person[:-1])[: len(order)]
  root, first = np.empty_like(order), np.empty_like(order)
  if len(order):
    # By person, the first of those with the same bytes need not be the earliest.
    root[order] = np.minimum.reduceat(order, np.flatnonzero(new))[np.cumsum(new) - 1]
    own = order[np.flatnonzero(new_person)][np.cumsum(new_person) - 1]
    first[order] = np.where(new_person, root[order], own)
  again = np.flatnonzero(first != np.arange(len(first)))
  return root, np.stack([first[again], again], 1)


def candidates(look: np.ndarray, down: np.ndarray) -> np.ndarray:
  """Pairs (i, j), i < j, of images whose hashes uint64 [n] differ in at most 3 bits of `look` and 6 of `down`.

  int64 [k, 2], in order. All of them, unless more than 64 images have the same 25 or 26 bits in two bands of `look`:
  then those of every image with the 64 that follow in the order of the hashes, which holds the equal ones together.
  """
  n = len(look)
  near = [np.empty(0, np.int64)]  # i * n + j
  tables = [*itertools.combinations(range(len(_BANDS)), 2)]
  for bands in tqdm(tables, desc='comparing hashes', unit='table'):
    arranged, bits = _arranged(look, bands)
    order = np.argsort(arranged, kind='stable')
    arranged = arranged[order]
    key = arranged >> np.uint64(64 - bits)
    alive = np.arange(n)
    for step in range(1, _REACH + 1):
      alive = alive[: np.searchsorted(alive, n - step)]
      alive = alive[key[alive] == key[alive + step]]
      if not len(alive):
        break
      alike = alive[np.bitwise_count(arranged[alive] ^ arranged[alive + step]) <= DISTANCE]
      ends = np.sort([order[alike], order[alike + step]], axis=0)
      ends = ends[:, np.bitwise_count(down[ends[0]] ^ down[ends[1]]) <= DOWN]
      near.append(ends[0] * n + ends[1])
  return np.stack(np.divmod(np.unique(np.concatenate(near)), max(n, 1)), 1)


def _arranged(look: np.ndarray, bands: tuple[int, ...]) -> tuple[np.ndarray, int]:
  """The hashes with the bits of the bands named in front, and the number of those bits."""
  ends = np.cumsum(_BANDS)
  arranged = np.zeros_like(look)
  for band in (*bands, *(set(range(len(_BANDS))) - set(bands))):
    width = _BANDS[band]
    arranged = (arranged << np.uint64(width)) | ((look >> np.uint64(64 - ends[band])) & np.uint64(2**width - 1))
  return arranged, sum(_BANDS[band] for band in bands)


def confirmed(images: Together, pairs: np.ndarray) -> np.ndarray:
  """bool [k]: which pairs int64 [k, 2] show the same picture. Hashes of different faces, cut alike, are often near."""
  compare = _Compare(images)
  jobs = [pairs[start : start + _BLOCK] for start in range(0, len(pairs), _BLOCK)]
  same = [np.empty(0, bool)]
  with tqdm(total=len(pairs), desc='comparing pictures', unit='pair', unit_scale=True) as bar:
    for block in on_all_cores(compare, jobs) if len(jobs) > 4 else map(compare, jobs):
      same.append(block)
      bar.update(len(block))
  return np.concatenate(same)


class _Compare:
  def __init__(self, images: Together):
    self.images = images

  def __call__(self, pairs: np.ndarray) -> np.ndarray:
    cv2.setNumThreads(0)
    return np.array([correlation(*(self.images[i] for i in pair)) >= ALIKE for pair in pairs.tolist()])


def correlation(first: bytes, second: bytes) -> float:
  """Pearson's correlation of the brightness of two encoded images at 32 x 32 pixels."""
  a, b = (_brightness(encoded) for encoded in (first, second))
  return float(a @ b)


def _brightness(encoded: bytes) -> np.ndarray:
  grey = cv2.cvtColor(read_image(encoded, 4 * _SIDE).pixels, cv2.COLOR_RGB2GRAY)
  small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float64).ravel()
  small -= small.mean()
  return small / max(float(np.linalg.norm(small)), 1e-9)
