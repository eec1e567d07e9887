"""Work in the making, on disk: what a run that was killed continues from. All of it is checked when it is read back."""

import contextlib
import json
import logging
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gif_jax.core.errors import DataError
from gif_jax.core.storage.arrays import as_bytes, load_array, load_arrays, new_array, save_array, save_arrays, seal
from gif_jax.core.storage.files import move_file, read_json, remove, replacing, write_json, writing

_LOG = logging.getLogger(__name__)

SECONDS = 60.0  # between two saves
_MADE_WITH = 'made_with.json'
_SHARE = 0.05  # of the time that saving may take: the sums of millions of people are gigabytes


class Progress:
  """How far something has come that is done in order, and the arrays that are needed to go on: FOLDER/NAME-PART.npz.

  folder: made where it is missing; None saves nothing and continues nothing. origin: {name: JSON value}, what is being
  done. What was saved of anything else is deleted, and the log says so. part: of the process, which has its own file.
  """

  def __init__(self, folder: Path | None, name: str, origin: dict, part: int = 0) -> None:
    self.folder, self.origin = folder, json.loads(json.dumps(origin))
    self.stem = f'{name}-{part}'
    self.next = 0.0  # the first part is saved at once: a full disk shows itself now and not after hours of work
    self.sums: list[list[Any]] = []  # [first row, row after the last, CRC-32 of these in each of the filled arrays]
    if folder:
      with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)

  @property
  def path(self) -> Path:
    """The file that says how far it has come."""
    if self.folder is None:
      raise ValueError('nothing is saved without a folder')
    return self.folder / f'{self.stem}.npz'

  def load(self, start: int) -> tuple[int, dict[str, np.ndarray]]:
    """How far it has come, and the arrays saved with it; `start` and none where there is nothing to continue."""
    if not self.folder or not self.path.exists():
      return start, {}
    try:
      arrays = load_arrays(self.path, fix='it is begun again')
      note = json.loads(str(arrays.pop('note')))
      origin, done, self.sums = note['origin'], note['done'], note['sums']
      problem = self._difference(origin) if sorted(arrays) == note['arrays'] else 'is damaged'
    except (DataError, KeyError, TypeError, ValueError) as error:
      problem = f'cannot be used ({str(error).rstrip(".")})'
    if problem:
      self.forget(problem)
      return start, {}
    _LOG.info('%s: continuing from %d', self.path, done)
    return done, arrays

  def forget(self, problem: str) -> None:
    """Deletes what was saved: it must not be taken later for a record of what is written from now on."""
    _LOG.warning('%s %s: starting again', self.path, problem)
    self.sums = []
    with writing(self.path):
      self.path.unlink(missing_ok=True)

  def _difference(self, origin):
    for key in sorted(self.origin.keys() | origin.keys()):
      if self.origin.get(key) != origin.get(key):
        return f'was saved with {key}={origin.get(key)!r}, this run has {self.origin.get(key)!r}'
    return None

  def due(self) -> bool:
    """Whether it is time to save."""
    return self.folder is not None and time.monotonic() >= self.next

  def save(
    self,
    done: int,
    arrays: Mapping[str, np.ndarray] | None = None,
    *,
    filled: Sequence[np.memmap] = (),
    rows: int | None = None,
  ) -> None:
    """Notes that all before `done` is dealt with, once the files `filled` are on the disk.

    arrays: what else is needed to go on. rows: how many rows of the filled arrays that is; all of them where it is not
    said. Raises DiskError.
    """
    if not self.folder:
      return
    began = time.monotonic()
    with writing(self.path):
      for array in filled:
        array.flush()
    if filled:
      self._sum_up(filled, len(filled[0]) if rows is None else rows)
    arrays = arrays or {}
    note = {'done': done, 'origin': self.origin, 'sums': self.sums, 'arrays': sorted(arrays)}
    save_arrays(self.path, {'note': np.array(json.dumps(note)), **arrays})
    now = time.monotonic()
    self.next = now + max(SECONDS, (now - began) / _SHARE)

  def _sum_up(self, filled, rows):
    start = self.sums[-1][1] if self.sums else 0
    if rows > start:
      self.sums.append([start, rows, [_crc(array[start:rows]) for array in filled]])

  def is_intact(self, filled: Sequence[np.ndarray]) -> bool:
    """Whether the rows that were noted as done are as they were written."""
    return all(
      len(sums) == len(filled) and sums == [_crc(array[start:stop]) for array in filled]
      for start, stop, sums in self.sums
    )

  def remove(self) -> None:
    """Deletes what was saved, once the work is done."""
    if self.folder:
      remove(self.path)


def _crc(rows: np.ndarray) -> int:
  return zlib.crc32(as_bytes(rows))


def open_rows(path: Path, shape: tuple[int, ...], dtype: Any, *, resume: bool) -> np.memmap:
  """A .npy of rows [n, ...] to fill in place, memory-mapped; with `resume` the one that is there, if it is such a one.

  The disk space is taken at once: see `arrays.reserve`. Raises DiskError.
  """
  if resume:
    with contextlib.suppress(DataError):
      load_array(path, dtype, shape)
      with writing(path):
        return np.lib.format.open_memmap(path, 'r+')
  with writing(path):
    with replacing(path, sync=False) as temporary:
      new_array(temporary, shape, dtype)
    return np.lib.format.open_memmap(path, 'r+')


def fill(
  path: Path,
  shape: tuple[int, ...],
  dtype: Any,
  blocks: Callable[[int], Iterable[np.ndarray]],
  origin: dict,
  noted: dict | None = None,
) -> None:
  """Makes the .npy `path`, its rows filled in order a block at a time; one that was killed, or stopped, goes on.

  Args:
    path: of the file, which has a checksum when it is there.
    shape: [n, ...], n above 0.
    dtype: of the values.
    blocks: start -> the rows from `start` on, in blocks.
    origin: {name: JSON value}, what the rows are; nothing of anything else is continued.
    noted: JSON values that `blocks` changes as it goes; they are saved with the rows, and found again by who goes on.

  Raises DiskError.
  """
  draft = path.with_name(f'.{path.name}.draft')
  progress = Progress(path.parent, draft.name, origin | {'shape': list(shape), 'dtype': np.dtype(dtype).str})
  done, saved = progress.load(0)
  rows = open_rows(draft, shape, dtype, resume=done > 0)
  if not progress.is_intact([rows]):
    progress.forget('was damaged')
    done, saved = 0, {}
  noted = {} if noted is None else noted
  noted |= json.loads(str(saved.get('noted', '{}')))

  state = done, json.dumps(noted)  # in one name, which no Ctrl-C can divide

  def save():
    progress.save(state[0], {'noted': np.array(state[1])}, filled=[rows], rows=state[0])

  try:
    for block in blocks(done):
      rows[done : done + len(block)] = block
      done += len(block)
      state = done, json.dumps(noted)
      if progress.due():
        save()
  except KeyboardInterrupt:
    save()
    raise
  if done != len(rows):
    raise ValueError(f'{done} rows were made of {path}, wanted {len(rows)}')
  with writing(path):
    rows.flush()
    seal(draft)
  move_file(draft, path)
  progress.remove()


def is_complete(path: Path, dtype: Any, shape: tuple[int, ...]) -> bool:
  """Whether the .npy that `fill` makes exists and is as it was written; a damaged one is removed, with a warning."""
  if not path.exists():
    return False
  try:
    load_array(path, dtype, shape, fix='it is made again')
  except DataError as error:
    _LOG.warning('%s', error)
    remove(path)
    return False
  return True


class Draft:
  """A folder of arrays, each the state of one stage after so many steps of it."""

  def __init__(self, path: Path, made_with: dict) -> None:
    """Opens the folder at `path`, or begins it anew where it was made with other settings than `made_with` (JSON)."""
    self.path = Path(path)
    note, wanted = self.path / _MADE_WITH, json.loads(json.dumps(made_with))
    if self.path.exists() and _noted(note) != wanted:
      _LOG.info('%s was begun with other settings or data: beginning again', self.path)
      self.remove()
    with writing(self.path):
      self.path.mkdir(parents=True, exist_ok=True)
    if not note.exists():
      write_json(note, wanted, checksum=True)

  @staticmethod
  def left_by(path: Path, made_with: dict) -> bool:
    """Whether the same work has a draft there. With the result there too, it was killed when all but this was done."""
    return _noted(path / _MADE_WITH) == json.loads(json.dumps(made_with))

  def save(self, name: str, step: int, array: np.ndarray) -> None:
    """Keeps `array` as the state of stage `name` after `step` steps, in place of an earlier one. Raises DiskError."""
    earlier = list(self._saved(name).values())
    path = self.path / f'{name}.{step}.npy'
    save_array(path, array)
    for old in earlier:
      if old != path:
        remove(old)

  def load(self, name: str) -> tuple[int, np.ndarray] | None:
    """The steps done and the memory-mapped state of stage `name`; None where it was not saved or is damaged."""
    for step, path in sorted(self._saved(name).items(), reverse=True):
      try:
        array = load_array(path, fix='it is made again')
      except DataError as error:
        _LOG.warning('%s', error)
        continue
      _LOG.info('%s: continuing after step %d of an earlier run', name, step)
      return step, array
    return None

  def _saved(self, name):
    paths = {path.name[len(name) + 1 : -len('.npy')]: path for path in self.path.glob(f'{name}.*.npy')}
    return {int(step): path for step, path in paths.items() if step.isdecimal()}

  def remove(self) -> None:
    """Deletes the folder, once the work is done."""
    remove(self.path)


def _noted(path):
  try:
    return read_json(path, DataError, 'it is made again')
  except DataError:
    return None
