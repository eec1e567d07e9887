"""How good codes are: what they say of the vectors they were made for, beside what chance would give."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from tqdm import tqdm

from gif_jax.codes.quality.neighbours import SAMPLE, Neighbours, code_order, neighbours, starts

ROWS = 4096  # vectors in float64 at a time
STILL = 1e-9  # a residual below this share of its centroid is rounding: an only child, or equal vectors
EQUAL = 1e-12  # a variance below this share of the energy is rounding


class Quality(NamedTuple):
  """Metrics of codes and vectors. NaN is what cannot be measured; a control is computed on the same vectors.

  explained: float64 [l]: share of the vectors' variance explained by the first 1, 2 .. l digits (the last is 1); NaN if
    all vectors are equal.
  alone: float64 [l]: share of the variance explained by each digit by itself.
  explained_chance, alone_chance: the same with the codes dealt to the identities at random.
  consistency: float64 [l]: mean cosine between a child's residual (its centroid minus its parent's) and the mean
    direction of all residuals with its digit; NaN at the first digit and wherever fewer than two parents have
    children that differ.
  consistency_chance: the same with each parent's children renamed at random.
  neighbours: of a sample of the identities; None where m is 1.
  """

  explained: np.ndarray
  explained_chance: np.ndarray
  alone: np.ndarray
  alone_chance: np.ndarray
  consistency: np.ndarray
  consistency_chance: np.ndarray
  neighbours: Neighbours | None


def measure(
  codes: np.ndarray, vectors: np.ndarray, *, sample: int = SAMPLE, seed: int = 0, progress: bool = True
) -> Quality:
  """All metrics of codes uint8 [m, l], unique rows, and vectors float [m, d], memory-mapped or not.

  Vectors are read in blocks; what grows with m beside the arguments is the order of the codes (8 m bytes) and copies of
  them. sample: identities whose neighbours are looked for. seed: of the controls and the sample. progress: show bars.
  """
  dealt = codes[np.random.default_rng(seed).permutation(len(codes))]
  metrics = tree_metrics(codes, vectors, seed=seed, progress=progress and 'tree')
  chance = tree_metrics(dealt, vectors, seed=seed, progress=progress and 'tree, by chance')
  near = neighbours(codes, vectors, sample=sample, seed=seed, progress=progress) if len(codes) > 1 else None
  return Quality(
    metrics.explained,
    chance.explained,
    explained_alone(codes, vectors),
    explained_alone(dealt, vectors),
    metrics.consistency,
    metrics.consistency_chance,
    near,
  )


def explained_alone(codes: np.ndarray, vectors: np.ndarray) -> np.ndarray:
  """Share of the variance of vectors [m, d] that each digit of codes [m, l] explains by itself: float64 [l].

  1 - within / total over the identities with each value of the digit: what a head that knows no other digit can tell.
  Random codes explain (v - 1) / (m - 1). NaN where all vectors are equal.
  """
  (m, l), d, v = codes.shape, vectors.shape[1], int(codes.max()) + 1
  total = np.zeros((l * v, d))
  energy = np.float64(0)
  entry = codes.astype(np.int64) + v * np.arange(l)
  for start in range(0, m, ROWS):
    rows = np.arange(start, min(start + ROWS, m))
    block, own = vectors[rows].astype(np.float64), entry[rows].ravel()
    total += csr_matrix((np.ones(len(own)), own, np.arange(0, len(own) + 1, l)), (len(block), l * v)).T @ block
    energy += np.vdot(block, block)
  count = np.bincount(entry.ravel(), minlength=l * v)
  rest = np.square(total[:v].sum(0) / m).sum() * m  # of the mean of all
  between = (np.square(total).sum(1) / np.maximum(count, 1)).reshape(l, v).sum(1) - rest
  return between / (energy - rest) if energy - rest > EQUAL * energy else np.full(l, np.nan)


class TreeMetrics(NamedTuple):
  """See `Quality`."""

  explained: np.ndarray
  consistency: np.ndarray
  consistency_chance: np.ndarray


def tree_metrics(codes: np.ndarray, vectors: np.ndarray, *, seed: int = 0, progress: str | bool = False) -> TreeMetrics:
  """Variance explained and consistency of names, in one pass from the leaves to the root, a block of leaves at a time.

  codes: uint8 [m, l], unique rows. vectors: float [m, d]. progress: the title of a bar, if any.
  """
  (_, l), d = codes.shape, vectors.shape[1]
  levels = [_Level(int(codes.max()) + 1, d, np.random.default_rng([seed, j])) for j in range(l)]
  nodes = _leaves(codes, vectors, progress)
  for level in reversed(levels):
    nodes = _climb(nodes, level)
  (root,) = nodes  # pulls everything through
  energy = np.array([level.energy for level in levels]) - _energy(root)
  unequal = energy[-1] > EQUAL * levels[-1].energy
  return TreeMetrics(
    energy / energy[-1] if unequal else np.full(l, np.nan),
    np.array([level.consistency(level.named) for level in levels]),
    np.array([level.consistency(level.renamed) for level in levels]),
  )


class _Nodes(NamedTuple):
  """Neighbouring nodes of one depth j, in the order of their codes."""

  code: np.ndarray  # uint8 [e, j]
  total: np.ndarray  # float64 [e, d], sum of the vectors
  size: np.ndarray  # int64 [e], identities

  def part(self, which: slice) -> '_Nodes':
    return _Nodes(*(array[which] for array in self))

  def centroids(self) -> np.ndarray:
    return self.total / self.size[:, None]


def _energy(nodes: _Nodes) -> float:
  return float(nodes.size @ np.square(nodes.centroids()).sum(1))


def _leaves(codes: np.ndarray, vectors: np.ndarray, progress: str | bool) -> Iterator[_Nodes]:
  order = code_order(codes)
  with tqdm(total=len(codes), desc=progress or '', unit='id', unit_scale=True, disable=not progress) as bar:
    for start in range(0, len(order), ROWS):
      rows = order[start : start + ROWS]
      yield _Nodes(codes[rows], vectors[rows].astype(np.float64), np.ones(len(rows), np.int64))
      bar.update(len(rows))


def _climb(children: Iterator[_Nodes], level: '_Level') -> Iterator[_Nodes]:
  """The parents of all nodes of a depth, which are shown to `level` on the way."""
  for block in _families(children):
    first = starts(block.code[:, :-1])
    size, total = np.add.reduceat(block.size, first), np.add.reduceat(block.total, first)
    parents = _Nodes(block.code[first, :-1], total, size)
    level.add(block, parents, first)
    yield parents


def _families(blocks: Iterator[_Nodes]) -> Iterator[_Nodes]:
  """The same nodes in blocks that hold all children of a parent, or none."""
  rest: _Nodes | None = None
  for block in blocks:
    block = block if rest is None else _Nodes(*map(np.concatenate, zip(rest, block)))
    last = starts(block.code[:, :-1])[-1]
    if last:
      yield block.part(slice(last))
    rest = block.part(slice(last, None))
  if rest is not None:
    yield rest


class _Level:
  """Sums over all nodes of one depth.

  The mean over residuals of their cosine with the mean direction of their digit is the length of each digit's sum of
  unit residuals, added up: sum_r r . S/|S| = |S|. So one pass does.
  """

  def __init__(self, v: int, d: int, rng: np.random.Generator):
    self.rng, self.energy, self.children, self.parents = rng, 0.0, 0, 0
    self.named, self.renamed = np.zeros((v, d)), np.zeros((v, d))

  def add(self, nodes: _Nodes, parents: _Nodes, first: np.ndarray) -> None:
    """Nodes with all their siblings, their parents, and where the children of each begin."""
    self.energy += _energy(nodes)
    family = np.repeat(np.arange(len(first)), np.diff(first, append=len(nodes.code)))
    centre, digit = nodes.centroids(), nodes.code[:, -1]
    residual = centre - parents.centroids()[family]
    length = np.linalg.norm(residual, axis=1)
    moved = length > STILL * np.linalg.norm(centre, axis=1)
    unit = residual[moved] / length[moved, None]
    # Dealt out again among siblings, so that a value is as frequent as before.
    other = digit[np.lexsort((self.rng.random(len(family)), family))]
    self.named += _sums(unit, digit[moved], len(self.named))
    self.renamed += _sums(unit, other[moved], len(self.named))
    self.children += len(unit)
    self.parents += len(np.unique(family[moved]))

  def consistency(self, sums: np.ndarray) -> float:
    return float(np.linalg.norm(sums, axis=1).sum() / self.children) if self.parents > 1 else np.nan


def _sums(rows: np.ndarray, digit: np.ndarray, v: int) -> np.ndarray:
  """Sum of the rows of each digit: float64 [v, d]."""
  return csr_matrix((np.ones(len(rows)), (digit, np.arange(len(rows)))), (v, len(rows))) @ rows


class Level(NamedTuple):
  """Nodes of one depth that hold anybody."""

  nodes: int
  capacity: int  # v**(l-j), identities a node has room for
  smallest: int
  largest: int
  full: int  # nodes with as many identities as they have room for
  empty: int  # children that nodes one level up could have and do not


class Balance(NamedTuple):
  """How evenly codes use their digits and their tree."""

  share: np.ndarray  # float64 [l, v]: of the identities, with each value of each digit
  entropy: np.ndarray  # float64 [l], bits; log2(v) is the most
  levels: list[Level]  # of the first 1, 2 .. l digits


def measure_balance(codes: np.ndarray, v: int) -> Balance:
  """Balance of codes uint8 [m, l], unique rows, digits 0..v-1."""
  m, l = codes.shape
  share = np.stack([np.bincount(codes[:, j], minlength=v) / m for j in range(l)])
  entropy = np.sum(share * -np.log2(share, where=share > 0, out=np.zeros_like(share)), axis=1)
  ordered, levels, parents = codes[code_order(codes)], [], 1
  for j in range(1, l + 1):
    size, capacity = np.diff(starts(ordered[:, :j]), append=m), v ** (l - j)
    full, empty = int(np.sum(size >= min(capacity, m + 1))), parents * v - len(size)
    levels.append(Level(len(size), capacity, int(size.min()), int(size.max()), full, empty))
    parents = len(size)
  return Balance(share, entropy, levels)
