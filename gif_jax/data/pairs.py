"""Verification sets (lfw.bin, cfp_fp.bin, agedb_30.bin ...): pairs of images, and whether they show one person.

The file is a pickle of ([2N encoded images], [N booleans]); images 2i and 2i + 1 are pair i (InsightFace,
recognition/arcface_torch/eval/verification.py, load_bin). A pickle is a program: it is run here by Python's own reader
of pickles, cut down to the instructions that build such a pair of lists, with nothing in reach that does anything else.
"""

import io
import math
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gif_jax.core.errors import DataError
from gif_jax.core.files import replacing


class Pairs(NamedTuple):
  """N pairs: images 2i and 2i + 1 are pair i."""

  images: list[bytes]  # 2N, encoded (JPEG, PNG)
  same: np.ndarray  # bool [N], whether a pair shows one person


def read_pairs(path: str | Path) -> Pairs:
  """Reads a verification set, written by Python 2 or 3, images as bytes or as uint8 arrays of encoded bytes.

  Raises DataError for files that hold anything else, and for those that try to load code; none of it is run.
  """
  try:
    content = Path(path).read_bytes()
  except OSError as error:
    raise DataError(f'{path} cannot be read ({error.strerror}); check the spelling and the disk.') from error
  try:
    return _pairs(_Reader(content).load())
  except _RefusedError as error:
    raise DataError(f'{path}: {error}; nothing of it was run. Get the file from a source you trust.') from error
  except Exception as error:  # the reader of pickles raises almost anything for damaged files
    reason = str(error) if isinstance(error, _FormError) else f'cut off or damaged ({type(error).__name__})'
    raise DataError(f'{path} is no verification set: {reason}; copy it again, or make it again.') from error


def write_pairs(path: str | Path, images: Sequence[bytes], same: Sequence[bool]) -> None:
  """Writes a verification set that read_pairs and InsightFace's tools read: 2N encoded images, N booleans.

  Raises DataError where the numbers do not fit; DiskError.
  """
  path, same = Path(path), [bool(one) for one in same]
  if len(images) != 2 * len(same):
    raise DataError(f'{path}: {len(images)} images for {len(same)} pairs; give two images for each.')
  with replacing(path) as temporary, temporary.open('wb') as file:
    pickle.dump(([bytes(image) for image in images], same), file, protocol=4)  # the newest that every Python 3 reads


class _RefusedError(Exception):
  """The file wants what no verification set needs."""


class _FormError(Exception):
  """A pickle of harmless things that are no verification set."""


def _pairs(found):
  if not isinstance(found, list | tuple) or len(found) != 2:
    raise _FormError('not (images, booleans)')
  images, same = found
  same = _booleans(same)
  if not isinstance(images, list | tuple):
    raise _FormError('its images are no list')
  if len(images) != 2 * len(same):
    raise _FormError(f'{len(images)} images for {len(same)} booleans, wanted two for each')
  if not len(same):
    raise _FormError('it is empty')
  return Pairs([_encoded(image) for image in images], same)


def _booleans(found):
  if isinstance(found, _Array):
    found = list(found.items('b1', b'b1', 'u1', b'u1'))
  if not isinstance(found, list | tuple) or not all(type(one) in (bool, int) and one in (0, 1) for one in found):
    raise _FormError('what should say which pairs show one person is no list of booleans')
  return np.array(found, bool)


def _encoded(image):
  if isinstance(image, _Array):
    image = image.items('u1', b'u1')
  if not isinstance(image, bytes):
    raise _FormError(f'an image is no bytes but {type(image).__name__}')
  return image


class _Type:
  """Stands for a NumPy dtype."""

  def __init__(self, name, *_):
    self.name = name  # 'u1', or b'u1' by Python 2

  def build(self, _):
    """The state of a dtype: byte order and so on, which single bytes do not have."""


class _Array:
  """Stands for a NumPy array and never becomes one: what a damaged file says of shapes and sizes harms nobody."""

  def __init__(self, content=b'', kind=None, shape=(), *_):
    self.content, self.kind, self.shape = content, kind, shape

  def build(self, state):
    """The state of an array as NumPy pickles it: (version, shape, dtype, Fortran order, bytes)."""
    _, self.shape, self.kind, _, self.content = state

  def items(self, *kinds) -> bytes:
    """Its items of one byte each, in a row or column (cv2.imencode gives either)."""
    if self.kind.name not in kinds or not isinstance(self.content, bytes):
      raise _FormError('an array in it is not of single bytes')
    if len(self.shape) > 4 or len(self.content) != math.prod(self.shape):
      raise _FormError('an array in it is damaged')
    if len(self.content) not in (0, *self.shape):
      raise _FormError(f'an array in it has the shape {str(self.shape)[:40]}: images must be encoded, not pixels')
    return self.content


def _scalar(_, content):
  """A NumPy scalar, of which only True, False, 1 and 0 are wanted."""
  return int.from_bytes(content[:8], 'little')


_NAMES = {
  ('numpy', 'ndarray'): _Array, ('numpy', 'dtype'): _Type,
  ('__builtin__', 'bytes'): lambda: b'', ('builtins', 'bytes'): lambda: b'',
}  # fmt: skip
for _core in ('numpy.core', 'numpy._core'):  # NumPy 1 and 2
  _NAMES |= {
    (f'{_core}.multiarray', '_reconstruct'): lambda *_: _Array(), (f'{_core}.multiarray', 'scalar'): _scalar,
    (f'{_core}.numeric', '_frombuffer'): _Array,
  }  # fmt: skip
# Numbers, bytes, text, lists, tuples, the memo, and calls of what find_class gives. Left out are those for other
# objects (NEWOBJ, OBJ, PERSID, EXT), for numbers of any length (LONG4), for dictionaries and sets.
_INSTRUCTIONS = """
  PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 STRING BINSTRING
  SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE EMPTY_TUPLE TUPLE TUPLE1 TUPLE2
  TUPLE3 EMPTY_LIST LIST APPEND APPENDS GLOBAL STACK_GLOBAL INST REDUCE GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT
  MEMOIZE
"""


class _Dispatch(dict):
  """What runs each instruction."""

  def __missing__(self, code):
    raise _FormError('it holds other things than lists of images and booleans')


class _Reader(pickle._Unpickler):
  """Python's reader of pickles written in Python: its memory stays in proportion to the file."""

  dispatch = _Dispatch(
    {code: pickle._Unpickler.dispatch[code] for code in (getattr(pickle, name)[0] for name in _INSTRUCTIONS.split())}
  )

  def __init__(self, content):
    super().__init__(io.BytesIO(content), encoding='bytes')  # the strings of Python 2 are bytes
    self.left = len(content)

  def find_class(self, module, name):
    """What a name in the file stands for."""
    if (module, name) == ('_codecs', 'encode'):
      return self.encode
    if (module, name) not in _NAMES:
      raise _RefusedError(f'it tries to load {module}.{name}'[:200])
    return _NAMES[module, name]

  def encode(self, text, _):
    """Bytes as Python 3 writes them for Python 2: text in Latin-1, together shorter than the file."""
    self.left -= len(text)
    if self.left < 0:
      raise _FormError('it repeats itself')
    return text.encode('latin1')

  def build(self):
    """Sets the state of an array or a dtype, and of nothing else."""
    state = self.stack.pop()
    self.stack[-1].build(state)

  def bytearray8(self):
    """Contents of an array (protocol 5), as bytes, so far as the file has them."""
    (length,) = struct.unpack('<Q', self.read(8))
    self.append(self.read(length))

  dispatch[pickle.BUILD[0]], dispatch[pickle.BYTEARRAY8[0]] = build, bytearray8
