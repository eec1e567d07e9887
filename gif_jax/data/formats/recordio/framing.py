"""RecordIO: the frame around every record of a .rec file, and what is in the records of images. All little-endian.

    part     uint32 magic, uint32 cflag << 29 | length, that many bytes, zeros up to a multiple of 4
    record   one part with cflag 0; or, where its payload holds the magic at multiples of 4, what lies between those
             places as parts with cflag 1, 2, 2 ... 3. So the magic, at a multiple of 4, is always the head of a part
    payload  uint32 flag, float32 label, uint64 id, uint64 id2; `flag` float32 labels, which count then; the image

Sources: dmlc-core's recordio.h and recordio.cc for the frame, MXNet's recordio.py (IRHeader) for the payload.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

MAGIC = 0xCED7230A
SINGLE, FIRST, MIDDLE, LAST = range(4)  # cflag
SHIFT = 29
LENGTH = (1 << SHIFT) - 1  # the bits of the length, and the most bytes a payload has
HEAD = struct.Struct('<II')
HEADER = struct.Struct('<IfQQ')
_MAGIC_BYTES = struct.pack('<I', MAGIC)

Bytes = TypeVar('Bytes', int, np.ndarray)  # numbers of bytes


def padded(length: Bytes) -> Bytes:
  """Bytes that `length` bytes take with their padding."""
  return (length + 3) & ~3


def pack(image: bytes, label: float | Sequence[float], number: int, second: int = 0) -> bytes:
  """The payload of an image (or b'') with one label or several; number, second: its ids. Labels are kept as float32."""
  if isinstance(label, int | float):
    return HEADER.pack(0, label, number, second) + image
  return HEADER.pack(len(label), 0, number, second) + struct.pack(f'<{len(label)}f', *label) + image


def _pieces(payload: bytes) -> Iterator[bytes]:
  """What lies between the magics at multiples of 4."""
  begin = at = 0
  while (at := payload.find(_MAGIC_BYTES, at)) >= 0:
    if at % 4:
      at += 1
    else:
      yield payload[begin:at]
      begin = at = at + 4
  yield payload[begin:]


def frame(payload: bytes) -> bytes:
  """The record of a payload, byte for byte as dmlc-core writes it. Raises ValueError where a record cannot hold it."""
  if len(payload) > LENGTH:
    raise ValueError(f'{len(payload)} bytes, but a record holds at most {LENGTH}')
  pieces = list(_pieces(payload))
  flags = [SINGLE] if len(pieces) == 1 else [FIRST, *[MIDDLE] * (len(pieces) - 2), LAST]
  record = b''.join(HEAD.pack(MAGIC, flag << SHIFT | len(piece)) + piece for flag, piece in zip(flags, pieces))
  return record + bytes(-len(payload) % 4)


def parts(descriptor: int, offset: int, stop: int) -> list[tuple[int, int]]:
  """Where the parts of the record at `offset` lie: [(first byte, bytes)]; [] if one is missing or not below `stop`."""
  listed: list[tuple[int, int]] = []
  wanted, total = (SINGLE, FIRST), 0
  while offset + HEAD.size <= stop:
    head = os.pread(descriptor, HEAD.size, offset)
    magic, word = HEAD.unpack(head) if len(head) == HEAD.size else (0, 0)
    flag, length = word >> SHIFT, word & LENGTH
    offset, total = offset + HEAD.size, total + length + len(_MAGIC_BYTES)
    if magic != MAGIC or flag not in wanted or offset + length > stop or total > LENGTH:
      return []
    listed.append((offset, length))
    if flag in (SINGLE, LAST):
      return listed
    offset, wanted = offset + padded(length), (MIDDLE, LAST)
  return []


def join(descriptor: int, where: list[tuple[int, int]]) -> bytes:
  """The payload whose parts lie at `where`, with the magic put back between them."""
  return _MAGIC_BYTES.join(os.pread(descriptor, length, offset) for offset, length in where)
