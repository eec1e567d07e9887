"""Pickles of lists of images and labels, read without running anything.

A pickle is a program. It is run here by Python's own reader of pickles, cut down to the instructions that build lists
of images and labels, with nothing in reach that does anything else. NumPy's arrays in it stay bytes and a description.
"""

import io
import math
import pickle
import struct
from collections.abc import Callable
from typing import Any

import numpy as np


def load(content: bytes) -> Any:
  """What a pickle holds: lists, tuples, numbers, texts, bytes, and an `Array` for each array and number of NumPy.

  Raises Refused for one that wants more, Malformed or whatever Python's reader raises for a damaged one.
  """
  return _Reader(content).load()


class Refused(Exception):
  """The file wants what no verification set needs."""


class Malformed(Exception):
  """A pickle of harmless things that are no verification set."""


class _Type:
  """Stands for a NumPy dtype: `name` as in pickles ('u1', 'f8', 'O8'), and the order of bytes."""

  def __init__(self, name: Any, *_: Any):
    self.name, self.order = _text(name), '|'

  def build(self, state: Any) -> None:
    """The state of a dtype, of which its order of bytes is wanted."""
    self.order = _text(state[1])


def _text(name: Any) -> str:
  """Names of types and orders, which are bytes in files of Python 2."""
  name = name.decode('ascii') if isinstance(name, bytes) else name
  if not isinstance(name, str):
    raise Malformed('an array in it is damaged')
  return name[:8]


class Array:
  """Stands for a NumPy array and never becomes one: what a damaged file says of shapes and sizes harms nobody."""

  def __init__(self, content: Any = b'', kind: Any = None, shape: Any = (), *_: Any):
    self.content, self.kind, self.shape = content, kind, shape

  def build(self, state: Any) -> None:
    """The state of an array as NumPy pickles it: (version, shape, dtype, Fortran order, content)."""
    _, self.shape, self.kind, _, self.content = state

  def __len__(self) -> int:
    return len(self.content)

  def items(self, name: str) -> list[Any]:
    """Its numbers or objects, in a row or column, where order is one. Raises Malformed, with `name`, for others."""
    kind = self.kind.name
    if kind in _OBJECTS and isinstance(self.content, list):
      return self._row(self.content, name)
    if kind not in _NUMBERS or not isinstance(self.content, bytes):
      raise Malformed(f'{name}: an array of type {kind}')
    # Bools as uint8, so that a byte of neither 0 nor 1 is seen.
    number = np.dtype('u1' if kind == 'b1' else kind).newbyteorder(self.kind.order)
    return self._row(np.frombuffer(self.content, number), name).tolist()

  def encoded(self, name: str) -> bytes:
    """The bytes of an encoded image (cv2.imencode gives a row or a column of them). Raises Malformed, with `name`."""
    kind = self.kind.name
    if kind.startswith('S') and isinstance(self.content, bytes) and self.shape == ():
      return self.content
    if kind != 'u1' or not isinstance(self.content, bytes):
      raise Malformed(f'{name}: an array of type {kind}, wanted bytes')
    return self._row(self.content, name)

  def _row(self, items: Any, name: str) -> Any:
    shape = self.shape
    if not isinstance(shape, tuple) or len(shape) > 4 or not all(type(side) is int for side in shape):
      raise Malformed('an array in it is damaged')
    if len(items) != math.prod(shape):
      raise Malformed('an array in it is damaged')
    if len(items) not in (0, *(shape or (1,))):
      raise Malformed(f'{name}: the shape {str(shape)[:40]}, wanted a row (images encoded, not as pixels)')
    return items


def _scalar(kind: Any, content: Any) -> Array:
  """A NumPy scalar, as an array of one number."""
  return Array(content, kind, ())


_OBJECTS = ('O', 'O4', 'O8')
_NUMBERS = ('b1', 'i1', 'u1', 'i2', 'u2', 'i4', 'u4', 'i8', 'u8', 'f2', 'f4', 'f8')
_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
  ('numpy', 'ndarray'): Array,
  ('numpy', 'dtype'): _Type,
  ('__builtin__', 'bytes'): lambda: b'',
  ('builtins', 'bytes'): lambda: b'',
}
for _core in ('numpy.core', 'numpy._core'):  # NumPy 1 and 2
  _NAMES |= {
    (f'{_core}.multiarray', '_reconstruct'): lambda *_: Array(),
    (f'{_core}.multiarray', 'scalar'): _scalar,
    (f'{_core}.numeric', '_frombuffer'): Array,
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

  def __missing__(self, code: int) -> Any:
    raise Malformed('it holds other things than lists of images and labels')


class _Reader(pickle._Unpickler):
  """Python's reader of pickles written in Python: its memory stays in proportion to the file."""

  # What the reader has while it loads.
  stack: list[Any]
  read: Callable[[int], bytes]
  append: Callable[[Any], None]

  dispatch = _Dispatch(
    {code: pickle._Unpickler.dispatch[code] for code in (getattr(pickle, name)[0] for name in _INSTRUCTIONS.split())}
  )

  def __init__(self, content: bytes):
    super().__init__(io.BytesIO(content), encoding='bytes')  # the strings of Python 2 are bytes
    self.left = len(content)

  def find_class(self, module: str, name: str) -> Callable[..., Any]:
    """What a name in the file stands for."""
    if (module, name) == ('_codecs', 'encode'):
      return self.encode
    if (module, name) in (('__builtin__', 'bytearray'), ('builtins', 'bytearray')):
      return self.bytearray
    if (module, name) not in _NAMES:
      raise Refused(f'it tries to load {module}.{name}'[:200])
    return _NAMES[module, name]

  def encode(self, text: str, _: Any) -> bytes:
    """Bytes as Python 3 writes them for Python 2: text in Latin-1, together shorter than the file."""
    self.left -= len(text)
    if self.left < 0:
      raise Malformed('it repeats itself')
    return text.encode('latin1')

  def bytearray(self, content: Any = b'', *encoding: Any) -> bytes:
    """A bytearray as bytes; Python 2 writes it as text. One of a number of zeros is nothing that a pickle has."""
    return content if isinstance(content, bytes) else self.encode(content, *encoding)

  def build(self) -> None:
    """Sets the state of an array or a dtype, and of nothing else."""
    state = self.stack.pop()
    self.stack[-1].build(state)

  def bytearray8(self) -> None:
    """Contents of an array (protocol 5), as bytes, so far as the file has them."""
    (length,) = struct.unpack('<Q', self.read(8))
    self.append(self.read(length))

  dispatch[pickle.BUILD[0]], dispatch[pickle.BYTEARRAY8[0]] = build, bytearray8
