"""How far an extraction has come, on disk: what a killed run continues from."""

import contextlib
import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

_LOG = logging.getLogger(__name__)

SECONDS = 60.0  # between two saves
_SHARE = 0.05  # of the time that saving may take: the sums of millions of people are gigabytes


class ExtractError(ValueError):
  """Features that nothing can be made of, or a folder that cannot be worked in; the message says which and the cure."""


class Progress:
  """Images done and the arrays that are needed to go on, in FOLDER/NAME-<process>.npz.

  folder: made where it is missing; None saves nothing and continues nothing. origin: {name: JSON value}, what is being
  extracted. What was saved of anything else is deleted, and the log says so. Every process has its own file.
  """

  def __init__(self, folder: Path | None, name: str, origin: dict):
    self.folder, self.origin = folder, origin
    self.stem = f'{name}-{jax.process_index()}'
    self.next = 0.0  # the first batch is saved at once: a full disk shows itself now and not after hours of work
    if folder:
      with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)

  def load(self, start: int) -> tuple[int, dict[str, np.ndarray]]:
    """The image to go on with and the arrays saved with it; `start` and none where there is nothing to continue."""
    path = self.folder and self.folder / f'{self.stem}.npz'
    if not path or not path.exists():
      return start, {}
    try:
      with path.open('rb') as file, np.load(file) as saved:
        arrays = dict(saved)
      origin, done = json.loads(str(arrays.pop('origin'))), int(arrays.pop('done'))
      reason = self._difference(origin)
    except Exception as error:  # zip, zlib, json and numpy each have their own
      reason = f'cannot be read ({error})'
    if reason:
      _LOG.warning('%s %s: starting again', path, reason)
      with writing(path):
        path.unlink()  # it must not be taken later for a record of what is written beside it from now on
      return start, {}
    _LOG.info('%s: continuing from image %d', path, done)
    return done, arrays

  def _difference(self, origin):
    for key in sorted(self.origin.keys() | origin.keys()):
      if self.origin.get(key) != origin.get(key):
        return f'was saved with {key}={origin.get(key)!r}, this run has {self.origin.get(key)!r}'
    return None

  def due(self) -> bool:
    """Whether it is time to save."""
    return self.folder is not None and time.monotonic() >= self.next

  def save(self, done: int, *, filled: Sequence[np.memmap] = (), **arrays: np.ndarray) -> None:
    """Notes that the images before `done` are dealt with, once the files `filled` are on the disk.

    Raises ExtractError where the disk is full or refuses.
    """
    if not self.folder:
      return
    began = time.monotonic()
    path = self.folder / f'{self.stem}.npz'
    partial = self.folder / f'{self.stem}.partial'
    with writing(path, partial):
      for rows in filled:
        rows.flush()
      with partial.open('wb') as file:
        np.savez(file, done=done, origin=json.dumps(self.origin), **arrays)
        file.flush()
        os.fsync(file.fileno())
      os.replace(partial, path)
    now = time.monotonic()
    self.next = now + max(SECONDS, (now - began) / _SHARE)


@contextlib.contextmanager
def writing(path: Path, partial: Path | None = None):
  """Raises ExtractError, naming `path`, where the disk refuses; `partial` is then removed, to leave room."""
  try:
    yield
  except OSError as error:
    if partial:
      with contextlib.suppress(OSError):
        partial.unlink()
    raise ExtractError(
      f'{path} cannot be written ({error.strerror}): make room or correct the permissions, and give the same command '
      'again; it continues from the last save. Or write to another place.'
    ) from error


def open_rows(path: Path, shape: tuple[int, ...], dtype, *, resume: bool) -> np.memmap:
  """A .npy of rows [n, ...] to fill in place, memory-mapped; with `resume` the one that is there.

  The disk space is taken at once: a full disk would otherwise kill the process in the middle, with no message.
  """
  if not resume:
    partial = path.with_suffix('.partial')
    with writing(path, partial):
      rows = np.lib.format.open_memmap(partial, 'w+', dtype, shape)
      if hasattr(os, 'posix_fallocate'):  # macOS has none
        with partial.open('r+b') as file:
          os.posix_fallocate(file.fileno(), 0, rows.offset + rows.nbytes)
      os.replace(partial, path)
  try:
    rows = np.lib.format.open_memmap(path, 'r+')
  except (OSError, ValueError) as error:
    raise ExtractError(f'{path} cannot be continued ({error}): delete {path.parent} and start again.') from error
  if rows.shape != shape or rows.dtype != dtype:
    raise ExtractError(
      f'{path} holds {rows.dtype} {rows.shape}, this network gives {np.dtype(dtype)} {shape}: delete {path.parent} '
      'and start again.'
    )
  return rows
