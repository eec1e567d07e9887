"""A tree over one vector per identity, searched from the top: candidates for whom an embedding is nearest to.

No digit is read: centroids show the way down. So it serves whatever vectors there are, code vectors or a softmax's
centres; and the trie of a table's codes is such a tree as well (`plant`).
"""

import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from gif_jax.codes.size import choose_size
from gif_jax.codes.tree import build_codes
from gif_jax.identification import rerank
from gif_jax.identification.beam_search import DecodeIndex, build_index

ROOM = 4.0  # free leaves as a share of m: nodes need not be all of one size, which finds more at the same cost
_BLOCK = 2**16  # vectors read at a time


@flax.struct.dataclass
class Tree:
  """A trie over all identities with a direction for every node.

  Memory beside that of the index: 4 * d * sum_j nodes_j bytes over the levels j = 1..l-1 between root and leaves, about
  m * d bytes in a tree as `grow` makes it, a quarter of the identities' own vectors, which are no part of it.

  Attributes:
    index: the trie, of l digits with v values.
    centres: l - 1 arrays, centres[j] float32 [nodes_(j+1), d]: the mean of the unit vectors below each node, made unit.
  """

  index: DecodeIndex
  centres: tuple[jax.Array, ...]


def grow(vectors: np.ndarray, seed: int = 0) -> Tree:
  """A tree over vectors float [m, d] of any length, memory-mapped or not: k-means on every level, in bounds.

  Depth and width are those of codes with room for ROOM more (`codes.size.choose_size`): v <= 20, so that depth grows as
  log m. Time m v d l for each of a few iterations, memory as `codes.tree.build_codes`. Raises ValueError for vectors
  that are not finite.
  """
  l, v = choose_size(len(vectors), slack=ROOM)
  return plant(build_codes(vectors, l, v, seed=seed, progress=len(vectors) >= _BLOCK), vectors, v)


def plant(codes: np.ndarray, vectors: np.ndarray, v: int) -> Tree:
  """The trie of given codes uint8 [m, l], digits 0..v-1, as a tree over vectors float [m, d]. Raises as `build_index`.

  The codes of a tree over the same vectors are what `grow` makes; those of a product find less at the same cost
  (benchmarks/README.md), and need no clustering.
  """
  index = build_index(codes, v)
  identity, centres, sums = np.asarray(index.identity), [], None
  for j in range(codes.shape[1] - 1, 0, -1):
    table = np.asarray(index.children[j])
    count = (table >= 0).sum(1)
    first = np.cumsum(count) - count  # children are numbered in order, so those of a node stand together
    sums = _sums_of_leaves(identity, vectors, first) if sums is None else np.add.reduceat(sums, first)
    centres.append(jnp.asarray(_unit(sums)))
  return Tree(index, tuple(reversed(centres)))


def _sums_of_leaves(identity: np.ndarray, vectors: np.ndarray, first: np.ndarray) -> np.ndarray:
  """Sums float32 [nodes, d] of the unit vectors of leaves, given in order; a node's leaves begin at `first`."""
  sums = np.empty((len(first), vectors.shape[1]), np.float32)
  start = 0
  while start < len(first):
    stop = max(start + 1, int(np.searchsorted(first, first[start] + _BLOCK)))
    last = first[stop] if stop < len(first) else len(identity)
    rows = _unit(np.asarray(vectors[identity[first[start] : last]], np.float32))
    sums[start:stop] = np.add.reduceat(rows, first[start:stop] - first[start])
    start = stop
  return sums


def _unit(rows: np.ndarray) -> np.ndarray:
  return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


@functools.partial(jax.jit, static_argnames='beam')
def candidates(tree: Tree, embedding: jax.Array, beam: int) -> jax.Array:
  """The identities below the `beam` nodes whose centroids are nearest: int32 [B, at most beam * v], -1 in free places.

  The search begins on the deepest level of at most beam * v nodes, all of which are looked at, and from there keeps the
  best `beam` nodes of every level. A beam as wide as the last level before the leaves gives all m identities. Cost per
  example: at most beam * v * d multiplications a level, O(log m) in all; with `rerank.cosines` as many for the leaves.

  Args:
    tree: from `grow` or `plant`.
    embedding: float32 [B, d], of any length.
    beam: nodes kept between levels, at least 1.
  """
  if beam < 1:
    raise ValueError(f'beam must be at least 1, got {beam}')
  width = tree.index.children[0].shape[1]
  rows = max(1, rerank.held() // (beam * width * embedding.shape[1]))
  return jax.lax.map(lambda z: _descend(tree, z, beam), embedding.astype(jnp.float32), batch_size=rows)


def _descend(tree: Tree, z: jax.Array, beam: int) -> jax.Array:
  """z float32 [d] -> int32 [at most beam * v]."""
  children, centres = tree.index.children, tree.centres  # those of level j + 1 are centres[j]
  start = max(j for j, table in enumerate(children) if len(table) <= beam * table.shape[1])
  node = jnp.zeros(1, jnp.int32)
  if start:
    node = jax.lax.top_k(_dot(centres[start - 1], z), min(beam, len(centres[start - 1])))[1]
  for j in range(start, len(children) - 1):
    child = children[j][node].reshape(-1)
    cosine = jnp.where(child >= 0, _dot(centres[j][child], z), -jnp.inf)
    node = child[jax.lax.top_k(cosine, min(beam, len(centres[j])))[1]]
  leaf = children[-1][node].reshape(-1)
  return jnp.where(leaf >= 0, tree.index.identity[leaf], -1)


def _dot(rows: jax.Array, z: jax.Array) -> jax.Array:
  return jnp.matmul(rows, z, precision=jax.lax.Precision.HIGHEST)
