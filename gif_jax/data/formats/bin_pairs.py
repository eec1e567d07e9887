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
from gif_jax.core.storage.files import replacing


class Pairs(NamedTuple):
  """N pairs: images 2i and 2i + 1 are pair i."""

  images: list[bytes]  # 2N, encoded (JPEG, PNG)
  same: np.ndarray  # bool [N], whether a pair shows one person


def read_pairs(path: str | Path) -> Pairs:
  """Reads a verification set, written by Python 2 or 3 with any NumPy; equal images are one object.

  Images are bytes, or uint8 arrays of encoded bytes. Labels are 0 and 1 as any kind of number, in a list or an array.
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


def write_pairs(path: str | Path, images: Sequence[bytes], same: Sequence[bool]) -> int:
  """Writes a verification set that read_pairs and InsightFace's tools read: 2N encoded images, N booleans.

  Equal images are stored once, and once in the memory of whoever reads the file. Returns how many different ones there
  are. Raises DataError where the numbers do not fit; DiskError.
  """
  path, same = Path(path), [bool(one) for one in same]
  if len(images) != 2 * len(same):
    raise DataError(f'{path}: {len(images)} images for {len(same)} pairs; give two images for each.')
  images = _shared(map(bytes, images))
  with replacing(path) as temporary, temporary.open('wb') as file:
    pickle.dump((images, same), file, protocol=4)  # the newest that every Python 3 reads
  return len(set(images))


def _shared(images):
  """The same images, equal ones as the very same object, which a pickle has once."""
  kept = {}
  return [kept.setdefault(image, image) for image in images]


class _RefusedError(Exception):
  """The file wants what no verification set needs."""


class _FormError(Exception):
  """A pickle of harmless things that are no verification set."""


def _pairs(found):
  if not isinstance(found, list | tuple) or len(found) != 2:
    raise _FormError('not (images, labels)')
  images, same = (_items(part, name) for part, name in zip(found, ('images', 'labels')))
  if len(images) != 2 * len(same):
    raise _FormError(f'{len(same)} labels for {len(images)} images, wanted one for two')
  if not len(same):
    raise _FormError('it is empty')
  labels = [_label(one, number) for number, one in enumerate(same)]
  return Pairs(_shared(_encoded(image, number) for number, image in enumerate(images)), np.array(labels, bool))


def _items(found, name):
  if isinstance(found, _Array):
    found = found.items(name)
  if not isinstance(found, list | tuple):
    raise _FormError(f'{name}: {_kind(found)}, no list')
  return found


def _label(found, number):
  name = f'label {number}'
  if isinstance(found, list | tuple | _Array) and len(found) <= _NUMBER:  # a NumPy scalar, or a row of a column
    items = _items(found, name)
    found = items[0] if len(items) == 1 else found
  if type(found) not in (bool, int, float):
    raise _FormError(f'{name} is {_kind(found)}, wanted 0 or 1')
  if found not in (0, 1):
    raise _FormError(f'{name} is {str(found)[:40]}, wanted 0 or 1')
  return bool(found)


def _encoded(found, number):
  if isinstance(found, _Array):
    found = found.encoded(f'image {number}')
  if not isinstance(found, bytes):
    raise _FormError(f'image {number} is {_kind(found)}, wanted bytes')
  return found


def _kind(found):
  """What a part of the file is, in words. Not its content: lists in lists may be endless when written out."""
  if found is None:
    return 'None'
  name = type(found).__name__.strip('_').lower()
  return f'{"an" if name[0] in "aeiou" else "a"} {name}'


class _Type:
  """Stands for a NumPy dtype: `name` as in pickles ('u1', 'f8', 'O8'), and the order of bytes."""

  def __init__(self, name, *_):
    self.name, self.order = _text(name), '|'

  def build(self, state):
    """The state of a dtype, of which its order of bytes is wanted."""
    self.order = _text(state[1])


def _text(found):
  """Names of types and orders, which are bytes in files of Python 2."""
  found = found.decode('ascii') if isinstance(found, bytes) else found
  if not isinstance(found, str):
    raise _FormError('an array in it is damaged')
  return found[:8]


class _Array:
  """Stands for a NumPy array and never becomes one: what a damaged file says of shapes and sizes harms nobody."""

  def __init__(self, content=b'', kind=None, shape=(), *_):
    self.content, self.kind, self.shape = content, kind, shape

  def build(self, state):
    """The state of an array as NumPy pickles it: (version, shape, dtype, Fortran order, content)."""
    _, self.shape, self.kind, _, self.content = state

  def __len__(self):
    return len(self.content)

  def items(self, name) -> list:
    """Its numbers or objects, in a row or column, where order is one. Raises _FormError, with `name`, for others."""
    kind = self.kind.name
    if kind in _OBJECTS and isinstance(self.content, list):
      return self._row(self.content, name)
    if kind not in _NUMBERS or not isinstance(self.content, bytes):
      raise _FormError(f'{name}: an array of type {kind}')
    # Bools as uint8, so that a byte of neither 0 nor 1 is seen.
    number = np.dtype('u1' if kind == 'b1' else kind).newbyteorder(self.kind.order)
    return self._row(np.frombuffer(self.content, number), name).tolist()

  def encoded(self, name) -> bytes:
    """The bytes of an encoded image (cv2.imencode gives a row or a column of them). Raises _FormError, with `name`."""
    kind = self.kind.name
    if kind.startswith('S') and isinstance(self.content, bytes) and self.shape == ():
      return self.content
    if kind != 'u1' or not isinstance(self.content, bytes):
      raise _FormError(f'{name}: an array of type {kind}, wanted bytes')
    return self._row(self.content, name)

  def _row(self, items, name):
    shape = self.shape
    if not isinstance(shape, tuple) or len(shape) > 4 or not all(type(side) is int for side in shape):
      raise _FormError('an array in it is damaged')
    if len(items) != math.prod(shape):
      raise _FormError('an array in it is damaged')
    if len(items) not in (0, *(shape or (1,))):
      raise _FormError(f'{name}: the shape {str(shape)[:40]}, wanted a row (images encoded, not as pixels)')
    return items


def _scalar(kind, content):
  """A NumPy scalar, as an array of one number."""
  return _Array(content, kind, ())


_NUMBER = 16  # bytes of a number at most
_OBJECTS = ('O', 'O4', 'O8')
_NUMBERS = ('b1', 'i1', 'u1', 'i2', 'u2', 'i4', 'u4', 'i8', 'u8', 'f2', 'f4', 'f8')
_NAMES = {
  ('numpy', 'ndarray'): _Array,
  ('numpy', 'dtype'): _Type,
  ('__builtin__', 'bytes'): lambda: b'',
  ('builtins', 'bytes'): lambda: b'',
}
for _core in ('numpy.core', 'numpy._core'):  # NumPy 1 and 2
  _NAMES |= {
    (f'{_core}.multiarray', '_reconstruct'): lambda *_: _Array(),
    (f'{_core}.multiarray', 'scalar'): _scalar,
    (f'{_core}.numeric', '_frombuffer'): _Array,
  }
# Numbers, bytes, text, lists, tuples, the memo, and calls of what find_class gives. Left out are those for other
# objects (NEWOBJ, OBJ, PERSID, EXT), for numbers of any length (LONG4), for dictionaries and sets.
_INSTRUCTIONS = """
  PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT
  STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE EMPTY_TUPLE
  TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS GLOBAL STACK_GLOBAL INST REDUCE GET BINGET LONG_BINGET PUT
  BINPUT LONG_BINPUT MEMOIZE
"""


class _Dispatch(dict):
  """What runs each instruction."""

  def __missing__(self, code):
    raise _FormError('it holds other things than lists of images and labels')


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
    if (module, name) in (('__builtin__', 'bytearray'), ('builtins', 'bytearray')):
      return self.bytearray
    if (module, name) not in _NAMES:
      raise _RefusedError(f'it tries to load {module}.{name}'[:200])
    return _NAMES[module, name]

  def encode(self, text, _):
    """Bytes as Python 3 writes them for Python 2: text in Latin-1, together shorter than the file."""
    self.left -= len(text)
    if self.left < 0:
      raise _FormError('it repeats itself')
    return text.encode('latin1')

  def bytearray(self, content=b'', *encoding):
    """A bytearray as bytes; Python 2 writes it as text. One of a number of zeros is nothing that a pickle has."""
    return content if isinstance(content, bytes) else self.encode(content, *encoding)

  def build(self):
    """Sets the state of an array or a dtype, and of nothing else."""
    state = self.stack.pop()
    self.stack[-1].build(state)

  def bytearray8(self):
    """Contents of an array (protocol 5), as bytes, so far as the file has them."""
    (length,) = struct.unpack('<Q', self.read(8))
    self.append(self.read(length))

  dispatch[pickle.BUILD[0]], dispatch[pickle.BYTEARRAY8[0]] = build, bytearray8


class PairedImages:
  """The 2N encoded images of a verification set (.bin); a worker process is told the file and reads it itself.

  same: bool [N], whether images 2i and 2i + 1 are of one person.
  """

  def __init__(self, path: str | Path):
    """Raises DataError for a file that is no verification set."""
    self.path = Path(path)
    self._images, self.same = read_pairs(self.path)

  def __getstate__(self):
    return self.__dict__ | {'_images': None}

  def __len__(self):
    return 2 * len(self.same)

  def __getitem__(self, index):
    if self._images is None:
      self._images = read_pairs(self.path).images
    return self._images[index]

  def where(self, index):
    """The file and the image's place in it."""
    return f'{self.path}, image {index}'

  def name(self, index):
    """Images of this format have no names."""
    return ''
