"""Random keys, a function of the seed and what they are for."""

import hashlib

import jax


def named_key(seed: int, name: str) -> jax.Array:
  """A random key for one use, a function of (seed, name) alone."""
  return jax.random.fold_in(jax.random.key(seed), int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], 'little'))
