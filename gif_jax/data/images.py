"""One picture, one meaning: the encoded bytes of any format -> RGB pixels, the same wherever a picture is read.

Plain pictures, upright JPEG and PNG of 8-bit grey or colour, are what training sets hold by the million: OpenCV decodes
them, fastest. All others are Pillow's: transparency, palettes, 16 bits, floats, CMYK, LAB, EXIF's orientation, further
formats. Which of the two it is depends on the bytes alone.
"""

import contextlib
import io
import re
import warnings
import zlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageCms, ImageOps

from gif_jax.core.errors import UnreadableError

DECODING = 2  # raised whenever the same bytes give other pixels, so that nothing made of those of before is used

_SUFFIXES = {
  '.jpg', '.jpeg', '.jpe', '.jfif', '.mpo', '.png', '.apng', '.bmp', '.dib', '.gif', '.pbm', '.pgm', '.ppm', '.pnm',
  '.tif', '.tiff', '.webp', '.jp2', '.j2k', '.avif', '.heic', '.heif', '.hif',
}  # fmt: skip
# Pillow's other formats are no photographs, and some of them start other programs.
_FORMATS = ('JPEG', 'PNG', 'PPM', 'BMP', 'DIB', 'GIF', 'TIFF', 'WEBP', 'JPEG2000', 'AVIF')
_GREY, _COLOUR, _HIGH = 'grey 8-bit', 'colour 8-bit', 'grey 16-bit'
_KINDS = {
  '1': 'black and white', 'L': _GREY, 'LA': _GREY, 'F': 'grey float', 'P': 'palette', 'PA': 'palette',
  'RGB': _COLOUR, 'RGBA': _COLOUR, 'YCbCr': _COLOUR,
}  # fmt: skip

_BYTES = 1 << 30  # of a file, at most: what is larger is no photograph, whatever it is called
_SIDE = 1 << 14  # pixels, at most: more than any camera has in as many pixels as Pillow decodes without a warning
# Pixels that a byte of a large file stands for, at most: deflate gives 1032 bytes for one, of 8 black or white pixels
# each. JPEG has fewer; what has more, in lossless WebP and JPEG 2000, is of one colour all over.
_PER_BYTE, _LARGE = 8 * 1032, 1 << 22
_HEIC = (b'heic', b'heix', b'hevc', b'hevx', b'heim', b'heis', b'hevm', b'hevs', b'mif1', b'msf1')

_JPEG, _PNG = b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n'
_ORIENTATION = 0x0112  # EXIF 2.3, tag 274: 1 is upright
_TURNED = range(2, 9)
_NOT_PLAIN = {b'tRNS', b'eXIf', b'acTL', b'tEXt', b'zTXt', b'iTXt'}  # of PNG: transparent, perhaps turned, animated
_PLAIN = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION

warnings.filterwarnings('ignore', module='PIL')  # of files that are read nevertheless, or refused with a reason


class Picture(NamedTuple):
  """A decoded photograph: `pixels` uint8 [size, size, 3] RGB, and what the file held: its sides and kind of pixels."""

  pixels: np.ndarray
  width: int
  height: int
  kind: str


class _Header(NamedTuple):
  """What a plain picture says of itself."""

  format: str
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

  Raises UnreadableError, with the reason, for whatever cannot be decoded whole.
  """
  encoded = source if isinstance(source, bytes) else read_file(source)
  header = _plain(encoded)
  if header and not (header.format == 'JPEG' and min(header.width, header.height) >= 4 * size):
    pixels = _decode_plain(encoded)
    if pixels is not None:
      square = pixels if pixels.shape == (size, size, 3) else _to_square(Image.fromarray(pixels), size)
      return Picture(square, *header[1:])
  with _opened(encoded, source) as image:
    width, height, mode = *image.size, image.mode
    # JPEG decodes large photographs several times faster at a half, quarter or eighth of their size.
    image.draft(None, (2 * size, 2 * size))
    pixels = _to_square(_to_rgb(ImageOps.exif_transpose(image)), size)
  return Picture(pixels, width, height, _kind(mode))


def read_whole(source: str | Path | bytes) -> np.ndarray:
  """Decodes a file as `read_image` does, but neither scales nor pads it: uint8 [height, width, 3] RGB.

  Raises UnreadableError, with the reason, for whatever cannot be decoded whole.
  """
  encoded = source if isinstance(source, bytes) else read_file(source)
  header = _plain(encoded)
  pixels = _decode_plain(encoded) if header else None
  if pixels is not None:
    return pixels
  with _opened(encoded, source) as image:
    return np.array(_to_rgb(ImageOps.exif_transpose(image)))


def read_sides(source: str | Path | bytes) -> tuple[int, int]:
  """(width, height) as the file's header has them. Raises UnreadableError where there is none."""
  encoded = source if isinstance(source, bytes) else read_file(source)
  if header := _plain(encoded):
    return header.width, header.height
  with _opened(encoded, source) as image:
    return image.size


def is_plain(encoded: bytes, size: int) -> bool:
  """Whether these are the bytes of a whole, upright JPEG or PNG, 8-bit grey or colour, of size x size pixels."""
  try:
    header = _plain(encoded)
    return bool(header) and header[1:3] == (size, size) and _decode_plain(encoded) is not None
  except UnreadableError:
    return False


def _plain(encoded) -> _Header | None:
  """The header of a plain picture that has its end; None for every other file."""
  try:
    if encoded.startswith(_JPEG):
      header = _plain_jpeg(encoded)
    else:
      header = _plain_png(encoded) if encoded.startswith(_PNG) else None
  except IndexError:  # it is cut off within its header
    return None
  if header:
    _check_sides(header.width, header.height, len(encoded))
  return header


def _plain_jpeg(encoded):
  """Goes from segment to segment up to the frame's (ITU T.81, B.2.2), over those that do not matter."""
  at = 2
  while encoded[at] == 0xFF:
    marker, length = encoded[at + 1], encoded[at + 2] << 8 | encoded[at + 3]
    if marker in (0xC0, 0xC2):  # baseline, progressive
      bits, components = encoded[at + 4], encoded[at + 9]
      height, width = (encoded[i] << 8 | encoded[i + 1] for i in (at + 5, at + 7))
      if bits != 8 or components not in (1, 3) or encoded.rfind(b'\xff\xd9', at) < 0:
        return None
      return _Header('JPEG', width, height, _GREY if components == 1 else _COLOUR)
    if marker == 0xE1 and not _is_upright(encoded[at + 4 : at + 2 + length]):
      return None
    if marker == 0xE2 and encoded.startswith(b'MPF\0', at + 4):  # several pictures
      return None
    if not (0xE0 <= marker <= 0xEF or marker in (0xDB, 0xC4, 0xDD, 0xFE)):
      return None
    at += 2 + length
  return None


def _is_upright(segment):
  """Whether an APP1 segment leaves the picture as it is; one that cannot be read is left to Pillow."""
  if not segment.startswith(b'Exif\0\0'):
    return b'Orientation' not in segment  # XMP
  try:
    exif = Image.Exif()
    exif.load(segment)
    return exif.get(_ORIENTATION) not in _TURNED
  except Exception:
    return False


def png_chunks(encoded: bytes) -> list[bytes]:
  """Types of the chunks of a PNG of which no byte is damaged: each has a CRC-32 (PNG 1.2, section 3); else []."""
  view, kinds, at = memoryview(encoded), [], len(_PNG)
  if not encoded.startswith(_PNG):
    return []
  while kinds[-1:] != [b'IEND']:
    end = at + 8 + int.from_bytes(view[at : at + 4])
    if len(encoded) < end + 4 or zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4]):
      return []
    kinds.append(encoded[at + 4 : at + 8])
    at = end + 4
  return kinds if at == len(encoded) else []


def _plain_png(encoded):
  kinds = png_chunks(encoded)
  if kinds[:1] != [b'IHDR'] or not _NOT_PLAIN.isdisjoint(kinds) or encoded[24] != 8 or encoded[25] not in (0, 2):
    return None
  width, height = (int.from_bytes(encoded[i : i + 4]) for i in (16, 20))
  return _Header('PNG', width, height, _COLOUR if encoded[25] else _GREY)


def _decode_plain(encoded):
  """uint8 [height, width, 3] RGB; None for what OpenCV does not decode, of which Pillow then says what is wrong."""
  try:
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), _PLAIN)
  except cv2.error:
    return None


def _check_sides(width, height, length):
  """Refuses, before anything is decoded, what would take long or much memory, or cannot be there."""
  if max(width, height) > _SIDE:
    raise UnreadableError(f'{width}x{height}: a side is more than {_SIDE} pixels; make it smaller')
  if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
    raise UnreadableError(f'{width}x{height} is more than {Image.MAX_IMAGE_PIXELS} pixels; make it smaller')
  if width * height > max(_LARGE, _PER_BYTE * length):
    raise UnreadableError(f'{width}x{height} pixels cannot be in {length} bytes: it is cut off, or its header is wrong')


@contextlib.contextmanager
def _opened(encoded, source):
  """The file as a Pillow image; whatever is wrong with it, also later in the block, becomes an UnreadableError."""
  try:
    with Image.open(io.BytesIO(encoded), formats=_formats(encoded)) as image:
      _check_sides(*image.size, len(encoded))
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


def _reason(error, encoded):
  if not encoded:
    return 'empty, 0 bytes'
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
  top = 65535
  if values.dtype.kind == 'f':
    top = next(top for top in (1, 255, 65535) if values.max() <= top)
  if isinstance(transparent, int):  # PNG: the one value that is
    values = np.where(values == transparent, 0, values)
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
