"""Vectors of all identities, read a block at a time."""

from collections.abc import Iterator

import numpy as np


def blocks(vectors: np.ndarray, rows: int) -> Iterator[tuple[slice, np.ndarray]]:
  """Vectors float [m, d], memory-mapped or not, as (which rows, float32 [b, d]), at most `rows` at a time."""
  for start in range(0, len(vectors), rows):
    part = slice(start, start + rows)
    yield part, np.asarray(vectors[part], np.float32)
