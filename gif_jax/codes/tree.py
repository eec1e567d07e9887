"""From one vector per identity to one code per identity: a balanced tree of depth l."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from gif_jax.codes.align import learn_prototypes, match, rename
from gif_jax.codes.draft import Draft
from gif_jax.codes.kmeans import MOST, kmeans
from gif_jax.codes.nodes import ROWS, Children, Nodes, centre, children

LEARN_FROM = 1024  # parents that the names of digits are learnt from


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
  draft: Draft | None = None,
) -> Tree:
  """Recursive balanced k-means with k = v: the code is the path from root to leaf (docs/method.md, 1.3).

  A child at depth j takes at most v**(l-j) identities, so that every leaf holds one: codes are unique for any vectors,
  equal ones included, and any m <= v**l. All nodes of a level are split together, in time m v d and, beside the vectors
  themselves, in memory for m numbers and the vectors of one block of nodes.

  Args:
    vectors: float16 or float32 [m, d], finite: the code vectors h, or whatever the codes shall describe. Read a block
      at a time, so they may be memory-mapped.
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
    draft: where a run that is killed finds the levels that were done.

  Raises ValueError for sizes that do not fit, naming `tokenizer.l` and `tokenizer.v`, and for vectors that are not
  finite, naming the row.
  """
  vectors = np.asarray(vectors)
  _check(vectors, l, v, iterations)
  m = len(vectors)
  room = min(Fraction(str(slack)), Fraction(v**l, m) - 1)
  codes, gain, done = _continue(draft, m, l)
  node = np.zeros(m, np.int64)
  for j in range(done):
    node = _descend(node, codes[:, j], v)
  with tqdm(total=m * l, initial=m * done, desc='codes', unit='id', unit_scale=True, disable=not progress) as bar:
    for j in range(done, l):
      rng = np.random.default_rng([seed, j])
      nodes = Nodes.of(node)
      before = _Earlier.of(vectors, nodes, earlier[:, j], v) if earlier is not None else None
      capacity = min(math.ceil(v ** (l - j - 1) / (1 + room)), m)
      child = _split(vectors, nodes, v, capacity, iterations, rng, before, bar)
      # Under the one parent of the first level, any numbering will do.
      names = _Names.learn(vectors, nodes, child, v, rng) if align and j and before is None else None
      for which in nodes.blocks():
        found = children(vectors, nodes, which, child, v)
        # A level explains the energy of its residuals, and all levels everything, since leaves are single.
        gain[j] += found.size @ np.einsum('ed,ed->e', found.residual, found.residual).astype(np.float64)
        codes[found.identities, j] = _name(found, names, before, v)[found.child]
      node = _descend(node, codes[:, j], v)
      if draft:
        draft.save('explained', j + 1, gain)
        draft.save('codes', j + 1, codes)
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
  for start in range(0, len(vectors), ROWS):
    bad = np.flatnonzero(~np.isfinite(vectors[start : start + ROWS]).all(1))
    if len(bad):
      raise ValueError(f'the vector of identity {start + bad[0]} is not finite: look at its images')
  if iterations < 1:
    raise ValueError(f'iterations={iterations}: k-means needs at least one')
  _check_size(len(vectors), l, v)


def _check_size(m: int, l: int, v: int) -> None:
  if l < 1 or not 2 <= v <= 256:
    raise ValueError(f'tokenizer.l={l} must be at least 1 and tokenizer.v={v} in 2..256 (digits are uint8)')
  if v**l < m:
    raise ValueError(f'tokenizer.l={l} and tokenizer.v={v} give {v**l} codes for {m} identities: raise one of them')


def _continue(draft: Draft | None, m: int, l: int) -> tuple[np.ndarray, np.ndarray, int]:
  """Codes uint8 [m, l], the energy explained by every level, float64 [l], and the levels that are done."""
  saved = draft and draft.load('codes')
  if not saved:
    return np.zeros((m, l), np.uint8), np.zeros(l), 0
  done, codes = saved
  gain = np.array(draft.load('explained')[1])
  gain[done:] = 0
  return np.array(codes), gain, done


def _descend(node: np.ndarray, digit: np.ndarray, v: int) -> np.ndarray:
  """The node below, int64 [m], of identities with such a node and digit; numbered in the order of codes."""
  return np.unique(node * v + digit, return_inverse=True)[1]


class _Earlier(NamedTuple):
  """What a level of earlier codes says of the new level.

  digit: int64 [m], the earlier digit. mean: float32 [N, d], of every node. prototypes: float32 [v, d], where identities
  of a value were on average, seen from the mean of their node.
  """

  digit: np.ndarray
  mean: np.ndarray
  prototypes: np.ndarray

  @classmethod
  def of(cls, vectors: np.ndarray, nodes: Nodes, digit: np.ndarray, v: int) -> '_Earlier':
    digit = digit.astype(np.int64)
    mean = np.empty((len(nodes.size), vectors.shape[1]), np.float32)
    total = np.zeros((v, vectors.shape[1]), np.float32)
    for which in nodes.blocks():
      found = children(vectors, nodes, which, digit, v)
      np.add.at(total, found.digit, found.residual * found.size[:, None].astype(np.float32))
      mean[which] = found.mean
    return cls(digit, mean, total / np.maximum(np.bincount(digit, minlength=v), 1)[:, None].astype(np.float32))


def _split(
  vectors: np.ndarray,
  nodes: Nodes,
  v: int,
  capacity: int,
  iterations: int,
  rng: np.random.Generator,
  before: _Earlier | None,
  bar: tqdm,
) -> np.ndarray:
  """The child, int64 [m], that every identity goes to under its node."""
  order, start, size = nodes
  child = np.empty(len(order), np.int64)
  # In a node of at most v identities each gets a child of its own, which no clustering can better.
  child[order] = np.arange(len(order)) - np.repeat(start, size)
  bar.update(int(size[size <= v].sum()))
  for which in _chunks(size, v):
    slot = np.arange(size[which[0]])
    real = slot < size[which][:, None]
    index = order[start[which][:, None] + np.where(real, slot, 0)]
    points = vectors[None] if len(size) == 1 else vectors[index]
    if index.size <= MOST:
      points = points.astype(np.float32, copy=False)
    begin = before and (before.digit[index], before.mean[which][:, None] + before.prototypes)
    child[index[real]] = kmeans(points, real, v, capacity, iterations, rng, begin)[real]
    bar.update(int(real.sum()))
  return child


def _chunks(size: np.ndarray, v: int) -> Iterator[np.ndarray]:
  """The nodes of more than v identities in groups of like size, largest first, so that padding stays small."""
  large = np.argsort(-size, kind='stable')[: np.count_nonzero(size > v)]
  while len(large):
    take = max(1, ROWS // size[large[0]])
    yield large[:take]
    large = large[take:]


class _Names(NamedTuple):
  """What the values of a digit mean: unit directions float32 [v, d]; and root float32 [d], the mean of all."""

  root: np.ndarray
  prototypes: np.ndarray

  @classmethod
  def learn(cls, vectors: np.ndarray, nodes: Nodes, child: np.ndarray, v: int, rng: np.random.Generator) -> '_Names':
    root = centre(vectors)
    some = np.sort(rng.permutation(len(nodes.size))[:LEARN_FROM])
    found = children(vectors, nodes, some, child, v)
    return cls(root, learn_prototypes(_directions(found, root), found.parent, v, rng))


def _directions(found: Children, root: np.ndarray) -> np.ndarray:
  """Residuals [e, d]; a child without siblings has none, and is named by its direction from the centre of all."""
  alone = np.bincount(found.parent)[found.parent] == 1
  return np.where(alone[:, None], found.centroid - root, found.residual)


def _name(found: Children, names: _Names | None, before: _Earlier | None, v: int) -> np.ndarray:
  """The digit of every child, int64 [e]."""
  if before:
    count = np.bincount(found.child * v + before.digit[found.identities], minlength=len(found.size) * v).reshape(-1, v)
    kept = (count / found.size[:, None]).astype(np.float32)
    return rename(found.residual.copy(), found.parent, before.prototypes.copy(), kept)
  if names:
    return match(_directions(found, names.root), found.parent, names.prototypes)
  return found.digit
