"""Lists of names in MATLAB files of version 5 to 7, which TinyFace's lists are.

Read here, and not by scipy.io.loadmat, which some damaged files take the whole process down with (segmentation faults,
SciPy 1.17.1). The form is that of MathWorks' "MAT-File Format": a header of 128 bytes, then elements of (type, bytes,
data), which may hold elements themselves or be compressed.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from gif_jax.data.images import DataError

_MATRIX, _COMPRESSED = 14, 15  # types of elements
_CELL, _CHAR = 1, 4  # classes of arrays
_TEXT = {1: 'ascii', 2: 'latin-1', 4: 'utf-16', 16: 'utf-8', 17: 'utf-16'}
_INFLATED = 2**26  # bytes; TinyFace's lists have less than 2**20


def read_names(path: str | Path, variable: str) -> list[str]:
  """The strings of a cell array, in order.

  Raises DataError for a file that is none of version 5 to 7, is damaged or has no such cell array of strings.
  """
  try:
    content = Path(path).read_bytes()
  except OSError as error:
    raise DataError(f'{path} cannot be read ({error.strerror}); allow reading it (chmod).') from error
  try:
    return _names(content, variable)
  except (ValueError, struct.error, zlib.error) as error:
    raise DataError(f'{path} cannot be read as a list {variable}: {error}; unpack the set again.') from error


def _names(content, variable):
  order = {b'IM': '<', b'MI': '>'}.get(content[126:128])
  if order is None:
    raise ValueError('not a MATLAB file, or not of version 5 to 7')
  for kind, data in _elements(memoryview(content)[128:], order):
    if kind == _COMPRESSED:
      (kind, data), *_ = _elements(_inflate(data), order)
    what, _, name, cells = _array(kind, data, order)
    if name == variable:
      if what != _CELL:
        raise ValueError('it is no cell array')
      return [_string(*cell, order) for cell in cells]
  raise ValueError('there is no such variable')


def _elements(data, order) -> Iterator[tuple[int, memoryview]]:
  """(type, data) of the elements that lie one after another in `data`."""
  at = 0
  while at < len(data):
    kind, size = struct.unpack_from(order + 'II', data, at)
    start, end = at + 8, at + 8 + size
    at = end if kind == _COMPRESSED else end + -end % 8
    if kind >> 16:  # up to 4 bytes lie where the size would be, which shares a word with the type
      kind, size = kind & 0xFFFF, kind >> 16
      start, end, at = start - 4, start - 4 + size, start
    if end > len(data) or end > at:
      raise ValueError('it is cut off or damaged')
    yield kind, data[start:end]


def _inflate(data):
  stream = zlib.decompressobj()
  inflated = stream.decompress(data, _INFLATED)
  if not stream.eof:
    raise ValueError('it is cut off or damaged')
  return memoryview(inflated)


def _array(kind, data, order):
  """Of an array: its class, its shape, its name, and the elements that follow: cells, or values."""
  if kind != _MATRIX:
    raise ValueError('it is cut off or damaged')
  (_, flags), (_, shape), (_, name), *rest = _elements(data, order)
  what = struct.unpack_from(order + 'I', flags)[0] & 0xFF
  shape = struct.unpack(f'{order}{len(shape) // 4}i', shape)
  if what == _CELL and math.prod(shape) != len(rest):
    raise ValueError('it is cut off or damaged')
  return what, shape, bytes(name).decode('latin-1'), rest


def _string(kind, data, order):
  """The row of characters, at least one, that a cell is."""
  what, shape, _, values = _array(kind, data, order)
  if what != _CHAR or len(shape) != 2 or shape[0] != 1 or len(values) != 1 or values[0][0] not in _TEXT:
    raise ValueError('a cell is no string, or an empty one')
  kind, text = values[0]
  encoding = _TEXT[kind] + {'<': '-le', '>': '-be'}[order] * (_TEXT[kind] == 'utf-16')
  return bytes(text).decode(encoding)
