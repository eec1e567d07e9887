"""What is kept of a table in the making, so that a run that is killed continues where it was."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np

_LOG = logging.getLogger(__name__)


class Draft:
  """A folder of arrays, each the state of one stage after so many steps of it."""

  def __init__(self, path: Path, made_with: dict):
    """Opens the folder at `path`, or begins it anew where it was made with other settings than `made_with` (JSON)."""
    self.path = Path(path)
    note, text = self.path / 'made_with.json', json.dumps(made_with, sort_keys=True, indent=2)
    if self.path.exists() and (not note.exists() or note.read_text() != text):
      _LOG.info('%s was begun with other settings or data: beginning again', self.path)
      self.remove()
    self.path.mkdir(parents=True, exist_ok=True)
    note.write_text(text)

  def save(self, name: str, step: int, array: np.ndarray) -> None:
    """Keeps `array` as the state of stage `name` after `step` steps, in place of an earlier one."""
    partial = self.path / f'{name}.partial'
    with partial.open('wb') as stream:
      np.save(stream, array)
    earlier = list(self.path.glob(f'{name}.*.npy'))
    partial.rename(self.path / f'{name}.{step}.npy')
    for path in earlier:
      if path.name != f'{name}.{step}.npy':
        path.unlink()

  def load(self, name: str) -> tuple[int, np.ndarray] | None:
    """The steps done and the memory-mapped state of stage `name`; None where it was not saved or cannot be read."""
    saved = {int(path.suffixes[-2][1:]): path for path in self.path.glob(f'{name}.*.npy')}
    if not saved:
      return None
    step = max(saved)
    try:
      array = np.load(saved[step], mmap_mode='r', allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:  # a machine that went down may leave half a file
      _LOG.warning('%s cannot be read (%s): beginning again', saved[step], error)
      return None
    _LOG.info('%s: continuing after step %d of an earlier run', name, step)
    return step, array

  def remove(self) -> None:
    """Deletes the folder, once the table is written."""
    shutil.rmtree(self.path)
