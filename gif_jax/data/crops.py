"""Encoded records as face crops: batches decoded straight to RGB."""

import cv2
import numpy as np

from gif_jax.core.errors import DataError, UnreadableError
from gif_jax.data.records import Records


def decode(encoded: bytes, size: int) -> np.ndarray:
  """One encoded image as RGB: uint8 [size, size, 3]; another size is fitted, centred on black, its sides in proportion.

  Raises UnreadableError for what OpenCV cannot decode whole.
  """
  image = decode_whole(encoded)
  return image if image.shape == (size, size, 3) else _fit(image, size)


def decode_whole(encoded: bytes) -> np.ndarray:
  """One encoded image as RGB, as large as it is: uint8 [height, width, 3]. Raises UnreadableError as `decode` does."""
  try:
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
  except cv2.error as error:
    raise UnreadableError(f'cannot be decoded: {error.err or error}') from error
  if image is None:
    raise UnreadableError('cannot be decoded: not an image, or cut off')
  return image


def _fit(image, size):
  scale = size / max(image.shape[:2])
  height, width = (max(1, round(side * scale)) for side in image.shape[:2])
  square = np.zeros((size, size, 3), np.uint8)
  top, left = (size - height) // 2, (size - width) // 2
  square[top : top + height, left : left + width] = cv2.resize(
    image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
  )
  return square


class Crops:
  """Images of `records` as face crops: crop i is record rows[i], with the label label[i].

  rows and label are arrays, or anything of a length that int arrays and slices index like them.
  Indexed with integers or a slice: uint8 [n, size, size, 3].
  """

  def __init__(self, records: Records, size: int, rows, label):
    self.records, self.size, self.rows, self.label = records, size, rows, label

  def __len__(self):
    return len(self.rows)

  def __getitem__(self, index):
    rows = self.rows[index]
    images = np.empty((len(rows), self.size, self.size, 3), np.uint8)
    for image, row in zip(images, rows.tolist()):
      try:
        image[:] = decode(self.records[row], self.size)
      except UnreadableError as error:
        raise DataError(
          f'{self.records.where(row)} {error}; copy the data again, or leave such images out with gif_jax.convert.'
        ) from error
    return images

  def encoded(self, index: int) -> bytes:
    """Crop `index` as it is stored."""
    return self.records[int(self.rows[index])]

  def name(self, index: int) -> str:
    """What people know it by: its file, or its number among the records."""
    row = int(self.rows[index])
    return self.records.name(row) or f'image {row}'

  def labels(self, index=slice(None)) -> np.ndarray:
    """Labels of the crops asked for: int64."""
    return self.label[index]
