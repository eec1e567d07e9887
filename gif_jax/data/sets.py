"""What a run is given to train on and to evaluate with, whatever the source."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np

from gif_jax.core.errors import DataError
from gif_jax.core.lists import normal


class Faces(Protocol):
  """A set of n face crops with labels."""

  def __len__(self) -> int: ...

  def __getitem__(self, index) -> np.ndarray:
    """Images for an int array [k] or a slice: uint8 [k, size, size, 3].

    Those for an array are the caller's to change. Several threads may ask at once.
    """

  def labels(self, index=slice(None)) -> np.ndarray:
    """Labels of the faces asked for: int64 [k]."""


def numbers(index, n: int) -> np.ndarray:
  """What a slice or an int array [k] takes of 0..n-1: int64 [k], without a list of all n."""
  return np.arange(*index.indices(n)) if isinstance(index, slice) else np.asarray(index, np.int64)


def check_enough(people: int, able: int, test: int, validation: int) -> None:
  """Whether so many people can be dealt out to the sets. able: those with two images or more, who can be evaluated on.

  Raises ValueError, with the counts, if too few people are left to train on or to evaluate with.
  """
  apart = test + validation
  least = 2 if apart else 1  # one person alone can be added to a table, but not trained on
  if able < apart or people - apart < least:
    raise ValueError(
      f'{people} people, {able} of them with two images or more, are too few: {test} are wanted for '
      f'config.eval.identities, {validation} for config.eval.validation_identities (all with two images or more), and '
      f'at least {least} to train on. Lower these settings, or add people.'
    )


class _Both:
  """The faces of one set, then those of another, whose labels count on from m."""

  def __init__(self, first, then, m):
    self.first, self.then, self.m = first, then, m

  def __len__(self):
    return len(self.first) + len(self.then)

  def __getitem__(self, index):
    return self._gather(index, lambda faces, rows: faces[rows])

  def labels(self, index=slice(None)):
    """Labels of the faces asked for: int64."""
    return self._gather(index, lambda faces, rows: faces.labels(rows) + (self.m if faces is self.then else 0))

  def _gather(self, index, read):
    index = numbers(index, len(self))
    late = index >= len(self.first)
    old, new = read(self.first, index[~late]), read(self.then, index[late] - len(self.first))
    both = np.empty((len(index), *old.shape[1:]), old.dtype)
    both[~late], both[late] = old, new
    return both


class FaceSets(NamedTuple):
  """The sets of a run. Labels of `train` and `held_out` are 0..m-1; the others are of people who are in neither."""

  m: int
  label_space: str  # names which person each label is; a table made for other people has another
  train: Faces
  held_out: Faces  # further images of the training identities
  validation: Faces  # for choosing settings and the best checkpoint
  test: Faces  # for the figures reported
  people: dict | None = None  # who is who, for people.json, where people have names
  targets: Mapping[str, Any] = MappingProxyType({})  # benchmarks by name, see data.benchmarks.opening


def joined(first: FaceSets, then: FaceSets) -> FaceSets:
  """The people of `first` followed by those of `then`, all trained on; evaluated on are those of `first` alone.

  Raises DataError where a name is in both.
  """
  people = None
  if first.people and then.people:
    people = _joined_people(first.people, then.people, first.m)
  return FaceSets(
    m=first.m + then.m,
    label_space=f'{first.label_space} + {then.label_space}',
    train=_Both(first.train, then.train, first.m),
    held_out=_Both(first.held_out, then.held_out, first.m),
    validation=first.validation,
    test=first.test,
    people=people,
  )


def _who(person):
  # RecordIO has numbers for names, and everybody's number 0 is somebody else.
  return person['origin'] if person['name'].isdecimal() and 'origin' in person else normal(person['name'])


def _joined_people(first, then, m):
  if isinstance(first['train'], str) or isinstance(then['train'], str):  # too many to be named one by one
    return first | {'train': f'{first["train"]}; then the newcomers'}
  known = {_who(person) for role in ('train', 'validation', 'test') for person in first[role]}
  twice = [person['name'] for person in then['train'] if _who(person) in known]
  if twice:
    raise DataError(
      f'{twice[0]} is in data.path and in data.newcomers ({len(twice)} such people): give the newcomers alone.'
    )
  train = [*first['train'], *(person | {'label': person['label'] + m} for person in then['train'])]
  return first | {'train': train} | {key: first[key] + then[key] for key in ('skipped', 'not_images', 'odd_sizes')}
