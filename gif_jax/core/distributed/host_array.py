"""An array whose rows lie on the hosts: every process has a run of neighbours, in memory or in a file it maps."""

import contextlib
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from gif_jax.core.storage.arrays import new_array
from gif_jax.core.storage.files import remove, writing


def bounds(m: int) -> list[int]:
  """Where rows 0..m-1 are cut for the processes: process i has those from bounds[i] on and before bounds[i + 1]."""
  return [m * i // jax.process_count() for i in range(jax.process_count() + 1)]


def _share(m: int) -> int:
  """How many of them are of this process."""
  start, stop = bounds(m)[jax.process_index() :][:2]
  return stop - start


class HostArray:
  """Rows [m, w]; a leaf in trees of arrays, as a jax.Array is.

  Attributes:
    own: [n, w], the rows of this process, from `start` on.
    touched: bool [n], which of them were written to since `settle`.
    refilled: whether all were, in all processes.
  """

  ndim = 2

  def __init__(self, own: np.ndarray, m: int, path: Path | None = None):
    """own: of a file to be removed by `remove` if there is a path."""
    self.own, self.m, self.path, self.start = own, m, path, bounds(m)[jax.process_index()]
    self.touched, self.refilled = np.zeros(len(own), bool), True

  @classmethod
  def in_memory(cls, m: int, width: int, dtype: Any) -> Self:
    """Zeros, with memory for this process's share."""
    return cls(np.zeros((_share(m), width), dtype), m)

  @classmethod
  def on_disk(cls, folder: Path, name: str, m: int, width: int, dtype: Any) -> Self:
    """Zeros in a new file of `folder`, whose disk space is taken at once. Raises DiskError where there is none."""
    n, path = _share(m), folder / f'{name}-{jax.process_index()}.npy'
    with writing(path):
      folder.mkdir(parents=True, exist_ok=True)
      path.unlink(missing_ok=True)  # of a run that was killed
      rows = cls(new_array(path, (n, width), dtype) if n else np.zeros((0, width), dtype), m, path)
    rows._advise('MADV_RANDOM')  # else a row that is not in memory brings a megabyte of its neighbours along
    return rows

  def remove(self) -> None:
    """Removes the file, and its folder once that is empty."""
    if self.path:
      remove(self.path)
      with contextlib.suppress(OSError):
        self.path.parent.rmdir()

  @property
  def shape(self) -> tuple[int, int]:
    """(m, w)."""
    return self.m, self.own.shape[1]

  @property
  def dtype(self) -> np.dtype:
    """Of the rows."""
    return self.own.dtype

  @property
  def nbytes(self) -> int:
    """Of all m rows."""
    return self.m * self.own.shape[1] * self.dtype.itemsize

  def own_place(self, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """label int [k] -> (which of them are rows of this process: int64 [h], where in `own`: int64 [h])."""
    place = label.astype(np.int64) - self.start
    here = np.flatnonzero((place >= 0) & (place < len(self.own)))
    return here, place[here]

  def write(self, label: np.ndarray, rows: np.ndarray) -> None:
    """Puts `rows` [k, w] into the places `label` int [k], distinct, as far as they are this process's."""
    here, place = self.own_place(label)
    self.own[place] = rows[here]
    self.touched[place] = True

  def fill(self, rows: np.ndarray, start: int) -> None:
    """Puts in rows from `start` on, the same in all processes; what is not of this process is left out."""
    self.refilled = True
    first, last = max(start, self.start), min(start + len(rows), self.start + len(self.own))
    if first < last:
      self.own[first - self.start : last - self.start] = rows[first - start : last - start]

  def settle(self) -> None:
    """Begins to note anew which rows are written to."""
    self.touched[:], self.refilled = False, False

  @contextlib.contextmanager
  def in_order(self) -> Iterator[np.ndarray]:
    """`own`, while all of it is read from front to back."""
    self._advise('MADV_NORMAL')
    try:
      yield self.own
    finally:
      self._advise('MADV_RANDOM')

  def _advise(self, how: str) -> None:
    mapped = getattr(self.own, '_mmap', None)
    if mapped is not None and hasattr(mmap, how):
      mapped.madvise(getattr(mmap, how))

  def expect(self, label: np.ndarray) -> None:
    """Has the system bring rows that will be read soon from the disk, without waiting for them."""
    mapped = getattr(self.own, '_mmap', None)
    if mapped is None or not hasattr(mmap, 'MADV_WILLNEED'):
      return
    width = self.own.shape[1] * self.dtype.itemsize
    offset = getattr(self.own, 'offset', 0)
    first = offset % mmap.ALLOCATIONGRANULARITY + self.own_place(label)[1] * width  # NumPy maps from whole pages on
    for page, last in {(byte // mmap.PAGESIZE, (byte + width - 1) // mmap.PAGESIZE) for byte in first.tolist()}:
      mapped.madvise(mmap.MADV_WILLNEED, page * mmap.PAGESIZE, (last - page + 1) * mmap.PAGESIZE)
