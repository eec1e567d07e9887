"""`joint`: code vectors that are trained with the network, one row per identity, here split over all devices.

This is the form that `host_rows.JointOnHost` is tested against: it has the same losses and ends with the same bits. A
step gathers and updates the rows of its batch's identities and of a fixed number of others, so its cost does not
depend on m; the memory does: m * d float32 and m * l bytes over all devices together (docs/method.md, section 2). SGD
on them has no momentum: it was measured to add nothing (benchmarks/README.md) and would double the memory.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from gif_jax.codes.table import CodeTable
from gif_jax.core.distributed.mesh import batch_sharding
from gif_jax.core.jax_keys import named_key
from gif_jax.models.heads import unit
from gif_jax.training.objectives import losses
from gif_jax.training.objectives.fixed import code_losses
from gif_jax.training.state import Batch, JointTable, Metrics, TrainState

_DRAWN = 1024  # code vectors drawn at a time, always as many: programs for other sizes round otherwise


def abstract_rows(table: CodeTable, mesh: jax.sharding.Mesh) -> JointTable:
  """Sizes and types of `init_rows(table, mesh)`."""
  rows = table.m + -table.m % mesh.size

  def zeros() -> JointTable:
    return JointTable(jnp.zeros((rows, table.d), jnp.float32), jnp.zeros((rows, table.l), jnp.uint8), table.m)

  return jax.eval_shape(zeros)


def init_rows(table: CodeTable, mesh: jax.sharding.Mesh, key: jax.Array | None = None) -> JointTable:
  """The rows of a table on the devices of `mesh`, as `start_vectors`. A device's share alone is read for it."""
  return JointTable(
    vectors=_put(table.m, table.d, np.float32, lambda labels: start_vectors(table, key, labels), mesh),
    codes=_put(table.m, table.l, np.uint8, lambda labels: table.codes[labels], mesh),
    m=table.m,
  )


def start_key(settings: ConfigDict, seed: int) -> jax.Array | None:
  """What code vectors are drawn by, for joint.start='random'. settings: `config.joint`."""
  return None if settings.start == 'table' else named_key(seed, 'code vectors')


def start_vectors(table: CodeTable, key: jax.Array | None, labels: np.ndarray) -> np.ndarray:
  """The code vectors that training begins with: float32 [k, d], unit rows.

  Those of the table; with a key random ones, functions of key and identity alone, and the table's are not read.
  """
  if key is None:
    return table.rows(labels)[1]
  rows = np.empty((len(labels), table.d), np.float32)
  for first in range(0, len(labels), _DRAWN):
    some = labels[first : first + _DRAWN]
    padded = np.pad(some, (0, _DRAWN - len(some)), mode='edge')
    rows[first : first + len(some)] = np.asarray(_directions(key, padded, table.d))[: len(some)]
  return rows


@functools.partial(jax.jit, static_argnums=2)
def _directions(key: jax.Array, labels: np.ndarray, d: int) -> jax.Array:
  rows = jax.vmap(lambda label: jax.random.normal(jax.random.fold_in(key, label), (d,)))(labels)
  return unit(rows)


def _put(
  m: int, width: int, dtype: Any, read: Callable[[np.ndarray], np.ndarray], mesh: jax.sharding.Mesh
) -> jax.Array:
  """The rows read(labels) of all m identities as an array [M, width] over the devices, zeros from m on."""
  rows = m + -m % mesh.size

  def share(index):
    start, stop, _ = index[0].indices(rows)
    wanted = np.arange(start, min(stop, m))
    filled = np.zeros((stop - start, width), dtype)
    filled[: len(wanted)] = read(wanted)
    return filled

  return jax.make_array_from_callback((rows, width), NamedSharding(mesh, PartitionSpec(mesh.axis_names)), share)


def gather_rows(joint: JointTable, label: jax.Array, mesh: jax.sharding.Mesh) -> JointTable:
  """The rows of the identities `label` int32 [B]: a JointTable of B rows, a copy on every device."""

  def local(share, label):
    def rows(array):
      place = label - jax.lax.axis_index(mesh.axis_names) * len(array)
      here = (place >= 0) & (place < len(array))
      got = jnp.where(here[:, None], array[jnp.where(here, place, 0)], 0)
      return jax.lax.psum(got, mesh.axis_names)  # one device has the row, the others add zeros

    return jax.tree.map(rows, share)

  split = PartitionSpec(mesh.axis_names)
  return jax.shard_map(local, mesh=mesh, in_specs=(split, PartitionSpec()), out_specs=PartitionSpec())(joint, label)


def scatter_rows(joint: JointTable, label: jax.Array, vectors: jax.Array, mesh: jax.sharding.Mesh) -> JointTable:
  """Puts vectors float32 [B, d] into the places `label` int32 [B], distinct; a negative label is written nowhere."""

  def local(share, label, vectors):
    place = label - jax.lax.axis_index(mesh.axis_names) * len(share)
    place = jnp.where((place >= 0) & (place < len(share)), place, len(share))
    return share.at[place].set(vectors, mode='drop')

  split, replicated = PartitionSpec(mesh.axis_names), PartitionSpec()
  scatter = jax.shard_map(local, mesh=mesh, in_specs=(split, replicated, replicated), out_specs=split)
  return joint.replace(vectors=scatter(joint.vectors, label, vectors))


def first_of_same(label: jax.Array) -> jax.Array:
  """For every entry the first one of the same identity: int32 [n] -> int32 [n]. Its row stands for all of them."""
  return jnp.argmax(label[:, None] == label[None, :], axis=1).astype(jnp.int32)


class Compared:
  """L_C + gamma L_AR + weight L_B, by which the code vectors of a batch are trained too. See `train_step.Objective`.

  rate: step -> learning rate of the vectors. L_B compares with N = B + joint.negatives identities: the batch's, and
  others drawn with replacement from all m. One that occurs twice counts once.
  """

  def __init__(self, config: ConfigDict, table: CodeTable, rate: optax.Schedule, mesh: jax.sharding.Mesh):
    self.settings, self.loss_settings, self.table, self.rate, self.mesh = config.joint, config.loss, table, rate, mesh
    self.seed = config.train.seed

  def others(self, step: jax.Array) -> jax.Array:
    """Identities drawn for a step: int32 [joint.negatives]; the same whatever the devices."""
    key = jax.random.fold_in(named_key(self.seed, 'negatives'), step)
    return jax.random.randint(key, (self.settings.negatives,), 0, self.table.m, jnp.int32)

  def compared(
    self, rows: jax.Array, codes: jax.Array, label: jax.Array, batch: Batch
  ) -> tuple[jax.Array, Batch, tuple[jax.Array, jax.Array]]:
    """What `gather` returns, from the rows float32 [N, d] and codes uint8 [N, l] of the identities `label` int32 [N].

    One row stands for all examples of an identity, so that the gradients of all of them meet in it.
    """
    first, size = first_of_same(label), len(label) - self.settings.negatives
    own = first == jnp.arange(len(first))
    return rows, batch | {'code': codes[:size].astype(jnp.int32), 'first': first[:size]}, (label, own)

  def loss(
    self, rows: jax.Array, features: jax.Array, cosines: jax.Array, batch: Batch, context: tuple[jax.Array, jax.Array]
  ) -> tuple[jax.Array, Metrics]:
    settings, (_, own), h, z = self.settings, context, unit(rows), unit(features)
    loss, metrics = code_losses(z, cosines, batch['code'], h[batch['first']], self.loss_settings)
    in_batch = jnp.mean(losses.in_batch_loss(z, h, batch['first'], own, settings))
    loss += settings.weight * in_batch
    if settings.uniformity:
      loss += settings.uniformity * losses.batch_uniformity(h, own)
    return loss, metrics | {'in_batch_loss': in_batch}

  def moved(self, state: TrainState, rows: jax.Array, gradient: jax.Array) -> jax.Array:
    """A step of SGD on the rows compared with: gradient float32 [N, d], 0 where another row stands for its identity."""
    return unit(rows - self.rate(state.step) * gradient)


class Joint(Compared):
  """`joint` with its rows on the devices. A batch has label int32 [B]; codes and vectors are part of the state."""

  def abstract(self) -> dict[str, Any]:
    return {'joint': abstract_rows(self.table, self.mesh)}

  def init(self) -> dict[str, Any]:
    return {'joint': init_rows(self.table, self.mesh, start_key(self.settings, self.seed))}

  def inputs(self, size: int) -> dict[str, Any]:
    return {'label': jax.ShapeDtypeStruct((size,), jnp.int32, sharding=batch_sharding(self.mesh))}

  def gather(self, state: TrainState, batch: Batch) -> tuple[jax.Array, Batch, tuple[jax.Array, jax.Array]]:
    label = jnp.concatenate([batch['label'], self.others(state.step)])
    rows: Any = gather_rows(_table(state), label, self.mesh)
    return self.compared(rows.vectors, rows.codes, label, batch)

  def update(
    self,
    state: TrainState,
    rows: jax.Array,
    gradient: jax.Array,
    context: tuple[jax.Array, jax.Array],
    metrics: Metrics,
  ) -> tuple[dict[str, Any], None]:
    del metrics
    label, own = context
    moved = self.moved(state, rows, gradient)
    return {'joint': scatter_rows(_table(state), jnp.where(own, label, -1), moved, self.mesh)}, None


def _table(state: TrainState) -> JointTable:
  assert state.joint is not None  # `abstract` and `init` put it into the state
  return state.joint
