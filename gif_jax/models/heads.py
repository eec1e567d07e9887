"""Code heads: l small classifiers that read one digit each off the embedding."""

import flax.linen as nn
import jax.numpy as jnp


def unit(x: jnp.ndarray, axis: int = -1) -> jnp.ndarray:
  """x at length 1 along `axis`; the zero vector stays zero, with a finite gradient."""
  return x / jnp.sqrt(jnp.maximum(jnp.sum(x * x, axis, keepdims=True), 1e-12))


class CodeHeads(nn.Module):
  """Embedding z [B, d] -> cosine of each head's projection H_j z with each of its v centres: float32 [B, l, v].

  Parameters: l * (d * projection + projection * v), whatever the number of identities. Projections are linear, so their
  parameters are (d, l, projection); centres are (l, projection, v).
  """

  l: int
  v: int
  projection: int

  @nn.compact
  def __call__(self, z):
    d, p = z.shape[-1], self.projection
    kernel = self.param('projection', nn.initializers.normal(d**-0.5), (d, self.l, p))
    centres = self.param('centres', nn.initializers.normal(p**-0.5), (self.l, p, self.v))
    digits = unit(jnp.einsum('bd,dlp->blp', z, kernel))
    return jnp.einsum('blp,lpv->blv', digits, unit(centres, 1))
