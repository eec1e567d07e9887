"""Which records there are, before any is opened: from the .idx file, or from the .rec file itself."""

import os
import re
from pathlib import Path

import numpy as np
from tqdm import tqdm

from gif_jax.data.recordio import framing

_BLOCK = 1 << 22  # bytes read at a time
_LINE = re.compile(rb'\s*(\d{1,18})[ \t]+(\d{1,18})\s*')


def read_idx(path: Path, quiet: bool) -> tuple[np.ndarray, np.ndarray, list[int]]:
  """Keys and places int64 [n] that an .idx file names, in its order, and the numbers of lines that cannot be read."""
  found, malformed, lines = [np.empty((0, 2), np.int64)], [], 0
  with path.open('rb') as file, _bar(path.stat().st_size, f'reading {path.name}', quiet) as bar:
    while block := file.read(_BLOCK) + file.readline():
      pairs, wrong, count = _parse(block.replace(b'\r\n', b'\n'))
      found.append(pairs)
      malformed += [lines + line for line in wrong]
      lines += count
      bar.update(len(block))
  keys, places = np.concatenate(found).T.copy()
  return keys, places, malformed


def _parse(block):
  """Pairs int64 [k, 2], numbers of malformed lines (from 1) and how many lines a block of whole lines has."""
  block = block if block.endswith(b'\n') else block + b'\n'
  letters = np.frombuffer(block, np.uint8)
  ends = np.flatnonzero((letters < ord('0')) | (letters > ord('9')))  # of numbers
  digits = np.diff(ends, prepend=-1) - 1
  tabs, newlines = letters[ends[0::2]], letters[ends[1::2]]
  paired = len(tabs) == len(newlines) and (tabs == ord('\t')).all() and (newlines == ord('\n')).all()
  if paired and 0 < digits.min() <= digits.max() < 19:
    return np.fromstring(block, np.int64, sep=' ').reshape(-1, 2), [], len(newlines)
  return _parse_lines(block.split(b'\n')[:-1])


def _parse_lines(lines):
  """The same for a block that is not as MXNet writes it."""
  pairs, malformed = [], []
  for number, line in enumerate(lines, 1):
    if match := _LINE.fullmatch(line):
      pairs.append((int(match[1]), int(match[2])))
    elif line.strip():
      malformed.append(number)
  return np.array(pairs, np.int64).reshape(-1, 2), malformed, len(lines)


def scan(descriptor: int, size: int, quiet: bool) -> np.ndarray:
  """Places int64 [n] where records begin in the `size` bytes of a .rec file: magics that are the head of a first part.

  After damage it finds the next record by itself, unless bytes were lost or put in that are no multiple of 4.
  """
  found = [np.empty(0, np.int64)]
  with _bar(size, 'looking for records', quiet) as bar:
    for start in range(0, size, _BLOCK):
      words = os.pread(descriptor, _BLOCK + 4, start)
      words = np.frombuffer(words, '<u4', len(words) // 4)
      magics = np.flatnonzero(words[:-1] == framing.MAGIC)
      first = words[magics + 1] >> framing.SHIFT <= framing.FIRST
      found.append(start + 4 * magics[first])
      bar.update(min(_BLOCK, size - start))
  return np.concatenate(found)


def _bar(size, title, quiet):
  return tqdm(total=size, desc=title, unit='B', unit_scale=True, disable=quiet)
