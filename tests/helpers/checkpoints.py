"""Runs with checkpoints that are small and tell their steps."""

import jax.numpy as jnp

from gif_jax.models.checkpoint.manager import Checkpoints
from gif_jax.training.state import TrainState

ORIGIN = {'config.model': {'d': 4}, 'table': 'a'}


def state_of(step):
  """A state with everything a state may have; every value tells the step."""
  rows = jnp.full((8, 4), step, jnp.float32)
  params = {'backbone': {'kernel': jnp.arange(600, dtype=jnp.float32).reshape(20, 30) + step}}
  return TrainState(
    jnp.int32(step),
    params,
    {'backbone': {'mean': jnp.full(3, step, jnp.float32)}},
    {'trace': rows},
    ema={'params': params, 'batch_stats': {'mean': jnp.full(3, 2.0 * step)}},
  )


def write_run(workdir):
  """A run with checkpoints of steps 1, 2 and 3, of which 1 is the best."""
  with Checkpoints(workdir / 'checkpoints', 2, ORIGIN) as checkpoints:
    for step in (1, 2, 3):
      checkpoints.save(step, state_of(step), {'verification_accuracy': 1 / step})
  return workdir
