"""Counter-based random numbers: a value is a function of (seed, counters) alone, never of what was drawn before.

This is what lets any worker, host or batch size render the same face and draw the same augmentation (Steele, Lea and
Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014: the splitmix64 finaliser, chained over counters).
"""

import math

import numpy as np
import numpy.typing as npt

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = 8


def _mix(x: np.ndarray) -> np.ndarray:
  x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return x ^ (x >> np.uint64(31))


def bits(seed: int, *counters: npt.ArrayLike) -> np.ndarray:
  """64 random bits for every element of the broadcast `counters` (integers or integer arrays): uint64."""
  with np.errstate(over='ignore'):
    x = _mix(np.asarray(np.uint64(seed & 0xFFFFFFFFFFFFFFFF) + _GAMMA))
    for counter in counters:
      x = _mix(x * _GAMMA + np.asarray(counter).astype(np.uint64) + _GAMMA)
  return x


def uniform(seed: int, *counters: npt.ArrayLike) -> np.ndarray:
  """Uniform values in [0, 1) with 24 random bits for every element of the broadcast `counters`: float32."""
  return (bits(seed, *counters) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def permuted(index: np.ndarray, n: int, seed: int, counter: npt.ArrayLike) -> np.ndarray:
  """Where `index` (int64 [k], 0..n-1) goes in a permutation of n that (seed, counter) name: int64 [k].

  `counter` is one for all or [k]. No other index is looked at, so a place in 40 million costs what one in ten does: a
  Feistel network on a grid of a x b >= n cells, gone through again from a cell that is not among the n (Black and
  Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002).
  """
  a = math.isqrt(n - 1) + 1
  sides = np.uint64(a), np.uint64(-(-n // a))
  keys = bits(seed, counter, np.arange(_ROUNDS).reshape(-1, *[1] * np.ndim(counter)))
  cell = _feistel(index.astype(np.uint64), sides, keys)
  while (outside := cell >= n).any():
    cell = np.where(outside, _feistel(cell, sides, keys), cell)
  return cell.astype(np.int64)


def shuffled(position: np.ndarray, n: int, seed: int) -> np.ndarray:
  """Which of n comes at `position` (int64 [k], 0 on) of a stream without end, every n a new permutation: int64 [k]."""
  epoch, place = np.divmod(position, n)
  return permuted(place, n, seed, epoch)


def _feistel(cell, sides, keys):
  """A permutation of the cells of a grid: row and column in turn are moved by what a hash makes of the other."""
  row, column = divmod(cell, sides[1])
  for key in keys:
    with np.errstate(over='ignore'):
      row = (row + _mix(column * _GAMMA + key) % sides[0]) % sides[0]
    row, column, sides = column, row, sides[::-1]
  return row * sides[1] + column
