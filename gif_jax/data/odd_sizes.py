"""Pictures of an odd size among face crops: scenes, thumbnails, whatever is no crop like the rest."""

from collections.abc import Callable

import numpy as np

from gif_jax.core.errors import DataError, UnreadableError
from gif_jax.data.formats.records import Records
from gif_jax.data.images import read_sides

_LEAST = 20  # pictures, of fewer nothing is said
_CUT = 0.9  # share of pictures of one size from which all should be of that size
_NEAR, _FAR = np.log2(1.1), 1.0  # how far a side may be from the others', as a power of 2
_SPREADS = 9  # times the median distance from the median
_LOOKED_AT = 512  # pictures, spread over a set that is too large to look at all
_NAMED = 5
CURE = (
  'whole scenes teach the network backgrounds. `python -m gif_jax audit` lists them in odd_sizes.tsv, `python -m '
  'gif_jax convert --without_images=odd_sizes.tsv` leaves them out, `python -m gif_jax align` cuts faces out of scenes'
)


def odd_sizes(sides: np.ndarray) -> np.ndarray:
  """Which pictures are of an odd size: bool [n], by their sides int [n, 2] in pixels; 0 where nothing is known.

  Where nine in ten are of one size, those with a side that differs by more than a tenth. Else those with a side twice
  as long or half as long as the median, or further away where the others differ much.
  """
  known = sides.min(1, initial=1) > 0
  if known.sum() < _LEAST:
    return np.zeros(len(sides), bool)
  length = np.log2(np.maximum(sides, 1))
  middle = np.median(length[known], 0)
  distance = np.abs(length - middle)
  _, many = np.unique(sides[known], axis=0, return_counts=True)
  one_size = many.max() >= _CUT * known.sum()
  limit = _NEAR if one_size else np.maximum(_FAR, _SPREADS * np.median(distance[known], 0))
  return known & (distance > limit).any(1)


def usual(sides: np.ndarray) -> str:
  """The size that most pictures have, in words: the sides of most, int [n, 2], or the medians."""
  known = sides[sides.min(1) > 0]
  sizes, many = np.unique(known, axis=0, return_counts=True)
  width, height = sizes[many.argmax()] if many.max() > len(known) / 2 else np.median(known, 0).astype(int)
  return f'{width}x{height}'


def described(name: Callable[[int], str], sides: np.ndarray) -> str:
  """Which pictures are of an odd size, in words; '' where none is. name: of picture 0..n-1; sides: int [n, 2]."""
  rows = np.flatnonzero(odd_sizes(sides)).tolist()
  if not rows:
    return ''
  first = ', '.join(f'{name(row)} ({sides[row][0]}x{sides[row][1]})' for row in rows[:_NAMED])
  more = f' and {len(rows) - _NAMED} more' if len(rows) > _NAMED else ''
  return f'{len(rows)} of {len(sides)} pictures are of an odd size among those of {usual(sides)}: {first}{more}'


def look_at(records: Records) -> str:
  """The same of some pictures, spread over a set of records, by their headers alone."""
  rows = np.unique(np.linspace(0, len(records) - 1, _LOOKED_AT).astype(np.int64)).tolist()
  sides = np.zeros((len(rows), 2), np.int64)
  for place, row in enumerate(rows):
    try:
      sides[place] = read_sides(records[row])
    except (UnreadableError, DataError):
      continue  # whoever decodes it says so
  return described(lambda place: records.where(rows[place]), sides)
