"""Who of a data set is taken: people named in lists, people with enough images."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from gif_jax.data.merge import Merged, named


class Chosen(NamedTuple):
  """What is converted of records of m people."""

  rows: np.ndarray  # int64 [n], rising: the images
  labels: np.ndarray  # int64 [n], whose they are
  wanted: np.ndarray  # bool [m], whom the lists leave
  images: np.ndarray  # int64 [m], images there are of everybody, before any is opened
  least: int  # images a person must have


def choose(records: Merged, people: str, without: str, least: int) -> Chosen:
  """The images of those in the list `people`, but not in `without` ('' for no list), with at least so many images.

  Raises DataError for names in the lists that nobody has.
  """
  labels = records.labels()
  images = np.bincount(labels)
  wanted = named(Path(people), records) if people else np.ones(len(images), bool)
  if without:
    wanted &= ~named(Path(without), records)
  rows = np.flatnonzero((wanted & (images >= least))[labels])
  return Chosen(rows, labels[rows], wanted, images, least)


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


def _reason(images, usable, least):
  if images < least:
    return f'fewer than {least} images'
  return f'fewer than {least} usable images' if usable else 'no usable image'
