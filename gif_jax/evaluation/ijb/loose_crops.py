"""Loosely cropped faces with five points each, aligned when they are asked for."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from gif_jax.core.errors import DataError
from gif_jax.data.alignment.geometry import faults, similarity, template
from gif_jax.data.images import read_full_size
from gif_jax.evaluation.image_files import ImageFiles


class LooseCrops(ImageFiles):
  """n aligned crops: [rows] gives uint8 [k, size, size, 3] RGB; holds a name and five points for each image."""

  def __init__(self, folder: Path, names: Sequence[str], points: np.ndarray, size: int, where: Callable[[int], str]):
    """names: n paths below `folder`; points: float64 [n, 5, 2] that `geometry.faults` has nothing against;
    where: the file and line of row i.
    """
    super().__init__(folder, names, size)
    self._points, self._where = points.copy(), where

  def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
    rows = np.arange(len(self))[index]
    crops = np.empty((len(rows), self.size, self.size, 3), np.uint8)
    sizes = np.empty((len(rows), 2), np.int64)
    matrices = similarity(self._points[rows], template(self.size))
    for crop, row, size, matrix in zip(crops, rows.tolist(), sizes, matrices):
      image = self._read(row, read_full_size)
      size[:] = image.shape[1::-1]
      # Not `geometry.warp`: that shrinks large faces first, so that no pixel of them is left out. The field does not
      # when it measures on IJB, and metrics are comparable only on the same pixels.
      crop[:] = cv2.warpAffine(image, matrix, (self.size, self.size), flags=cv2.INTER_LINEAR)
    self._check(rows, *sizes.T)
    return crops

  def _check(self, rows, width, height):
    for what, bad in faults(self._points[rows], width, height).items():
      if bad.any():
        i = int(bad.argmax())
        raise DataError(
          f'{self._where(rows[i])}: {what} {self.folder / self.names[rows[i]]}, which has {width[i]}x{height[i]} '
          'pixels; copy the lists and the images again, all of one release.'
        )

  def stamps(self) -> bytes:
    """Changes when one of the files does: their sizes and times. About 3 us for each on a local disk."""
    stats = (os.stat(self.folder / name) for name in self.names)
    return np.array([(status.st_size, status.st_mtime_ns) for status in stats], np.int64).tobytes()
