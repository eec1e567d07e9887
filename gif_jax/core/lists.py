"""Lists in text files, whoever wrote them: one reader for all, and one spelling in which names are compared.

UTF-8 with or without a mark (BOM) at its beginning, UTF-16 as spreadsheets write it, lines that end in LF or CRLF.
Bytes that are no UTF-8 stay what they are (surrogate escapes), as in names of files.
"""

import codecs
import csv
import io
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from gif_jax.core.errors import DataError, UserError, reason
from gif_jax.core.files import write_text

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_FORMULA = ('=', '+', '-', '@', '\t', '\r')  # a cell that begins so is run by spreadsheets
_MARKS = ('\ufeff', '\udcff\udcfe', '\udcfe\udcff')  # what a file must not begin with, or it is taken for a mark
_LONGEST = 1 << 20  # characters of a line; a file without line breaks is no list


def normal(name: str) -> str:
  """The one spelling of a name that may come composed or decomposed (macOS), used wherever names are compared."""
  # No path is longer than 4096 bytes; the time that it takes to put accents in order grows with their square.
  return unicodedata.normalize('NFC', name) if len(name) <= 4096 else name


def path_key(name: str) -> str:
  """The one spelling of a path below some folder: as `normal`, without ./ and doubled slashes, and with / for \\."""
  name = normal(name).replace('\\', '/')
  return name[: name.startswith('/')] + '/'.join(part for part in name.split('/') if part not in ('', '.'))


def open_text(path: str | Path, *, newline: str | None = None) -> TextIO:
  """A text file, opened for reading whatever its encoding is.

  newline: as for `open`; None has lines end in LF. Raises OSError.
  """
  file = open(path, 'rb')  # noqa: SIM115  closed with what is returned
  encoding = {'encoding': 'utf-8', 'errors': 'surrogateescape', 'newline': newline}
  head = file.read(3)
  if head.startswith(_UTF16):
    with file:
      file.seek(0)
      text = file.read().decode('utf-16', 'surrogatepass')
    return io.TextIOWrapper(io.BytesIO(text.encode('utf-8', 'surrogatepass')), **encoding)
  file.seek(3 if head == codecs.BOM_UTF8 else 0)
  return io.TextIOWrapper(file, **encoding)


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
  """Writes a table for people, spreadsheets and `read_rows`, whole or not at all. Raises DiskError."""
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


def whole(text: str) -> int:
  """An integer of 64 bits as lists have it: Python alone takes 1_000 for one. Raises ValueError."""
  value = int(text)
  if '_' in text or not -(2**63) <= value < 2**63:
    raise ValueError(f'{text} is no integer of 64 bits')
  return value


def is_number(text: str, kind: Callable[[str], object] = float) -> bool:
  """Whether a field of a list is a number; kind: `float`, or `whole`."""
  try:
    return '_' not in text and kind(text) is not None
  except ValueError:
    return False


def indexed(names: Iterable[str], key: Callable[[str], str]) -> dict[str, int]:
  """Where each name stands, by its one spelling: `normal` or `path_key`. Raises DataError where two have the same."""
  places, names = {}, list(names)
  for place, name in enumerate(names):
    if (other := places.setdefault(key(name), place)) != place:
      raise DataError(f'{names[other]} and {name} are one name in any list: rename one of them.')
  return places
