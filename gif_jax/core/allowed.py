"""What a setting may be: a range such as '[0, 1)', choices, any text. Said in words; values checked against it."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

_INTERVAL = re.compile(r'([\[(])([^,]+), ([^\])]+)([\])])')
_LARGEST = 2.0**128  # from here on float32, in which networks compute, knows infinity alone
_SHOWN = 80  # characters of a value
_SMALL, _LARGE = 'too small', 'too large'
_ANGLES = {'pi/2': math.pi / 2}
KINDS = {bool: 'True or False', int: 'a whole number', float: 'a number', str: 'a text'}  # what values are, in words


class Range(NamedTuple):
  """Numbers from one end to another; an end that is open does not belong to them."""

  least: float
  most: float
  open_below: bool
  open_above: bool

  def problem(self, value: float) -> str:
    """'too small' or 'too large'; '' for a number within."""
    if value < self.least or (self.open_below and value == self.least):
      return _SMALL
    return _LARGE if value > self.most or (self.open_above and value == self.most) else ''

  def lower(self) -> str:
    """Such as 'at least 0'; '' where there is no lower end."""
    return f'{"more than" if self.open_below else "at least"} {_end(self.least)}' if math.isfinite(self.least) else ''

  def upper(self) -> str:
    """Such as 'less than 1'; '' where there is no upper end."""
    return f'{"less than" if self.open_above else "at most"} {_end(self.most)}' if math.isfinite(self.most) else ''

  def words(self) -> str:
    """Such as 'at least 0, less than 1'; '' where any number will do."""
    return ', '.join(filter(None, (self.lower(), self.upper())))


def _end(number: float) -> str:
  named = next((name for name, angle in _ANGLES.items() if angle == number), '')
  return named or (str(int(number)) if number == int(number) else f'{number:g}')


def ranges(text: str) -> list[Range]:
  """The intervals of a text, '[' and ']' with their end, '(' and ')' without: one, or as many as a tuple has parts."""
  intervals = _INTERVAL.findall(text)
  return [Range(_number(low), _number(high), left == '(', right == ')') for left, low, high, right in intervals]


def _number(end: str) -> float:
  return _ANGLES.get(end) or float(end)


def words(kind: type, allowed: str | Sequence[str]) -> str:
  """What may be given for a value of some type, with its ranges or choices (none: any text)."""
  if not isinstance(allowed, str):
    return one_of(allowed) if allowed else KINDS[kind]
  if kind is tuple:
    parts = ranges(allowed)
    return f'{len(parts)} numbers, {"; ".join(part.words() for part in parts)}'
  limits = ranges(allowed)[0].words() if kind in (int, float) else ''
  return KINDS[kind] + (f', {limits}' if limits else '')


def one_of(names: Sequence[str]) -> str:
  """'a, b or c'."""
  return ' or '.join(filter(None, (', '.join(names[:-1]), names[-1])))


def problem(value: Any, kind: type, allowed: str | Sequence[str]) -> str:
  """What is wrong with a value and what to give instead, after 'KEY=VALUE '; '' where nothing is.

  Numbers are finite, of any type; a whole number will do for a number, and True for neither.
  """
  parts = value if isinstance(value, tuple | list) else (value,)
  if any(_endless(part) for part in parts):
    return 'is no number to work with; give a finite one.'
  if kind is str and allowed and value not in allowed:
    return f'is not known; choose from {", ".join(allowed)}.'
  limits = ranges(allowed) if isinstance(allowed, str) else []
  if kind is tuple:
    if not isinstance(value, tuple | list) or len(value) != len(limits) or not all(_is(x, float) for x in value):
      return f'must be {words(kind, allowed)}.'
    wrong = [(part, limit) for part, limit in zip(value, limits) if limit.problem(part)]
    return f'has a part {wrong[0][0]} that is {_outside(*wrong[0])}' if wrong else ''
  if not _is(value, kind):
    return f'is not {words(kind, allowed)}.'
  return f'is {_outside(value, limits[0])}' if kind in (int, float) and limits[0].problem(value) else ''


def _outside(value: float, limit: Range) -> str:
  side = limit.problem(value)
  return f'{side}; give {limit.lower() if side == _SMALL else limit.upper()}.'


def _endless(value):
  return isinstance(value, int | float) and not abs(value) < _LARGEST


def _is(value, kind):
  if kind is str:
    return isinstance(value, str) and '\0' not in value  # which no path and no name can have
  kinds = (int, float) if kind is float else kind
  return isinstance(value, kinds) and isinstance(value, bool) == (kind is bool)


def shown(value: object) -> str:
  """A value as a message shows it, in a few characters however long it is."""
  try:
    text = repr(value)
  except ValueError:  # Python writes no numbers of more than 4300 digits
    return 'a number without end'
  return text if len(text) <= _SHOWN else f'{text[:_SHOWN]}...'


def did_you_mean(name: str, known: Iterable[str], before: str = '', after: str = '') -> str:
  """' Did you mean X?' for the most alike of the names that are known, '' if none is; before, after: shown around X.

  Of names with dots all that end alike are meant: train.seed, data.seed and others for seed.
  """
  import difflib  # which only a mistake needs

  names = list(known)
  by_end: dict[str, list[str]] = {}
  for other in names:
    by_end.setdefault(other.rpartition('.')[2], []).append(other)
  end = name.rpartition('.')[2]
  similar = by_end.get(end) or difflib.get_close_matches(name, names, 1, 0.75)
  similar = similar or [other for close in difflib.get_close_matches(end, by_end, 1, 0.75) for other in by_end[close]]
  return f' Did you mean {one_of([f"{before}{other}{after}" for other in similar])}?' if similar else ''
