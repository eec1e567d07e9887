"""People who look alike: nearest neighbours among mean embeddings, in blocks on the devices, never all m x m."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from gif_jax.core.distributed.mesh import batch_sharding, make_mesh

_Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]  # row int64 [p], column int64 [p], cosine float32 [p]

_ROWS = 2048  # embeddings whose neighbours are looked for at a time
_COLUMNS = 16384  # embeddings they are compared with at a time: 128 MB of cosines


def centred(embeddings: np.ndarray, mean: np.ndarray) -> np.ndarray:
  """Unit vectors of embeddings float32 [m, d] less `mean` [d], that of all people; in place. The mean itself becomes 0.

  Features such as pixels have a large part in common with everybody, which would make all cosines near 1.
  """
  embeddings -= mean
  norms = np.sqrt(np.einsum('md,md->m', embeddings, embeddings))
  embeddings /= np.maximum(norms, 1e-12)[:, None]
  return embeddings


def nearest(
  rows: np.ndarray, columns: np.ndarray | None = None, *, k: int, floor: float, progress: str = 'comparing people'
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The up to `k` nearest columns of every row, with a cosine of at least `floor`.

  Args:
    rows: unit vectors float32 [m, d].
    columns: unit vectors float32 [n, d]; None compares every row with those after it, so that a pair is found once.
    k: most neighbours of a row.
    floor: smallest cosine.
    progress: name of the progress bar; '' shows none.

  Returns:
    row int64 [p], column int64 [p], cosine float32 [p], the most similar pair first. Cost: m * n * d (half of it
    without columns), memory O(m + n).
  """
  later, columns = columns is None, rows if columns is None else columns
  mesh = make_mesh(jax.local_devices())
  where, high = batch_sharding(mesh), min(_ROWS, len(rows))
  high, wide = high + -high % mesh.size, min(_COLUMNS, len(columns))
  jobs = [
    (start, first)
    for first in range(0, len(columns), max(1, wide))
    for start in range(0, len(rows), high)
    if not later or start < first + wide  # the others are all before their rows
  ]
  best: _Pairs = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
  block, held = None, -1
  for start, first in tqdm(jobs, desc=progress, unit='block', disable=not progress):
    if first != held:
      block, held = jnp.asarray(_padded(columns[first : first + wide], wide)), first
    some = jax.device_put(_padded(rows[start : start + high], high), where)
    column, cosine = map(np.asarray, _best(some, block, start, first, len(columns), min(k, wide), later))
    row, place = np.nonzero(cosine[: len(rows) - start] >= floor)
    if len(row):
      near = row + start, column[row, place], cosine[row, place]
      best = _most_similar(tuple(map(np.concatenate, zip(best, near))), k)
  rows_of, columns_of, cosines = best
  order = np.lexsort((columns_of, rows_of, -cosines))
  return rows_of[order], columns_of[order], cosines[order]


def _padded(vectors: np.ndarray, size: int) -> np.ndarray:
  return np.pad(vectors, ((0, size - len(vectors)), (0, 0)))


@functools.partial(jax.jit, static_argnums=(5, 6))
def _best(
  rows: jax.Array, columns: jax.Array, start: int, first: int, n: int, k: int, later: bool
) -> tuple[jax.Array, jax.Array]:
  """Columns int32 [r, k] and cosines float32 [r, k] of the k nearest in a block; cosine -2 where there are fewer."""
  cosine = jnp.matmul(rows, columns.T, precision='high')
  column = jnp.arange(columns.shape[0])[None] + first
  allowed = column < n
  if later:
    allowed &= column > jnp.arange(rows.shape[0])[:, None] + start
  cosine, place = jax.lax.top_k(jnp.where(allowed, cosine, -2), k)
  return place + first, cosine


def _most_similar(pairs: tuple[np.ndarray, ...], k: int) -> _Pairs:
  """The k most similar pairs of every row."""
  row, column, cosine = pairs
  order = np.lexsort((column, -cosine, row))
  row, column, cosine = row[order], column[order], cosine[order]
  starts = np.flatnonzero(np.append(True, row[1:] != row[:-1]))
  rank = np.arange(len(row)) - np.repeat(starts, np.diff(np.append(starts, len(row))))
  return row[rank < k], column[rank < k], cosine[rank < k]
