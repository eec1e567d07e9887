"""One pass over all photographs at the start of a run: which can be read, what they are, their pixels stored."""

import hashlib
import logging
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from gif_jax.core.errors import DataError, UnreadableError
from gif_jax.core.lists import normal
from gif_jax.core.storage.files import read_json, write_json
from gif_jax.core.storage.resume import fill, is_complete
from gif_jax.core.workers import on_all_cores
from gif_jax.data.images import DECODING, read_image
from gif_jax.data.listing import Photo

_LOG = logging.getLogger(__name__)

_BLOCK = 32  # images decoded at a time
_FEW = 256  # images that are decoded sooner than processes start


class Survey(NamedTuple):
  """What a pass over n photographs found."""

  unreadable: dict[str, str]  # name -> reason
  kinds: dict[tuple[int, int, str], int]  # (width, height, kind) as stored in the files -> its number
  of: list[int]  # number of the kind of every photograph; -1 where unreadable
  pixels: Path | None = None  # .npy uint8 [n, size, size, 3], zeros where unreadable; None if they were not stored

  def counts(self) -> Counter:
    """How many photographs there are of every kind."""
    kinds = list(self.kinds)
    return Counter(kinds[number] for number in self.of if number >= 0)

  def sides(self) -> np.ndarray:
    """Width and height of every photograph as stored: int64 [n, 2], 0 where unreadable."""
    return np.array([*(kind[:2] for kind in self.kinds), (0, 0)], np.int64)[self.of]


def survey(root: Path, photos: list[Photo], size: int, cache: Path | None) -> Survey:
  """Decodes all photographs on all cores, with a progress bar, and stores their pixels in the folder `cache`.

  What `cache` holds of the same files (names, sizes, times of both kinds) is used again without opening one. None
  stores nothing.
  """
  if cache is None:
    result = Survey({}, {}, [])
    for _ in _decode_all(root, photos, size, 0, result, keep=False):
      pass
    return result
  found = cache / f'photographs-{_fingerprint(photos, size)}.json'
  return _stored(found, photos, size) or _store(root, photos, size, found)


def _fingerprint(photos, size):
  what = repr((DECODING, size, [(normal(photo.name), *photo[1:]) for photo in photos]))
  return hashlib.sha256(what.encode('utf-8', 'surrogateescape')).hexdigest()[:16]


def _stored(found, photos, size):
  """What the cache holds; None where it is not there or damaged."""
  pixels = found.with_suffix('.npy')
  if not found.exists() or not is_complete(pixels, np.uint8, (len(photos), size, size, 3)):
    return None
  try:
    return _survey(read_json(found, DataError, 'the photographs are read again'), pixels)
  except (DataError, KeyError, TypeError, ValueError) as error:
    _LOG.warning('%s', error)
    return None


def _survey(noted, pixels):
  kinds = {tuple(kind): number for number, kind in enumerate(noted['kinds'])}
  return Survey(noted['unreadable'], kinds, list(noted['of']), pixels)


def _noted(result):
  return {'unreadable': result.unreadable, 'kinds': [list(kind) for kind in result.kinds], 'of': result.of}


def _store(root, photos, size, found):
  noted, pixels = {}, found.with_suffix('.npy')

  def blocks(start):
    result = _survey(noted, None) if start else Survey({}, {}, [])
    for images in _decode_all(root, photos, size, start, result, keep=True):
      noted.update(_noted(result))
      yield images

  fill(pixels, (len(photos), size, size, 3), np.uint8, blocks, {'photographs': found.stem}, noted)
  # Permissions are no part of the fingerprint: while a file may not be opened, nothing is remembered.
  if all(os.access(root / name, os.R_OK) for name in noted['unreadable']):
    write_json(found, noted, checksum=True)
  return _survey(noted, pixels)


def _decode_all(root, photos, size, start, result, keep):
  """Decodes the photographs from `start` on, and notes in `result` what they are; the pixels in blocks, if kept."""
  names = [photo.name for photo in photos]
  jobs = [(root, names[i : i + _BLOCK], size, keep) for i in range(start, len(names), _BLOCK)]
  decoded = on_all_cores(_decode, jobs) if len(names) - start > _FEW else map(_decode, jobs)
  with tqdm(total=len(names), initial=start, desc='reading photographs', unit='image') as bar:
    for job, found in zip(jobs, decoded):
      for name, (kind, reason, _) in zip(job[1], found):
        result.of.append(-1 if reason else result.kinds.setdefault(kind, len(result.kinds)))
        if reason:
          result.unreadable[name] = reason
      nothing = np.zeros((size, size, 3), np.uint8)
      yield np.stack([nothing if image is None else image for *_, image in found]) if keep else None
      bar.update(len(found))


def _decode(job):
  """[(width, height, kind), reason, pixels] for each name of a job; pixels only where they are wanted."""
  root, names, size, keep = job
  found = []
  for name in names:
    try:
      picture = read_image(root / name, size)
    except UnreadableError as error:
      found.append((None, str(error), None))
    else:
      found.append((tuple(picture[1:]), None, picture.pixels if keep else None))
  return found
