"""What runs on the devices: everything jitted, sharded and donated; and a state that was trained, opened for use."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from gif_jax.codes.identities import LabelSpace
from gif_jax.codes.table import CodeTable
from gif_jax.core.distributed.host_array import HostArray
from gif_jax.core.distributed.mesh import batch_sharding, make_mesh
from gif_jax.evaluation.predictions import Predict
from gif_jax.identification.beam_search import decode_sequence
from gif_jax.models import gif
from gif_jax.models.checkpoint.manager import Checkpoints, abstract
from gif_jax.models.checkpoint.reader import NOTED, CheckpointError
from gif_jax.training import optim, sharding
from gif_jax.training.objectives.fixed import Fixed
from gif_jax.training.objectives.joint import Joint
from gif_jax.training.objectives.joint_on_host import JointOnHost
from gif_jax.training.objectives.softmax import Softmax
from gif_jax.training.state import JointTable, TrainState
from gif_jax.training.train_step import Objective, make_init, make_predict, make_read_digit, make_train_step


class Program(NamedTuple):
  """What runs on the devices; a function of the config, l and v, and of m only in what rows on devices are."""

  fresh: jax.stages.Wrapped  # () -> the state of step 0, without what the objective keeps of identities
  train_step: jax.stages.Wrapped  # see `train_step.make_train_step`; the state passed in is donated
  predict: jax.stages.Wrapped  # (variables, images) -> see `train_step.make_predict`, on the devices of both
  like: TrainState  # shapes, dtypes and shardings of the state
  inputs: dict[str, Any]  # the same of a batch, with which train_step is called
  read_digit: Callable | None  # see `train_step.make_read_digit`; None without a sequence decoder
  objective: Objective

  def init(self) -> TrainState:
    """The state of step 0."""
    return self.fresh().replace(**self.objective.init())


def make_objective(config: ConfigDict, table: LabelSpace, total_steps: int, mesh: jax.sharding.Mesh) -> Objective:
  """What the config asks embeddings to be trained for."""
  if config.softmax.enabled:
    return Softmax(config, table.m, total_steps, mesh)
  if config.joint.enabled:
    assert isinstance(table, CodeTable)  # validation keeps `joint` and softmax apart
    form = JointOnHost if config.joint.rows == 'host' else Joint
    return form(config, table, optim.schedule(config.optim, total_steps, config.joint.lr), mesh)
  return Fixed(config.loss, table.l, config.model.d, mesh)


def make_program(config: ConfigDict, table: LabelSpace, total_steps: int, mesh: jax.sharding.Mesh) -> Program:
  """Everything jitted, sharded and donated, in this one place.

  Of `table` l and v matter, to `joint` its rows too; to a softmax nothing but m.
  """
  model = gif.build(config.model, table.l, table.v)
  tx = optim.optimiser(config.optim, total_steps)
  init, objective = make_init(model, tx, config), make_objective(config, table, total_steps, mesh)
  without = jax.eval_shape(init)
  shapes = without.replace(**objective.abstract())
  shardings = sharding.state_sharding(mesh, shapes)
  split, replicated = batch_sharding(mesh), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  images = config.train.batch_size, config.data.size, config.data.size, 3
  inputs = {'image': jax.ShapeDtypeStruct(images, np.uint8, sharding=split), **objective.inputs(images[0])}
  # Initial values need no optimised code, and on a CPU compiling it takes far longer than running it.
  options = {'xla_backend_optimization_level': 0} if mesh.devices.flat[0].platform == 'cpu' else None
  train_step = make_train_step(model, tx, objective, config, total_steps, mesh)
  return Program(
    fresh=jax.jit(init, out_shardings=sharding.state_sharding(mesh, without), compiler_options=options),
    train_step=jax.jit(
      train_step,
      in_shardings=(shardings, jax.tree.map(lambda x: x.sharding, inputs)),
      out_shardings=(shardings, replicated, replicated),
      donate_argnums=0,
    ),
    predict=jax.jit(make_predict(model, config.loss.scale)),
    like=abstract(shapes, shardings),
    inputs=inputs,
    read_digit=make_read_digit(model, config.loss.scale) if model.sequence else None,
    objective=objective,
  )


def make_predictor(program: Program, state: TrainState) -> Predict:
  """predict(images) on this process's devices alone: `extract` has every process at other images."""
  variables = sharding.on_this_process(state.variables)
  return lambda images: program.predict(variables, images)


def make_search(program: Program, state: TrainState) -> Callable | None:
  """search(index, first [B, p], beam, k) -> (identity int32 [B, k], score [B, k]): `decode_sequence` by this network.

  On this process's devices, as `make_predictor`. first: of `predict`. None without a sequence decoder.
  """
  read_digit = program.read_digit
  if not read_digit:
    return None
  variables = sharding.on_this_process({'params': {'sequence': state.variables['params']['sequence']}})
  return lambda index, first, beam, k: decode_sequence(index, read_digit, variables, first, beam, k)


def identity_vectors(state: TrainState, table: LabelSpace) -> np.ndarray:
  """What brute force compares an embedding with, [m, d]: the code vectors of a table, or the centres of a softmax."""
  if state.softmax:
    return state.softmax.on_host()
  assert isinstance(table, CodeTable)  # only a softmax does without codes
  return table.vectors


class Trained(NamedTuple):
  """A network as a run left it, on all devices of this process."""

  predict: Predict  # uint8 [B, size, size, 3] -> {'embedding', 'norm', 'log_probs', ...}, see `train_step.make_predict`
  codes: np.ndarray | None  # uint8 [m, l], what the heads read; None for a softmax
  vectors: np.ndarray  # [m, d], the code vectors, or a softmax's centres
  step: int
  search: Callable | None = None  # see `make_search`


def open_trained(config: ConfigDict, workdir: Path, table: LabelSpace) -> Trained:
  """The newest checkpoint in `workdir`, for use. `table` is the one the run began with, or one that extends it.

  Raises CheckpointError if there is none, or it was trained with another network or table.
  """
  mesh = make_mesh(jax.local_devices())
  program = make_program(config, table, 1, mesh)
  checkpoints = open_checkpoints(config, workdir, table)
  like = program.like
  if isinstance(program.objective, JointOnHost):
    assert isinstance(table, CodeTable)
    vectors = HostArray.in_memory(table.m, table.d, np.float32)
    like = like.replace(joint=JointTable(vectors, HostArray.in_memory(table.m, table.l, np.uint8), table.m))
  state = checkpoints.restore(like)
  checkpoints.close()
  if state is None:
    raise CheckpointError(f'{workdir / "checkpoints"} holds no checkpoint yet: train first, or check the path.')
  predict, step = make_predictor(program, state), int(state.step)
  if state.softmax:
    return Trained(predict, None, state.softmax.on_host(), step)
  assert isinstance(table, CodeTable)  # only a softmax does without codes
  rows = state.joint.on_host() if state.joint else table
  return Trained(predict, rows.codes, rows.vectors, step, make_search(program, state))


def open_checkpoints(config: ConfigDict, workdir: Path, table: LabelSpace) -> Checkpoints:
  """The checkpoints of a run, and what it must have in common with one that is restored."""
  network = {key: value for key, value in config.model.items() if key not in gif.TRAINING_ALONE}
  if not config.model.sequence:  # older checkpoints, from before this setting, do not have it
    del network['sequence']
  origin = {
    'config.model': network,
    NOTED: {'config.model.batch_norm_group': config.model.batch_norm_group},
    'config.data.size': config.data.size,
    'config.optim.name': config.optim.name,
    'config.joint.enabled': config.joint.enabled,
    'config.softmax.enabled': config.softmax.enabled,
    'config.train.ema above 0': config.train.ema > 0,
    'table': table.fingerprint,
  }
  return Checkpoints(workdir / 'checkpoints', config.checkpoint.keep, origin, table.extends)
