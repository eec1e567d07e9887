"""One picture, one meaning: the encoded bytes of any format -> RGB pixels, the same wherever a picture is read.

Plain pictures, upright JPEG and PNG of 8-bit grey or colour, are what training sets hold by the million: OpenCV decodes
them, fastest (plain_images.py). All others are Pillow's: transparency, palettes, 16 bits, floats, CMYK, LAB, EXIF's
orientation, further formats. Which of the two it is depends on the bytes alone.
"""

import contextlib
import io
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageOps

from gif_jax.core.errors import UnreadableError
from gif_jax.data import plain_images

DECODING = 2  # raised whenever the same bytes give other pixels, so that nothing made of those of before is used

_SUFFIXES = {
  '.jpg',
  '.jpeg',
  '.jpe',
  '.jfif',
  '.mpo',
  '.png',
  '.apng',
  '.bmp',
  '.dib',
  '.gif',
  '.pbm',
  '.pgm',
  '.ppm',
  '.pnm',
  '.tif',
  '.tiff',
  '.webp',
  '.jp2',
  '.j2k',
  '.avif',
  '.heic',
  '.heif',
  '.hif',
}
# Pillow's other formats are no photographs, and some of them start other programs.
_FORMATS = ('JPEG', 'PNG', 'PPM', 'BMP', 'DIB', 'GIF', 'TIFF', 'WEBP', 'JPEG2000', 'AVIF')
_HIGH = 'grey 16-bit'
_KINDS = {
  '1': 'black and white',
  'L': plain_images.GREY,
  'LA': plain_images.GREY,
  'F': 'grey float',
  'P': 'palette',
  'PA': 'palette',
  'RGB': plain_images.COLOUR,
  'RGBA': plain_images.COLOUR,
  'YCbCr': plain_images.COLOUR,
}

_BYTES = 1 << 30  # of a file, at most: what is larger is no photograph, whatever it is called
_HEIC = (b'heic', b'heix', b'hevc', b'hevx', b'heim', b'heis', b'hevm', b'hevs', b'mif1', b'msf1')
_SIZ = b'\xff\x51'  # of JPEG 2000 (ITU T.800, A.5.1): the size, and from byte 40 on the depth of each component

warnings.filterwarnings('ignore', module='PIL')  # of files that are read nevertheless, or refused with a reason


class Picture(NamedTuple):
  """A decoded photograph: `pixels` uint8 [size, size, 3] RGB, and what the file held: its sides and kind of pixels."""

  pixels: np.ndarray
  width: int
  height: int
  kind: str


def is_image_name(name: str) -> bool:
  """Whether a file is meant to be an image, by its extension."""
  return Path(name).suffix.lower() in _SUFFIXES


def read_file(path: str | Path) -> bytes:
  """The bytes of a photograph. Raises UnreadableError for a file that cannot be read or is too large."""
  try:
    with Path(path).open('rb') as file:
      encoded = file.read(_BYTES + 1)
  except OSError as error:
    raise UnreadableError(error.strerror or str(error)) from error
  if len(encoded) > _BYTES:
    raise UnreadableError(f'more than {_BYTES} bytes; make it smaller')
  return encoded


def read_image(source: str | Path | bytes, size: int) -> Picture:
  """Decodes a file (its path or its bytes), turns it as its EXIF orientation says, brings it to [size, size, 3].

  The aspect ratio is kept: the longer side becomes `size`, and black bars fill up the square, so no face is cut. What
  is transparent becomes black, like the bars. Grey is repeated in three channels, 16-bit values are divided by 257.
  Of several pictures in a file the first is taken.

  Raises UnreadableError, with the reason, for whatever cannot be decoded in full.
  """
  encoded = source if isinstance(source, bytes) else read_file(source)
  header = plain_images.read_header(encoded)
  pixels = plain_images.decode(encoded, header, size) if header else None
  if header and pixels is not None:
    square = pixels if pixels.shape == (size, size, 3) else _to_square(Image.fromarray(pixels), size)
    return Picture(square, header.width, header.height, header.kind)
  with _opened(encoded) as image:
    (width, height), mode = image.size, image.mode
    image.draft(None, (2 * size, 2 * size))  # as in `plain_images.decode`
    pixels = _to_square(_to_rgb(ImageOps.exif_transpose(image)), size)
  return Picture(pixels, width, height, _kind(mode))


def read_full_size(source: str | Path | bytes) -> np.ndarray:
  """Decodes a file as `read_image` does, neither scaled nor padded: uint8 [height, width, 3] RGB.

  Raises UnreadableError, with the reason, for whatever cannot be decoded in full.
  """
  encoded = source if isinstance(source, bytes) else read_file(source)
  header = plain_images.read_header(encoded)
  pixels = plain_images.decode(encoded, header) if header else None
  if pixels is not None:
    return pixels
  with _opened(encoded) as image:
    return np.array(_to_rgb(ImageOps.exif_transpose(image)))


def read_sides(source: str | Path | bytes) -> tuple[int, int]:
  """(width, height) as the file's header has them. Raises UnreadableError where there is none."""
  encoded = source if isinstance(source, bytes) else read_file(source)
  if header := plain_images.read_header(encoded):
    return header.width, header.height
  with _opened(encoded) as image:
    return image.size


def is_plain(encoded: bytes, size: int) -> bool:
  """Whether these are the bytes of a complete, upright JPEG or PNG, 8-bit grey or colour, of size x size pixels."""
  try:
    header = plain_images.read_header(encoded)
    return header is not None and header[1:3] == (size, size) and plain_images.decode(encoded, header) is not None
  except UnreadableError:
    return False


@contextlib.contextmanager
def _opened(encoded):
  """The file as a Pillow image; whatever is wrong with it, also later in the block, becomes an UnreadableError."""
  try:
    with Image.open(io.BytesIO(encoded), formats=_formats(encoded)) as image:
      plain_images.check_sides(*image.size, image.format, encoded)
      _check_kind(image, encoded)
      yield image
  except UnreadableError:
    raise
  except Exception as error:  # Pillow's decoders raise almost anything for broken files
    raise UnreadableError(_reason(error, encoded)) from error


def _formats(encoded):
  """What Pillow may take the file for: any format of photographs, HEIC with the library for it."""
  if encoded[4:8] != b'ftyp' or encoded[8:12] not in _HEIC or b'avif' in encoded[12:64]:
    return _FORMATS
  try:
    from pillow_heif import register_heif_opener
  except ImportError as error:
    raise UnreadableError("HEIC, which needs pillow-heif: pip install -e '.[heic]', or save it as JPEG") from error
  register_heif_opener()
  return ('HEIF',)


def _check_kind(image, encoded):
  """Refuses pixels that Pillow would take for others, and mends what it does not tell."""
  if image.format == 'PNG' and image.mode == 'L' and encoded[24] < 8 and 'transparency' in image.info:
    image.info['transparency'] *= 255 // (2 ** encoded[24] - 1)  # grey of 2 or 4 bits is scaled, this is not
  bits = 8
  if image.format == 'JPEG2000' and (at := encoded.find(_SIZ)) > 0:
    bits = (encoded[at + 40] & 127) + 1
    if bits > 8 and not image.mode.startswith('I'):
      raise UnreadableError(f'JPEG 2000 in colour with {bits} bits; save it with 8')
  if image.format != 'TIFF':
    return
  tags = image.tag_v2
  bits, planes, white_is_0 = tags.get(258, (1,)), tags.get(284) == 2, tags.get(262) == 0
  deep = max(bits) > 8
  if deep and (planes or white_is_0 or max(bits) not in (16, 32)):
    what = 'in separate planes' if planes else 'of which white is 0' if white_is_0 else 'a value'
    raise UnreadableError(f'TIFF with {max(bits)} bits {what}; save it with 8, or as PNG')
  if max(tags.get(322, 0), tags.get(323, 0)) > plain_images.SIDE:
    raise UnreadableError(f'TIFF in tiles of {tags.get(322)}x{tags.get(323)} pixels; save it as PNG')


def _reason(error, encoded):
  if not encoded:
    return 'an empty file'
  # Pillow names an object in memory, of which whoever reports the reason says where it comes from.
  return re.sub(r'<_io\.BytesIO[^>]*>', '', str(error)).strip() or type(error).__name__


def _kind(mode):
  return _HIGH if mode.startswith('I') else _KINDS.get(mode, mode)


def _to_rgb(image):
  if image.mode.startswith('I') or image.mode == 'F':
    return Image.fromarray(_to_bytes(np.asarray(image), image.info.get('transparency'))).convert('RGB')
  if image.mode == 'LAB':  # which Pillow itself does not convert
    profiles = ImageCms.createProfile('LAB'), ImageCms.createProfile('sRGB')
    return ImageCms.profileToProfile(image, *profiles, outputMode='RGB')
  if not image.has_transparency_data:
    return image.convert('RGB')
  image = image.convert('RGBA')
  return Image.alpha_composite(Image.new('RGBA', image.size, 'black'), image).convert('RGB')


def _to_bytes(values, transparent):
  """Grey of more than 8 bits, which Pillow's own conversion would clip at 255: uint8 of the same shape.

  Integers are taken as 16-bit. The range of floats is the smallest of 0..1, 0..255 and 0..65535 that holds them.
  """
  if not np.isfinite(values).all() or values.min() < 0 or values.max() > 65535:
    raise UnreadableError(f'values from {values.min()} to {values.max()}, of no known range: save it with 8 or 16 bits')
  if values.dtype.kind == 'f':
    top = next(top for top in (1, 255, 65535) if values.max() <= top)
    return np.rint(values * np.float32(255 / top)).astype(np.uint8)
  scaled = np.rint(np.arange(65536) * (255 / 65535)).astype(np.uint8)
  if isinstance(transparent, int):  # PNG: the one value that is
    scaled[transparent] = 0
  return scaled[values]


def _to_square(image, size):
  """Scales the longer side to `size` and centres the picture on black: uint8 [size, size, 3]."""
  scale = size / max(image.size)
  sides = [max(1, round(side * scale)) for side in image.size]
  square = np.zeros((size, size, 3), np.uint8)
  left, top = ((size - side) // 2 for side in sides)
  scaled = np.asarray(image.resize(sides, Image.Resampling.BICUBIC))
  square[top : top + sides[1], left : left + sides[0]] = scaled
  return square
