"""Arrays in files: one loader, which takes a .npy and nothing else, and writers that put a checksum behind the data.

The checksum follows the data in the file, where NumPy and everybody else who reads .npy do not look. Files without one,
written by earlier versions or by others, are read as they are.
"""

import hashlib
import io
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from gif_jax.core.errors import DataError, UserError, reason
from gif_jax.core.storage.files import replacing

if TYPE_CHECKING:
  from _typeshed import ReadableBuffer

_MARK = b'\nSHA256 '  # stands before the checksum
TRAILER = len(_MARK) + hashlib.sha256().digest_size
_LONGEST_HEADER = 1 << 16
_BLOCK = 1 << 24  # bytes hashed at a time
_KINDS = {np.floating: ('f', 'floats'), np.integer: ('iu', 'integers')}  # kinds of dtypes, in words
_AGAIN = 'copy it again, or make it again'


class _Form(NamedTuple):
  """What the header of a .npy says."""

  dtype: np.dtype
  shape: tuple[int, ...]
  fortran: bool
  offset: int  # of the data

  @property
  def size(self) -> int:
    """Bytes up to the end of the data."""
    return self.offset + math.prod(self.shape) * self.dtype.itemsize


def as_bytes(array: np.ndarray) -> memoryview:
  """What an array holds, byte by byte and row by row; without a copy where its rows lie in this order."""
  return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def load_array(
  path: str | Path,
  dtype: Any = None,
  shape: tuple[int | None, ...] | None = None,
  *,
  mmap: bool = True,
  check: bool = True,
  error: type[UserError] = DataError,
  fix: str = _AGAIN,
) -> np.ndarray:
  """The array in a .npy file, memory-mapped and read-only unless `mmap` is False.

  Nothing but a .npy is read, no memory is taken for what the file does not hold, and no object in it is made.

  Args:
    path: of the file.
    dtype: the type it must have, or a kind of type such as np.floating; None: any of numbers, booleans and text.
    shape: the shape it must have, None for a length that may be any; None: any.
    mmap: whether it is mapped; else it is in memory, and may be changed.
    check: whether its checksum is checked, if it has one, which reads the file once.
    error, fix: what to raise, and the cure that ends the message.
  """
  path = Path(path)
  try:
    with open(path, 'rb') as file:
      form = _form(file, os.fstat(file.fileno()).st_size)
      _check_kind(form, dtype, shape)
      if check:
        _check_sum(file, form)
    return _mapped(path, form) if mmap else _read(path, form)
  except OSError as problem:
    raise error(f'{path} cannot be read ({reason(problem)}): {fix}.') from problem
  except ValueError as problem:
    raise error(f'{path} {problem}: {fix}.') from problem


def _form(file, size: int) -> _Form:
  """The header of an open file of `size` bytes. Raises ValueError for what is no .npy of that size."""
  head = file.read(10)
  if not size:
    raise ValueError('is empty, 0 bytes')
  if head.startswith(b'PK'):
    raise ValueError('is an archive of several arrays (.npz), wanted one array (.npy)')
  if not head.startswith(b'\x93NUMPY') or len(head) < 10:
    raise ValueError('is no .npy array')
  file.seek(0)
  try:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, fortran, dtype = read(file, max_header_size=_LONGEST_HEADER)
  except Exception as problem:  # a damaged header raises almost anything
    raise ValueError('has a damaged header') from problem
  if dtype.hasobject:
    raise ValueError('holds Python objects, which could run code, and is not read')
  form = _Form(dtype, shape, fortran, file.tell())
  lengths = all(type(length) is int and length >= 0 for length in shape)
  if not lengths or not dtype.itemsize or dtype.subdtype or form.size > 1 << 62:
    raise ValueError('has a damaged header')
  if size not in (form.size, form.size + TRAILER) or (size == form.size and _ends_in_mark(file, size)):
    raise ValueError(f'has {size} bytes, its header asks for others; it was cut or damaged')
  return form


def _ends_in_mark(file, size):
  """Whether what the header takes for the end of the data is a checksum: the header is then damaged."""
  file.seek(max(size - TRAILER, 0))
  return file.read(len(_MARK)) == _MARK


def _check_kind(form, dtype, shape):
  held = f'{form.dtype} {list(form.shape)}'
  kinds, words = _KINDS.get(dtype, ('', ''))
  if dtype is not None and not (form.dtype.kind in kinds if kinds else form.dtype == dtype):
    raise ValueError(f'holds {held}, wanted {words or np.dtype(dtype)}')
  if shape is not None and (
    len(shape) != len(form.shape) or any(want not in (None, have) for want, have in zip(shape, form.shape))
  ):
    raise ValueError(f'holds {held}, wanted {["any" if want is None else want for want in shape]}')


def _check_sum(file, form):
  """Raises ValueError where the checksum behind the data is another one than that of the file before it."""
  file.seek(form.size)
  trailer = file.read(TRAILER)
  if trailer and trailer != _trailer(file, form.size):
    raise ValueError('does not match its checksum; it was damaged')


def _trailer(file, size: int) -> bytes:
  """The checksum of the first `size` bytes of an open file, as it stands behind them."""
  digest = hashlib.sha256()
  file.seek(0)
  while size:
    block = file.read(min(size, _BLOCK))
    if not block:
      raise ValueError('was cut while it was read')
    digest.update(block)
    size -= len(block)
  return _MARK + digest.digest()


def _mapped(path, form):
  if not math.prod(form.shape):
    return np.empty(form.shape, form.dtype)  # nothing can be mapped
  return np.memmap(path, form.dtype, 'r', form.offset, form.shape, 'F' if form.fortran else 'C')


def _read(path, form):
  with open(path, 'rb') as file:
    return _of_file(file, form)


def _of_file(file, form):
  """The array behind the header of an open file, in memory."""
  file.seek(form.offset)
  content = file.read(form.size - form.offset)
  if len(content) != form.size - form.offset:
    raise ValueError('was cut while it was read')
  array = np.frombuffer(bytearray(content), form.dtype, math.prod(form.shape))
  return array.reshape(form.shape, order='F' if form.fortran else 'C')


class _Summed(io.RawIOBase):
  """An open file that is written to, and its checksum.

  NumPy writes to it piece by piece: to a file of the system it would write by C, which does not say why it failed.
  """

  def __init__(self, file: BinaryIO) -> None:
    self.file, self.digest = file, hashlib.sha256()

  def write(self, content: 'ReadableBuffer') -> int:
    self.digest.update(content)
    return self.file.write(content)


def save_array(path: str | Path, array: np.ndarray) -> None:
  """Writes a .npy with a checksum behind its data, complete or not at all. Raises DiskError."""
  with replacing(path) as temporary, open(temporary, 'wb') as file:
    summed = _Summed(file)
    np.lib.format.write_array(summed, np.asanyarray(array), allow_pickle=False)
    file.write(_MARK + summed.digest.digest())


def new_array(path: Path, shape: tuple[int, ...], dtype: Any) -> np.memmap:
  """A .npy of zeros to be filled in place, memory-mapped, whose disk space is taken at once; `seal` finishes it.

  Whoever fills it gives it its name afterwards: see `core.storage.resume`. Raises OSError.
  """
  shape = tuple(map(int, shape))
  with open(path, 'wb') as file:
    header = {'descr': np.lib.format.dtype_to_descr(np.dtype(dtype)), 'fortran_order': False, 'shape': shape}
    np.lib.format.write_array_header_1_0(file, header)
    offset = file.tell()
  reserve(path, offset + math.prod(shape) * np.dtype(dtype).itemsize)
  return np.memmap(path, dtype, 'r+', offset, shape)


def reserve(path: Path, size: int) -> None:
  """Takes the disk space of a file of `size` bytes at once, before it is mapped into memory.

  A full disk would otherwise kill the process in the middle, with no message. Raises OSError.
  """
  with open(path, 'r+b') as file:
    if size and hasattr(os, 'posix_fallocate'):  # macOS has none
      os.posix_fallocate(file.fileno(), 0, size)
      return
    block = bytes(1 << 20)
    file.seek(0, os.SEEK_END)
    while (left := size - file.tell()) > 0:
      file.write(block[:left])


def seal(path: Path) -> None:
  """Puts the checksum behind the data of a .npy that was filled in place. Raises OSError."""
  with open(path, 'r+b') as file:
    form = _form(file, os.fstat(file.fileno()).st_size)
    trailer = _trailer(file, form.size)
    file.seek(form.size)
    file.write(trailer)


def save_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes several arrays as one .npz, complete or not at all; the archive has a checksum of each. Raises DiskError."""
  with replacing(path) as temporary, open(temporary, 'wb') as file:
    content: dict[str, Any] = dict(arrays)  # Any, as NumPy's own keywords are of other types
    np.savez(file, **content)


def load_arrays(path: str | Path, *, error: type[UserError] = DataError, fix: str = _AGAIN) -> dict[str, np.ndarray]:
  """The arrays in a .npz that `save_arrays` or `np.savez` wrote, in memory, checked against their checksums.

  Archives that are compressed are refused: they may unpack to more than any memory. Raises `error` as `load_array`.
  """
  path = Path(path)
  try:
    with zipfile.ZipFile(path) as archive:
      entries = archive.infolist()
      if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError('is compressed, and is not read')
      if archive.comment or any(entry.comment for entry in entries):
        raise ValueError('has comments, which may hide arrays that were there')
      if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ValueError('claims more bytes than it has')
      return {entry.filename.removesuffix('.npy'): _member(archive.read(entry)) for entry in entries}
  except OSError as problem:
    raise error(f'{path} cannot be read ({reason(problem)}): {fix}.') from problem
  except ValueError as problem:
    raise error(f'{path} {problem}: {fix}.') from problem
  except Exception as problem:  # of zipfile, for damaged archives, almost any
    raise error(f'{path} is damaged ({problem}): {fix}.') from problem


def _member(content: bytes) -> np.ndarray:
  file = io.BytesIO(content)
  return _of_file(file, _form(file, len(content)))
