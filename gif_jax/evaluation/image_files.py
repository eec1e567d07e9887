"""Image files as benchmarks that are folders have them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from gif_jax.core.errors import DataError, UnreadableError
from gif_jax.data.images import read_file

T = TypeVar('T')


class ImageFiles:
  """n files below a folder; safe to read from several threads. A room says how a file becomes a crop."""

  def __init__(self, folder: Path, names: Sequence[str], size: int):
    """names: paths below the folder; size: pixels a side of the crops."""
    self.folder, self.names, self.size = folder, names, size

  def __len__(self) -> int:
    return len(self.names)

  def encoded(self, index: int) -> bytes:
    """The file of an image."""
    return self._read(index, read_file)

  def name(self, index: int) -> str:
    """The path of an image below the folder."""
    return self.names[index]

  def _read(self, index: int, read: Callable[[Path], T]) -> T:
    path = self.folder / self.names[index]
    try:
      return read(path)
    except UnreadableError as error:
      raise DataError(f'{path}: {error}; copy it again: without it no metric would be comparable.') from error
