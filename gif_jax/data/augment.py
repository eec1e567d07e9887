"""Augmentation: what a camera, a detector and chance do to a face crop, drawn for each image from (seed, position).

Every kind has a probability, the config's `augment` section. Draws for all of a batch are made at once; pixels are
touched, in place, only in the images that drew a kind. Kinds follow each other as in a camera: light, lens, resolution,
compression; then what hides a face, and what a detector cut off.

crop, low_resolution and photometric are AdaFace's (Kim et al., CVPR 2022), erase is that of Zhong et al. (AAAI 2020),
with their ranges; but a box too large is clipped to the image where theirs is drawn again, and the order is ours.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from gif_jax.core import counter_rng

_GREY = np.array([0.299, 0.587, 0.114])  # Rec. 601, what JPEG and OpenCV call the grey of RGB
_INTERPOLATIONS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
_DRAWS = 5  # uniform numbers a kind may use


class Chances(NamedTuple):
  """Probability of each kind, 0..1; 0 = off. The fields are the keys of the config's `augment` section."""

  flip: float = 0.0
  photometric: float = 0.0
  grey: float = 0.0
  blur: float = 0.0
  low_resolution: float = 0.0
  jpeg: float = 0.0
  erase: float = 0.0
  crop: float = 0.0


PLAIN = Chances()


def augment(images: np.ndarray, seed: int, position: np.ndarray, chances: Chances) -> None:
  """Changes `images`, uint8 [b, size, size, 3] RGB, in place; `position` int64 [b] counts images since the first step.

  What an image becomes is a function of (its pixels, seed, its position) alone, whatever else is in the batch.
  """
  kinds = (
    (chances.flip, flip),
    (chances.photometric, photometric),
    (chances.grey, grey),
    (chances.blur, blur),
    (chances.low_resolution, low_resolution),
    (chances.jpeg, jpeg),
    (chances.erase, erase),
    (chances.crop, crop),
  )
  for stream, (chance, change) in enumerate(kinds):
    if chance:
      drawn = np.flatnonzero(counter_rng.uniform(seed, stream, position, 0) < chance)
      draws = counter_rng.uniform(seed, stream, position[drawn, None], np.arange(1, 1 + _DRAWS))
      for row, u in zip(drawn.tolist(), draws.tolist()):
        change(images[row], u)


# Each changes one image, uint8 [size, size, 3] RGB, in place; u: `_DRAWS` uniform numbers in [0, 1).


def flip(image: np.ndarray, u: Sequence[float]) -> None:
  """The mirror image."""
  del u
  image[:] = cv2.flip(image, 1)  # flipping in place takes OpenCV longer


def photometric(image: np.ndarray, u: Sequence[float]) -> None:
  """Brightness, then contrast about the mean grey, then saturation, each times .5 to 1.5, as one map of colours."""
  brightness, contrast, saturation = (0.5 + x for x in u[:3])
  mean = brightness * float(_GREY @ cv2.mean(image)[:3])
  desaturate = saturation * np.eye(3) + (1 - saturation) * _GREY
  matrix = np.column_stack((brightness * contrast * desaturate, np.full(3, (1 - contrast) * mean)))
  cv2.transform(image, matrix, dst=image)


def grey(image: np.ndarray, u: Sequence[float]) -> None:
  """Grey, repeated in three channels."""
  del u
  cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB, dst=image)


def blur(image: np.ndarray, u: Sequence[float]) -> None:
  """A Gaussian of .4 to 2 % of the side: .45 to 2.2 pixels at 112."""
  cv2.GaussianBlur(image, (0, 0), (0.004 + 0.016 * u[0]) * len(image), dst=image)


def low_resolution(image: np.ndarray, u: Sequence[float]) -> None:
  """Shrunk to .2 to 1 of the side and enlarged again, each with an interpolation of its own."""
  side = max(1, int((0.2 + 0.8 * u[0]) * len(image)))
  down, up = (_INTERPOLATIONS[int(x * len(_INTERPOLATIONS))] for x in u[1:3])
  small = cv2.resize(image, (side, side), interpolation=down)
  cv2.resize(small, image.shape[1::-1], dst=image, interpolation=up)


def jpeg(image: np.ndarray, u: Sequence[float]) -> None:
  """Encoded with quality 10 to 60 and decoded."""
  quality = 10 + int(51 * u[0])
  encoded = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
  image[:] = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)


def erase(image: np.ndarray, u: Sequence[float]) -> None:
  """A box of 2 to 40 % of the area, sides 1 : .3 to 1 : 3.3, filled with random pixels."""
  rows, columns = _box(len(image), 0.02 + 0.38 * u[0], 0.3 * (1 / 0.09) ** u[1], *u[2:4])
  hole = image[rows, columns]
  words = -(-hole.size // 8)
  noise = counter_rng.bits(int(u[4] * 2**24), np.arange(words)).view(np.uint8)
  hole[:] = noise[: hole.size].reshape(hole.shape)


def crop(image: np.ndarray, u: Sequence[float]) -> None:
  """All but a box of 20 to 100 % of the area, sides 3 : 4 to 4 : 3, is black; nothing moves."""
  rows, columns = _box(len(image), 0.2 + 0.8 * u[0], 0.75 * (16 / 9) ** u[1], *u[2:4])
  image[: rows.start] = image[rows.stop :] = 0
  image[rows, : columns.start] = image[rows, columns.stop :] = 0


def _box(size, area, aspect, down, right):
  """Rows and columns, as slices, of a box: area as a share of the image's, width / height, place by two draws."""
  height, width = (min(size, max(1, round(size * side**0.5))) for side in (area / aspect, area * aspect))
  top, left = int(down * (size - height + 1)), int(right * (size - width + 1))
  return slice(top, top + height), slice(left, left + width)
