"""Optimiser and learning-rate schedule from `config.optim`."""

from typing import Any

import jax
import optax
from ml_collections import ConfigDict


def schedule(settings: ConfigDict, steps: int, peak: float) -> optax.Schedule:
  """Learning rate by step: linear warm-up to `peak` over a share of the steps, cosine or polynomial decay to 0."""
  warmup = round(settings.warmup * steps)
  if settings.schedule == 'cosine':
    decay = optax.cosine_decay_schedule(peak, max(steps - warmup, 1))
  else:
    decay = optax.polynomial_schedule(peak, 0.0, settings.power, max(steps - warmup, 1))
  # Step 0 already moves: the first value of the ramp is lr / warmup, not 0.
  ramp = optax.linear_schedule(peak / max(warmup, 1), peak, max(warmup - 1, 1))
  return optax.join_schedules([ramp, decay], [warmup]) if warmup else decay


def decayed(params: Any) -> Any:
  """True for weights that decay: matrices, convolutions and centres, not biases, slopes or normalisation scales."""
  return jax.tree.map(lambda x: x.ndim > 1, params)


def optimiser(settings: ConfigDict, steps: int, clip: bool = True) -> optax.GradientTransformation:
  """SGD with momentum or AdamW, after clipping the global gradient norm."""
  rate = schedule(settings, steps, settings.lr)
  clipping = optax.clip_by_global_norm(settings.clip) if clip and settings.clip else optax.identity()
  if settings.name == 'adamw':
    return optax.chain(clipping, optax.adamw(rate, weight_decay=settings.weight_decay, mask=decayed))
  decay = optax.add_decayed_weights(settings.weight_decay, decayed)
  return optax.chain(clipping, decay, optax.sgd(rate, settings.momentum))
