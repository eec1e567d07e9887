"""Identification: which person is it? Digit accuracy, rank-k rates, and matching against one vector per identity."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

_BLOCK = 2**24  # similarities held at once: 64 MB


def digit_accuracy(log_probs: np.ndarray, codes: np.ndarray) -> list[float]:
  """Share of examples whose digit j is read right, for j = 0..l-1.

  The whole code is read right in about the product of these: digit accuracy is what bounds decoding.

  Args:
    log_probs: float32 [n, l, v].
    codes: uint8 [n, l], the true code of every example.
  """
  return np.mean(np.argmax(log_probs, axis=-1) == np.asarray(codes), axis=0).tolist()


def rank_rates(candidates: np.ndarray, label: np.ndarray, ranks: Sequence[int] = (1, 5)) -> dict[int, float]:
  """Share of examples whose identity is among the first `rank` candidates, for each rank.

  Args:
    candidates: int [n, K], identities, best first; -1 fills places without a candidate.
    label: int64 [n], the true identity.
    ranks: each at most K.

  Raises:
    ValueError: a rank above K.
  """
  candidates, label = np.asarray(candidates), np.asarray(label)
  if max(ranks) > candidates.shape[1]:
    raise ValueError(f'rank {max(ranks)} needs as many candidates, got {candidates.shape[1]}: search with a larger k')
  hit = candidates == label[:, None]
  return {rank: float(hit[:, :rank].any(axis=1).mean()) for rank in ranks}


def nearest(embedding: np.ndarray, vectors: np.ndarray, k: int) -> np.ndarray:
  """The k identities of largest cosine z . h for every embedding: matching with all m identities, cost O(n m d).

  Args:
    embedding: float [n, d]; the length of a row does not matter.
    vectors: float [m, d], one per identity (code vectors or class means), memory-mapped or not; normalised here.
    k: identities per embedding.

  Returns:
    int64 [n, k], best first, ties to the smaller label; -1 fills the places beyond m. Memory beside the arguments and
    the result is bounded: `vectors` is read in blocks.
  """
  z = jnp.asarray(embedding, jnp.float32)
  score, label = jnp.full((len(z), k), -jnp.inf), jnp.full((len(z), k), -1, jnp.int32)
  rows = max(1, _BLOCK // max(1, len(z)))
  for start in range(0, len(vectors), rows):
    block = jnp.asarray(np.asarray(vectors[start : start + rows], np.float32))
    score, label = _merge(z, block, start, score, label)
  return np.asarray(label, np.int64)


@jax.jit
def _merge(
  z: jax.Array, block: jax.Array, start: int, score: jax.Array, label: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Merges the best matches so far, [n, k] each, with those among `block` [b, d], whose labels begin at `start`."""
  h = block / jnp.maximum(jnp.linalg.norm(block, axis=1, keepdims=True), 1e-12)
  cosine = jnp.matmul(z, h.T, precision=jax.lax.Precision.HIGHEST)
  k = score.shape[1]
  fresh, place = jax.lax.top_k(cosine, min(k, len(block)))
  # Smaller labels stand first, and top_k prefers the first of equals.
  label = jnp.concatenate([label, start + place], axis=1)
  score, best = jax.lax.top_k(jnp.concatenate([score, fresh], axis=1), k)
  return score, jnp.take_along_axis(label, best, axis=1)
