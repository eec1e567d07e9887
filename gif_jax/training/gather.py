"""Arrays that are spread over processes, read row by row without a copy of the whole anywhere."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from gif_jax.evaluation.resume import open_rows

_BLOCK = 1 << 26  # bytes that are sent at a time


def in_blocks(array: jax.Array, rows: int | None = None) -> Iterator[np.ndarray]:
  """The first `rows` rows (None: all) of an array [M, ...], in order, a block at a time, the same in every process.

  Rows may lie on any devices; each block is sent by the process that has it to all others, which must take all blocks,
  too, whether they have a use for them or not. Memory: a block on the host and one on a device of every process. An
  array that is split along another axis than its first, as weights may be, is gathered whole.
  """
  if array.ndim == 0 or array.is_fully_replicated:
    yield np.asarray(array)[: rows] if array.ndim else np.asarray(array)
    return
  parts = _parts(array)
  if parts is None:
    yield np.asarray(multihost_utils.process_allgather(array, tiled=True))[:rows]
    return
  own = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
  rows = len(array) if rows is None else rows
  size = max(1, _BLOCK // max(1, array.nbytes // len(array)))
  for start, stop, process in parts:
    for first in range(start, min(stop, rows), size):
      last = min(first + size, stop, rows)
      here = process == jax.process_index()
      block = np.asarray(own[start][first - start : last - start]) if here else None
      yield block if jax.process_count() == 1 else _sent(block, (last - first, *array.shape[1:]), array.dtype, here)


def _parts(array):
  """(first row, row after the last, a process that has them), in order; None where rows are not whole on a device."""
  parts = {}
  for device, index in array.sharding.devices_indices_map(array.shape).items():
    if any(part.indices(size) != (0, size, 1) for part, size in zip(index[1:], array.shape[1:])):
      return None
    start, stop, _ = index[0].indices(len(array))
    parts[start] = min(parts.get(start, (start, stop, device.process_index)), (start, stop, device.process_index))
  return [parts[start] for start in sorted(parts)]


def _sent(block, shape, dtype, here):
  """The block of the process that has it, in all of them: as bytes, as sums of floats would turn -0 into 0."""
  size = int(np.prod(shape)) * np.dtype(dtype).itemsize
  content = np.ascontiguousarray(block).view(np.uint8).reshape(-1) if here else np.zeros(size, np.uint8)
  return np.asarray(multihost_utils.broadcast_one_to_all(content, is_source=here)).view(dtype).reshape(shape)


@contextlib.contextmanager
def on_disk(folder: Path, array: jax.Array, rows: int, dtype) -> Iterator[np.ndarray | None]:
  """The first rows of an array as a memory-mapped file in `folder`, in process 0; None in the others.

  The file, rows times the bytes of one in `dtype`, is gone afterwards. Raises ExtractError where the disk is full.
  """
  first = jax.process_index() == 0
  path, stored = folder / '.rows.npy', None
  try:
    if first:
      folder.mkdir(parents=True, exist_ok=True)
      stored = open_rows(path, (rows, *array.shape[1:]), dtype, resume=False)
    done = 0
    for block in in_blocks(array, rows):
      if first:
        stored[done : done + len(block)] = block
      done += len(block)
    yield stored
  finally:
    if first:
      path.unlink(missing_ok=True)
