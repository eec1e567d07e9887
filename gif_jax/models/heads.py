"""What reads digits off the embedding: code heads, one digit each, and the sequence decoder, all of them in order."""

import flax.linen as nn
import jax
import jax.numpy as jnp


def unit(x: jax.Array, axis: int = -1) -> jax.Array:
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
  def __call__(self, z: jax.Array) -> jax.Array:
    d, p = z.shape[-1], self.projection
    kernel = self.param('projection', nn.initializers.normal(d**-0.5), (d, self.l, p))
    centres = self.param('centres', nn.initializers.normal(p**-0.5), (self.l, p, self.v))
    digits = unit(jnp.einsum('bd,dlp->blp', z, kernel))
    return jnp.einsum('blp,lpv->blv', digits, unit(centres, 1))


class SequenceDecoder(nn.Module):
  """A small recurrent network that reads the digits in order, each given those before it.

  Embedding z [B, d] -> cosine of each digit's query with each of its v centres: float32 [B, l, v].

  A GRU (Cho et al., 2014) of `width` p. Its first state is a projection of z, its input the learned embedding of the
  digit before, and what it asks digit j's centres is a projection of its state (docs/method.md, section 2).
  Parameters: d p + (l - 1) v p + 7 p^2 + l p v and biases, whatever the number of identities.
  """

  l: int
  v: int
  width: int

  def setup(self) -> None:
    p = self.width
    # z has length 1: so a state begins with entries as large as a GRU's are.
    self.start = nn.Dense(p, kernel_init=nn.initializers.normal(1.0))
    # Row 0 stands before the first digit, v rows for each digit but the last follow.
    self.digits = self.param('digits', nn.initializers.normal(p**-0.5), (1 + (self.l - 1) * self.v, p))
    self.cell = nn.GRUCell(p)
    self.query = nn.Dense(p, use_bias=False)
    self.centres = self.param('centres', nn.initializers.normal(p**-0.5), (self.l, p, self.v))

  def first(self, z: jax.Array) -> jax.Array:
    """The state before any digit, float32 [B, p]: linear in z but for a bias."""
    return self.start(z)

  def read(self, state: jax.Array, before: jax.Array, j: int) -> tuple[jax.Array, jax.Array]:
    """Digit j: the state [n, p] after the digits up to j - 1 were read, of which `before` int [n] is the last.

    Returns the next state and the cosines float32 [n, v] of digit j. Where j is 0, `before` is not looked at.
    """
    if j == 0:
      given = jnp.broadcast_to(self.digits[0], state.shape)
    else:
      rows = self.digits[1 + (j - 1) * self.v : 1 + j * self.v]
      given = jax.nn.one_hot(before, self.v) @ rows  # a product's gradient adds up in one order, a lookup's in any
    state, _ = self.cell(state, given)
    return state, unit(self.query(state)) @ unit(self.centres[j], 0)

  def __call__(self, z: jax.Array, code: jax.Array | None = None) -> jax.Array:
    """Cosines of all digits, each given those before it in `code` int [B, l]; without one, those read as likeliest."""
    state, before, cosines = self.first(z), jnp.zeros(len(z), jnp.int32), []
    for j in range(self.l):
      state, digit = self.read(state, before, j)
      before = jnp.argmax(digit, -1) if code is None else code[:, j]
      cosines.append(digit)
    return jnp.stack(cosines, axis=1)
