"""Landmark files: the five points of every photograph, found before.

A line per photograph: its path below the folder, x1 y1 .. x5 y5, and a score that is not used or nothing; between them
white space or commas. The points are in pixels of the photograph as it is seen (turned as its EXIF orientation says),
in the order of data/align.py. IJB's `ijbc_name_5pts_score.txt` has this form.
"""

import re
from array import array
from pathlib import Path

import numpy as np

from gif_jax.core.errors import DataError
from gif_jax.core.lists import indexed, path_key, read_lines
from gif_jax.data.align import mirrored, usable

_NUMBER = r'[-+]?(?:\d+\.?\d*|\.\d+|nan|inf)(?:e[-+]?\d+)?'
# Names may have spaces and commas in them; they end in that of an image format, so never in a number.
_LINE = re.compile(rf'(.+?)((?:[\s,]+{_NUMBER})+)[\s,]*', re.IGNORECASE)
_FORM = 'PATH x1 y1 x2 y2 x3 y3 x4 y4 x5 y5 [score]'


def read_landmarks(path: str | Path, root: Path, names: list[str]) -> np.ndarray:
  """Points float64 [n, 5, 2] of the n photographs `names`, paths below `root`; NaN for those without a line.

  Raises DataError, naming the line, for one of another form, a photograph that is not there, a photograph named twice;
  and for files in which left and right are swapped.
  """
  places = indexed(names, path_key)
  numbers, rows = array('d', [np.nan]) * (10 * len(names)), array('q', [0]) * len(names)
  for line, name, values in _lines(path):
    row = places.get(path_key(name))
    if row is None:
      if not name.startswith('/') and (root / name).exists():
        continue  # such as a link to a photograph that is used already
      raise DataError(f'{path}, line {line}: {root} has no image {name}; paths are those below --input.')
    if rows[row]:
      raise DataError(f'{path}, line {line}: {name} was in line {rows[row]} already; a photograph has one face.')
    rows[row] = line
    numbers[10 * row : 10 * row + 10] = array('d', values)
  points = np.array(numbers).reshape(-1, 5, 2)
  _check_order(path, points, np.array(rows))
  return points


def _lines(path):
  """(number of the line, name, ten numbers) for every line that is not blank."""
  for number, line in read_lines(path, fix=f'--landmarks is a text file, {_FORM}'):
    found = _LINE.fullmatch(line.strip())
    values = re.findall(r'[^\s,]+', found[2]) if found else []
    if len(values) not in (10, 11):
      raise DataError(f'{path}, line {number}: {len(values)} numbers after the path; wanted {_FORM}.')
    yield number, found[1].strip(), [float(value) for value in values[:10]]


def _check_order(path, points, rows):
  """A few faces may look mirrored, such as profiles found badly; if most do, it is the order that is wrong."""
  good = usable(points)
  swapped = mirrored(points[good])
  if swapped.sum() > len(swapped) / 2:
    raise DataError(
      f'{path}, line {rows[good][swapped].min()} and {swapped.sum() - 1} others: left and right are swapped. The order '
      'is that in which points are seen: the eye at the left of the picture comes first, and so does the corner of the '
      'mouth.'
    )
