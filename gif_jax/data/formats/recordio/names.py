"""Where the records are, before any is opened: from the .idx file, or from the .rec file itself.

An .idx is derived from its .rec: what it says is checked there (see `make_index`), and nothing of it is needed.
"""

import codecs
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from gif_jax.core.errors import reason
from gif_jax.data.formats.recordio import framing

LISTED = 1000  # things left out that are listed one by one, for each reason; a cut file can lack millions
_BLOCK = 1 << 22  # bytes read at a time
_LONGEST = 1 << 10  # bytes of a line; what has no line breaks is no .idx
_LINE = re.compile(rb'(\d{1,18})[ \t]+(\d{1,18})')


class Named(NamedTuple):
  """What an .idx file names, in its order."""

  keys: np.ndarray  # int64 [k]
  places: np.ndarray  # int64 [k]
  malformed: list[int]  # lines that are not KEY<TAB>PLACE; after LISTED of them the rest of the file is not read
  problem: str  # why it names nothing; '' where it names something, or has lines that should


def read_idx(path: Path, quiet: bool) -> Named:
  """Reads an .idx file. One that is missing, or cannot be read, names nothing and has a `problem`."""
  if not path.exists():
    return _nothing(f'{path.name} is missing')
  if not path.is_file():  # a pipe is never read to its end
    return _nothing(f'{path.name} is no file')
  try:
    return _read(path, quiet)
  except OSError as error:
    return _nothing(f'{path.name} cannot be read ({reason(error)})')


def _nothing(problem: str) -> Named:
  return Named(np.empty(0, np.int64), np.empty(0, np.int64), [], problem)


def _read(path: Path, quiet: bool) -> Named:
  blocks, lines = [np.empty((0, 2), np.int64)], 0
  malformed: list[int] = []
  with path.open('rb') as file, _bar(path.stat().st_size, f'reading {path.name}', quiet) as bar:
    file.seek(len(codecs.BOM_UTF8) if file.read(3) == codecs.BOM_UTF8 else 0)
    while len(malformed) <= LISTED and (block := file.read(_BLOCK) + file.readline(_LONGEST)):
      pairs, wrong, count = _parse(block)
      blocks.append(pairs)
      malformed += [lines + line for line in wrong]
      lines += count
      bar.update(len(block))
  keys, places = np.concatenate(blocks).T.copy()
  return Named(keys, places, malformed, '' if len(keys) or malformed else f'{path.name} is empty')


def _parse(block: bytes) -> tuple[np.ndarray, list[int], int]:
  """Pairs int64 [k, 2], numbers of malformed lines (from 1) and how many lines a block of complete lines has."""
  block = block.replace(b'\r\n', b'\n')
  block = block if block.endswith(b'\n') else block + b'\n'
  letters = np.frombuffer(block, np.uint8)
  ends = np.flatnonzero((letters < ord('0')) | (letters > ord('9')))  # of numbers
  digits = np.diff(ends, prepend=-1) - 1
  tabs, newlines = letters[ends[0::2]], letters[ends[1::2]]
  paired = len(tabs) == len(newlines) and (tabs == ord('\t')).all() and (newlines == ord('\n')).all()
  if paired and 0 < digits.min() <= digits.max() < 19:
    return np.fromstring(block, np.int64, sep=' ').reshape(-1, 2), [], len(newlines)
  return _parse_lines(block.split(b'\n')[:-1])


def _parse_lines(lines: list[bytes]) -> tuple[np.ndarray, list[int], int]:
  """The same for a block that is not as MXNet writes it."""
  pairs, malformed = [], []
  for number, line in enumerate(map(bytes.strip, lines), 1):
    if match := _LINE.fullmatch(line):
      pairs.append((int(match[1]), int(match[2])))
    elif line:
      malformed.append(number)
  return np.array(pairs, np.int64).reshape(-1, 2), malformed, len(lines)


def scan(descriptor: int, size: int, quiet: bool) -> np.ndarray:
  """Places int64 [n] where records begin in the `size` bytes of a .rec file: magics that are the head of a first part.

  After damage it finds the next record by itself, unless bytes were lost or put in that are no multiple of 4.
  """
  places = [np.empty(0, np.int64)]
  with _bar(size, 'looking for records', quiet) as bar:
    for start in range(0, size, _BLOCK):
      block = os.pread(descriptor, _BLOCK + 4, start)
      words = np.frombuffer(block, '<u4', len(block) // 4)
      magics = np.flatnonzero(words[:-1] == framing.MAGIC)
      first = words[magics + 1] >> framing.SHIFT <= framing.FIRST
      places.append(start + 4 * magics[first])
      bar.update(min(_BLOCK, size - start))
  return np.concatenate(places)


def keys_of_idx(keys: np.ndarray, ids: np.ndarray, headed: np.ndarray) -> tuple[np.ndarray, int]:
  """By which keys k records are known that an .idx names: int64 [k], and for how many .idx is not believed.

  keys: int64 [k], of .idx; ids: int64 [k], which the records carry themselves where bool [k] `headed`. Writers give a
  record its key as its id. But those who shuffle a file, or leave out some of it, often number the keys anew and keep
  the ids: these count only where .idx has the same keys for other records, or one key twice.
  """
  other = headed & (keys != ids)
  if other.any():
    theirs, own = np.sort(keys[headed]), np.sort(ids[headed])
    if _distinct(own) and (not _distinct(theirs) or (theirs == own).all()):
      return np.where(headed, ids, keys), int(other.sum())
  return keys, 0


def keys_of_rec(ids: np.ndarray, headed: np.ndarray) -> tuple[np.ndarray, str]:
  """The same without an .idx, and what the keys are: the ids (-1 for none), or 'record', the numbers of the records."""
  own = np.sort(ids[headed])
  if _distinct(own) and own.min(initial=0) >= 0:
    return np.where(headed, ids, -1), 'key'
  return np.arange(len(ids)), 'record'


def _distinct(ordered: np.ndarray) -> bool:
  return bool((ordered[1:] != ordered[:-1]).all())


def _bar(size: int, title: str, quiet: bool) -> tqdm:
  return tqdm(total=size, desc=title, unit='B', unit_scale=True, disable=quiet)
