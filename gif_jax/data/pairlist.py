"""Lists of verification pairs of photographs: LEFT RIGHT 1|0 in each line, or LFW's pairs.txt."""

from pathlib import Path

import numpy as np

from gif_jax.core.errors import DataError
from gif_jax.core.lists import indexed, path_key, read_lines
from gif_jax.data.photos import Photos


def read_pair_list(path: Path, photos: Photos) -> tuple[np.ndarray, np.ndarray]:
  """Image numbers int64 [pairs, 2] and whether they show one person, bool [pairs], in the order of the lines.

  LEFT and RIGHT are paths below the folder; where they hold spaces, tabs stand between the three. A first line of
  nothing but numbers (folds, pairs) announces LFW's form: `NAME I J` for one person, `NAME1 I NAME2 J` for two; image I
  of NAME is NAME/NAME_000I of any extension (vis-www.cs.umass.edu/lfw/README.txt).
  Raises DataError, with file and line, for lines of another form and images that do not exist.
  """
  lines = _read(path)
  names = [photos.name(index) for index in range(len(photos))]
  lfw = bool(lines) and all(field.isdigit() for field in lines[0][1])
  number = indexed((name.rpartition('.')[0] if lfw else name for name in names), path_key)
  pairs, same = [], []
  for line, fields in lines[lfw:]:
    try:
      *pair, one = _lfw(fields) if lfw else _plain(fields)
      pairs.append([number[path_key(name)] for name in pair])
    except ValueError as error:
      form = 'NAME I J or NAME1 I NAME2 J' if lfw else 'LEFT RIGHT 1 or 0'
      raise DataError(f'{path}, line {line}: {" ".join(fields)!r} is not {form}.') from error
    except KeyError as error:
      raise DataError(f'{path}, line {line}: no image {error.args[0]!r} below {photos.path}.') from error
    same.append(one)
  if not pairs:
    raise DataError(f'{path} names no pairs; write LEFT RIGHT 1 or 0 in each line.')
  return np.array(pairs, np.int64), np.array(same, bool)


def _read(path):
  """(number, fields) of every line: tabs stand between them where there are any, else white space."""
  lines = read_lines(path, fix='--pairs is a number, or a file with LEFT RIGHT 1 or 0 in each line')
  return [(number, [field.strip() for field in line.split('\t' if '\t' in line else None)]) for number, line in lines]


def _plain(fields):
  left, right, same = fields
  return left, right, ('0', '1').index(same) == 1


def _lfw(fields):
  one = len(fields) == 3
  first, i, second, j = (fields[0], fields[1], fields[0], fields[2]) if one else fields
  return f'{first}/{first}_{int(i):04}', f'{second}/{second}_{int(j):04}', one
