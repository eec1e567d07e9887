"""Margins of the baselines' softmax: ArcFace, CosFace, three margins at once, and AdaFace's, which follows quality."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gif_jax.training.objectives import losses

_NEAR = 1e-3  # AdaFace keeps cosines and angles so far from their ends


def of_examples(features: jax.Array, norms: jax.Array, settings: ConfigDict) -> tuple[jax.Array, jax.Array | None]:
  """What `apply` is given of every example, float32 [B], and the running norms with this batch in them, or None.

  features: float32 [B, d], f(x) before normalisation; norms: float32 [2], running mean and deviation of its length;
  settings: `config.softmax`. For 'adaface' the length of f(x), as a measure of quality: -1 (poor) to 1 (Kim et al.,
  "AdaFace: Quality Adaptive Margin", 2022, equations 13 and 14), without gradient; for the others 0.
  """
  if settings.margin_type != 'adaface':
    return jnp.zeros(len(features)), None
  length = jnp.clip(jax.lax.stop_gradient(jnp.linalg.norm(features, axis=1)), 1e-3, 100)
  here = jnp.stack([jnp.mean(length), jnp.std(length, ddof=1)])
  now = norms + settings.adaface_rate * (here - norms)
  return jnp.clip((length - now[0]) / (now[1] + _NEAR) * settings.adaface_h, -1, 1), now


def apply(cosine: jax.Array, quality: jax.Array, settings: ConfigDict) -> jax.Array:
  """The target cosine with its margin, float32 [B] -> [B].

  arcface cos(theta + m), cosface cos(theta) - m, combined cos(m1 theta + m2) - m3, adaface
  cos(theta - m q) - (m + m q) with the quality q of `of_examples`. The gradient of the first and third is that of the
  plain cosine, as arcface_torch trains, unless settings.exact_margin says otherwise.
  """
  m = settings.margin
  if settings.margin_type == 'adaface':
    theta = jnp.arccos(jnp.clip(cosine, -1 + _NEAR, 1 - _NEAR))
    return jnp.cos(jnp.clip(theta - m * quality, _NEAR, jnp.pi - _NEAR)) - m * (1 + quality)
  if settings.margin_type != 'combined':
    return losses.target_margin(settings)(cosine, m)
  m1, m2, m3 = settings.combined
  return (losses.arcface_exact if settings.exact_margin else losses.arcface)(cosine, m2, m1) - m3
