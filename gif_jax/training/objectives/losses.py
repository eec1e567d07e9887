"""The code losses L_C and L_S with their margins, and the angular regression L_AR. All per example, in float32."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

Margin = Callable[[jax.Array, float], jax.Array]  # (cosine of the target, margin) -> the same with its margin


def cosface(cosine: jax.Array, margin: float) -> jax.Array:
  """cos(theta) - margin (Wang et al., "CosFace", 2018)."""
  return cosine - margin


def arcface(cosine: jax.Array, margin: float, times: float = 1.0) -> jax.Array:
  """cos(times theta + margin) with the gradient of plain cos(theta), as arcface_torch trains (Deng et al., 2019).

  Straight-through: the true gradient is infinite where the cosine is 1.
  """
  moved = jnp.cos(times * jnp.arccos(jnp.clip(cosine, -1.0, 1.0)) + margin)
  return cosine + jax.lax.stop_gradient(moved - cosine)


def arcface_exact(cosine: jax.Array, margin: float, times: float = 1.0) -> jax.Array:
  """The same with its true gradient; the cosine is kept 1e-6 away from 1 and -1 so that it stays finite."""
  return jnp.cos(times * jnp.arccos(jnp.clip(cosine, -1.0 + 1e-6, 1.0 - 1e-6)) + margin)


def target_margin(settings: ConfigDict) -> Margin:
  """The function (cosine, margin) -> cosine that `config.loss` asks for."""
  if settings.margin_type == 'cosface':
    return cosface
  return arcface_exact if settings.exact_margin else arcface


def margin_logits(
  cosines: jax.Array, target: jax.Array, margin: float, scale: float, apply_margin: Margin
) -> jax.Array:
  """scale * cosine, with the margin on the target alone.

  cosines float32 [..., v] in -1..1; target int [...] in 0..v-1; returns float32 [..., v].
  """
  is_target = jax.nn.one_hot(target, cosines.shape[-1], dtype=bool)
  return scale * jnp.where(is_target, apply_margin(cosines, margin), cosines)


def digits_loss(cosines: jax.Array, code: jax.Array, settings: ConfigDict) -> jax.Array:
  """sum_j CE_j: an angular-margin softmax over the v values of each of the l digits; L_S of the sequence decoder.

  cosines float32 [B, l, v]; code int32 [B, l]; settings: `config.loss`. Returns float32 [B].
  """
  logits = margin_logits(cosines, code, settings.margin, settings.scale, target_margin(settings))
  return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, code), axis=-1)


def code_loss(cosines: jax.Array, code: jax.Array, settings: ConfigDict) -> jax.Array:
  """L_C = sum_j lambda_j CE_j of the heads: `digits_loss` with one weight, settings.digits, for all digits."""
  return settings.digits * digits_loss(cosines, code, settings)


def regression_loss(z: jax.Array, code_vector: jax.Array) -> jax.Array:
  """L_AR = 1/2 (z . h_y - 1)^2: pulls z to its code vector, pushes from nothing. float32 [B, d] twice -> [B]."""
  return 0.5 * jnp.square(jnp.sum(z * code_vector, axis=-1) - 1.0)


def in_batch_loss(z: jax.Array, h: jax.Array, target: jax.Array, column: jax.Array, settings: ConfigDict) -> jax.Array:
  """Margin softmax of z against the code vectors of a batch's identities and of N - B others, each of them one column.

  z float32 [b, d], examples of the batch or a part of it; h float32 [N, d], a row for each example of the full batch,
  then those of the others, unit rows; column bool [N]: the first row of every identity, which stands for it; target
  int32 [b]: which column is the example's own; settings: `config.joint`. With settings.embeddings = w the z of other
  identities are columns as well, each counted w times. Returns float32 [b]. Cost b N d, with embeddings b (N + b) d.
  """
  logits = margin_logits(z @ h.T, target, settings.margin, settings.scale, cosface)
  logits = jnp.where(column[None, :], logits, -jnp.inf)
  if settings.embeddings:
    others = settings.scale * (z @ z.T) + jnp.log(settings.embeddings)
    others = jnp.where(target[:, None] == target[None, :], -jnp.inf, others)
    logits = jnp.concatenate([logits, others], axis=1)
  return optax.softmax_cross_entropy_with_integer_labels(logits, target)


def batch_uniformity(h: jax.Array, column: jax.Array) -> jax.Array:
  """L_GP over distinct code vectors, those of h float32 [N, d] where column bool [N] (docs/method.md, 1.2)."""
  potential = jnp.exp(-4.0 * (1.0 - h @ h.T))  # t = 2, and |a - b|^2 = 2 - 2 a.b
  pairs = column[:, None] & column[None, :]
  return jnp.log(jnp.sum(jnp.where(pairs, potential, 0.0)) / jnp.sum(column))
