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
_SCANNED = 1 << 30  # pixels times scans of a progressive JPEG: ten scans of the largest picture, or some seconds
_HEIC = (b'heic', b'heix', b'hevc', b'hevx', b'heim', b'heis', b'hevm', b'hevs', b'mif1', b'msf1')

_JPEG, _SCAN, _PNG = b'\xff\xd8\xff', b'\xff\xda', b'\x89PNG\r\n\x1a\n'
# Of a JPEG before its pixels: tables, comments, what applications add; two of these may tell how it is to be seen.
_SEGMENTS, _TELLING = {0xDB, 0xC4, 0xDD, 0xFE, *range(0xE0, 0xF0)}, {0xE1, 0xE2}
_HEADERS, _ENDS, _REMEMBERED = {}, [], 4  # headers of JPEGs by their bytes, and how many bytes these may be
_SIZ = b'\xff\x51'  # of JPEG 2000 (ITU T.800, A.5.1): the size, and from byte 40 on the depth of each component
_ORIENTATION = 0x0112  # EXIF 2.3, tag 274: 1 is upright
_TURNED = range(2, 9)
_NOT_PLAIN = {b'tRNS', b'eXIf', b'acTL', b'tEXt', b'zTXt', b'iTXt', b'iCCP'}  # of PNG; libpng warns of profiles
_PLAIN = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
# By the length of the factor in bits; OpenCV has these in BGR alone.
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 3: cv2.IMREAD_REDUCED_COLOR_4, 4: cv2.IMREAD_REDUCED_COLOR_8}

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
  pixels = _decode_plain(encoded, header, size) if header else None
  if pixels is not None:
    square = pixels if pixels.shape == (size, size, 3) else _to_square(Image.fromarray(pixels), size)
    return Picture(square, *header[1:])
  with _opened(encoded, source) as image:
    width, height, mode = *image.size, image.mode
    image.draft(None, (2 * size, 2 * size))  # as in `_decode_plain`
    pixels = _to_square(_to_rgb(ImageOps.exif_transpose(image)), size)
  return Picture(pixels, width, height, _kind(mode))


def read_whole(source: str | Path | bytes) -> np.ndarray:
  """Decodes a file as `read_image` does, but neither scales nor pads it: uint8 [height, width, 3] RGB.

  Raises UnreadableError, with the reason, for whatever cannot be decoded whole.
  """
  encoded = source if isinstance(source, bytes) else read_file(source)
  header = _plain(encoded)
  pixels = _decode_plain(encoded, header) if header else None
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
    return bool(header) and header[1:3] == (size, size) and _decode_plain(encoded, header) is not None
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
    _check_sides(header.width, header.height, header.format, encoded)
  return header


def _plain_jpeg(encoded):
  """What comes before the pixels is, of pictures of one size by one encoder, always the same: it is looked up."""
  for end in _ENDS:
    if header := _HEADERS.get(encoded[:end]):
      break
  else:
    header, end = _read_jpeg_header(encoded)
    if header:
      if len(_HEADERS) >= _REMEMBERED:
        _HEADERS.clear()
        _ENDS.clear()
      _HEADERS[encoded[:end]] = header
      if end not in _ENDS:
        _ENDS.append(end)
  return header if header and encoded.rfind(b'\xff\xd9', end) > 0 else None


def _read_jpeg_header(encoded):
  """Goes from segment to segment (ITU T.81, B.2.2), over those that do not matter, to where the pixels begin.

  The header, or None, and where it ends.
  """
  at, header = 2, None
  while encoded[at] == 0xFF:
    marker, length = encoded[at + 1], encoded[at + 2] << 8 | encoded[at + 3]
    if marker == 0xDA:  # scan
      return header, at
    if marker in (0xC0, 0xC2):  # baseline, progressive
      bits, components = encoded[at + 4], encoded[at + 9]
      height, width = (encoded[i] << 8 | encoded[i + 1] for i in (at + 5, at + 7))
      if header or bits != 8 or components not in (1, 3):
        break
      header = _Header('JPEG', width, height, _GREY if components == 1 else _COLOUR)
    elif marker not in _SEGMENTS or (marker in _TELLING and not _is_harmless(encoded[at + 4 : at + 2 + length])):
      break
    at += 2 + length
  return None, at


def _is_harmless(segment):
  """Whether a segment leaves the picture as it is; one that cannot be read is left to Pillow."""
  if not segment.startswith(b'Exif\0\0'):
    return not segment.startswith(b'MPF\0') and b'Orientation' not in segment  # several pictures; XMP
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


def _decode_plain(encoded, header, size=0):
  """uint8 [height, width, 3] RGB; None for what OpenCV does not decode, of which Pillow then says what is wrong.

  JPEG decodes large photographs several times faster at a half, quarter or eighth of their size; size: half of what the
  shorter side must still have, 0 for all there is.
  """
  factor = min(header.width, header.height) // (2 * size) if size and header.format == 'JPEG' else 1
  try:
    if factor < 2:
      return cv2.imdecode(np.frombuffer(encoded, np.uint8), _PLAIN)
    reduced = _REDUCED[min(factor, 8).bit_length()] | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), reduced)
    return None if pixels is None else np.ascontiguousarray(pixels[..., ::-1])
  except cv2.error:
    return None


def _check_sides(width, height, form, encoded):
  """Refuses, before anything is decoded, what would take long or much memory, or cannot be there."""
  if max(width, height) > _SIDE:
    raise UnreadableError(f'{width}x{height}: a side is more than {_SIDE} pixels; make it smaller')
  if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
    raise UnreadableError(f'{width}x{height} is more than {Image.MAX_IMAGE_PIXELS} pixels; make it smaller')
  if width * height > max(_LARGE, _PER_BYTE * len(encoded)):
    raise UnreadableError(
      f'{width}x{height} pixels cannot be in {len(encoded)} bytes: it is cut off, or its header is wrong'
    )
  if form == 'JPEG' and width * height > _LARGE // 16 and width * height * encoded.count(_SCAN) > _SCANNED:
    raise UnreadableError(f'{encoded.count(_SCAN)} scans of {width}x{height} pixels; save it anew')


@contextlib.contextmanager
def _opened(encoded, source):
  """The file as a Pillow image; whatever is wrong with it, also later in the block, becomes an UnreadableError."""
  try:
    with Image.open(io.BytesIO(encoded), formats=_formats(encoded)) as image:
      _check_sides(*image.size, image.format, encoded)
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
  if max(tags.get(322, 0), tags.get(323, 0)) > _SIDE:
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
