"""Plain pictures: upright JPEG and PNG of 8-bit grey or colour, told from their bytes alone and decoded by OpenCV.

Others are no business of this file: see images.py.
"""

import zlib
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from gif_jax.core.errors import UnreadableError

GREY, COLOUR = 'grey 8-bit', 'colour 8-bit'
SIDE = 1 << 14  # pixels, at most: more than any camera has in as many pixels as Pillow decodes without a warning
# Pixels that a byte of a large file stands for, at most: deflate gives 1032 bytes for one, of 8 black or white pixels
# each. JPEG has fewer; what has more, in lossless WebP and JPEG 2000, is of one colour all over.
_PER_BYTE, _LARGE, _SMALL = 8 * 1032, 1 << 22, 1 << 18
_SCANNED = 1 << 30  # pixels times scans of a progressive JPEG: ten scans of the largest picture, or some seconds

_JPEG, _SCAN, _EOI, _PNG = b'\xff\xd8\xff', b'\xff\xda', b'\xff\xd9', b'\x89PNG\r\n\x1a\n'
# Of a JPEG before its pixels: tables, comments, what applications add; two of these may tell how it is to be seen.
_SEGMENTS, _TELLING = {0xDB, 0xC4, 0xDD, 0xFE, *range(0xE0, 0xF0)}, {0xE1, 0xE2}
_HEADERS: dict[bytes, 'Header'] = {}  # of JPEGs, by their bytes
_ENDS: list[int] = []  # how many bytes these may be
_REMEMBERED = 4
_ORIENTATION = 0x0112  # EXIF 2.3, tag 274: 1 is upright
_TURNED = range(2, 9)
_NOT_PLAIN = {b'tRNS', b'eXIf', b'acTL', b'tEXt', b'zTXt', b'iTXt', b'iCCP'}  # of PNG; libpng warns of profiles
_PLAIN = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
# By the length of the factor in bits; OpenCV has these in BGR alone.
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 3: cv2.IMREAD_REDUCED_COLOR_4, 4: cv2.IMREAD_REDUCED_COLOR_8}


class Header(NamedTuple):
  """What a plain picture says of itself."""

  format: str
  width: int
  height: int
  kind: str


def read_header(encoded: bytes) -> Header | None:
  """The header of a plain picture that has its end; None for every other file.

  Raises UnreadableError as `check_sides` does.
  """
  for end in _ENDS:
    if (header := _HEADERS.get(encoded[:end])) and encoded.rfind(_EOI, end) > 0:
      return header
  try:
    if encoded.startswith(_JPEG):
      header, end = _read_jpeg(encoded)
      header = header if encoded.rfind(_EOI, end) > 0 else None
    else:
      header, end = _read_png(encoded) if encoded.startswith(_PNG) else None, 0
  except IndexError:  # it is cut off within its header
    return None
  if header:
    check_sides(header.width, header.height, header.format, encoded)
    if end and header.width * header.height <= _SMALL:
      _remember(encoded[:end], header)
  return header


def _remember(begin: bytes, header: Header) -> None:
  """Of small JPEGs of one size by one encoder what comes before the pixels is always the same: it is looked up."""
  if len(_HEADERS) >= _REMEMBERED:
    _HEADERS.clear()
    _ENDS.clear()
  _HEADERS[begin] = header
  if len(begin) not in _ENDS:
    _ENDS.append(len(begin))


def _read_jpeg(encoded: bytes) -> tuple[Header | None, int]:
  """Goes from segment to segment (ITU T.81, B.2.2), over those that do not matter, to where the pixels begin.

  The header, or None, and where it ends.
  """
  at = 2
  header: Header | None = None
  while encoded[at] == 0xFF:
    marker, length = encoded[at + 1], encoded[at + 2] << 8 | encoded[at + 3]
    if marker == 0xDA:  # scan
      return header, at
    if marker in (0xC0, 0xC2):  # baseline, progressive
      bits, components = encoded[at + 4], encoded[at + 9]
      height, width = (encoded[i] << 8 | encoded[i + 1] for i in (at + 5, at + 7))
      if header or bits != 8 or components not in (1, 3):
        break
      header = Header('JPEG', width, height, GREY if components == 1 else COLOUR)
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
  view, at = memoryview(encoded), len(_PNG)
  kinds: list[bytes] = []
  if not encoded.startswith(_PNG):
    return []
  while kinds[-1:] != [b'IEND']:
    end = at + 8 + int.from_bytes(view[at : at + 4])
    if len(encoded) < end + 4 or zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4]):
      return []
    kinds.append(encoded[at + 4 : at + 8])
    at = end + 4
  return kinds if at == len(encoded) else []


def _read_png(encoded: bytes) -> Header | None:
  kinds = png_chunks(encoded)
  if kinds[:1] != [b'IHDR'] or not _NOT_PLAIN.isdisjoint(kinds) or encoded[24] != 8 or encoded[25] not in (0, 2):
    return None
  width, height = (int.from_bytes(encoded[i : i + 4]) for i in (16, 20))
  return Header('PNG', width, height, COLOUR if encoded[25] else GREY)


def decode(encoded: bytes, header: Header, size: int = 0) -> np.ndarray | None:
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


def check_sides(width: int, height: int, form: str | None, encoded: bytes) -> None:
  """Refuses, before anything is decoded, what would take long or much memory, or cannot be in so few bytes.

  Raises UnreadableError.
  """
  if max(width, height) > SIDE:
    raise UnreadableError(f'{width}x{height}: a side is more than {SIDE} pixels; make it smaller')
  if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
    raise UnreadableError(f'{width}x{height} is more than {Image.MAX_IMAGE_PIXELS} pixels; make it smaller')
  if width * height > max(_LARGE, _PER_BYTE * len(encoded)):
    raise UnreadableError(
      f'{width}x{height} pixels cannot be in {len(encoded)} bytes: it is cut off, or its header is wrong'
    )
  if form == 'JPEG' and width * height > _SMALL and width * height * encoded.count(_SCAN) > _SCANNED:
    raise UnreadableError(f'{encoded.count(_SCAN)} scans of {width}x{height} pixels; save it anew')
