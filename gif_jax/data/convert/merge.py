"""Several inputs as one: labels counted on, names kept unique, people put together where a list says so."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gif_jax.core.errors import DataError
from gif_jax.core.lists import Names, normal, read_rows, tidy, yes_or_no
from gif_jax.core.texts import quoted
from gif_jax.data.formats.open import open_records
from gif_jax.data.formats.records import Person, Records, StoredRecords
from gif_jax.data.listing import Skipped

_LOG = logging.getLogger(__name__)

_HEADER = ['same', 'similarity', 'first', 'second']
_DELIMITERS = ',;\t'  # of tables as spreadsheets save them, which is a matter of the country


def input_name(where: str) -> str:
  """What an input is called in label maps and in lists of people who are the same: the last part of its path."""
  name = Path(where).name
  return name if name not in ('', '.', '..') else Path(where).resolve().name


def open_inputs(wheres: list[str], cache: Path | None, damaged: str) -> dict[str, StoredRecords]:
  """Several inputs by name, each as `open_records` opens it. Raises DataError where two have the same name, too."""
  inputs: dict[str, StoredRecords] = {}
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
    rows = read_same(same, self.members) if same else []
    self.label_of = _united(len(people), [row.pair for row in rows if row.same])
    if same:
      _check_apart(same, rows, self.label_of)
    self.names = _unique_names(self.members, self.label_of)
    self._people = _people(people, self.names, self.label_of)
    sizes = {records.size for records in self.inputs}
    self.size = sizes.pop() if len(sizes) == 1 else 0
    self.skipped = [
      Skipped(f'{source}/{name}', reason) for source, records in inputs.items() for name, reason in records.skipped
    ]
    self.not_images = [  # folders of people alone have such files
      Skipped(f'{source}/{name}', reason)
      for source, records in inputs.items()
      for name, reason in getattr(records, 'not_images', ())
    ]

  def __getstate__(self) -> dict[str, Any]:  # who the people are is no business of those who read images
    return {'inputs': self.inputs, '_starts': self._starts, 'size': self.size}

  def __len__(self) -> int:
    return int(self._starts[-1])

  def _locate(self, index: int) -> tuple[Records, int]:
    source = int(np.searchsorted(self._starts, index, side='right')) - 1
    return self.inputs[source], index - int(self._starts[source])

  def __getitem__(self, index: int) -> bytes:
    records, index = self._locate(index)
    return records[index]

  def labels(self) -> np.ndarray:
    """Labels of all images, the inputs' counted on: int64 [n]."""
    parts = [self.label_of[first + records.labels()] for first, records in zip(self._firsts, self.inputs)]
    return np.concatenate(parts)

  def people(self) -> list[Person]:
    """Who the labels are; the origins of people who were put together are joined by '+'."""
    return self._people

  def where(self, index: int) -> str:
    """As the input calls the image."""
    records, index = self._locate(index)
    return records.where(index)

  def name(self, index: int) -> str:
    """The name of the image's file, as the input has it."""
    records, index = self._locate(index)
    return records.name(index)


def _united(count: int, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
  """Labels of members 0..count-1, dense and in the order of everybody's first member: int64 [count]."""
  edges = np.array(pairs, np.int64).reshape(-1, 2)
  graph = coo_array((np.ones(len(edges)), edges.T), (count, count))
  groups = connected_components(graph, directed=False)[1]
  first = np.unique(groups, return_index=True)[1]
  return np.argsort(np.argsort(first))[groups].astype(np.int64)


def _check_apart(path: Path, rows: Sequence['Same'], label_of: np.ndarray) -> None:
  for line, (first, second), same in rows:
    if not same and label_of[first] == label_of[second]:
      raise DataError(f'{path}, line {line}: same is no, but the two are one person by other lines; correct the list.')


def _unique_names(members: Sequence[tuple[str, str]], label_of: np.ndarray) -> list[str]:
  """A name for each member, INPUT/NAME where somebody else has the name, so that no two people share one."""
  names = [name for _, name in members]
  while plain := _sharing(names, members, label_of):
    for k in plain:
      names[k] = '/'.join(members[k])
  return names


def _sharing(names: Sequence[str], members: Sequence[tuple[str, str]], label_of: np.ndarray) -> list[int]:
  """Members who have their plain name, which somebody else has, too."""
  owner: dict[str, int] = {}
  shared = set()
  for name, label in zip(map(normal, names), label_of.tolist()):
    if owner.setdefault(name, label) != label:
      shared.add(name)
  return [k for k, name in enumerate(names) if normal(name) in shared and name == members[k][1]]


def _people(people: Sequence[tuple[str, Person]], names: Sequence[str], label_of: np.ndarray) -> list[Person]:
  by_label: dict[int, Person] = {}
  for (source, person), name, label in zip(people, names, label_of.tolist()):
    origin = person.origin or f'{source}:{person.name}'
    earlier = by_label.get(label)
    by_label[label] = earlier._replace(origin=f'{earlier.origin}+{origin}') if earlier else Person(name, origin)
  return [by_label[label] for label in range(len(by_label))]


class Same(NamedTuple):
  """A line of a list of people who are the same: its number, two members, and what it says of them."""

  line: int
  pair: tuple[int, int]
  same: bool


def read_same(path: Path, members: list[tuple[str, str]]) -> list[Same]:
  """The lines of a list that say whether two members are one: CSV with the header same,similarity,first,second.

  first, second: INPUT:NAME; same: 1, yes or true to put the two together, 0, no or false to leave them apart, nothing
  for a line that says nothing. Semicolons or tabs may stand for the commas.
  Raises DataError, with file, line and cell, for other headers and marks, and for people who do not exist.
  """
  people = Names(
    'person',
    [(':'.join(member), k) for k, member in enumerate(members)],
    normal,
    tidy,
    shown=lambda k: f'{quoted(members[k][1])} of the input {quoted(members[k][0])}',
  )
  rows = []
  for line, (mark, _, first, second) in _same_rows(path):
    same = yes_or_no(mark)
    if same is None and mark.strip():
      raise DataError(f'{path}, line {line}: same is {quoted(mark)}, wanted 1 (one person), 0, or nothing.')
    try:
      pair = people.one(first, 'first'), people.one(second, 'second')
    except LookupError as error:
      raise DataError(
        f'{path}, line {line}: {error.args[0]}; names are INPUT:NAME, the last part of an --input first.'
      ) from error
    if same is not None:
      rows.append(Same(line, pair, same))
  if not any(row.same for row in rows):
    _LOG.warning('%s puts nobody together: write 1 in the column same where two are one person', path)
  return rows


def _same_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
  """(number, four cells) of every line below the header."""
  for delimiter in _DELIMITERS:
    rows = ((line, _without_blank(row)) for line, row in read_rows(path, delimiter))
    _, header = next(rows, (1, []))
    if [cell.strip().lower() for cell in header] == _HEADER:
      break
  else:
    line, header = next(read_rows(path, ','), (1, []))
    given, wanted = (quoted(','.join(cells)) for cells in (header, _HEADER))
    raise DataError(f'{path}, line {line}: the header is {given}, wanted {wanted}.')
  for line, cells in rows:
    if len(cells) > len(_HEADER):
      raise DataError(
        f'{path}, line {line}: {quoted(cells[len(_HEADER)])} stands in a fifth cell, wanted {len(_HEADER)}; a name '
        'with such signs in it is put in quotes.'
      )
    yield line, cells + [''] * (len(_HEADER) - len(cells))


def _without_blank(cells: list[str]) -> list[str]:
  """Without blank cells at the end."""
  used = [k for k, cell in enumerate(cells) if cell.strip()]
  return cells[: used[-1] + 1]


def named(path: Path, merged: Merged) -> np.ndarray:
  """Whom a list names, a line per person (people.tsv itself is one): bool [m].

  Raises DataError, with file and line, for people who do not exist.
  """
  people = Names(
    'person',
    list(zip(merged.names, merged.label_of.tolist())),
    normal,
    tidy,
    shown=lambda k: quoted(merged.people()[k].name),
  )
  chosen = np.zeros(len(merged.people()), bool)
  for line, row in read_rows(path, '\t'):
    try:
      chosen[people.one(next(cell for cell in row if cell.strip()))] = True
    except LookupError as error:
      raise DataError(
        f'{path}, line {line}: {error.args[0]}; a line is a name of people.tsv, INPUT/NAME where two inputs have it.'
      ) from error
  return chosen
