r"""What lies beside a .rec file for people: how the images are called and who the labels are.

    NAME.lst              KEY<TAB>LABEL<TAB>PATH, a line per image, as MXNet's im2rec has it: KEY is the id that the
                          record carries, LABEL its label; more labels may follow
    NAME.rec.people.tsv   NAME<TAB>ORIGIN, a line per label 0..m-1

Both are derived: what does not fit the .rec is not used, so that nobody gets a wrong name. In a .rec written here the
second id of the header record, which MXNet reserves and nobody reads, is the CRC-32 of people.tsv and, above it, that
of the .lst; 0 where there is none, as in what others wrote. Where the .lst has one, \ in paths is \\ there, and a tab
or a line break \t, \n, \r.
"""

import codecs
import os
import re
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from gif_jax.core.errors import DataError, reason
from gif_jax.core.lists import normal, read_rows, table_text
from gif_jax.data.formats.recordio import framing
from gif_jax.data.formats.records import Names, Person

_BLOCK = 1 << 22  # bytes read at a time
_LONGEST = 1 << 16  # bytes of a line
_EXACT = 1 << 53  # float64 holds every whole number below
_ROW = re.compile(rb'\d+(\t[-+.\deE]+)+\t[^\t]*')
_ESCAPED = {'\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r'}
_PLAIN = {written: letter for letter, written in _ESCAPED.items()}
_NUMERIC = np.isin(np.arange(256), list(b'0123456789+-.eE\t\n'))


def list_path(rec: Path) -> Path:
  """Where the names of the images stand."""
  return rec.with_suffix('.lst')


def people_path(rec: Path) -> Path:
  """Where it stands who the labels are."""
  return Path(f'{rec}.people.tsv')


class Sums(NamedTuple):
  """CRC-32 of the lists as they were written with a .rec; 0 where there was none."""

  people: int
  names: int


def sums_of(descriptor: int) -> Sums:
  """What the header record of an open .rec says."""
  head = os.pread(descriptor, framing.HEAD.size + framing.HEADER.size, 0)
  if len(head) == framing.HEAD.size + framing.HEADER.size:
    magic, word = framing.HEAD.unpack_from(head)
    flag, _, number, second = framing.HEADER.unpack_from(head, framing.HEAD.size)
    if magic == framing.MAGIC and word >> framing.SHIFT == framing.SINGLE and (flag, number) == (2, 0):
      return Sums(second & 0xFFFFFFFF, second >> 32)
  return Sums(0, 0)


def write_people(path: Path, people: Sequence[Person]) -> int:
  """Writes who the labels are; its CRC-32."""
  content = table_text(people, '\t').encode('utf-8', 'surrogateescape')
  path.write_bytes(content)
  return zlib.crc32(content)


def read_people(path: Path, wanted: int) -> list[Person]:
  """Who the labels are. wanted: the CRC-32 it must have, or 0. Raises DataError where it is damaged."""
  if not path.is_file():
    raise DataError(f'{path} is missing')
  if wanted and _crc(path) != wanted:
    raise DataError(f'{path} is not what was written with the .rec')
  rows = [row for _, row in read_rows(path, '\t', fix='it is damaged')]
  if not all(len(row) == 2 and row[0] for row in rows):
    raise DataError(f'{path} has lines that are not NAME<TAB>ORIGIN')
  people = [Person(*row) for row in rows]
  if len({normal(person.name) for person in people}) < len(people):
    raise DataError(f'{path} gives two people one name')
  return people


def _crc(path: Path) -> int:
  try:
    return zlib.crc32(path.read_bytes())
  except OSError as error:
    raise DataError(f'{path} cannot be read ({reason(error)})') from error


def write_names(path: Path, names: Names, labels: np.ndarray) -> int:
  """Writes the names of images with the keys 1, 2 .. and int64 [n] labels; its CRC-32."""
  crc = 0
  with path.open('wb') as file:
    for i, label in enumerate(labels):
      name = re.sub(r'[\\\t\n\r]', lambda letter: _ESCAPED[letter[0]], names[i])
      line = f'{i + 1}\t{label}\t{name}\n'.encode('utf-8', 'surrogateescape')
      crc = zlib.crc32(line, crc)
      file.write(line)
  return crc


class ListedNames:
  """The names in a .lst, of n images: an open file, and where in it each of them stands."""

  def __init__(self, path: Path, ids: np.ndarray, labels: np.ndarray, wanted: int):
    """ids: int64 [n], the keys that the images carry; labels: float32 [n], theirs; wanted: the CRC-32, or 0.

    Raises DataError where the list is of another form or does not fit.
    """
    self.path, self.escaped, self._file = path, bool(wanted), -1
    try:
      if not path.is_file():
        raise DataError(f'{path} is missing')
      with path.open('rb') as file:
        lines, crc = _read(path, file)
        self._file = os.dup(file.fileno())
    except OSError as error:
      raise DataError(f'{path} cannot be read ({reason(error)})') from error
    if wanted and crc != wanted:
      raise DataError(f'{path} is not what was written with the .rec')
    rows = _rows(path, lines, ids, labels)
    self.begin, self.length = lines.begin[rows], lines.length[rows]

  def __del__(self) -> None:
    if self._file >= 0:
      os.close(self._file)

  def __getitem__(self, index: int) -> str:
    try:
      name = os.pread(self._file, int(self.length[index]), int(self.begin[index])).decode('utf-8', 'surrogateescape')
    except OSError as error:
      raise DataError(f'{self.path} cannot be read ({reason(error)}); check the disk.') from error
    return re.sub(r'\\[\\tnr]', lambda written: _PLAIN[written[0]], name) if self.escaped else name


class _Lines(NamedTuple):
  """k lines of a .lst."""

  key: np.ndarray  # int64 [k]
  label: np.ndarray  # float32 [k]
  begin: np.ndarray  # int64 [k], the first byte of the path
  length: np.ndarray  # int32 [k], its bytes


def _read(path: Path, file: BinaryIO) -> tuple[_Lines, int]:
  """All lines of a .lst, without an object for each, and the CRC-32 of the file."""
  blocks: list[_Lines] = []
  crc = at = lines = 0
  while block := file.read(_BLOCK) + (rest := file.readline(_LONGEST)):
    if len(rest) == _LONGEST:
      raise DataError(f'{path} has lines of more than {_LONGEST} bytes')
    crc = zlib.crc32(block, crc)
    mark = len(codecs.BOM_UTF8) if not at and block.startswith(codecs.BOM_UTF8) else 0
    parsed = _parse(block[mark:], at + mark)
    if parsed is None:
      rows = block[mark:].splitlines()
      wrong = next((number for number, row in enumerate(rows) if not _ROW.fullmatch(row)), 0)
      raise DataError(f'{path}, line {lines + wrong + 1} is not KEY<TAB>LABEL<TAB>PATH')
    blocks.append(parsed)
    at, lines = at + len(block), lines + len(parsed.key)
  if not blocks:
    raise DataError(f'{path} is empty')
  return _Lines(*map(np.concatenate, zip(*blocks))), crc


def _parse(block: bytes, at: int) -> _Lines | None:
  """The lines of a block that begins at byte `at` of the file; None where one of them is of another form."""
  letters = np.frombuffer(block if block.endswith(b'\n') else block + b'\n', np.uint8)
  stop = np.flatnonzero((letters == ord('\t')) | (letters == ord('\n')))  # of fields
  begin = np.append(0, stop[:-1] + 1)
  path = letters[stop] == ord('\n')  # the last of its line
  numbers = np.diff(np.flatnonzero(path), prepend=-1) - 1  # of each line
  if numbers.min() < 2 or (begin == stop)[~path].any():
    return None
  first = np.cumsum(numbers) - numbers
  values = _values(letters, begin[path], stop[path], int(numbers.sum()))
  if values is None:
    return None
  keys = values[first]
  if not ((keys >= 0) & (keys < _EXACT) & (keys == np.floor(keys))).all():
    return None
  begin, stop = begin[path], stop[path]
  stop = stop - ((stop > begin) & (letters[stop - 1] == ord('\r')))
  return _Lines(
    keys.astype(np.int64), values[first + 1].astype(np.float32), at + begin, (stop - begin).astype(np.int32)
  )


def _values(letters: np.ndarray, begin: np.ndarray, stop: np.ndarray, count: int) -> np.ndarray | None:
  """All that stands outside of the paths [begin, stop): float64 [count]; None where that is no such row of numbers."""
  edges = np.zeros(len(letters) + 1, np.int8)
  edges[begin] += 1
  edges[stop] -= 1
  text = letters[np.cumsum(edges[:-1], dtype=np.int8) == 0]
  if not _NUMERIC[text].all():
    return None
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('error')  # NumPy's for text that is no number; some day it will be a ValueError
      values = np.fromstring(text.tobytes(), np.float64, sep=' ')
  except (ValueError, DeprecationWarning):
    return None
  return values if len(values) == count else None


def _rows(path: Path, lines: _Lines, ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Which line is that of each image: int64 [n]. Raises DataError where one has none, or the label of another."""
  order = np.argsort(lines.key, kind='stable')
  keys = lines.key[order]
  if (keys[1:] == keys[:-1]).any():
    raise DataError(f'{path} has two lines for one key')
  at = np.minimum(np.searchsorted(keys, ids), len(keys) - 1)
  if (lost := keys[at] != ids).any():
    raise DataError(f'{path} has no line for the image with the id {ids[lost][0]} ({lost.sum()} such images)')
  if np.bincount(at).max() > 1:
    raise DataError(f'{path} does not tell images apart: several of the .rec have one id')
  rows = order[at]
  if (other := lines.label[rows] != labels).any():
    raise DataError(f'{path} has other labels for {other.sum()} images than the .rec')
  return rows
