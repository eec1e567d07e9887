"""Embeddings of benchmarks on disk, by network and by data: made once, whatever is measured on them later."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gif_jax.core.distributed import processes
from gif_jax.core.errors import DataError
from gif_jax.core.storage import locks
from gif_jax.core.storage.arrays import load_array, save_array
from gif_jax.core.storage.files import move_folder, remove, write_text
from gif_jax.models.extraction.extract import extract

_LOG = logging.getLogger(__name__)


class Embeddings(NamedTuple):
  """embedding: float32 [n, d], f(x) + f(flip x); norm: float32 [n], mean length of the two, or None
  where nobody kept it. Memory-mapped."""

  embedding: np.ndarray
  norm: np.ndarray | None


def embeddings(folder: Path, name: str, key: str, embed: Callable, images: Any, batch_size: int) -> Embeddings:
  """Those kept in `folder`, else made and kept there. A run that was killed goes on where it was.

  Those that are damaged are made again, with a warning. To be called by all processes.

  Args:
    folder: made where it is missing; every set of embeddings is a folder in it.
    name: of the benchmark, for people who look there.
    key: names the network, its weights, the data and everything else that decides which numbers these are.
    embed: uint8 [B, h, w, 3] -> {'embedding': [B, d], 'norm': [B]}.
    images: n images, as for `extract`.
    batch_size: images per call of `embed`.

  Raises:
    DiskError: the disk is full or refuses.
    InUseError: somebody else is making the same embeddings.
  """
  place = folder / f'{name}-{hashlib.sha256(f"{key}, {len(images)} images".encode()).hexdigest()[:12]}'
  with processes.locked(locks.beside(place), str(place)):
    if not processes.from_first(lambda: 'kept' if _is_complete(place) else ''):
      draft = place.with_name(f'.{place.name}')
      made = extract(embed, images, batch_size, progress=f'embedding {name}', state=draft / 'progress', key=key)
      if processes.first():
        for part in Embeddings._fields:
          save_array(draft / f'{part}.npy', made[part])
        write_text(draft / 'key.txt', f'{key}\n')
        remove(draft / 'progress')
        move_folder(draft, place)
      processes.wait(place)
    return Embeddings(*(load_array(place / f'{part}.npy', check=False) for part in Embeddings._fields))


def _is_complete(place):
  """Whether embeddings exist and are as they were written; damaged ones are removed, to be made again."""
  if not place.exists():
    return False
  try:
    for part in Embeddings._fields:
      load_array(place / f'{part}.npy', fix='these embeddings are made again')
  except DataError as error:
    _LOG.warning('%s', error)
    remove(place)
    return False
  _LOG.info('%s: embeddings of an earlier evaluation are used', place)
  return True
