"""Who of the people in records is trained on, and who is kept for evaluation."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gif_jax.core import counter_rng
from gif_jax.core.errors import ConfigError, DataError
from gif_jax.data.crops import Crops
from gif_jax.data.formats.folder import Photos
from gif_jax.data.formats.open import open_records
from gif_jax.data.formats.packed import Packed
from gif_jax.data.formats.records import Records, fingerprint
from gif_jax.data.odd_sizes import CURE, look_at
from gif_jax.data.sets.base import FaceSets, Named, Rows, check_enough, numbers

_LOG = logging.getLogger(__name__)
_PEOPLE, _IMAGES = 0, 1  # streams of random numbers
_NAMED = 100_000  # training people that people.json names one by one


class Rest:
  """0..n-1 without `apart` (sorted int64 [k]), in order; indexed with int arrays and slices. Memory for k numbers."""

  def __init__(self, n: int, apart: np.ndarray):
    self.apart, self.count = apart, n - len(apart)
    self.gaps = apart - np.arange(len(apart))

  def __len__(self) -> int:
    return self.count

  def __getitem__(self, index: Rows | int) -> np.ndarray:
    index = numbers(index, self.count)
    return index + np.searchsorted(self.gaps, index, side='right')


class _RestLabels:
  """Labels of the records in `rows`, renumbered as if the people in `apart` (sorted) did not exist."""

  def __init__(self, records: Records, rows: Rest, apart: np.ndarray):
    self.records, self.rows, self.apart = records, rows, apart

  def __len__(self) -> int:
    return len(self.rows)

  def __getitem__(self, index: Rows) -> np.ndarray:
    labels = self.records.labels()
    if not len(self.rows.apart):
      return np.asarray(labels[index])
    label = labels[self.rows[index]]
    return label - np.searchsorted(self.apart, label)


def roles(labels: np.ndarray, *, seed: int, test: int, validation: int) -> tuple[np.ndarray, np.ndarray]:
  """People for the test and for the validation set: two sorted int64 arrays of labels.

  Drawn by `seed` and label alone among those with two images or more. labels: int64 [n], 0..m-1.
  Raises ValueError, with the counts, if too few people are left to train on or to evaluate with.
  """
  counts = np.bincount(labels)
  able = np.flatnonzero(counts > 1)
  check_enough(len(counts), len(able), test, validation)
  ranked = able[np.argsort(counter_rng.bits(seed, _PEOPLE, able), kind='stable')]
  return np.sort(ranked[:test]), np.sort(ranked[test : test + validation])


def first_images(labels: np.ndarray, most: np.ndarray, seed: int) -> np.ndarray:
  """Which images are among the most[label] first of their person, in an order drawn by `seed`: bool [n]."""
  order = np.lexsort((counter_rng.bits(seed, _IMAGES, np.arange(len(labels))), labels))
  ranked = labels[order]
  place = np.arange(len(labels)) - np.searchsorted(ranked, ranked)
  chosen = np.empty(len(labels), bool)
  chosen[order] = place < most[ranked]
  return chosen


def open_record_sets(config: ConfigDict, cache: Path | None) -> FaceSets:
  """The sets of the records at data.path. Raises ConfigError without a path, DataError for data that cannot be used."""
  data, evaluation = config.data, config.eval
  if not data.path:
    raise ConfigError("config.data.path is empty; data.source='records' needs a data set, such as a folder of records.")
  records = open_records(data.path, cache)
  if isinstance(records, Photos):
    raise ConfigError(
      f"config.data.path={data.path} is a folder of people: set data.source='folder', or make records of it first: "
      'python -m gif_jax convert.'
    )
  _warn_of_odd_sizes(records)
  labels = records.labels()
  try:
    test, validation = roles(
      labels, seed=data.seed, test=evaluation.identities, validation=evaluation.validation_identities
    )
  except ValueError as error:
    raise DataError(f'{data.path}: {error}') from error
  apart = np.union1d(test, validation)
  held_out, kept_apart = _images_apart(labels, apart, data.held_out, data.seed)
  rows = Rest(len(records), np.union1d(held_out, kept_apart))
  m = int(labels.max()) + 1 - len(apart)
  _LOG.info(
    '%s: %d images of %d people to train on, %d held out; %d people for validation, %d for the figures',
    data.path,
    len(rows),
    m,
    len(held_out),
    len(validation),
    len(test),
  )
  return FaceSets(
    m=m,
    label_space=_label_space(records, apart, data.seed),
    train=Crops(records, data.size, rows, _RestLabels(records, rows, apart)),
    held_out=Crops(records, data.size, held_out, labels[held_out] - np.searchsorted(apart, labels[held_out])),
    validation=_people(records, labels, validation, kept_apart, config),
    test=_people(records, labels, test, kept_apart, config),
    people=_record(records, test, validation, apart, held_out),
    named=(Named(records, Rest(m + len(apart), apart), np.append(validation, test), Rest(len(records), kept_apart)),),
  )


def _warn_of_odd_sizes(records: Records) -> None:
  if records.size:  # all are of one
    return
  if text := look_at(records):
    _LOG.warning('Looking at a few: %s. They are used as they are; %s.', text, CURE)


def _images_apart(labels: np.ndarray, apart: np.ndarray, held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Row numbers of the images held out of the training people, and of all those of the people in `apart`: sorted."""
  of_apart = np.isin(labels, apart) if len(apart) else np.zeros(0, bool)
  if not held_out:
    return np.zeros(0, np.int64), np.flatnonzero(of_apart)
  most = np.minimum(held_out, np.bincount(labels) - 1)
  most[apart] = 0
  return np.flatnonzero(first_images(labels, most, seed)), np.flatnonzero(of_apart)


def _people(records: Records, labels: np.ndarray, people: np.ndarray, rows: np.ndarray, config: ConfigDict) -> Crops:
  """At most eval.images crops of each of `people`, out of `rows`, labelled 0, 1 .. in the order of `people`."""
  rows = rows[np.isin(labels[rows], people)]
  label = np.searchsorted(people, labels[rows])
  chosen = first_images(label, np.full(len(people), config.eval.images), config.data.seed)
  return Crops(records, config.data.size, rows[chosen], label[chosen])


def _label_space(records: Records, apart: np.ndarray, seed: int) -> str:
  labels = records.labels()
  everybody = records.meta['fingerprint'] if isinstance(records, Packed) else fingerprint(records.people(), labels)
  kept = f' without {len(apart)} of them (seed {seed})' if len(apart) else ''
  return f'records of {int(labels.max()) + 1} people, {everybody}{kept}'


def _record(
  records: Records, test: np.ndarray, validation: np.ndarray, apart: np.ndarray, held_out: np.ndarray
) -> dict[str, Any]:
  """Who is who, as people.json says it."""
  people, labels = records.people(), records.labels()
  counts = np.bincount(labels, minlength=len(people))
  out = np.bincount(labels[held_out], minlength=len(people))

  def named(chosen: np.ndarray) -> list[dict[str, Any]]:
    return [people[label]._asdict() | {'images': int(counts[label])} for label in chosen.tolist()]

  rest = Rest(len(people), apart)
  train: str | list[dict[str, Any]] = f'everybody else, {len(rest)} people, in the order of their labels'
  if len(rest) <= _NAMED:
    train = [
      {'label': i} | people[old]._asdict() | {'images': int(counts[old] - out[old]), 'held_out': int(out[old])}
      for i, old in enumerate(rest[:].tolist())
    ]
  return {
    'train': train,
    'validation': named(validation),
    'test': named(test),
    'skipped': [],
    'not_images': [],
    'odd_sizes': [],
  }
