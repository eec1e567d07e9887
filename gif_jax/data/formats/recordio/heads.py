"""What the records of a .rec file begin with, read in blocks: the head of the frame, the header of the payload."""

import os
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from gif_jax.data.formats.recordio import framing

_BLOCK = 1 << 22  # bytes read at a time
_PREFIX = framing.HEAD.size + framing.HEADER.size + 8  # bytes of a record up to its second label
_NO_HEAD = 0xFFFFFFFF  # cflag 7, which no record has


class Heads(NamedTuple):
  """What k records begin with; zeros where the file ends before."""

  word: np.ndarray  # uint32 [k], cflag and length; _NO_HEAD where the magic is wrong
  flag: np.ndarray  # uint32 [k]
  label: np.ndarray  # float32 [k], the label, or the first of several
  second: np.ndarray  # float32 [k], the second of several
  id: np.ndarray  # int64 [k]


def read_heads(descriptor: int, size: int, offsets: np.ndarray, quiet: bool) -> Heads:
  """What is at the places int64 [k] `offsets`, rising, of the `size` bytes of a .rec file."""
  heads = Heads(*(np.zeros(len(offsets), kind) for kind in ('u4', 'u4', 'f4', 'f4', 'i8')))
  heads.word[:] = _NO_HEAD
  inside = int(np.searchsorted(offsets, size - framing.HEAD.size, side='right'))
  with tqdm(total=inside, desc='indexing records', unit='record', unit_scale=True, disable=quiet or not inside) as bar:
    i = 0
    while i < inside:
      start = int(offsets[i]) & ~3
      j = min(int(np.searchsorted(offsets, start + _BLOCK)), inside)
      wanted = framing.padded(int(offsets[j - 1]) - start) + _PREFIX
      words = np.frombuffer(os.pread(descriptor, wanted, start).ljust(wanted, b'\0'), '<u4')
      for column, values in zip(heads, _parse(words, offsets[i:j] - start)):
        column[i:j] = values
      bar.update(j - i)
      i = j
  return heads


def _parse(words: np.ndarray, at: np.ndarray) -> Heads:
  """The heads of records at bytes `at` of a block of uint32."""
  first = at >> 2
  magic, word, flag, label, low, high, one, two = (words[first + column] for column in (0, 1, 2, 3, 4, 5, 8, 9))
  word = np.where((magic == framing.MAGIC) & (at % 4 == 0), word, _NO_HEAD)
  number = low.astype('i8') | high.astype('i8') << 32
  return Heads(word, flag, np.where(flag > 0, one, label).view('f4'), two.view('f4'), number)


def correct(heads: Heads, i: int, payload: bytes) -> int:
  """Takes the head of record `i`, which is in parts, from its payload; returns the bytes of the payload."""
  head = framing.HEAD.pack(framing.MAGIC, 0) + payload[: _PREFIX - framing.HEAD.size]
  words = np.frombuffer(head.ljust(_PREFIX, b'\0'), '<u4')
  for column, values in zip(heads[1:], _parse(words, np.zeros(1, np.int64))[1:]):
    column[i] = values[0]
  return len(payload)
