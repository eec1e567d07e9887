"""The text files of IJB-B and IJB-C in their folder meta, read row by row; what is wrong with them, by line."""

import itertools
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gif_jax.core.errors import DataError, cure, reason
from gif_jax.core.lists import indexed, is_number, open_text, parse_int, path_key, read_lines
from gif_jax.core.texts import quoted

LISTS: dict[str, tuple[str, Any]] = {
  'face_tid_mid': ('IMAGE TEMPLATE MEDIA', [('template', np.int64), ('media', np.int64)]),
  'name_5pts_score': ('IMAGE x1 y1 x2 y2 x3 y3 x4 y4 x5 y5 SCORE', [('points', np.float64, 10), ('score', np.float64)]),
  'template_pair_label': ('TEMPLATE TEMPLATE 1|0', [('left', np.int64), ('right', np.int64), ('label', np.float64)]),
}
POINTS = LISTS['name_5pts_score'][0].split()[1:-1]  # names of columns
_INTEGERS = ('TEMPLATE', 'MEDIA')  # columns of them


def list_path(folder: Path, name: str, which: str) -> Path:
  """Where the list `which`, a key of LISTS, of the set `name` lies."""
  return folder / 'meta' / f'{name}_{which}.txt'


def read_list(path: Path) -> tuple[list[str], np.ndarray]:
  """One of the lists: names of images, where it has them, and a structured array as LISTS has it.

  Raises DataError for a file that is missing, or a row that is not of its form.
  """
  if not path.is_file():
    raise DataError(f'{path} does not exist; copy the whole folder meta of the set, it has {", ".join(LISTS)}.')
  form, fields = next(kind for which, kind in LISTS.items() if path.stem.endswith(which))
  names: list[str] = []
  try:
    with warnings.catch_warnings(), open_text(path) as lines:
      warnings.simplefilter('error')  # what loadtxt warns of, such as an empty file, is as bad as what it refuses
      numbers = _without_names(lines, names) if form.startswith('IMAGE') else lines
      return names, np.loadtxt(numbers, fields, comments=None, encoding='utf-8', ndmin=1)
  except OSError as error:
    raise DataError(f'{path} cannot be read ({reason(error)}): {cure(error)}.') from error
  except (ValueError, Warning) as error:
    raise DataError(_complaint(path, form, error)) from error


def _without_names(lines, names):
  """The lines without their first column, which is added to `names`."""
  for line in lines:
    if fields := line.split(None, 1):
      names.append(fields[0])
      yield fields[-1]  # a name alone is no row of numbers


def _complaint(path, form, error):
  """What is wrong with a text file that NumPy refused; the line is looked for only now."""
  wanted, first = form.split(), True
  for number, line in read_lines(path):
    fields, where = line.split(), f'{path}, line {number}'
    if first and len(fields) > 1 and not any(map(is_number, fields[1:])):
      return f'{where}: a header, which the file must not have; remove the line.'
    if len(fields) != len(wanted):
      return f'{where}: {len(fields)} columns, wanted {form} between white space; copy the file again.'
    for column, (field, kind) in enumerate(zip(fields, wanted), 1):
      if kind != 'IMAGE' and not is_number(field, parse_int if kind in _INTEGERS else float):
        what = 'whole number' if kind in _INTEGERS else 'number'
        return f'{where}, column {column}: {quoted(field)} is not a {what} that can be a {kind}; copy the file again.'
    first = False
  return f'{path} cannot be used, wanted lines {form}; copy it again ({error}).'


def check_rows(path: Path, bad: np.ndarray, what: Callable[[int], str]) -> None:
  """Raises DataError for the first of the rows that are bad, bool [rows]; what: of a row, in words."""
  if bad.any():
    row = int(bad.argmax())
    raise DataError(
      f'{path}, line {line_of(path, row)}: {what(row)} ({np.count_nonzero(bad)} such lines); copy the files again, all '
      'of one release.'
    )


def line_of(path: Path, row: int) -> int:
  """The line in which a row stands: blank lines are none."""
  return next(itertools.islice((number for number, _ in read_lines(path)), row, None))


def check_same_images(faces: Path, names: Sequence[str], points: Path, others: Sequence[str]) -> None:
  """Raises DataError unless two lists are of the same images in the same order."""
  cure = 'row i of both must be of the same image: copy both again, of one release.'
  if len(names) != len(others):
    raise DataError(f'{faces} has {len(names)} rows, {points} {len(others)}; {cure}')
  pairs = enumerate(zip(names, others))
  if unlike := [row for row, (name, other) in pairs if name != other and path_key(name) != path_key(other)]:
    row = unlike[0]
    raise DataError(
      f'{faces}, line {line_of(faces, row)}: {names[row]}, but {points}, line {line_of(points, row)}: {others[row]} '
      f'({len(unlike)} such rows); {cure}'
    )


def as_spelled(folder: Path, names: Sequence[str]) -> list[str]:
  """The images as they are spelled on the disk, '' for those that are missing.

  Folders are listed, which is far cheaper than asking for each file.
  """
  existing: set[str] = set()
  for parent in {os.path.dirname(name) for name in names}:
    below = os.path.join(folder, parent)
    if os.path.isdir(below):
      existing.update(os.path.join(parent, name) for name in os.listdir(below))
  if existing.issuperset(names):
    return list(names)
  every = [os.path.relpath(os.path.join(at, file), folder) for at, _, files in os.walk(folder) for file in files]
  places = indexed(every, path_key)
  spelled = {name: every[places[key]] for name in set(names) if (key := path_key(name)) in places}
  return [name if name in existing else spelled.get(name, '') for name in names]
