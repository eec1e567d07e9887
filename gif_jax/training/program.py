"""What runs on the devices: everything jitted, sharded and donated; and a state that was trained, opened for use."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from gif_jax.codes.identities import Identities
from gif_jax.codes.table import CodeTable
from gif_jax.core.distributed.mesh import batch_sharding, make_mesh
from gif_jax.identification.beam_search import decode_sequence
from gif_jax.models import gif
from gif_jax.models.checkpoint.manager import Checkpoints, abstract
from gif_jax.models.checkpoint.reader import CheckpointError
from gif_jax.training import optim, sharding
from gif_jax.training import train_step as steps
from gif_jax.training.objectives.fixed import Fixed
from gif_jax.training.objectives.joint import Joint
from gif_jax.training.objectives.softmax import Softmax


class Program(NamedTuple):
  """What runs on the devices; a function of the config, l and v, and of m only in the size of `joint`'s rows."""

  init: Callable  # () -> TrainState
  train_step: Callable  # (state, batch) -> (state, metrics); the state passed in is donated
  predict: Callable  # (variables, images uint8 [B, size, size, 3]) -> see `steps.make_predict`, on the devices of both
  like: steps.TrainState  # shapes, dtypes and shardings of the state
  read_digit: Callable | None  # see `steps.make_read_digit`; None without a sequence decoder


def make_objective(config, table: CodeTable | Identities, total_steps: int, mesh) -> steps.Objective:
  """What the config asks embeddings to be trained for."""
  if config.softmax.enabled:
    return Softmax(config, table.m, total_steps, mesh)
  if config.joint.enabled:
    return Joint(config, table, optim.schedule(config.optim, total_steps, config.joint.lr), mesh)
  return Fixed(config.loss)


def make_program(config, table: CodeTable | Identities, total_steps: int, mesh) -> Program:
  """Everything jitted, sharded and donated, in this one place.

  Of `table` l and v matter, to `joint` its rows too; to a softmax nothing but m.
  """
  model = gif.build(config.model, table.l, table.v)
  tx = optim.optimiser(config.optim, total_steps)
  init, objective = steps.make_init(model, tx, config), make_objective(config, table, total_steps, mesh)
  without = jax.eval_shape(init)
  shape = without.replace(**objective.shape())
  placed = sharding.state_sharding(mesh, shape)
  rows = batch_sharding(mesh)
  whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  # Initial values need no optimised code, and on a CPU compiling it takes far longer than running it.
  options = {'xla_backend_optimization_level': 0} if jax.default_backend() == 'cpu' else None
  train_step = steps.make_train_step(model, tx, objective, config, total_steps, mesh)
  fresh = jax.jit(init, out_shardings=sharding.state_sharding(mesh, without), compiler_options=options)
  return Program(
    init=lambda: fresh().replace(**objective.place()),
    train_step=jax.jit(train_step, in_shardings=(placed, rows), out_shardings=(placed, whole), donate_argnums=0),
    predict=jax.jit(steps.make_predict(model, config.loss.scale)),
    like=abstract(shape, placed),
    read_digit=steps.make_read_digit(model, config.loss.scale) if model.sequence else None,
  )


def make_predictor(program, state):
  """predict(images) on this process's devices alone: `extract` has every process at other images."""
  variables = sharding.on_this_process(state.variables)
  return lambda images: program.predict(variables, images)


def make_search(program, state):
  """search(index, first [B, p], beam, k) -> (identity int32 [B, k], score [B, k]): `decode_sequence` by this network.

  On this process's devices, as `make_predictor`. first: of `predict`. None without a sequence decoder.
  """
  if not program.read_digit:
    return None
  variables = sharding.on_this_process({'params': {'sequence': state.variables['params']['sequence']}})
  return lambda index, first, beam, k: decode_sequence(index, program.read_digit, variables, first, beam, k)


class Trained(NamedTuple):
  """A network as a run left it, on all devices of this process."""

  predict: Callable  # uint8 [B, size, size, 3] -> {'embedding', 'norm', 'log_probs', ...}, see `steps.make_predict`
  codes: np.ndarray | None  # uint8 [m, l], what the heads read; None for a softmax
  vectors: np.ndarray  # [m, d], the code vectors, or a softmax's centres
  step: int
  search: Callable | None = None  # see `make_search`


def open_trained(config, workdir: Path, table: CodeTable | Identities) -> Trained:
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
  predict, step = make_predictor(program, state), int(state.step)
  if state.softmax:
    return Trained(predict, None, state.softmax.on_host(), step)
  rows = state.joint.on_host() if state.joint else table
  return Trained(predict, rows.codes, rows.vectors, step, make_search(program, state))


def open_checkpoints(config, workdir: Path, table: CodeTable | Identities) -> Checkpoints:
  """The checkpoints of a run, and what it must have in common with one that is restored."""
  network = {key: value for key, value in config.model.items() if key != 'remat'}  # which changes memory alone
  if not config.model.sequence:  # checkpoints of before there was a choice do not say so
    del network['sequence']
  origin = {
    'config.model': network,
    'config.data.size': config.data.size,
    'config.optim.name': config.optim.name,
    'config.joint.enabled': config.joint.enabled,
    'config.softmax.enabled': config.softmax.enabled,
    'config.train.ema above 0': config.train.ema > 0,
    'table': table.fingerprint,
  }
  return Checkpoints(workdir / 'checkpoints', config.checkpoint.keep, origin, table.extends)
