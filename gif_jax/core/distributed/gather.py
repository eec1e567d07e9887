"""Arrays that are spread over processes: put together, added up, read row by row without a copy of everything."""

import contextlib
import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import numpy as np
import numpy.typing as npt
from jax.experimental import multihost_utils

from gif_jax.core.distributed.host_array import HostArray, bounds
from gif_jax.core.storage.files import remove, writing
from gif_jax.core.storage.resume import open_rows

_BLOCK = 1 << 26  # bytes that are sent at a time
_TOGETHER = 1 << 26  # bytes of all processes together on a device at a time


def in_blocks(array: jax.Array | HostArray, rows: int | None = None) -> Iterator[np.ndarray]:
  """The first `rows` rows (None: all) of an array [M, ...], in order, a block at a time, the same in every process.

  Rows may lie on any devices or hosts; each block is sent by the process that has it to all others, which must take
  all blocks, too, whether they have a use for them or not. Memory: a block on the host and one on a device of every
  process. An array that is split along another axis than its first, as weights may be, is gathered in one piece.
  """
  own: Mapping[int, jax.Array | np.ndarray]
  if isinstance(array, HostArray):
    cuts = itertools.pairwise(bounds(array.m))
    parts, own = [(start, stop, process) for process, (start, stop) in enumerate(cuts)], {array.start: array.own}
  elif array.ndim == 0 or array.is_fully_replicated:
    yield np.asarray(array)[:rows] if array.ndim else np.asarray(array)
    return
  else:
    split = _parts(array)
    if split is None:
      yield np.asarray(multihost_utils.process_allgather(array, tiled=True))[:rows]
      return
    parts, own = split, {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
  rows = array.shape[0] if rows is None else rows
  size = max(1, _BLOCK // max(1, array.nbytes // array.shape[0]))
  with array.in_order() if isinstance(array, HostArray) else contextlib.nullcontext():
    for start, stop, process in parts:
      for first in range(start, min(stop, rows), size):
        last = min(first + size, stop, rows)
        if here := process == jax.process_index():
          block = np.asarray(own[start][first - start : last - start])
        else:
          block = np.zeros((last - first, *array.shape[1:]), array.dtype)
        yield block if jax.process_count() == 1 else _sent(block, here)


def _parts(array) -> list[tuple[int, int, int]] | None:
  """(first row, row after the last, a process that has them), in order; None where devices have parts of rows."""
  parts: dict[int, tuple[int, int, int]] = {}
  for device, index in array.sharding.devices_indices_map(array.shape).items():
    if any(part.indices(size) != (0, size, 1) for part, size in zip(index[1:], array.shape[1:])):
      return None
    start, stop, _ = index[0].indices(len(array))
    parts[start] = min(parts.get(start, (start, stop, device.process_index)), (start, stop, device.process_index))
  return [parts[start] for start in sorted(parts)]


def _sent(block: np.ndarray, here: bool) -> np.ndarray:
  """The block of the process that has it, in all of them: as bytes, as sums of floats would turn -0 into 0."""
  content = np.ascontiguousarray(block).reshape(-1).view(np.uint8)
  received = np.asarray(multihost_utils.broadcast_one_to_all(content, is_source=here))
  return received.view(block.dtype).reshape(block.shape)


@contextlib.contextmanager
def on_disk(folder: Path, array: jax.Array | HostArray, rows: int, dtype: npt.DTypeLike) -> Iterator[np.ndarray | None]:
  """The first rows of an array as a memory-mapped file in `folder`, in process 0; None in the others.

  The file, rows times the bytes of one in `dtype`, is gone afterwards. What lies in such a file already is not copied.
  Raises DiskError where the disk is full.
  """
  if isinstance(array, HostArray) and jax.process_count() == 1 and array.dtype == dtype:
    yield array.own
    return
  first = jax.process_index() == 0
  path, stored = folder / '.rows.npy', None
  try:
    if first:
      with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
      stored = open_rows(path, (rows, *array.shape[1:]), dtype, resume=False)
    done = 0
    for block in in_blocks(array, rows):
      if stored is not None:
        stored[done : done + len(block)] = block
      done += len(block)
    yield stored
  finally:
    if first:
      remove(path)


def shares(n: int) -> list[range]:
  """The images 0..n-1 in one run of neighbours per process; all of them in one where there are fewer than processes."""
  if n < jax.process_count():
    return [range(n)]  # every process does all of them
  return [range(*pair) for pair in itertools.pairwise(bounds(n))]


def joined(rows: np.ndarray, parts: list[range]) -> np.ndarray:
  """This process's rows [len(its part), ...] -> those of all processes in order, [n, ...], the same everywhere."""
  if len(parts) == 1:
    return rows
  result = np.empty((parts[-1].stop, *rows.shape[1:]), rows.dtype)
  for first, blocks in _of_all(rows, max(map(len, parts))):
    for part, block in zip(parts, blocks):
      here = result[part.start + first : part.stop][: len(block)]
      here[:] = block[: len(here)]
  return result


def added(rows: np.ndarray, parts: list[range]) -> np.ndarray:
  """This process's rows -> their sum over all processes, in place, the same everywhere."""
  if len(parts) > 1:
    for first, blocks in _of_all(rows, len(rows)):
      rows[first : first + blocks.shape[1]] = blocks.sum(0)
  return rows


def _of_all(rows: np.ndarray, longest: int) -> Iterator[tuple[int, np.ndarray]]:
  """(first row, the rows from there on of every process [processes, b, ...]) until `longest`, short ones padded."""
  # The same in every process, also in one without rows.
  size = max(1, _TOGETHER // (jax.process_count() * max(1, rows.itemsize * math.prod(rows.shape[1:]))))
  for first in range(0, longest, size):
    block = np.zeros((min(size, longest - first), *rows.shape[1:]), rows.dtype)
    own = rows[first : first + size]
    block[: len(own)] = own
    # As bytes, since JAX would round float64 and int64.
    gathered = multihost_utils.process_allgather(block.reshape(len(block), -1).view(np.uint8))
    yield first, np.asarray(gathered).view(rows.dtype).reshape(-1, *block.shape)
