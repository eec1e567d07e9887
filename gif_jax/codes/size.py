"""How long a code is and how many values a digit can take; what codes can be made at all."""

import math
from fractions import Fraction

import numpy as np

from gif_jax.codes.blocks import blocks

LARGEST_DIGIT = 20  # v the automatic rule may reach: the upper end of the paper's range
SMALLEST_V = 5  # the lower end
LARGEST_V = 256  # digits are stored as uint8
COUNTABLE = 2**62  # codes that int64 numbers
ROWS = 16384  # vectors looked at a time


def choose_size(m: int, l: int = 0, v: int = 0, slack: float = 0.0) -> tuple[int, int]:
  """Returns (l, v) with v**l >= m; a 0 in `l` or `v` means: choose it (docs/method.md, "Choice of l and v").

  Both 0: the smallest l with 20**l >= m * (1 + slack), then the smallest v >= 5 with v**l >= m * (1 + slack).
  One given: the other is the smallest that reaches m * (1 + slack), v again from 5 on. Both given: they only have to
  reach m. All sums are exact, since a code short by one identity is a code that does not exist.

  Raises ValueError, naming `tokenizer.l`, `tokenizer.v` or `tokenizer.slack`, where no such size exists.
  """
  _check(m, l, v, slack)
  need = math.ceil(m * (1 + Fraction(str(slack))))  # through str: .1 is meant as a tenth, not as its nearest double
  if l and v:
    check_size(m, l, v)
    return l, v
  l = l or _smallest_l(v or LARGEST_DIGIT, need)
  return l, v or _smallest_v(l, need)


def _check(m: int, l: int, v: int, slack: float) -> None:
  if m < 1:
    raise ValueError(f'codes need at least one identity, got m={m}')
  if l < 0:
    raise ValueError(f'tokenizer.l={l} must be at least 1, or 0 to have it chosen')
  if v and not 2 <= v <= LARGEST_V:
    raise ValueError(f'tokenizer.v={v} must lie in 2..{LARGEST_V} (digits are uint8), or be 0 to have it chosen')
  if slack < 0:
    raise ValueError(f'tokenizer.slack={slack} must not be negative')


def _smallest_l(v: int, need: int) -> int:
  l = 1
  while v**l < need:
    l += 1
  return l


def _smallest_v(l: int, need: int) -> int:
  for v in range(SMALLEST_V, LARGEST_V + 1):
    if v**l >= need:
      return v
  raise ValueError(f'tokenizer.l={l} needs more than {LARGEST_V} values a digit for {need} codes: raise tokenizer.l')


def check_vectors(vectors: np.ndarray) -> None:
  """Raises ValueError, naming the row, where no codes can be made of vectors [m, d]."""
  if vectors.ndim != 2 or not len(vectors):
    raise ValueError(f'vectors must be [m, d] with m >= 1, got shape {vectors.shape}')
  for part, block in blocks(vectors, ROWS):
    bad = np.flatnonzero(~np.isfinite(block).all(1))
    if len(bad):
      raise ValueError(f'the vector of identity {part.start + bad[0]} is not finite: look at its images')


def check_size(m: int, l: int, v: int) -> None:
  """Raises ValueError where l digits of v values are not enough for m identities."""
  if l < 1 or not 2 <= v <= LARGEST_V:
    raise ValueError(f'tokenizer.l={l} must be at least 1 and tokenizer.v={v} in 2..{LARGEST_V} (digits are uint8)')
  if v**l < m:
    raise ValueError(
      f'tokenizer.l={l} and tokenizer.v={v} give {v**l} codes for {m} identities: '
      'raise one of them, or set one to 0 to have it chosen'
    )


def check_countable(m: int, l: int, v: int) -> None:
  """Raises ValueError as `check_size` does, and where there are more codes than 64 bits count."""
  check_size(m, l, v)
  if v**l > COUNTABLE:
    raise ValueError(f'codes are counted in 64 bits, and {v}**{l} is above 2**62: lower tokenizer.l or tokenizer.v')
