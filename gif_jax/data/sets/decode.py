"""One pass over all photographs at the start of a run: which can be read, what they are, their pixels stored."""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

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


Kind = tuple[int, int, str]  # width, height, kind of pixels


class Survey(NamedTuple):
  """What a pass over n photographs tells of them."""

  unreadable: dict[str, str]  # name -> reason
  kinds: dict[Kind, int]  # as stored in the files -> its number
  of: list[int]  # number of the kind of every photograph; -1 where unreadable
  pixels: Path | None = None  # .npy uint8 [n, size, size, 3], zeros where unreadable; None if they were not stored

  def counts(self) -> Counter[Kind]:
    """The number of photographs of every kind."""
    kinds = list(self.kinds)
    return Counter(kinds[number] for number in self.of if number >= 0)

  def sides(self) -> np.ndarray:
    """Width and height of every photograph as stored: int64 [n, 2], 0 where unreadable."""
    return np.array([*(kind[:2] for kind in self.kinds), (0, 0)], np.int64)[self.of]


class _Decoded(NamedTuple):
  """A photograph, or why it is none; pixels only where they are wanted."""

  kind: Kind | None = None
  reason: str = ''
  pixels: np.ndarray | None = None


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
  notes = cache / f'photographs-{_fingerprint(photos, size)}.json'
  return _stored(notes, photos, size) or _store(root, photos, size, notes)


def _fingerprint(photos: list[Photo], size: int) -> str:
  what = repr((DECODING, size, [(normal(photo.name), *photo[1:]) for photo in photos]))
  return hashlib.sha256(what.encode('utf-8', 'surrogateescape')).hexdigest()[:16]


def _stored(notes: Path, photos: list[Photo], size: int) -> Survey | None:
  """What the cache holds; None where it has nothing, or something damaged."""
  pixels = notes.with_suffix('.npy')
  if not notes.exists() or not is_complete(pixels, np.uint8, (len(photos), size, size, 3)):
    return None
  try:
    return _survey(read_json(notes, DataError, 'the photographs are read again'), pixels)
  except (DataError, KeyError, TypeError, ValueError) as error:
    _LOG.warning('%s', error)
    return None


def _survey(noted: dict[str, Any], pixels: Path | None) -> Survey:
  kinds = {(width, height, kind): number for number, (width, height, kind) in enumerate(noted['kinds'])}
  return Survey(noted['unreadable'], kinds, list(noted['of']), pixels)


def _noted(result: Survey) -> dict[str, Any]:
  return {'unreadable': result.unreadable, 'kinds': [list(kind) for kind in result.kinds], 'of': result.of}


def _store(root: Path, photos: list[Photo], size: int, notes: Path) -> Survey:
  noted: dict[str, Any] = {}
  pixels = notes.with_suffix('.npy')

  def blocks(start: int) -> Iterator[np.ndarray]:
    result = _survey(noted, None) if start else Survey({}, {}, [])
    for decoded in _decode_all(root, photos, size, start, result, keep=True):
      noted.update(_noted(result))
      yield _stacked(decoded, size)

  fill(pixels, (len(photos), size, size, 3), np.uint8, blocks, {'photographs': notes.stem}, noted)
  # Permissions are no part of the fingerprint: while a file may not be opened, nothing is remembered.
  if all(os.access(root / name, os.R_OK) for name in noted['unreadable']):
    write_json(notes, noted, checksum=True)
  return _survey(noted, pixels)


def _stacked(decoded: list[_Decoded], size: int) -> np.ndarray:
  """The pixels of a block, zeros for what could not be decoded: uint8 [n, size, size, 3]."""
  nothing = np.zeros((size, size, 3), np.uint8)
  return np.stack([nothing if picture.pixels is None else picture.pixels for picture in decoded])


def _decode_all(
  root: Path, photos: list[Photo], size: int, start: int, result: Survey, keep: bool
) -> Iterator[list[_Decoded]]:
  """Decodes the photographs from `start` on in blocks, and notes in `result` what they are; keep: also the pixels."""
  names = [photo.name for photo in photos]
  jobs = [(root, names[i : i + _BLOCK], size, keep) for i in range(start, len(names), _BLOCK)]
  decoded = on_all_cores(_decode, jobs) if len(names) - start > _FEW else map(_decode, jobs)
  with tqdm(total=len(names), initial=start, desc='reading photographs', unit='image') as bar:
    for job, block in zip(jobs, decoded):
      for name, (kind, reason, _) in zip(job[1], block):
        result.of.append(-1 if kind is None else result.kinds.setdefault(kind, len(result.kinds)))
        if kind is None:
          result.unreadable[name] = reason
      yield block
      bar.update(len(block))


def _decode(job: tuple[Path, list[str], int, bool]) -> list[_Decoded]:
  """What a worker does with a block of names."""
  root, names, size, keep = job
  decoded = []
  for name in names:
    try:
      picture = read_image(root / name, size)
    except UnreadableError as error:
      decoded.append(_Decoded(reason=str(error)))
    else:
      kind = picture.width, picture.height, picture.kind
      decoded.append(_Decoded(kind, pixels=picture.pixels if keep else None))
  return decoded
