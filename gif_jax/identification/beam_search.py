"""Beam search over the valid identity codes: from digit log-probabilities to identities.

The heads say the probabilities of all digits at once (`decode`); the sequence decoder says those of a digit for every
prefix that is still in the search (`decode_sequence`).

The codes in use are a small part of all v**l digit strings, and their prefixes form a trie. Searching that trie instead
of scoring every identity is what makes closed-set identification independent of m (docs/method.md, section 3).
"""

import functools
import operator
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np


@flax.struct.dataclass
class DecodeIndex:
  """Prefix trie over the m valid codes: the decoder's optional index, and the only thing here that grows with m.

  Nodes of a level are numbered in lexicographic order of their prefixes, so node order is code order everywhere;
  level 0 is the root alone and level l holds the m leaves. Memory: 4 * (v * sum_j nodes_j + m) bytes over j = 0..l-1,
  with nodes_j <= min(v**j, m): about 8 * m bytes where the codes fill v**l well, at most 4 * m * (v * l + 1).

  Attributes:
    children: l tables, children[j] int32 [nodes_j, v]: the node of level j+1 that a value of digit j leads to, -1
      where no code goes.
    identity: int32 [m], identity label of every leaf.
  """

  children: tuple[jax.Array, ...]
  identity: jax.Array


def build_index(codes: np.ndarray, v: int) -> DecodeIndex:
  """Builds the trie over `codes` uint8 [m, l] with digits in 0..v-1; row y is the code of identity y.

  Raises:
    ValueError: no codes, a digit outside 0..v-1, or two identities with one code.
  """
  codes = np.asarray(codes)
  _check_codes(codes, v)
  order = np.lexsort(codes.T[::-1])
  ranked = codes[order]
  # opens[i, j]: the prefix of j+1 digits of leaf i differs from that of leaf i-1, so a new node of level j+1 begins.
  opens = np.ones(codes.shape, bool)
  np.logical_or.accumulate(ranked[1:] != ranked[:-1], axis=1, out=opens[1:])
  if not opens[:, -1].all():
    second = int(np.argmin(opens[:, -1]))
    raise ValueError(
      f'identities {order[second - 1]} and {order[second]} share the code {ranked[second].tolist()}: codes must be '
      'unique; write the table again with the tokeniser of this project'
    )
  children, parent = [], np.zeros(len(codes), np.int32)
  for j in range(codes.shape[1]):
    first = np.flatnonzero(opens[:, j])
    table = np.full((parent[-1] + 1, v), -1, np.int32)
    table[parent[first], ranked[first, j]] = np.arange(len(first), dtype=np.int32)
    children.append(jnp.asarray(table))
    parent = np.cumsum(opens[:, j], dtype=np.int32) - 1
  return DecodeIndex(children=tuple(children), identity=jnp.asarray(order.astype(np.int32)))


def _check_codes(codes: np.ndarray, v: int) -> None:
  if codes.ndim != 2 or 0 in codes.shape:
    raise ValueError(f'codes must be a non-empty [m, l] array, got shape {codes.shape}: pass the codes of a CodeTable')
  if codes.min() < 0 or codes.max() >= v:
    raise ValueError(f'digits must lie in 0..{v - 1}, found {codes.min()}..{codes.max()}: pass the v of the table')


@functools.partial(jax.jit, static_argnames=('beam', 'k'))
def decode(index: DecodeIndex, log_probs: jax.Array, beam: int, k: int) -> tuple[jax.Array, jax.Array]:
  """The k best identities of every example by beam search over valid codes.

  The score of a code is the sum of its digits' log-probabilities, added in the order j = 0..l-1 in float32. Ties go to
  the lexicographically smaller code. A beam as wide as the widest level before the leaves is exact: identities and
  scores are those of scoring all m codes. Cost after the heads: O(l * beam * v) per example, whatever m is.

  Args:
    index: the trie, from `build_index`.
    log_probs: float32 [B, l, v], log-probability of every value of every digit; -inf is allowed.
    beam: prefixes kept between levels, at least 1; clipped to the number of nodes of a level.
    k: identities returned per example; may exceed `beam`, since the last level is not cut before the final choice.

  Returns:
    identity int32 [B, k] and score float32 [B, k], best first. Where fewer than k codes were reached (m < k, or a
    narrow beam) the rest is identity -1 with score -inf.

  Raises:
    ValueError: `log_probs` does not fit the index, or beam or k below 1.
  """
  l, v = len(index.children), index.children[0].shape[1]
  if log_probs.ndim != 3 or log_probs.shape[1:] != (l, v):
    raise ValueError(f'this index takes log_probs [B, {l}, {v}], got {log_probs.shape}: use the table of the run')

  def search(example: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _search(index, lambda state, before, j: (state, example[j][None]), None, beam, k)

  return jax.vmap(search)(log_probs)


@functools.partial(jax.jit, static_argnames=('read_digit', 'beam', 'k'))
def decode_sequence(
  index: DecodeIndex, read_digit: Callable, parameters: Any, first: jax.Array, beam: int, k: int
) -> tuple[jax.Array, jax.Array]:
  """As `decode`, where the probabilities of a digit depend on the digits before it.

  The score of a code is the logarithm of its probability by the chain rule, sum_j log p(c_j | c_1 .. c_{j-1}). Laws,
  ties and results are those of `decode`, as exactly as `read_digit` says the same of a prefix alone and among others.
  Cost: `read_digit` for at most `beam` prefixes l times per example, whatever m is. Memory is that
  of `beam` states for every example: give a large set in parts.

  Args:
    index: the trie, from `build_index`.
    read_digit: pure, (parameters, state [n, ...], before int32 [n], j) -> (next state, log_probs [n, v]): digit j of n
      prefixes, of which `before` is the last digit (at j = 0 there is none, and n = 1). Give the same function again
      and not one made anew, or it is compiled again.
    parameters: what `read_digit` wants of the network.
    first: [B, ...], state of every example before any digit is read, an array or a tree of arrays.
    beam, k: as for `decode`.

  Raises:
    ValueError: log-probabilities that do not fit the index, or beam or k below 1.
  """

  def search(state: Any) -> tuple[jax.Array, jax.Array]:
    read = functools.partial(read_digit, parameters)
    return _search(index, read, jax.tree.map(lambda x: x[None], state), beam, k)

  return jax.vmap(search)(first)


def _search(index: DecodeIndex, read: Callable, state: Any, beam: int, k: int) -> tuple[jax.Array, jax.Array]:
  """Beam search for one example -> identity int32 [k], score float32 [k].

  read(state, before, j) -> (state, log_probs [width, v], or [1, v] where all prefixes share them); state: a tree of
  arrays [1, ...], which become [width, ...].
  """
  if beam < 1 or k < 1:
    raise ValueError(f'beam and k must be at least 1, got beam={beam}, k={k}')
  node, before, score = jnp.zeros(1, jnp.int32), jnp.zeros(1, jnp.int32), jnp.zeros(1, jnp.float32)
  for j, table in enumerate(index.children):
    v = table.shape[1]
    state, log_probs = read(state, before, j)
    if log_probs.shape[1] != v:
      raise ValueError(f'this index takes {v} values of a digit, got {log_probs.shape[1]}: use the table of the run')
    log_probs = log_probs.astype(jnp.float32)
    # [width, v] -> [width * v]. Entries of the beam stay in node order, so candidates are in code order as well.
    # top_k orders -0.0 below 0.0, which would break a tie the wrong way.
    child = table[node].reshape(-1)
    score = (score[:, None] + jnp.where(log_probs == 0, 0.0, log_probs)).reshape(-1)
    if j + 1 < len(index.children):
      # Every node has a child, so there are valid candidates enough: the beam never holds an invalid one.
      kept = jnp.sort(_best(child, score, min(beam, index.children[j + 1].shape[0])))
      node, before, score = child[kept], kept % v, score[kept]
      state = jax.tree.map(operator.itemgetter(kept // v), state)
  best = _best(child, score, min(k, child.size))
  reached = child[best] >= 0
  identity = jnp.where(reached, index.identity[child[best]], -1)
  score = jnp.where(reached, score[best], -jnp.inf)
  missing = k - best.size
  return jnp.pad(identity, (0, missing), constant_values=-1), jnp.pad(score, (0, missing), constant_values=-jnp.inf)


def _best(child: jax.Array, score: jax.Array, count: int) -> jax.Array:
  """Positions of the `count` best candidates, best first; ties to the lower position, valid before invalid."""
  # The floor keeps a valid code of probability 0 (score -inf) ahead of a child that does not exist.
  rank = jnp.where(child >= 0, jnp.maximum(score, jnp.finfo(jnp.float32).min), -jnp.inf)
  return jax.lax.top_k(rank, count)[1]
