"""The sampling of Partial FC: whom a step compares with, their rows taken out and put back. The loss is `softmax`'s."""

import jax
import jax.numpy as jnp

_FIRST = 1 << 30  # the chance of who must be among the chosen: above all that are drawn


def choose(
  key: jax.Array, label: jax.Array, start: jax.Array, *, rows: int, m: int, wanted: int, places: int, nobody: int
) -> jax.Array:
  """Identities to compare with, of those whose rows this device has: int32 [places], ascending.

  The batch's own ones among them and others at random, every set of these equally likely, `wanted` in all; the batch's
  alone where these are more. Places that are left over hold numbers from `nobody` on, which are no identity's.

  label: int32 [B], the batch's identities; start: int32 [], the first identity of the device; rows: how many it has,
  those from m on being padding; places: at least min(rows, wanted) and min(rows, B).
  """
  identity = start + jnp.arange(rows)
  # A sort would take several times as long as this: the k-th largest by bisection, and who is above it.
  drawn = (jax.random.bits(key, (rows,), jnp.uint32) >> 2).astype(jnp.int32)
  chance = jnp.where(identity < m, drawn, -1)
  own = jnp.where((label >= start) & (label < start + rows), label - start, rows)
  chance = chance.at[own].set(_FIRST, mode='drop')
  count = jnp.clip(wanted, jnp.sum(chance == _FIRST), jnp.sum(chance >= 0))
  least = _kth_largest(chance, count)
  above, equal = chance > least, chance == least
  chosen = above | (equal & (jnp.cumsum(equal) <= count - jnp.sum(above)))
  place, last = jnp.arange(places), jnp.sum(chosen)
  return jnp.where(place < last, start + jnp.nonzero(chosen, size=places)[0], nobody + place).astype(jnp.int32)


def _kth_largest(values: jax.Array, k: jax.Array) -> jax.Array:
  """Of int32 [n] below 2^31, the largest number >= 0 that at least k of them reach; 0 without any."""

  def bit(i: jax.Array, number: jax.Array) -> jax.Array:
    more = number | (_FIRST >> i)
    return jnp.where(jnp.sum(values >= more) >= k, more, number)

  return jax.lax.fori_loop(0, _FIRST.bit_length(), bit, jnp.zeros_like(k))


def take(rows: jax.Array, place: jax.Array) -> jax.Array:
  """Rows [n, d] at distinct, ascending places int32 [k]; zeros for a place from n on."""
  return rows.at[place].get(mode='fill', fill_value=0, indices_are_sorted=True, unique_indices=True)


def put(rows: jax.Array, place: jax.Array, new: jax.Array) -> jax.Array:
  """Rows [n, d] with new [k, d] in these places; what belongs to a place from n on is written nowhere."""
  return rows.at[place].set(new, mode='drop', indices_are_sorted=True, unique_indices=True)
