"""`joint`: code vectors that are trained with the network, one row per identity, split over all devices.

A step gathers and updates the rows of its batch's identities and of a fixed number of others, so its cost does not
depend on m; the memory does: m * d float32 and m * l bytes over all devices together (docs/method.md, section 2). SGD
on them has no momentum: it was measured to add nothing (benchmarks/README.md) and would double the memory.
"""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from gif_jax.codes.product import build_codes
from gif_jax.codes.quality.measure import explained_alone
from gif_jax.codes.table import CodeTable
from gif_jax.core.distributed import processes
from gif_jax.core.distributed.gather import in_blocks, on_disk
from gif_jax.core.jax_keys import named_key
from gif_jax.models.heads import unit
from gif_jax.models.trained import open_backbone
from gif_jax.training.objectives import losses
from gif_jax.training.objectives.fixed import code_losses
from gif_jax.training.state import Batch, JointTable, Metrics, TrainState

_LOG = logging.getLogger(__name__)


def abstract_rows(table: CodeTable, mesh: jax.sharding.Mesh) -> JointTable:
  """Sizes and types of `init_rows(table, mesh)`."""
  rows = table.m + -table.m % mesh.size

  def zeros() -> JointTable:
    return JointTable(jnp.zeros((rows, table.d), jnp.float32), jnp.zeros((rows, table.l), jnp.uint8), table.m)

  return jax.eval_shape(zeros)


def init_rows(table: CodeTable, mesh: jax.sharding.Mesh, key: jax.Array | None = None) -> JointTable:
  """The rows of a table on the devices of `mesh`. A device's share alone is read for it.

  key: instead of the table's vectors, which are then not read, random ones: functions of key and identity alone.
  """

  def vectors(labels: np.ndarray) -> np.ndarray | jax.Array:
    return table.rows(labels)[1] if key is None else _directions(key, labels, table.d)

  return JointTable(
    vectors=_put(table.m, table.d, np.float32, vectors, mesh),
    codes=_put(table.m, table.l, np.uint8, lambda labels: table.codes[labels], mesh),
    m=table.m,
  )


@functools.partial(jax.jit, static_argnums=2)
def _directions(key: jax.Array, labels: np.ndarray, d: int) -> jax.Array:
  rows = jax.vmap(lambda label: jax.random.normal(jax.random.fold_in(key, label), (d,)))(labels)
  return unit(rows)


def _put(
  m: int, width: int, dtype: Any, read: Callable[[np.ndarray], np.ndarray | jax.Array], mesh: jax.sharding.Mesh
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


class Joint:
  """L_C + gamma L_AR + weight L_B, by which the code vectors of a batch are trained too. See `train_step.Objective`.

  A batch has label int32 [B]; codes and vectors are part of the state. rate: step -> learning rate of the vectors.
  L_B compares with N = B + joint.negatives identities: the batch's, and others drawn with replacement from all m. One
  that occurs twice counts once.
  """

  def __init__(self, config: ConfigDict, table: CodeTable, rate: optax.Schedule, mesh: jax.sharding.Mesh):
    self.settings, self.loss_settings, self.table, self.rate, self.mesh = config.joint, config.loss, table, rate, mesh
    self.seed = config.train.seed

  def abstract(self) -> dict[str, Any]:
    return {'joint': abstract_rows(self.table, self.mesh)}

  def init(self) -> dict[str, Any]:
    key = None if self.settings.start == 'table' else named_key(self.seed, 'code vectors')
    return {'joint': init_rows(self.table, self.mesh, key)}

  def gather(self, state: TrainState, batch: Batch) -> tuple[jax.Array, Batch, tuple[jax.Array, jax.Array]]:
    label = jnp.concatenate([batch['label'], self._others(state.step)])
    rows, first, size = gather_rows(_table(state), label, self.mesh), first_of_same(label), len(batch['label'])
    own = first == jnp.arange(len(first))
    # One row stands for all examples of an identity, so that the gradients of all of them meet in it.
    codes = rows.codes[:size].astype(jnp.int32)
    return rows.vectors, batch | {'code': codes, 'first': first[:size]}, (label, own)

  def _others(self, step: jax.Array) -> jax.Array:
    """Identities drawn for a step: int32 [joint.negatives]; the same whatever the devices."""
    key = jax.random.fold_in(named_key(self.seed, 'negatives'), step)
    return jax.random.randint(key, (self.settings.negatives,), 0, self.table.m, jnp.int32)

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

  def update(
    self,
    state: TrainState,
    rows: jax.Array,
    gradient: jax.Array,
    context: tuple[jax.Array, jax.Array],
    metrics: Metrics,
  ) -> dict[str, Any]:
    """A step of SGD on the rows compared with: gradient float32 [N, d], 0 where another row stands for its identity."""
    del metrics
    label, own = context
    moved = unit(rows - self.rate(state.step) * gradient)
    return {'joint': scatter_rows(_table(state), jnp.where(own, label, -1), moved, self.mesh)}


def _table(state: TrainState) -> JointTable:
  assert state.joint is not None  # `abstract` and `init` put it into the state
  return state.joint


def retokenise(joint: JointTable, v: int, settings: ConfigDict, mesh: jax.sharding.Mesh, folder: Path) -> JointTable:
  """New codes, from the vectors as they are now; digits keep their meaning. settings: `config.tokenizer`.

  Process 0 makes them, out of a temporary file in `folder` that holds all vectors (4 m d bytes). In its memory are what
  `build_codes` needs beside them, about 4 m l v bytes; in that of the others the codes, m l bytes.
  """
  m, l = joint.m, joint.codes.shape[1]
  codes = np.concatenate(list(in_blocks(joint.codes, m)))
  with on_disk(folder, joint.vectors, m, np.float32) as vectors:
    if vectors is not None:  # process 0; alone, too, because hosts of unlike processors may round differently
      earlier, codes = codes, build_codes(vectors, l, v, seed=settings.seed, earlier=codes)
      _LOG.info(
        're-tokenised: %s of each digit kept, variance explained by each digit alone %s',
        np.round((codes == earlier).mean(0), 2),
        np.round(explained_alone(codes, vectors), 3),
      )
  processes.wait()
  codes = np.asarray(multihost_utils.broadcast_one_to_all(codes))
  return joint.replace(codes=_put(m, l, np.uint8, lambda labels: codes[labels], mesh))


def write_tables(
  joint: JointTable, table: CodeTable, settings: ConfigDict, mesh: jax.sharding.Mesh, workdir: Path
) -> CodeTable:
  """WORKDIR/trained_table, which is returned, and next_table: the same people with codes of the vectors as they are.

  settings: `config.tokenizer`.
  """
  again = retokenise(joint, table.v, settings, mesh, workdir)
  encoder = open_backbone(workdir).name
  write_table(again, table, workdir / 'next_table', encoder)
  return write_table(joint, table, workdir / 'trained_table', encoder)


def write_table(joint: JointTable, table: CodeTable, path: Path, encoder: str) -> CodeTable:
  """Writes what became of `table` in training to `path`, in place of what an earlier run of this left there.

  encoder: the name of the network trained, `open_backbone(workdir).name`: code vectors lie where its embeddings do, so
  it is what newcomers are encoded with. Process 0 writes, with memory for the codes; vectors come to it a block at a
  time and go through a temporary file.
  """
  meta = {key: table.meta[key] for key in ('seed', 'label_space', 'settings')}
  codes = np.concatenate(list(in_blocks(joint.codes, joint.m)))
  with on_disk(path.parent, joint.vectors, joint.m, np.float16) as vectors:
    if vectors is not None:
      CodeTable.write(path, codes, vectors, v=table.v, encoder=encoder, replace=True, **meta)
  processes.wait(path / 'meta.json')
  return CodeTable.open(path)
