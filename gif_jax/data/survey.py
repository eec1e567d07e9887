"""One pass over all photographs at the start of a run: which can be read, what they are, their pixels stored."""

import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from gif_jax.data.images import UnreadableError, read_image
from gif_jax.data.listing import Photo, normal
from gif_jax.data.workers import on_all_cores

_BLOCK = 32  # images decoded at a time
_FEW = 256  # images that are decoded sooner than processes start
_DECODING = 1  # raised whenever read_image gives other pixels, so that nobody trains on those of before


class Survey(NamedTuple):
  """What a pass over n photographs found."""

  unreadable: dict[str, str]  # name -> reason
  kinds: Counter  # of (width, height, kind) as stored in the files
  pixels: Path | None  # .npy uint8 [n, size, size, 3], zeros where unreadable; None if they were not stored


def survey(root: Path, photos: list[Photo], size: int, cache: Path | None) -> Survey:
  """Decodes all photographs on all cores, with a progress bar, and stores their pixels in the folder `cache`.

  What `cache` holds of the same files (names, sizes, times) is used again without opening one. None stores nothing.
  """
  if cache is None:
    return _decode_all(root, photos, size, None)
  found = cache / f'photographs-{_fingerprint(photos, size)}.json'
  pixels = found.with_suffix('.npy')
  if found.exists() and pixels.exists():
    stored = json.loads(found.read_text())
    return Survey(stored['unreadable'], Counter({tuple(kind): n for *kind, n in stored['kinds']}), pixels)
  return _store(root, photos, size, pixels, found)


def _fingerprint(photos, size):
  what = repr((_DECODING, size, [(normal(photo.name), photo.size, photo.modified) for photo in photos]))
  return hashlib.sha256(what.encode('utf-8', 'surrogateescape')).hexdigest()[:16]


def _store(root, photos, size, pixels, found):
  pixels.parent.mkdir(parents=True, exist_ok=True)
  partial = pixels.with_suffix(f'.{os.getpid()}.partial')
  stored = np.lib.format.open_memmap(partial, 'w+', np.uint8, (len(photos), size, size, 3))
  result = _decode_all(root, photos, size, stored)
  stored.flush()
  os.replace(partial, pixels)
  kinds = [[*kind, n] for kind, n in result.kinds.items()]
  # Permissions are no part of the fingerprint: while a file may not be opened, nothing is remembered.
  if all(os.access(root / name, os.R_OK) for name in result.unreadable):
    partial.write_text(json.dumps({'unreadable': result.unreadable, 'kinds': kinds}))
    os.replace(partial, found)
  for left in pixels.parent.glob(f'{pixels.stem}.*.partial'):  # by runs that were killed while they decoded
    left.unlink(missing_ok=True)
  return result._replace(pixels=pixels)


def _decode_all(root, photos, size, stored):
  names = [photo.name for photo in photos]
  jobs = [(root, names[i : i + _BLOCK], size, stored is not None) for i in range(0, len(names), _BLOCK)]
  result = Survey({}, Counter(), None)
  done = 0
  with tqdm(total=len(names), desc='reading photographs', unit='image') as bar:
    for job, found in zip(jobs, on_all_cores(_decode, jobs) if len(names) > _FEW else map(_decode, jobs)):
      for name, (kind, reason, image) in zip(job[1], found):
        if reason is None:
          result.kinds[kind] += 1
          if stored is not None:
            stored[done] = image
        else:
          result.unreadable[name] = reason
        done += 1
      bar.update(len(found))
  return result


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
