"""Encoded records as face crops: batches decoded straight to RGB."""

from typing import Any, Protocol

import numpy as np

from gif_jax.core.errors import DataError, UnreadableError
from gif_jax.data.formats.records import EncodedImages
from gif_jax.data.images import read_image


class Column(Protocol):
  """n integers: an array, or anything that int arrays and slices index like one."""

  def __len__(self) -> int: ...

  def __getitem__(self, index: Any, /) -> np.ndarray: ...


class Crops:
  """Images of `records` as face crops: crop i is record rows[i], with the label label[i].

  Indexed with integers or a slice: uint8 [n, size, size, 3].
  """

  def __init__(self, records: EncodedImages, size: int, rows: Column, label: Column) -> None:
    self.records, self.size, self.rows, self.label = records, size, rows, label

  def __len__(self) -> int:
    return len(self.rows)

  def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
    rows = self.rows[index]
    images = np.empty((len(rows), self.size, self.size, 3), np.uint8)
    for image, row in zip(images, rows.tolist()):
      try:
        image[:] = read_image(self.records[row], self.size).pixels
      except UnreadableError as error:
        raise DataError(
          f'{self.records.where(row)} cannot be decoded: {error}; copy the data again, or leave such images out with '
          'python -m gif_jax convert.'
        ) from error
    return images

  def encoded(self, index: int) -> bytes:
    """Crop `index` as it is stored."""
    return self.records[int(self.rows[index])]

  def name(self, index: int) -> str:
    """What people know it by: its file, or its number among the records."""
    row = int(self.rows[index])
    return self.records.name(row) or f'image {row}'

  def labels(self, index: slice | np.ndarray = slice(None)) -> np.ndarray:
    """Labels of the crops asked for: int64."""
    return self.label[index]
