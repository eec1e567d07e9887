"""Who of a data set is taken: people named in lists, people with enough images; and which of their images."""

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gif_jax.core.errors import DataError
from gif_jax.core.lists import path_key, read_rows
from gif_jax.data.convert.merge import Merged, named

_LOG = logging.getLogger(__name__)


class Chosen(NamedTuple):
  """What is converted of records of m people."""

  rows: np.ndarray  # int64 [n], rising: the images
  labels: np.ndarray  # int64 [n], whose they are
  wanted: np.ndarray  # bool [m], whom the lists leave
  images: np.ndarray  # int64 [m], images of everybody, before any is opened
  least: int  # images a person must have


def choose(records: Merged, people: str, without: str, least: int, without_images: str = '') -> Chosen:
  """The images of those in the list `people`, but not in `without` ('' for no list), with at least so many images.

  without_images: a list of images that are left out before anything else, as audits write them; '' for none.
  Raises DataError for names in the lists that nobody has, for a list `people` of nobody, and for a list of images none
  of which is in the input.
  """
  labels = records.labels()
  taken = ~_listed(Path(without_images), records) if without_images else np.ones(len(labels), bool)
  images = np.bincount(labels[taken], minlength=len(records.people()))
  wanted = named(Path(people), records) if people else np.ones(len(images), bool)
  if not wanted.any():
    raise DataError(f'{people} names nobody: write a name in each line, or leave out --people.')
  if without:  # a list of nobody is what an audit of clean data gives
    wanted &= ~named(Path(without), records)
  rows = np.flatnonzero((wanted & (images >= least))[labels] & taken)
  return Chosen(rows, labels[rows], wanted, images, least)


def _listed(path: Path, records: Merged) -> np.ndarray:
  """Which images a list names in its first column, as messages call them: bool [n].

  Lists of what cannot be used name files that are no images, too: these say nothing here.
  """
  lines = {path_key(row[0]): line for line, row in read_rows(path, '\t')}
  listed = np.array([lines.pop(path_key(records.where(i)), 0) > 0 for i in range(len(records))])
  if lines and not listed.any():
    raise DataError(f'{path} names no image of --input; give --input as it was given to python -m gif_jax audit.')
  _LOG.info('%s: %d images are left out', path, listed.sum())
  if lines:
    name, line = min(lines.items(), key=lambda item: item[1])
    _LOG.warning('%s, line %d: no image is called %r (%d such lines)', path, line, name, len(lines))
  return listed


def choose_rows(records: Merged, rows: np.ndarray) -> Chosen:
  """The images `rows`, int64 [n], rising, and those whose they are."""
  labels = records.labels()
  images = np.bincount(labels)
  return Chosen(rows, labels[rows], np.isin(np.arange(len(images)), labels[rows]), images, 1)


def who_stays(chosen: Chosen, usable: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
  """Who stays, bool [m], when int64 [m] images turned out usable; and label -> why not, for others who are wanted."""
  stay = chosen.wanted & (usable >= max(1, chosen.least))
  gone = np.flatnonzero(chosen.wanted & ~stay).tolist()
  return stay, {k: _reason(chosen.images[k], usable[k], chosen.least) for k in gone}


def _reason(images: int, usable: int, least: int) -> str:
  if images < least:
    return f'fewer than {least} images'
  return f'fewer than {least} usable images' if usable else 'no usable image'
