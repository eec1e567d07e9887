"""What runs on the devices: everything jitted, sharded and donated; and a state that was trained, opened for use."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from gif_jax.codes.table import CodeTable
from gif_jax.models import gif
from gif_jax.models.devices import batch_sharding, make_mesh
from gif_jax.training import joint, optim, sharding, steps
from gif_jax.training.checkpoint import CheckpointError, Checkpoints, abstract


class Program(NamedTuple):
  """What runs on the devices; a function of the config, l and v, and of m only in the size of `joint`'s rows."""

  init: Callable  # () -> TrainState
  train_step: Callable  # (state, batch) -> (state, metrics); the state passed in is donated
  predict: Callable  # (state, images uint8 [B, size, size, 3]) -> see `steps.make_predict`, on the devices of both
  like: steps.TrainState  # shapes, dtypes and shardings of the state


def make_program(config, table: CodeTable, total_steps: int, mesh) -> Program:
  """Everything jitted, sharded and donated, in this one place. Of `table` l and v matter, to `joint` its rows too."""
  model = gif.build(config.model, table.l, table.v)
  tx = optim.optimiser(config.optim, total_steps)
  init = steps.make_init(model, tx, config.data.size, config.train.seed)
  shape = jax.eval_shape(init)
  if config.joint.enabled:
    shape = shape.replace(joint=joint.shape(table, mesh))
  placed = sharding.state_sharding(mesh, shape)
  rows = batch_sharding(mesh)
  whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  # Initial values need no optimised code, and on a CPU compiling it takes far longer than running it.
  options = {'xla_backend_optimization_level': 0} if jax.default_backend() == 'cpu' else None
  vector_rate = optim.schedule(config.optim, total_steps, config.joint.lr)
  train_step = steps.make_train_step(model, tx, config, vector_rate, mesh)
  fresh = jax.jit(init, out_shardings=placed.replace(joint=None), compiler_options=options)
  return Program(
    init=lambda: fresh().replace(joint=joint.place(table, mesh) if config.joint.enabled else None),
    train_step=jax.jit(train_step, in_shardings=(placed, rows), out_shardings=(placed, whole), donate_argnums=0),
    predict=jax.jit(steps.make_predict(model, config.loss.scale)),
    like=abstract(shape, placed),
  )


def make_predictor(program, state):
  """predict(images) on this process's devices alone: `extract` has every process at other images."""
  state = sharding.on_this_process(state.replace(opt_state=None, joint=None))  # neither is needed, both may be large
  return lambda images: program.predict(state, images)


class Trained(NamedTuple):
  """A network as a run left it, on all devices of this process."""

  predict: Callable  # uint8 [B, size, size, 3] -> {'embedding', 'norm', 'log_probs'}, see `steps.make_predict`
  codes: np.ndarray  # uint8 [m, l], what the heads read
  vectors: np.ndarray  # [m, d], the code vectors
  step: int


def open_trained(config, workdir: Path, table: CodeTable) -> Trained:
  """The newest checkpoint in `workdir`, for use. `table` is the one the run began with, or one that extends it.

  Raises CheckpointError where there is none, or it was trained with another network or table.
  """
  mesh = make_mesh(jax.local_devices())
  program = make_program(config, table, 1, mesh)
  checkpoints = open_checkpoints(config, workdir, table)
  state = checkpoints.restore(program.like)
  checkpoints.close()
  if state is None:
    raise CheckpointError(f'{workdir / "checkpoints"} holds no checkpoint yet: train first, or check the path.')
  rows = state.joint.on_host() if state.joint else table
  return Trained(make_predictor(program, state), rows.codes, rows.vectors, int(state.step))


def open_checkpoints(config, workdir: Path, table: CodeTable) -> Checkpoints:
  """The checkpoints of a run, and what it must have in common with one that is restored."""
  origin = {
    'config.model': config.model.to_dict(), 'config.data.size': config.data.size,
    'config.optim.name': config.optim.name, 'config.joint.enabled': config.joint.enabled, 'table': table.fingerprint,
  }  # fmt: skip
  return Checkpoints(workdir / 'checkpoints', config.checkpoint.keep, origin, table.extends)
