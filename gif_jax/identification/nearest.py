"""Brute-force search: the identities whose vectors have the largest cosine with an embedding."""

import jax
import jax.numpy as jnp
import numpy as np

_BLOCK = 2**24  # similarities held at once: 64 MB


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
