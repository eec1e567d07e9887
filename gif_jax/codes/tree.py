"""From one vector per identity to one code per identity: a balanced tree of depth l."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from tqdm import tqdm

from gif_jax.codes.align import align as align_digits
from gif_jax.codes.align import rename
from gif_jax.codes.kmeans import kmeans

ROWS = 16384  # points gathered at a time, unless one node alone holds more


@dataclass(frozen=True)
class Tree:
  """What `build_codes` made.

  codes: uint8 [m, l], unique rows, digits 0..v-1.
  explained: float64 [l]: share of the vectors' variance explained by the first 1, 2 .. l digits, 1 - within / total;
    the last is 1. A small first entry warns that the codes are close to random ones.
  """

  codes: np.ndarray
  explained: np.ndarray


def build_codes(
  vectors: np.ndarray,
  l: int,
  v: int,
  *,
  align: bool = True,
  iterations: int = 10,
  seed: int = 0,
  progress: bool = True,
  earlier: np.ndarray | None = None,
  slack: float = 0.0,
) -> Tree:
  """Recursive balanced k-means with k = v: the code is the path from root to leaf (docs/method.md, 1.3).

  A child at depth j takes at most v**(l-j) identities, so that every leaf holds one: codes are unique for any vectors,
  equal ones included, and any m <= v**l.

  Args:
    vectors: float32 [m, d], finite: the code vectors h, or whatever the codes shall describe.
    l, v: digits in a code, values of a digit (2..256), v**l >= m.
    align: number the children alike under every parent ("Digit names"); otherwise as k-means happens to.
    iterations: of Lloyd at every level.
    seed: the codes are a function of the arguments.
    progress: show a bar over identities times levels.
    earlier: uint8 [m, l], codes made of earlier vectors of the same identities, whose digits keep their meaning: at
      every level the children of a node start as its identities with each value of the digit, and are named after the
      value that most of them had. Takes the place of `align`.
    slack: of `choose_size`. A child takes at most v**(l-j) / (1 + slack) identities, rounded up (less slack where v**l
      does not allow it), so that people who come later find room near where they belong, and not only where few are.

  Raises ValueError for sizes that do not fit, naming `tokenizer.l` and `tokenizer.v`, and for vectors that are not
  finite, naming the row.
  """
  vectors = np.asarray(vectors, np.float32)
  m = len(vectors)
  _check(vectors, l, v, iterations)
  room = min(Fraction(str(slack)), Fraction(v**l, m) - 1)
  codes = np.empty((m, l), np.uint8)
  gain = np.zeros(l)
  node = np.zeros(m, np.int64)
  root = centroid = vectors.mean(0, keepdims=True)
  with tqdm(total=m * l, desc='codes', unit='id', unit_scale=True, disable=not progress) as bar:
    for j in range(l):
      rng = np.random.default_rng([seed, j])
      begin = None if earlier is None else _begin(vectors, node, centroid, earlier[:, j], v)
      capacity = math.ceil(v ** (l - j - 1) / (1 + room))
      child = _split(vectors, node, v, min(capacity, m), iterations, rng, begin, bar)
      key, node, size = np.unique(node * v + child, return_inverse=True, return_counts=True)
      parent, digit = np.divmod(key, v)
      above, centroid = centroid, _centroids(vectors, node, size)
      residual = centroid - above[parent]
      # A level explains the energy of its residuals, and all levels everything, since leaves are single.
      gain[j] = size @ np.einsum('ed,ed->e', residual, residual).astype(np.float64)
      if earlier is not None:
        digit = rename(residual, parent, begin.prototypes, _shares(node, begin.digit, size, v))
      elif align and j:  # under the one parent of the first level, any numbering will do
        # A child without siblings has no residual: its direction from the centre of all names it.
        alone = np.bincount(parent)[parent] == 1
        residual[alone] = centroid[alone] - root
        digit = align_digits(residual, parent, v, rng)
      codes[:, j] = digit[node]
  return Tree(codes, np.cumsum(gain) / gain.sum() if gain.any() else np.ones(l))


def random_codes(m: int, l: int, v: int, seed: int = 0) -> np.ndarray:
  """Unique codes that mean nothing, uint8 [m, l]: the control a tree has to beat. Memory O(m) for any v**l <= 2**62."""
  _check_size(m, l, v)
  if v**l > 2**62:
    raise ValueError(f'random codes count in 64 bits, and {v}**{l} is above 2**62: lower tokenizer.l or tokenizer.v')
  number = np.random.default_rng(seed).choice(v**l, m, replace=False)
  return np.stack([number // v ** (l - j - 1) % v for j in range(l)], axis=1).astype(np.uint8)


def _check(vectors: np.ndarray, l: int, v: int, iterations: int) -> None:
  if vectors.ndim != 2 or not len(vectors):
    raise ValueError(f'vectors must be [m, d] with m >= 1, got shape {vectors.shape}')
  bad = np.flatnonzero(~np.isfinite(vectors).all(1))
  if len(bad):
    raise ValueError(f'the vector of identity {bad[0]} is not finite ({len(bad)} such): look at its images')
  if iterations < 1:
    raise ValueError(f'iterations={iterations}: k-means needs at least one')
  _check_size(len(vectors), l, v)


def _check_size(m: int, l: int, v: int) -> None:
  if l < 1 or not 2 <= v <= 256:
    raise ValueError(f'tokenizer.l={l} must be at least 1 and tokenizer.v={v} in 2..256 (digits are uint8)')
  if v**l < m:
    raise ValueError(f'tokenizer.l={l} and tokenizer.v={v} give {v**l} codes for {m} identities: raise one of them')


class _Begin(NamedTuple):
  """What a level of earlier codes says of the new level."""

  digit: np.ndarray  # int64 [m], the earlier digit
  centroid: np.ndarray  # float32 [e, d], of every node to be split
  prototypes: np.ndarray  # float32 [v, d], where identities of a value are on average, seen from their node's centroid


def _split(
  vectors: np.ndarray,
  node: np.ndarray,
  v: int,
  capacity: int,
  iterations: int,
  rng: np.random.Generator,
  begin: _Begin | None,
  bar: tqdm,
) -> np.ndarray:
  """The child, int64 [m], that every identity goes to under its node, int64 [m]."""
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
    start_with = begin and (begin.digit[index], begin.centroid[nodes][:, None] + begin.prototypes)
    child[index[real]] = kmeans(points, real, v, capacity, iterations, rng, start_with)[real]
    bar.update(int(real.sum()))
  return child


def _chunks(size: np.ndarray, v: int) -> Iterator[np.ndarray]:
  """The nodes of more than v identities in groups of like size, largest first, so that padding stays small."""
  nodes = np.argsort(-size, kind='stable')[: np.count_nonzero(size > v)]
  while len(nodes):
    take = max(1, ROWS // size[nodes[0]])
    yield nodes[:take]
    nodes = nodes[take:]


def _centroids(vectors: np.ndarray, node: np.ndarray, size: np.ndarray) -> np.ndarray:
  """The mean vector of every node, float32 [e, d]."""
  share = np.repeat(np.float32(1), len(node))
  total = csr_matrix((share, (node, np.arange(len(node)))), (len(size), len(node))) @ vectors
  total /= size[:, None].astype(np.float32)
  return total


def _begin(vectors: np.ndarray, node: np.ndarray, centroid: np.ndarray, digit: np.ndarray, v: int) -> _Begin:
  digit = digit.astype(np.int64)
  share = np.ones(len(node), np.float32)
  total = csr_matrix((share, (digit, np.arange(len(node)))), (v, len(node))) @ vectors
  total -= csr_matrix((share, (digit, node)), (v, len(centroid))) @ centroid
  return _Begin(digit, centroid, total / np.maximum(np.bincount(digit, minlength=v), 1)[:, None].astype(np.float32))


def _shares(node: np.ndarray, digit: np.ndarray, size: np.ndarray, v: int) -> np.ndarray:
  """The share of every node's identities with each value of a digit: float32 [e, v]."""
  count = np.bincount(node * v + digit, minlength=len(size) * v).reshape(len(size), v)
  return (count / size[:, None]).astype(np.float32)
