"""Whether red and blue are swapped in face crops: what OpenCV (BGR) wrote and another library (RGB) read."""

from typing import Any

import numpy as np

from gif_jax.core.errors import DataError

_LOOKED_AT = 256  # images, spread over the set
_LEAST = 20  # of them in colour: fewer say nothing
_MOST = 0.6  # of them, that is, may have skin with more blue than red


def swapped(red: np.ndarray, blue: np.ndarray) -> bool:
  """Whether the channels probably are, by their means where the skin is, [k] each, of coloured pictures alone.

  Skin reflects more red than blue under any usual light.
  """
  return bool(len(red) >= _LEAST and blue.mean() > red.mean() and (blue > red).mean() > _MOST)


def check_colour(images: Any, name: str, cure: str) -> None:
  """Looks at pictures of a set, and stops where red and blue are `swapped`.

  Args:
    images: n crops; images[int array] gives uint8 [k, size, size, 3] RGB. Grey ones say nothing.
    name: of the set, for the message.
    cure: how to go on where the colours are right after all, for the message.

  Raises:
    DataError: red and blue are probably swapped.
  """
  rows = np.unique(np.linspace(0, len(images) - 1, _LOOKED_AT).astype(np.int64))
  crops = images[rows]
  third = crops.shape[1] // 3
  red, blue = (crops[:, third:-third, third:-third, c].mean((1, 2)) for c in (0, 2))
  coloured = np.abs(crops[..., 0].astype(np.int16) - crops[..., 2]).mean((1, 2)) > 1  # a grey JPEG is not quite grey
  red, blue = red[coloured], blue[coloured]
  if swapped(red, blue):
    raise DataError(
      f'{name}: the middle of faces is more blue ({blue.mean():.0f}) than red ({red.mean():.0f}): red and blue are '
      f'probably swapped, as where OpenCV (BGR) wrote what is read as RGB. Write the images again in RGB. {cure}'
    )
