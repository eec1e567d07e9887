"""From one vector per identity to one code per identity: a balanced tree of depth l, or codes at random."""

from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from gif_jax.codes.kmeans import MOST, ROWS, kmeans
from gif_jax.codes.size import check_countable, check_size, check_vectors
from gif_jax.core.storage.resume import Draft


def build_codes(
  vectors: np.ndarray,
  l: int,
  v: int,
  *,
  iterations: int = 10,
  seed: int = 0,
  progress: bool = True,
  draft: Draft | None = None,
) -> np.ndarray:
  """Recursive balanced k-means with k = v: the code is the path from root to leaf (docs/method.md, 1.3).

  A child at depth j takes at most v**(l-j) identities, so that every leaf holds one: codes are unique for any vectors,
  equal ones included, and any m <= v**l. All nodes of a level are split together, in time m v d and, beside the vectors
  themselves, in memory for m numbers and the vectors of some nodes.

  Args:
    vectors: float16 or float32 [m, d], finite: the code vectors h, or whatever the codes shall describe. Read a block
      at a time, so they may be memory-mapped.
    l, v: digits in a code, values of a digit (2..256), v**l >= m.
    iterations: of Lloyd at every level.
    seed: the codes are a function of the arguments.
    progress: show a bar over identities times levels.
    draft: where a run that is killed finds the levels that were done.

  Returns uint8 [m, l], unique rows, digits 0..v-1. Raises ValueError for sizes that do not fit, naming `tokenizer.l`
  and `tokenizer.v`, and for vectors that are not finite, naming the row.
  """
  vectors = np.asarray(vectors)
  check_vectors(vectors)
  check_size(len(vectors), l, v)
  m = len(vectors)
  done, codes = (draft and draft.load('codes')) or (0, np.zeros((m, l), np.uint8))
  codes, node = np.array(codes), np.zeros(m, np.int64)
  for j in range(done):
    node = _descend(node, codes[:, j], v)
  with tqdm(total=m * l, initial=m * done, desc='codes', unit='id', unit_scale=True, disable=not progress) as bar:
    for j in range(done, l):
      rng = np.random.default_rng([seed, j])
      codes[:, j] = _split(vectors, node, v, min(v ** (l - j - 1), m), iterations, rng, bar)
      node = _descend(node, codes[:, j], v)
      if draft:
        draft.save('codes', j + 1, codes)
  return codes


def random_codes(m: int, l: int, v: int, seed: int = 0) -> np.ndarray:
  """Unique codes that mean nothing, uint8 [m, l]: the control others have to beat. Memory for O(m), v**l <= 2**62."""
  check_countable(m, l, v)
  number = np.random.default_rng(seed).choice(v**l, m, replace=False)
  return np.stack([number // v ** (l - j - 1) % v for j in range(l)], axis=1).astype(np.uint8)


def _descend(node: np.ndarray, digit: np.ndarray, v: int) -> np.ndarray:
  """The node below, int64 [m], of identities with such a node and digit; numbered in the order of codes."""
  return np.unique(node * v + digit, return_inverse=True)[1]


def _split(
  vectors: np.ndarray, node: np.ndarray, v: int, capacity: int, iterations: int, rng: np.random.Generator, bar: tqdm
) -> np.ndarray:
  """The child, int64 [m], that every identity goes to under its node, int64 [m], 0..N-1, none without identities."""
  size = np.bincount(node)
  start = np.cumsum(size) - size
  order = np.argsort(node, kind='stable')
  child = np.empty(len(node), np.int64)
  # In a node of at most v identities each gets a child of its own, which no clustering can better.
  child[order] = np.arange(len(node)) - np.repeat(start, size)
  bar.update(int(size[size <= v].sum()))
  for nodes in _chunks(size, v):
    slot = np.arange(size[nodes[0]])
    real = slot < size[nodes][:, None]
    index = order[start[nodes][:, None] + np.where(real, slot, 0)]
    points = vectors[None] if len(size) == 1 else vectors[index]
    if index.size <= MOST:
      points = points.astype(np.float32, copy=False)
    child[index[real]] = kmeans(points, real, v, capacity, iterations, rng)[real]
    bar.update(int(real.sum()))
  return child


def _chunks(size: np.ndarray, v: int) -> Iterator[np.ndarray]:
  """The nodes of more than v identities in groups of like size, largest first, so that padding stays small."""
  nodes = np.argsort(-size, kind='stable')[: np.count_nonzero(size > v)]
  while len(nodes):
    take = max(1, ROWS // size[nodes[0]])
    yield nodes[:take]
    nodes = nodes[take:]
