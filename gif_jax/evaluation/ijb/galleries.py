"""The lists of IJB's 1:N protocol: two galleries of templates, and the templates that are searched for in both.

Three files in the meta folder of InsightFace's IJB-B and IJB-C (recognition/_evaluation_/ijb/ijb_1n.py reads them):
NAME_1N_gallery_G1.csv and _G2.csv (IJB-B: _S1, _S2) and NAME_1N_probe_mixed.csv. Comma-separated, a header row, a row
for every image, with the template in column 0 and the subject in column 1; what follows is not read.
"""

from array import array
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gif_jax.core.errors import DataError
from gif_jax.core.lists import parse_int, read_lines
from gif_jax.core.texts import quoted


class Gallery(NamedTuple):
  """Who is known: name G1, G2, S1 or S2; template int32 [g], numbers of templates; subject int64 [g], all different."""

  name: str
  template: np.ndarray
  subject: np.ndarray


class Galleries(NamedTuple):
  """The galleries, of whom nobody is in two; probe int32 [q], numbers of templates; probe_subject int64 [q]."""

  galleries: list[Gallery]
  probe: np.ndarray
  probe_subject: np.ndarray


class _Table(NamedTuple):
  """A file: template [k], all different, subject int64 [k], and the line in which each of them comes first, [k]."""

  path: Path
  template: np.ndarray
  subject: np.ndarray
  line: np.ndarray


def open_galleries(meta: str | Path, name: str, template_ids: np.ndarray) -> Galleries | None:
  """Reads the lists of the 1:N protocol; None where the folder has none of them.

  Args:
    meta: the folder.
    name: what the files' names begin with, such as ijbc.
    template_ids: int64 [t], rising; the template of number i has the id template_ids[i].

  Raises:
    DataError: one of the files is missing; a row is no two integers; a template is unknown or of two subjects; a
      gallery has two templates of a subject, which public code (and so every published figure) takes the first of or
      fails at; a subject is in both galleries, or a template both in a gallery and a probe. Names the file, the line
      and the cure.
  """
  paths = _paths(Path(meta), name)
  if not paths:
    return None
  tables = [_read(path) for path in paths]
  *galleries, probes = tables
  for table in galleries:
    _check_once(table, table.subject, 'subject', 'a gallery has one template of each: remove the other rows')
  both = _joined(*galleries)
  _check_once(both, both.subject, 'subject', f'it is in {paths[0].name} too: remove one of the two')
  _check_once(both, both.template, 'template', f'it is in {paths[0].name} too: copy both again')
  everyone = _joined(both, probes)
  _check_once(everyone, everyone.template, 'template', 'it is in a gallery too and would find itself: remove it here')
  numbers = [_numbers(table, template_ids) for table in tables]
  letters = [path.stem[-2:] for path in paths[:2]]
  known = [Gallery(*parts) for parts in zip(letters, numbers, (table.subject for table in galleries))]
  return Galleries(known, numbers[2], probes.subject)


def _paths(meta, name):
  """The two galleries and the probes; () where none of them exists."""
  begin = f'{name}_1N'
  of_b = [meta / f'{begin}_gallery_S{i}.csv' for i in (1, 2)]
  letter = 'S' if any(path.is_file() for path in of_b) else 'G'
  paths = [*(meta / f'{begin}_gallery_{letter}{i}.csv' for i in (1, 2)), meta / f'{begin}_probe_mixed.csv']
  missing = [path for path in paths if not path.is_file()]
  if missing and len(missing) < len(paths):
    raise DataError(
      f'{missing[0]} is missing, of the three lists of the 1:N protocol; copy the meta folder again, or remove the '
      f'other {begin}_*.csv to do without this protocol.'
    )
  return () if missing else paths


def _read(path):
  template, subject, line = _rows(path)
  if not len(template):
    raise DataError(f'{path} lists no template; copy it again.')
  unique, first, inverse = np.unique(template, return_index=True, return_inverse=True)
  other = np.flatnonzero(subject != subject[first][inverse])
  if len(other):
    row = other[0]
    raise DataError(
      f'{path}, line {line[row]}: template {template[row]} is of subject {subject[row]}, but of subject '
      f'{subject[first[inverse[row]]]} in line {line[first[inverse[row]]]}; copy it again.'
    )
  return _Table(path, unique, subject[first], line[first])


def _rows(path):
  """template, subject, line: int64 [rows]."""
  columns = array('q'), array('q'), array('q')
  lines = read_lines(path, fix='allow reading it (chmod), or copy it again')
  _check_header(path, next(lines, (1, ''))[1])
  for number, text in lines:
    for column, value in zip(columns, (*_integers(path, number, text), number)):
      column.append(value)
  return [np.frombuffer(column, np.int64) if column else np.empty(0, np.int64) for column in columns]


def _integers(path, number, text):
  """The first two columns of a row."""
  values = _pair(text)
  if values is None:
    raise DataError(
      f'{path}, line {number}: {quoted(",".join(text.split(",", 2)[:2]))}, but a row begins with a template and a '
      'subject, two integers with a comma between them; copy it again.'
    )
  return values


def _check_header(path, text):
  if _pair(text) is not None:
    raise DataError(f'{path}, line 1 is a row of values where the names of the columns belong; put them above it.')


def _pair(text):
  """The first two columns; None where they are no integers of 64 bits."""
  try:
    first, second = map(parse_int, text.split(',', 2)[:2])
  except ValueError:
    return None
  return first, second


def _joined(first, second):
  """Two tables, with the name of the second: neither has a value twice, so one that occurs again is in that file."""
  return _Table(second.path, *map(np.concatenate, zip(first[1:], second[1:])))


def _check_once(table, values, what, cure):
  """Raises DataError for a row whose value occurs before."""
  order = np.argsort(values, kind='stable')
  again = order[1:][values[order][1:] == values[order][:-1]]
  if len(again):
    row = again.min()
    raise DataError(f'{table.path}, line {table.line[row]}: {what} {values[row]} occurs again; {cure}.')


def _numbers(table, template_ids):
  """int32 [k]: the number of every template."""
  number = np.minimum(np.searchsorted(template_ids, table.template), len(template_ids) - 1)
  unknown = np.flatnonzero(template_ids[number] != table.template)
  if len(unknown):
    row = unknown[np.argmin(table.line[unknown])]
    raise DataError(
      f'{table.path}, line {table.line[row]}: no image is of template {table.template[row]} ({len(unknown)} of '
      f'{len(table.template)} templates have none); the lists and the images belong to different sets: copy both again.'
    )
  return number.astype(np.int32)
