"""Embeddings of whole benchmarks on disk, by network and by data: made once, whatever is measured on them later."""

import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from gif_jax.evaluation.extract import extract
from gif_jax.evaluation.resume import ExtractError, writing

_LOG = logging.getLogger(__name__)


class Embeddings(NamedTuple):
  """embedding: float32 [n, d], f(x) + f(flip x); norm: float32 [n], mean length of the two. Both memory-mapped."""

  embedding: np.ndarray
  norm: np.ndarray


def embeddings(folder: Path, name: str, key: str, embed: Callable, images: Any, batch_size: int) -> Embeddings:
  """Those kept in `folder`, else made and kept there. A run that was killed goes on where it was.

  Args:
    folder: made where it is missing; every set of embeddings is a folder in it.
    name: of the benchmark, for people who look there.
    key: names the network, its weights, the data and everything else that decides which numbers these are.
    embed: uint8 [B, h, w, 3] -> {'embedding': [B, d], 'norm': [B]}.
    images: n images, as for `extract`.
    batch_size: images per call of `embed`.

  Raises:
    ExtractError: the disk is full or refuses, or what is kept cannot be read.
  """
  place = folder / f'{name}-{hashlib.sha256(f"{key}, {len(images)} images".encode()).hexdigest()[:12]}'
  if not place.exists():
    draft = place.with_name(f'.{place.name}')
    found = extract(embed, images, batch_size, progress=f'embedding {name}', state=draft / 'progress', key=key)
    if jax.process_index() == 0:
      with writing(place):
        _keep(draft, found, key)
        os.replace(draft, place)
    multihost_utils.sync_global_devices(f'{place} is there')
  else:
    _LOG.info('%s: embeddings of an earlier evaluation are used', place)
  return _read(place)


def _keep(draft, found, key):
  for part in Embeddings._fields:
    np.save(draft / f'{part}.npy', found[part])
  (draft / 'key.txt').write_text(f'{key}\n')
  shutil.rmtree(draft / 'progress')


def _read(place):
  try:
    return Embeddings(*(np.load(place / f'{part}.npy', mmap_mode='r') for part in Embeddings._fields))
  except (OSError, ValueError) as error:
    raise ExtractError(f'{place} cannot be read ({error}): delete it, and it is made again.') from error
