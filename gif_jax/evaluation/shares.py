"""Images divided among the processes of a run, and what each made of its share put together again."""

import itertools
import math
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

_BLOCK = 1 << 26  # bytes of all processes together on a device at a time


def shares(n: int) -> list[range]:
  """The images 0..n-1 in one run of neighbours per process; all of them in one where there are fewer than processes."""
  processes = jax.process_count()
  if n < processes:
    return [range(n)]  # every process does all of them
  bounds = [n * i // processes for i in range(processes + 1)]
  return [range(*pair) for pair in itertools.pairwise(bounds)]


def joined(rows: np.ndarray, parts: list[range]) -> np.ndarray:
  """This process's rows [len(its part), ...] -> those of all processes in order, [n, ...], the same everywhere."""
  if len(parts) == 1:
    return rows
  whole = np.empty((parts[-1].stop, *rows.shape[1:]), rows.dtype)
  for first, blocks in _of_all(rows, max(map(len, parts))):
    for part, block in zip(parts, blocks):
      here = whole[part.start + first : part.stop][: len(block)]
      here[:] = block[: len(here)]
  return whole


def added(rows: np.ndarray, parts: list[range]) -> np.ndarray:
  """This process's rows -> their sum over all processes, in place, the same everywhere."""
  if len(parts) > 1:
    for first, blocks in _of_all(rows, len(rows)):
      rows[first : first + blocks.shape[1]] = blocks.sum(0)
  return rows


def _of_all(rows: np.ndarray, longest: int) -> Iterator[tuple[int, np.ndarray]]:
  """(first row, the rows from there on of every process [processes, b, ...]) until `longest`, short ones padded."""
  # The same in every process, also in one without rows.
  size = max(1, _BLOCK // (jax.process_count() * max(1, rows.itemsize * math.prod(rows.shape[1:]))))
  for first in range(0, longest, size):
    block = np.zeros((min(size, longest - first), *rows.shape[1:]), rows.dtype)
    own = rows[first : first + size]
    block[: len(own)] = own
    # As bytes, since JAX would round float64 and int64.
    gathered = multihost_utils.process_allgather(block.reshape(len(block), -1).view(np.uint8))
    yield first, np.asarray(gathered).view(rows.dtype).reshape(-1, *block.shape)
