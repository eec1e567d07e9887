"""One photograph: any common format -> RGB pixels of one size; and what makes a file unreadable."""

import contextlib
import io
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from gif_jax.core.errors import UnreadableError

# HEIC is not read by Pillow, but a user who puts such photographs into a folder must hear of it.
_SUFFIXES = {
  '.jpg', '.jpeg', '.jpe', '.jfif', '.mpo', '.png', '.apng', '.bmp', '.dib', '.gif', '.pbm', '.pgm', '.ppm', '.pnm',
  '.tif', '.tiff', '.webp', '.jp2', '.j2k', '.avif', '.heic', '.heif',
}  # fmt: skip
# Pillow's other formats are no photographs, and some of them start other programs.
_FORMATS = ('JPEG', 'PNG', 'PPM', 'BMP', 'DIB', 'GIF', 'TIFF', 'WEBP', 'JPEG2000', 'AVIF')
_KINDS = {
  '1': 'black and white', 'L': 'grey 8-bit', 'LA': 'grey 8-bit', 'F': 'grey float', 'P': 'palette', 'PA': 'palette',
  'RGB': 'colour 8-bit', 'RGBA': 'colour 8-bit', 'YCbCr': 'colour 8-bit',
}  # fmt: skip


class Picture(NamedTuple):
  """A decoded photograph: `pixels` uint8 [size, size, 3] RGB, and what the file held: its sides and kind of pixels."""

  pixels: np.ndarray
  width: int
  height: int
  kind: str


def is_image_name(name: str) -> bool:
  """Whether a file is meant to be an image, by its extension."""
  return Path(name).suffix.lower() in _SUFFIXES


def open_image(source: str | Path | bytes) -> Image.Image:
  """What Pillow makes of the file at a path, or of its bytes, before pixels are decoded; any format of photographs."""
  return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS)


def read_image(source: str | Path | bytes, size: int) -> Picture:
  """Decodes one file (its path or its bytes), turns it as its EXIF orientation says, brings it to [size, size, 3].

  The aspect ratio is kept: the longer side becomes `size`, and black bars fill up the square, so no face is cut. What
  is transparent becomes black, like the bars. Grey is repeated in three channels, 16-bit values are divided by 257.

  Raises UnreadableError, with the reason, for whatever Pillow cannot decode whole.
  """
  with _opened(source) as image:
    width, height, mode = *image.size, image.mode
    # JPEG decodes large photographs several times faster at a half, quarter or eighth of their size.
    image.draft(None, (2 * size, 2 * size))
    pixels = _to_square(_to_rgb(ImageOps.exif_transpose(image)), size)
  return Picture(pixels, width, height, _kind(mode))


def read_whole(path: str | Path) -> np.ndarray:
  """Decodes one file as `read_image` does, but neither scales nor pads it: uint8 [height, width, 3] RGB.

  Raises UnreadableError, with the reason, for whatever Pillow cannot decode whole.
  """
  with _opened(path) as image:
    return np.array(_to_rgb(ImageOps.exif_transpose(image)))


@contextlib.contextmanager
def _opened(source):
  """The file as a Pillow image; whatever is wrong with it, also later in the block, becomes an UnreadableError."""
  try:
    with open_image(source) as image:
      width, height = image.size
      if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
        raise UnreadableError(f'{width}x{height} is more than {Image.MAX_IMAGE_PIXELS} pixels')
      yield image
  except UnreadableError:
    raise
  except Exception as error:  # Pillow's decoders raise almost anything for broken files
    raise UnreadableError(_reason(error, source)) from error


def _reason(error, source):
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  # Pillow names the whole path, which whoever reports the reason says already, or an object in memory.
  what = r'<_io\.BytesIO.*?>' if isinstance(source, bytes) else re.escape(repr(str(source)))
  return re.sub(what, '', str(error)).strip() or type(error).__name__


def _kind(mode):
  return 'grey 16-bit' if mode.startswith('I') else _KINDS.get(mode, mode)


def _to_rgb(image):
  if image.mode.startswith('I') or image.mode == 'F':
    return Image.fromarray(_to_bytes(np.asarray(image))).convert('RGB')
  if not image.has_transparency_data:
    return image.convert('RGB')
  image = image.convert('RGBA')
  return Image.alpha_composite(Image.new('RGBA', image.size, 'black'), image).convert('RGB')


def _to_bytes(values):
  """Grey of more than 8 bits, which Pillow's own conversion would clip at 255: uint8 of the same shape.

  Integers are taken as 16-bit. The range of floats is the smallest of 0..1, 0..255 and 0..65535 that holds them.
  """
  if not np.isfinite(values).all() or values.min() < 0 or values.max() > 65535:
    raise UnreadableError(f'values from {values.min()} to {values.max()}, of no known range: save it with 8 or 16 bits')
  top = 65535
  if values.dtype.kind == 'f':
    top = next(top for top in (1, 255, 65535) if values.max() <= top)
  return np.rint(values * (255 / top)).astype(np.uint8)


def _to_square(image, size):
  """Scales the longer side to `size` and centres the picture on black: uint8 [size, size, 3]."""
  scale = size / max(image.size)
  sides = [max(1, round(side * scale)) for side in image.size]
  square = np.zeros((size, size, 3), np.uint8)
  left, top = ((size - side) // 2 for side in sides)
  scaled = np.asarray(image.resize(sides, Image.Resampling.BICUBIC))
  square[top : top + sides[1], left : left + sides[0]] = scaled
  return square
