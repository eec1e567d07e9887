"""Lists in text files, whoever wrote them: one reader for all, and one spelling in which names are compared.

UTF-8 with or without a mark (BOM) at its beginning, UTF-16 as spreadsheets write it, lines that end in LF or CRLF.
Bytes that are no UTF-8 stay what they are (surrogate escapes), as in names of files.
"""

import codecs
import csv
import difflib
import functools
import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from gif_jax.core.errors import DataError, UserError, reason
from gif_jax.core.storage.files import write_text
from gif_jax.core.texts import quoted

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_FORMULA = ('=', '+', '-', '@', '\t', '\r')  # a cell that begins so is run by spreadsheets
_MARKS = ('\ufeff', '\udcff\udcfe', '\udcfe\udcff')  # what a file must not begin with, or it is taken for a mark
_LONGEST = 1 << 20  # characters of a line; a file without line breaks is no list
_YES = re.compile(r'1(\.0*)?|yes|true', re.IGNORECASE)
_NO = re.compile(r'0(\.0*)?|no|false', re.IGNORECASE)
_COMPARED = 20_000  # names that one is compared with, a letter at a time, to find what may have been meant


def normal(name: str) -> str:
  """The one spelling of a name that may come composed or decomposed (macOS), used wherever names are compared."""
  # No path is longer than 4096 bytes; the time that it takes to put accents in order grows with their square.
  return unicodedata.normalize('NFC', name) if len(name) <= 4096 else name


def path_key(name: str) -> str:
  """The one spelling of a path below some folder: as `normal`, without ./ and doubled slashes, and with / for \\."""
  name = normal(name).replace('\\', '/')
  return name[: name.startswith('/')] + '/'.join(part for part in name.split('/') if part not in ('', '.'))


def tidy(name: str) -> str:
  """The one spelling of a name as people copy it from elsewhere: as `path_key`, without blanks around."""
  return path_key(name.strip())


def yes_or_no(cell: str) -> bool | None:
  """What a mark in a list says: 1, 1.0, yes or true; 0, 0.0, no or false, in any case. None for anything else."""
  cell = cell.strip()
  return True if _YES.fullmatch(cell) else False if _NO.fullmatch(cell) else None


def open_text(path: str | Path, *, newline: str | None = None) -> TextIO:
  """A text file, opened for reading whatever its encoding is.

  newline: as for `open`; None has lines end in LF. Raises OSError.
  """
  file = open(path, 'rb')  # noqa: SIM115  closed with what is returned
  decoded = functools.partial(io.TextIOWrapper, encoding='utf-8', errors='surrogateescape', newline=newline)
  head = file.read(3)
  if head.startswith(_UTF16):
    with file:
      file.seek(0)
      text = file.read().decode('utf-16', 'surrogatepass')
    return decoded(io.BytesIO(text.encode('utf-8', 'surrogatepass')))
  file.seek(3 if head == codecs.BOM_UTF8 else 0)
  return decoded(file)


def read_lines(
  path: str | Path, *, error: type[UserError] = DataError, fix: str = 'check the path and the file'
) -> Iterator[tuple[int, str]]:
  """(number, text) of every line that is not blank, without its end. Raises `error`, with `fix`, for other files."""
  for number, line in _numbered(path, error, fix):
    if line.strip():
      yield number, line.rstrip('\n')


def _numbered(path, error, fix, newline=None):
  try:
    with open_text(path, newline=newline) as lines:
      number = 0
      while line := lines.readline(_LONGEST):
        number += 1
        if len(line) == _LONGEST or '\0' in line:
          raise error(f'{path}, line {number}: this is no text: {fix}.')
        yield number, line
  except OSError as problem:
    raise error(f'{path} cannot be read ({reason(problem)}): {fix}.') from problem
  except ValueError as problem:  # UnicodeError, and what names of files cannot have
    raise error(f'{path} is no text ({problem}): {fix}.') from problem


def read_rows(
  path: str | Path, delimiter: str, *, error: type[UserError] = DataError, fix: str = 'check the path and the file'
) -> Iterator[tuple[int, list[str]]]:
  """(number, cells) of every row of a table that is not empty, as `write_rows` wrote it. Raises `error`, with `fix`."""
  lines = (line for _, line in _numbered(path, error, fix, newline=''))  # line breaks in cells are those of the cell
  rows = csv.reader(lines, delimiter=delimiter)
  try:
    for row in rows:
      if any(cell.strip() for cell in row):
        yield rows.line_num, [_armed(cell) for cell in row]
  except csv.Error as problem:
    raise error(f'{path}, line {rows.line_num}: {problem}: {fix}.') from problem


def write_rows(path: str | Path, rows: Iterable[Sequence], delimiter: str) -> None:
  """Writes a table for people, spreadsheets and `read_rows`, complete or not at all. Raises DiskError."""
  write_text(path, table_text(rows, delimiter))


def table_text(rows: Iterable[Sequence], delimiter: str) -> str:
  """The rows of a table as text. A cell that a spreadsheet would run begins with ' there, which it does not show."""
  return ''.join(_row_text([_cell(cell) for cell in row], delimiter) for row in rows)


def _row_text(cells, delimiter):
  text = io.StringIO()
  marked = bool(cells) and isinstance(cells[0], str) and cells[0].startswith(_MARKS)
  # With CR in its own line end it quotes cells that have one, too.
  writer = csv.writer(
    text, delimiter=delimiter, lineterminator='\r\n', quoting=csv.QUOTE_ALL if marked else csv.QUOTE_MINIMAL
  )
  writer.writerow(cells)
  return text.getvalue().removesuffix('\r\n') + '\n'


def _cell(cell):
  return cell if cell is None or isinstance(cell, int | float) else _defused(str(cell))


def _defused(cell: str) -> str:
  return f"'{cell}" if cell.startswith((*_FORMULA, "'")) else cell


def _armed(cell: str) -> str:
  return cell[1:] if cell.startswith("'") and cell[1:].startswith((*_FORMULA, "'")) else cell


def parse_int(text: str) -> int:
  """An integer of 64 bits as lists have it: Python alone takes 1_000 for one. Raises ValueError."""
  value = int(text)
  if '_' in text or not -(2**63) <= value < 2**63:
    raise ValueError(f'{text} is no integer of 64 bits')
  return value


def is_number(text: str, kind: Callable[[str], object] = float) -> bool:
  """Whether a field of a list is a number; kind: `float`, or `parse_int`."""
  try:
    return '_' not in text and kind(text) is not None
  except ValueError:
    return False


def parts(listed: str) -> list[str]:
  """What a flag or a setting names with commas between; blanks around a name are none of it."""
  return [part for part in map(str.strip, listed.split(',')) if part]


def indexed(names: Iterable[str], key: Callable[[str], str]) -> dict[str, int]:
  """Where each name stands, by its one spelling: `normal` or `path_key`. Raises DataError where two have the same."""
  places: dict[str, int] = {}
  listed = list(names)
  for place, name in enumerate(listed):
    if (other := places.setdefault(key(name), place)) != place:
      raise DataError(f'{listed[other]} and {name} are one name in any list: rename one of them.')
  return places


class Names:
  """Things by the names that a list may give them, in the first of several spellings that any of them has."""

  def __init__(
    self,
    kind: str,
    names: Sequence[tuple[str, int]],
    *spellings: Callable[[str], str],
    shown: Callable[[int], str] = str,
  ) -> None:
    """kind: such as 'image'. names: (name, thing), several for a thing if it has them. spellings: `normal`, `path_key`,
    `tidy`. shown: what a thing is called where its name is that of another one, too.
    """
    self._kind, self._names, self._spellings, self._shown = kind, names, spellings, shown
    self._tables: dict[Callable[[str], str], dict[str, tuple[int, ...]]] = {}

  def find(self, name: str) -> list[int]:
    """What `name` may mean: nothing, one thing, or several whose names differ in nothing that a list shows."""
    for spelling in self._spellings:
      if things := self._table(spelling).get(spelling(name)):
        return list(dict.fromkeys(things))
    return []

  def one(self, name: str, part: str = '') -> int:
    """The thing that `name`, which stands in a `part` of the line, means. Raises LookupError, in words, where there is
    none or several.
    """
    part = part and f'{part}: '
    things = self.find(name)
    if len(things) > 1:
      raise LookupError(f'{part}{quoted(name)} may be {" or ".join(map(self._shown, things[:3]))}: rename one of them')
    if not things:
      raise LookupError(f'{part}no {self._kind} is called {quoted(name)}{self._instead(name)}')
    return things[0]

  def _table(self, spelling):
    """{spelling of a name: things}; made when first asked for, which the second and later ones seldom are."""
    if spelling not in self._tables:
      table = self._tables[spelling] = {}
      for name, thing in self._names:
        key = spelling(name)
        table[key] = (*table.get(key, ()), thing)
    return self._tables[spelling]

  def _instead(self, name):
    if re.search('[\udc80-\udcff]', name):
      return ' (the list is not in UTF-8: save it as that)'
    similar = nearest(name, [other for other, _ in self._names])
    return f'; there is {quoted(similar)}' if similar else ''


def nearest(name: str, names: Sequence[str]) -> str | None:
  """Which of the names may have been meant by another: one that differs in case, accents, signs, or a few letters.

  Of paths also one with another ending, or of more or fewer folders; letters are compared within the folder, if there.
  """
  loose, stem = _loose(name), _loose(name.rpartition('.')[0]) if '/' in name else ''
  for fits in (
    lambda other: loose and _loose(other) == loose,
    lambda other: stem and _loose(other.rpartition('.')[0]) == stem,
    lambda other: name.endswith(f'/{other}') or (name and other.endswith(f'/{name}')),
  ):
    if meant := next(filter(fits, names), None):
      return meant
  folder = name.rpartition('/')[0]
  beside = [other for other in names if other.rpartition('/')[0] == folder] or names
  return next(iter(difflib.get_close_matches(name, beside[:_COMPARED], 1)), None)


def _loose(name):
  if not name.isascii():
    name = ''.join(c for c in unicodedata.normalize('NFKD', name) if not unicodedata.combining(c))
  return re.sub(r'[\W_]+', ' ', name.casefold()).strip()
