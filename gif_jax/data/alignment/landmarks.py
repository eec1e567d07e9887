"""Five points of each of many pictures in a text file: parsed, and checked, for whoever reads them.

Landmark files say where the faces of photographs are, found before. A line per photograph: its path below the folder,
x1 y1 .. x5 y5, and a score or nothing; between them white space or commas. The points are in pixels of the photograph
as it is seen (turned as its EXIF orientation says), in the order of geometry.py. IJB's `ijbc_name_5pts_score.txt` has
this form (evaluation/ijb).

What is wrong with most lines is wrong with the file, and an error with both. A single face that cannot be used is left
out of photographs, of which others remain, and an error with IJB, whose metrics are of all images. The score is not
used for photographs, so that it may be any number, such as a logit; IJB weights images with it: it must be above 0.
"""

import os
import re
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gif_jax.core.errors import DataError
from gif_jax.core.lists import indexed, is_number, path_key, read_lines
from gif_jax.core.texts import quoted
from gif_jax.data.alignment.geometry import faults, wrong_order

_FIELD = re.compile(r'[^\s,]+')
_FORM = 'PATH x1 y1 x2 y2 x3 y3 x4 y4 x5 y5 [score]'
_CURE = (
  'copy the file again, or correct it: x y in pixels from the top left corner, in the order in which the points are '
  'seen: the eye at the left of the picture, the other eye, nose, the corner of the mouth at the left, the other corner'
)


def read_landmarks(path: str | Path, root: Path, names: list[str]) -> np.ndarray:
  """Points float64 [n, 5, 2] of the n photographs `names`, paths below `root`.

  NaN for those without a line, and with one of what says that no face was found: a number that is not finite, or one
  point five times, such as zeros. Raises DataError, naming the line, for one of another form, a photograph that is not
  there, a photograph named twice; and for files that `check_points` refuses.
  """
  places = indexed(names, path_key)
  numbers, rows = array('d', [np.nan]) * (10 * len(names)), array('q', [0]) * len(names)
  for line, name, values in _lines(path, root, places):
    row = places.get(path_key(name))
    if row is None:
      continue  # such as a link to a photograph that is used already
    if rows[row]:
      raise DataError(f'{path}, line {line}: {quoted(name)} is in line {rows[row]} too; a photograph has one face.')
    rows[row] = line
    numbers[10 * row : 10 * row + 10] = array('d', values)
  points, lines = np.array(numbers).reshape(-1, 5, 2), np.array(rows)
  known = np.isfinite(points).all((1, 2)) & (points != points[:, :1]).any((1, 2))
  points[~known] = np.nan
  check_points(path, points[known], lines[known].item, most=0.5)
  return points


def _lines(path, root, places):
  """(number of the line, name of an image that is there, ten numbers) for every line that is not blank."""
  for number, line in read_lines(path, fix=f'--landmarks is a text file, {_FORM}'):
    fields = list(_FIELD.finditer(line))
    count = _numbers_at_end([field[0] for field in fields])
    # A name may end in a number: with or without it, whichever is an image.
    splits = [len(fields) - k for k in (11, 10) if k <= count and k < len(fields)]
    names = [line[: fields[split - 1].end()].strip() for split in splits]
    for split, name in zip(splits, names):
      if path_key(name) in places or _lies_below(root, name):
        yield number, name, [float(field[0]) for field in fields[split : split + 10]]
        break
    else:
      if count not in (10, 11) or not names:
        raise DataError(f'{path}, line {number}: {count} numbers after the path; wanted {_FORM}.')
      raise DataError(f'{path}, line {number}: {root} has no image {quoted(names[0])}; paths are those below --input.')


def _lies_below(root, name):
  return not name.startswith('/') and os.path.exists(root / name)


def _numbers_at_end(fields):
  """How many fields at the end are numbers."""
  return next((i for i, field in enumerate(reversed(fields)) if not is_number(field)), len(fields))


def check_points(path: str | Path, points: np.ndarray, line: Callable[[int], int], most: float = 0) -> None:
  """Raises DataError, naming a line, where more than the share `most` of the points in a list are no face's.

  And, whatever `most` is, where they are in another order in most lines. Points [n, 5, 2] that can be told apart from a
  face's without its picture: see `geometry.faults`; line: row -> line of the file.
  """
  problems = faults(points)
  for what, bad in problems.items():
    if bad.sum() > most * len(points):
      raise _error(path, what, np.flatnonzero(bad), line)
  good = np.flatnonzero(~np.any([*problems.values()], 0))
  if order := wrong_order(points[good]):
    raise _error(path, order[0], good[order[1]], line)


def _error(path, what, rows, line):
  return DataError(f'{path}, line {line(int(rows[0]))}: {what} ({len(rows)} such lines); {_CURE}.')
