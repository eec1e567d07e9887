"""Several inputs as one: labels counted on, names kept unique, people put together where a list says so."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gif_jax.core.errors import DataError
from gif_jax.core.lists import normal, read_rows
from gif_jax.data.inputs import open_records
from gif_jax.data.listing import Skipped
from gif_jax.data.records import Person, Records

_HEADER = ('same', 'similarity', 'first', 'second')
_YES, _NO = ('1', 'yes'), ('', '0', 'no')


def input_name(where: str) -> str:
  """What an input is called in label maps and in lists of people who are the same: the last part of its path."""
  name = Path(where).name
  return name if name not in ('', '.', '..') else Path(where).resolve().name


def open_inputs(wheres: list[str], cache: Path | None, damaged: str) -> dict[str, Records]:
  """Several inputs by name, each as `open_records` opens it. Raises DataError where two have the same name, too."""
  inputs = {}
  for where in wheres:
    name = input_name(where)
    if name in inputs:
      raise DataError(
        f'--input: two inputs are called {name!r}, which is how people are told apart; rename a folder, or make a '
        'link to it of another name and give that.'
      )
    inputs[name] = open_records(where, cache and cache / name, damaged=damaged)
  return inputs


class Merged:
  """The records of several inputs, one after the other.

  `members` are the people of all inputs, one after the other: (input, name). Member k has the label label_of[k]; the
  labels of the first input are what they were, unless two of its own people are one.
  """

  def __init__(self, inputs: Mapping[str, Records], same: Path | None = None):
    """inputs: by their names; same: a list as `read_same` reads it. Raises DataError where the list does not fit."""
    self.inputs = list(inputs.values())
    lists = [records.people() for records in self.inputs]
    people = [(source, person) for source, own in zip(inputs, lists) for person in own]
    self.members = [(source, person.name) for source, person in people]
    self._firsts = np.cumsum([0, *map(len, lists)])
    self._starts = np.cumsum([0, *map(len, self.inputs)])
    self.label_of = _united(len(people), list(read_same(same, self.members)) if same else [])
    self.names = _unique_names(self.members, self.label_of)
    self._people = _people(people, self.names, self.label_of)
    sizes = {records.size for records in self.inputs}
    self.size = sizes.pop() if len(sizes) == 1 else 0
    self.skipped = [
      Skipped(f'{source}/{name}', reason) for source, records in inputs.items() for name, reason in records.skipped
    ]

  def __getstate__(self):  # who the people are is no business of those who read images
    return {'inputs': self.inputs, '_starts': self._starts, 'size': self.size}

  def __len__(self):
    return int(self._starts[-1])

  def _find(self, index):
    source = int(np.searchsorted(self._starts, index, side='right')) - 1
    return self.inputs[source], index - int(self._starts[source])

  def __getitem__(self, index):
    records, index = self._find(index)
    return records[index]

  def labels(self):
    """Labels of all images, the inputs' counted on: int64 [n]."""
    parts = [self.label_of[first + records.labels()] for first, records in zip(self._firsts, self.inputs)]
    return np.concatenate(parts)

  def people(self):
    """Who the labels are; the origins of people who were put together are joined by '+'."""
    return self._people

  def where(self, index):
    """As the input calls the image."""
    records, index = self._find(index)
    return records.where(index)

  def name(self, index):
    """As the input calls the image."""
    records, index = self._find(index)
    return records.name(index)


def _united(count, pairs):
  """Labels of members 0..count-1, dense and in the order of everybody's first member: int64 [count]."""
  pairs = np.array(pairs, np.int64).reshape(-1, 2)
  graph = coo_array((np.ones(len(pairs)), pairs.T), (count, count))
  groups = connected_components(graph, directed=False)[1]
  first = np.unique(groups, return_index=True)[1]
  return np.argsort(np.argsort(first))[groups].astype(np.int64)


def _unique_names(members, label_of):
  """A name for each member, INPUT/NAME where somebody else has the name, so that no two people share one."""
  names, plain = [name for _, name in members], True
  while plain:
    owner, shared = {}, set()
    for name, label in zip(map(normal, names), label_of.tolist()):
      if owner.setdefault(name, label) != label:
        shared.add(name)
    plain = [k for k, name in enumerate(names) if normal(name) in shared and name == members[k][1]]
    for k in plain:
      names[k] = '/'.join(members[k])
  return names


def _people(people, names, label_of):
  found = {}
  for (source, person), name, label in zip(people, names, label_of.tolist()):
    origin = person.origin or f'{source}:{person.name}'
    earlier = found.get(label)
    found[label] = earlier._replace(origin=f'{earlier.origin}+{origin}') if earlier else Person(name, origin)
  return [found[label] for label in range(len(found))]


def read_same(path: Path, members: list[tuple[str, str]]) -> Iterator[tuple[int, int]]:
  """Pairs of members whom a list declares one: CSV with the header same,similarity,first,second.

  first, second: INPUT:NAME; same: 1 or yes to put the two together, 0, no or nothing to leave them apart.
  Raises DataError, with file and line, for other headers and marks, and for people who do not exist.
  """
  number = {normal(':'.join(member)).strip(): k for k, member in enumerate(members)}
  rows = read_rows(path, ',')
  header = tuple(cell.strip() for cell in next(rows, (0, ()))[1])
  if header != _HEADER:
    raise DataError(f'{path}, line 1: the header is {",".join(header)!r}, wanted {",".join(_HEADER)!r}.')
  for line, row in rows:
    if len(row) != 4 or (mark := row[0].strip().lower()) not in _YES + _NO:
      raise DataError(f'{path}, line {line}: {",".join(row)!r} is not SAME,SIMILARITY,FIRST,SECOND with 1 or 0 first.')
    pair = []
    for name in row[2:]:
      if normal(name.strip()) not in number:
        raise DataError(f'{path}, line {line}: nobody is {name!r}; write the last part of an --input, ":", the name.')
      pair.append(number[normal(name.strip())])
    if mark in _YES:
      yield tuple(pair)


def named(path: Path, merged: Merged) -> np.ndarray:
  """Whom a list names, a line per person (people.tsv itself is one): bool [m].

  Raises DataError, with file and line, for people who do not exist.
  """
  label = {normal(name).strip(): k for name, k in zip(merged.names, merged.label_of.tolist())}
  chosen = np.zeros(len(merged.people()), bool)
  for line, row in read_rows(path, '\t'):
    if normal(row[0]).strip() not in label:
      raise DataError(
        f'{path}, line {line}: nobody is called {row[0]!r}; names are those of people.tsv, and INPUT/NAME where two '
        'inputs have the same one.'
      )
    chosen[label[normal(row[0]).strip()]] = True
  return chosen
