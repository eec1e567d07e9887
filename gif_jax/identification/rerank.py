"""Candidates to answers: those whom digits or a tree proposed, scored exactly and put in order."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

WEIGHTS = (0.0, *(2.0**i for i in range(12)))  # of a cosine beside digits, for `choose_weight`


def held() -> int:
  """Numbers of gathered vectors to hold at once: 8 MB on a CPU, where more is slower than its caches, else 256 MB."""
  return 2**21 if jax.default_backend() == 'cpu' else 2**26


def cosines(embedding: np.ndarray, candidates: np.ndarray, vectors: np.ndarray) -> np.ndarray:
  """z . h of every candidate: float32 [n, K], 0 in free places. Cost K d per example.

  Args:
    embedding: float [n, d], of any length.
    candidates: int [n, K], identities, -1 in free places.
    vectors: float [m, d], of any length, memory-mapped or not. The candidates' rows are read and no others.
  """
  cosine = np.empty(candidates.shape, np.float32)
  for part, some in _blocks(candidates, vectors.shape[1]):
    rows = np.asarray(vectors[np.maximum(some, 0)])
    cosine[part] = _cosines(jnp.asarray(embedding[part], jnp.float32), jnp.asarray(rows))
  return np.where(candidates >= 0, cosine, 0)


def _blocks(candidates: np.ndarray, d: int) -> Iterator[tuple[slice, np.ndarray]]:
  step = max(1, held() // (candidates.shape[1] * d))
  for start in range(0, len(candidates), step):
    part = slice(start, start + step)
    yield part, candidates[part]


@jax.jit
def _cosines(z: jax.Array, rows: jax.Array) -> jax.Array:
  """z [b, d], rows [b, K, d] -> float32 [b, K]."""
  rows = rows.astype(jnp.float32)
  z = z / jnp.maximum(jnp.linalg.norm(z, axis=1, keepdims=True), 1e-12)
  product = jnp.einsum('bd,bkd->bk', z, rows, precision=jax.lax.Precision.HIGHEST)
  return product / jnp.maximum(jnp.linalg.norm(rows, axis=2), 1e-12)


def code_scores(log_probs: np.ndarray, candidates: np.ndarray, codes: np.ndarray) -> np.ndarray:
  """log p of every candidate's code, the sum over its digits: float32 [n, K], 0 in free places.

  log_probs: float32 [n, l, v]; candidates: int [n, K], -1 in free places; codes: uint8 [m, l].
  """
  digits = np.asarray(codes[np.maximum(candidates, 0)], np.int64)
  score = sum(np.take_along_axis(log_probs[:, j], digits[:, :, j], axis=1) for j in range(codes.shape[1]))
  return np.where(candidates >= 0, score, 0).astype(np.float32)


def together(*lists: np.ndarray) -> np.ndarray:
  """Several lists of candidates int [n, K_i] as one [n, K], every identity once; -1 in free places, which come first.

  K is the most that any example has.
  """
  candidates = np.sort(np.concatenate(lists, axis=1), axis=1)
  candidates[:, 1:][candidates[:, 1:] == candidates[:, :-1]] = -1
  candidates.sort(axis=1)
  return candidates[:, min(int((candidates < 0).sum(1).min()), candidates.shape[1] - 1) :]


@functools.partial(jax.jit, static_argnames='k')
def best(candidates: jax.Array, score: jax.Array, k: int) -> jax.Array:
  """The k candidates with the largest scores: int32 [n, k], best first, ties to the smaller label as in `nearest`.

  candidates: int [n, K], distinct but for -1 in free places, where score, float [n, K], is not looked at. Where
  there are fewer than k, the rest is -1.
  """
  candidates = jnp.pad(jnp.asarray(candidates, jnp.int32), ((0, 0), (0, k)), constant_values=-1)
  score = jnp.pad(jnp.asarray(score, jnp.float32), ((0, 0), (0, k)), constant_values=-jnp.inf)
  order = jnp.argsort(candidates, axis=1)
  # A score of -inf is one still: whoever has it stands before a free place.
  score = jnp.where(candidates >= 0, jnp.maximum(score, jnp.finfo(jnp.float32).min), -jnp.inf)
  place = jax.lax.top_k(jnp.take_along_axis(score, order, axis=1), k)[1]
  return jnp.take_along_axis(candidates, jnp.take_along_axis(order, place, axis=1), axis=1)


def choose_weight(candidates: np.ndarray, log_p: np.ndarray, cosine: np.ndarray, label: np.ndarray) -> float:
  """The weight w of WEIGHTS with which log p + w z . h names most examples right; of equals the largest.

  candidates int, log_p and cosine float32: [n, K] each, label int [n]. Choose on other images than those reported on.
  """
  label = np.asarray(label)
  right = [np.mean(np.asarray(best(candidates, log_p + w * cosine, 1))[:, 0] == label) for w in reversed(WEIGHTS)]
  return tuple(reversed(WEIGHTS))[int(np.argmax(right))]
