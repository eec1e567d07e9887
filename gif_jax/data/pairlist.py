"""Lists of verification pairs of photographs: LEFT RIGHT 1|0 in each line, or LFW's pairs.txt."""

from pathlib import Path

import numpy as np

from gif_jax.data.images import DataError
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
  number = {name.rpartition('.')[0] if lfw else name: index for index, name in enumerate(names)}
  pairs, same = [], []
  for line, fields in lines[lfw:]:
    try:
      *pair, one = _lfw(fields) if lfw else _plain(fields)
      pairs.append([number[name] for name in pair])
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
  try:
    text = Path(path).read_text('utf-8-sig', 'surrogateescape')
  except OSError as error:
    raise DataError(f'--pairs={path} is neither a number nor a file that can be read ({error.strerror}).') from error
  lines = [(number, line.split('\t' if '\t' in line else None)) for number, line in enumerate(text.split('\n'), 1)]
  return [(number, [field.strip() for field in fields]) for number, fields in lines if any(fields)]


def _plain(fields):
  left, right, same = fields
  return left, right, ('0', '1').index(same) == 1


def _lfw(fields):
  one = len(fields) == 3
  first, i, second, j = (fields[0], fields[1], fields[0], fields[2]) if one else fields
  return f'{first}/{first}_{int(i):04}', f'{second}/{second}_{int(j):04}', one
