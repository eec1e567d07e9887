"""The few functions all pixels are made of: polynomials and quotients, so every machine computes the same bytes.

Each is elementwise in float32 and uses nothing but + - * / and comparisons, which IEEE 754 rounds correctly everywhere.
"""

import functools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Values = float | np.ndarray
_Values = TypeVar('_Values', float, np.ndarray)


def unit(x: np.ndarray) -> np.ndarray:
  """The array `x` limited to 0..1."""
  t = np.maximum(x, 0)
  return np.minimum(t, 1, out=t)


def rise(x: np.ndarray, low: float, high: float) -> np.ndarray:
  """Smooth step: 0 below `low`, 1 above `high` (or falling, where `low` > `high`)."""
  t = unit((x - low) * (1 / (high - low)))
  smooth = 3 - 2 * t
  smooth *= t
  smooth *= t
  return smooth


def bump(r2: np.ndarray) -> np.ndarray:
  """Compact bell of a squared radius: 1 at 0, 0 from 1 on."""
  t = np.maximum(1 - r2, 0)
  t *= t
  return t


def hill(r2: np.ndarray) -> np.ndarray:
  """Bell with a long tail of a squared radius: 1 at 0, 1/4 at 1."""
  t = 1 / (1 + r2)
  return t * t


def square(x: _Values) -> _Values:
  """The square of a number, or of each."""
  return x * x


def wave(x: np.ndarray) -> np.ndarray:
  """A sine-like wave of period 1 between -1 and 1, of parabolas."""
  t = (x - np.floor(x)) * 2 - 1
  return 4 * t * (1 - np.abs(t))


def mix(a: Values, b: Values, weight: Values) -> Any:
  """`a` where the weight is 0, `b` where it is 1, and between them in proportion: a number where all are numbers."""
  return a + (b - a) * weight


def colour(rgb: npt.ArrayLike) -> np.ndarray:
  """Display colour (3 values in 0..1) as linear light, shaped [3, 1] for broadcasting over pixels: float32."""
  return square(np.asarray(rgb, np.float32))[:, None]


def palette(stops: Sequence[Sequence[float]], position: float) -> tuple[float, ...]:
  """The colour at `position` in 0..1 along evenly spaced `stops`."""
  place = position * (len(stops) - 1)
  first = min(int(place), len(stops) - 2)
  return tuple(mix(a, b, place - first) for a, b in zip(stops[first], stops[first + 1]))


def turn(t: float) -> tuple[float, float]:
  """Cosine and sine of the angle whose half has the tangent `t`: a rotation without a transcendental function."""
  return (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)


def named(ranges: dict[str, tuple[float, float]], draws: np.ndarray) -> list[SimpleNamespace]:
  """One namespace a row of `draws` (uniform, float32 [n, >= len(ranges)]) with every name drawn from its range."""
  low, high = np.array(list(ranges.values()), np.float32).T
  values = low + (high - low) * draws[:, : len(ranges)]
  return [SimpleNamespace(**dict(zip(ranges, row))) for row in values.tolist()]


@functools.lru_cache(maxsize=64)
def _stops(cells: int, length: int) -> tuple[np.ndarray, np.ndarray]:
  place = (np.arange(length, dtype=np.float32) + np.float32(0.5)) * np.float32((cells - 1) / length)
  first = np.minimum(np.floor(place), np.float32(cells - 2))
  return first.astype(np.intp), rise(place - first, 0, 1)


def upsample(grid: np.ndarray, height: int, width: int) -> np.ndarray:
  """Smooth noise: float32 [..., rows, columns] of at least 2 x 2 control values to [..., height, width]."""
  first, weight = _stops(grid.shape[-1], width)
  wide = mix(grid.take(first, axis=-1), grid.take(first + 1, axis=-1), weight)
  # Rows last: each is copied at once.
  first, weight = _stops(grid.shape[-2], height)
  low = wide.take(first, axis=-2)
  high = wide.take(first + 1, axis=-2)
  high -= low
  high *= weight[:, None]
  low += high
  return low
