"""What a run is given to train on and to evaluate with, whatever the source."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from gif_jax.core.errors import DataError
from gif_jax.core.lists import normal
from gif_jax.data.crops import Column
from gif_jax.data.formats.records import Person, StoredRecords

_LOG = logging.getLogger(__name__)
_SAID = 5  # names in a message


Rows = slice | np.ndarray  # which of n: a slice, or an int array [k]


class Faces(Protocol):
  """A set of n face crops with labels."""

  def __len__(self) -> int: ...

  def __getitem__(self, index: Rows) -> np.ndarray:
    """Images for an int array [k] or a slice: uint8 [k, size, size, 3].

    Those for an array are the caller's to change. Several threads may ask at once.
    """

  def labels(self, index: Rows = slice(None)) -> np.ndarray:
    """Labels of the faces asked for: int64 [k]."""


def numbers(index: Rows | int, n: int) -> np.ndarray:
  """What a slice, an int array [k] or an int takes of 0..n-1: int64 [k] or [], without a list of all n."""
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

  def __init__(self, first: Faces, then: Faces, m: int):
    self.first, self.then, self.m = first, then, m

  def __len__(self) -> int:
    return len(self.first) + len(self.then)

  def __getitem__(self, index: Rows) -> np.ndarray:
    return self._gather(index, lambda faces, rows: faces[rows])

  def labels(self, index: Rows = slice(None)) -> np.ndarray:
    """Labels of the faces asked for: int64."""
    return self._gather(index, lambda faces, rows: faces.labels(rows) + (self.m if faces is self.then else 0))

  def _gather(self, index: Rows, read: Callable[[Faces, np.ndarray], np.ndarray]) -> np.ndarray:
    index = numbers(index, len(self))
    late = index >= len(self.first)
    old, new = read(self.first, index[~late]), read(self.then, index[late] - len(self.first))
    both = np.empty((len(index), *old.shape[1:]), old.dtype)
    both[~late], both[late] = old, new
    return both


class _Some:
  """Some faces of another set, their labels renumbered without gaps."""

  def __init__(self, faces: Faces, rows: np.ndarray):
    self.faces, self.rows = faces, rows
    self.label = np.unique(faces.labels(rows), return_inverse=True)[1].astype(np.int64)

  def __len__(self) -> int:
    return len(self.rows)

  def __getitem__(self, index: Rows) -> np.ndarray:
    return self.faces[self.rows[index]]

  def labels(self, index: Rows = slice(None)) -> np.ndarray:
    """Labels of the faces asked for: int64."""
    return self.label[index]


class Named:
  """Who the people of one input are, and their encoded images.

  Attributes:
    records: the input.
    trained: its labels of the people trained on, in the order of the run's labels; indexed like int64 [m].
    kept: int64 [k], its labels of those kept for validation, then of those for the metrics.
    rows: all its images of the people trained on, held-out ones too; indexed like int64 [n].
  """

  def __init__(self, records: StoredRecords, trained: Column, kept: np.ndarray, rows: Column):
    self.records, self.trained, self.kept, self.rows = records, trained, kept, rows

  def __len__(self) -> int:
    return len(self.rows)

  def encoded(self, index: int) -> bytes:
    """Image `index` of the people trained on, as it is stored."""
    return self.records[int(self.rows[index])]

  def people(self, labels: Column) -> Iterator[Person]:
    """Who these labels of the input are, in their order."""
    people = self.records.people()
    return (people[label] for label in labels[:].tolist())


class FaceSets(NamedTuple):
  """The sets of a run. Labels of `train` and `held_out` are 0..m-1; the others are of people who are in neither."""

  m: int
  label_space: str  # names which person each label is; a table made for other people has another
  train: Faces
  held_out: Faces  # further images of the training identities
  validation: Faces  # for choosing settings and the best checkpoint
  test: Faces  # for the metrics reported
  people: dict[str, Any] | None = None  # who is who, for people.json, where people have names
  named: tuple[Named, ...] = ()  # where people have names: those of data.path, then those of each of data.newcomers

  def names(self) -> list[str]:
    """Names of the training people in the order of their labels; [] where they have none."""
    return [person.name for part in self.named for person in part.people(part.trained)]


def joined(first: FaceSets, then: FaceSets) -> FaceSets:
  """The people of `first` followed by those of `then`, all trained on.

  Evaluated on are those of `first` alone, without the ones whom `then` has, too, who are trained on from now on.
  Raises DataError where somebody is trained on in both, or nobody is left to be evaluated on.
  """
  first = _without_newcomers(first, then)
  return first._replace(
    m=first.m + then.m,
    label_space=f'{first.label_space} + {then.label_space}',
    train=_Both(first.train, then.train, first.m),
    held_out=_Both(first.held_out, then.held_out, first.m),
    people=_joined_people(first, then),
    named=first.named + then.named,
  )


def _who(person: dict[str, Any]) -> str:
  # RecordIO has numbers for names, and everybody's number 0 is somebody else.
  return person['origin'] if person['name'].isdecimal() and 'origin' in person else normal(person['name'])


def _trained(faces: FaceSets) -> Iterable[dict[str, Any]]:
  """Everybody trained on as people.json has them, also where they are too many for it to name."""
  train = faces.people['train'] if faces.people else []
  if isinstance(train, list):
    return train
  return (person._asdict() for part in faces.named for person in part.people(part.trained))


def _without_newcomers(first: FaceSets, then: FaceSets) -> FaceSets:
  """`first` with those of `then` no longer evaluated on, where people have names. Raises DataError as `joined`."""
  if not first.people or not then.people:
    return first
  new = {_who(person) for person in _trained(then)}
  twice = [person['name'] for person in _trained(first) if _who(person) in new]
  if twice:
    raise DataError(
      f'{twice[0]} is in data.path and in data.newcomers ({len(twice)} such people): give the newcomers alone.'
    )
  everybody = first.people
  stay = {role: [_who(person) not in new for person in everybody[role]] for role in ('validation', 'test')}
  if all(map(all, stay.values())):
    return first
  people = {role: [person for person, stays in zip(everybody[role], stay[role]) if stays] for role in stay}
  gone = [person['name'] for role in stay for person, stays in zip(everybody[role], stay[role]) if not stays]
  _LOG.info(
    '%d people who were kept apart are newcomers: trained on, and no longer evaluated on: %s',
    len(gone),
    ', '.join(gone[:_SAID]) + (' ...' if len(gone) > _SAID else ''),
  )
  for role, key in (('validation', 'validation_identities'), ('test', 'identities')):
    if len(people[role]) < min(2, len(stay[role])):
      raise DataError(
        f'{len(people[role])} of the {len(stay[role])} people of config.eval.{key} are no newcomers, too few to be '
        f'evaluated on: leave some of them out of config.data.newcomers, such as {gone[0]}.'
      )
  part = first.named[0]
  kept = part.kept[stay['validation'] + stay['test']]
  named = (Named(part.records, part.trained, kept, part.rows), *first.named[1:])
  return first._replace(
    validation=_remaining(first.validation, stay['validation']),
    test=_remaining(first.test, stay['test']),
    people=everybody | people,
    named=named,
  )


def _remaining(faces: Faces, stay: list[bool]) -> Faces:
  """The faces of those people who stay."""
  return faces if all(stay) else _Some(faces, np.flatnonzero(np.array(stay, bool)[faces.labels()]))


def _joined_people(first: FaceSets, then: FaceSets) -> dict[str, Any] | None:
  old, new = first.people, then.people
  if not old or not new:
    return None
  if isinstance(old['train'], str) or isinstance(new['train'], str):  # too many to be named one by one
    return old | {'train': f'{old["train"]}; then the newcomers'}
  train = [*old['train'], *(person | {'label': person['label'] + first.m} for person in new['train'])]
  return old | {'train': train} | {key: old[key] + new[key] for key in ('skipped', 'not_images', 'odd_sizes')}
