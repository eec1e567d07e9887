"""The baselines: a margin softmax over all m identities, and Partial FC, over a share r of them in each step.

An identity has a centre, a row of float32 [m, d], split over all devices by identity. This is what the method is
measured against; memory grows with m in every form of it, and so does time.

Partial FC (An et al., "Killing Two Birds with One Stone", 2022): every device takes the centres of the batch's
identities and, of its other ones, as many at random as make r of all. These rows alone have gradients and are moved;
momentum of the others stays as it is.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from gif_jax.core.distributed.mesh import batch_sharding
from gif_jax.core.jax_keys import named_key
from gif_jax.models.heads import unit
from gif_jax.training import optim
from gif_jax.training.objectives import margins, partial_fc
from gif_jax.training.sharding import identities
from gif_jax.training.state import Batch, Metrics, SoftmaxTable, TrainState

# (who is compared with, None for everybody; norms of SoftmaxTable)
_Context = tuple[jax.Array | None, jax.Array]


class Softmax:
  """Margin softmax of the embedding with the centres of all identities, or of a share of them.

  See `train_step.Objective`.

  A batch has label int32 [B]. Cost of a step: B M r d for each of three products, and every pass over M r d and B M r
  values that goes with them.
  """

  def __init__(self, config: ConfigDict, m: int, total_steps: int, mesh: jax.sharding.Mesh):
    self.settings, self.m, self.mesh = config.softmax, m, mesh
    self.d, self.dtype, self.seed = config.model.d, jnp.dtype(config.model.dtype), config.train.seed
    self.tx = optim.optimiser(config.optim, total_steps, clip=False)
    self.share = -(-m // mesh.size)  # rows of a device
    self.wanted = math.ceil(self.share * self.settings.sample_rate)
    self.places = min(self.share, max(self.wanted, config.train.batch_size))  # one device may have all of a batch
    self.everybody = self.wanted == self.share
    self.split, self.replicated = PartitionSpec(mesh.axis_names), PartitionSpec()

  def _fresh(self) -> SoftmaxTable:
    shape = (self.share * self.mesh.size, self.d)
    centres = 0.01 * jax.random.normal(named_key(self.seed, 'centres'), shape)  # as arcface_torch begins
    # AdaFace begins with a mean of 20 and a deviation of 100.
    return SoftmaxTable(centres, self.tx.init(centres), jnp.array([20.0, 100.0]), self.m)

  def abstract(self) -> dict[str, Any]:
    return {'softmax': jax.eval_shape(self._fresh)}

  def init(self) -> dict[str, Any]:
    where = jax.tree.map(lambda x: NamedSharding(self.mesh, identities(x, self.mesh)), self.abstract()['softmax'])
    return {'softmax': jax.jit(self._fresh, out_shardings=where)()}

  def gather(self, state: TrainState, batch: Batch) -> tuple[jax.Array, Batch, _Context]:
    table = _table(state)
    if self.everybody:
      return table.centres, batch, (None, table.norms)
    ids = self._sample(batch['label'], state.step)
    return self._take(table.centres, ids), batch, (ids, table.norms)

  def _sample(self, label: jax.Array, step: jax.Array) -> jax.Array:
    """Who is compared with: int32 [places * devices], see `partial_fc.choose`."""
    key = jax.random.fold_in(named_key(self.seed, 'sample'), step)

    def local(label):
      start, device_key = self._start(), jax.random.fold_in(key, jax.lax.axis_index(self.mesh.axis_names))
      sizes = {'rows': self.share, 'm': self.m, 'wanted': self.wanted, 'places': self.places}
      return partial_fc.choose(device_key, label, start, nobody=self.share * self.mesh.size, **sizes)

    return self._on_devices(local, (self.replicated,), self.split)(label)

  def _start(self) -> jax.Array:
    """The first identity of this device."""
    return jax.lax.axis_index(self.mesh.axis_names) * self.share

  def _take(self, rows: jax.Array, ids: jax.Array) -> jax.Array:
    def local(rows, ids):
      return partial_fc.take(rows, ids - self._start())

    return self._on_devices(local, (self.split, self.split), self.split)(rows, ids)

  def _put(self, rows: jax.Array, ids: jax.Array, new: jax.Array) -> jax.Array:
    def local(rows, ids, new):
      return partial_fc.put(rows, ids - self._start(), new)

    return self._on_devices(local, (self.split,) * 3, self.split)(rows, ids, new)

  def _on_devices(self, function: Callable, in_specs: Any, out_specs: Any) -> Callable:
    return jax.shard_map(function, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs)

  def loss(
    self, rows: jax.Array, features: jax.Array, cosines: None, batch: Batch, context: _Context
  ) -> tuple[jax.Array, Metrics]:
    del cosines
    ids, norms = context
    margin, now = margins.of_examples(features, norms, self.settings)
    out_specs = (self.replicated, self.replicated)
    arguments = (unit(features), margin, batch['label'], rows) + (() if self.everybody else (ids,))
    in_specs = (self.replicated,) * 3 + (self.split,) * (len(arguments) - 3)
    loss, target = self._on_devices(self._local_loss, in_specs, out_specs)(*arguments)
    metrics = {'softmax_loss': jnp.mean(loss), 'target_cosine': jnp.mean(target)}
    return metrics['softmax_loss'], metrics | ({} if now is None else {'norm_mean': now[0], 'norm_std': now[1]})

  def _local_loss(
    self, z: jax.Array, margin: jax.Array, label: jax.Array, rows: jax.Array, ids: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """Loss and target cosine float32 [b] of all examples, with the columns of this device and sums over all devices."""
    axes, settings, start = self.mesh.axis_names, self.settings, self._start()
    if ids is None:
      ids = start + jnp.arange(self.share)
    cosine = _cosines(jax.lax.pcast(z, axes, to='varying'), rows, self.dtype)
    own, mine = ids[None, :] == label[:, None], (label >= start) & (label < start + self.share)
    target = jnp.sum(jnp.where(own, cosine, 0), axis=1)  # a sum has a gradient without a scatter
    right = jnp.where(mine, settings.scale * margins.apply(target, margin, settings), -jnp.inf)
    if settings.interclass_filtering_threshold:
      # Somebody so alike is taken for the same person under another name: no push from there.
      cosine = jnp.where(cosine > settings.interclass_filtering_threshold, 0, cosine)
    others = jnp.where(own | (ids >= self.m)[None, :], -jnp.inf, settings.scale * cosine)
    top = jax.lax.pmax(jax.lax.stop_gradient(jnp.maximum(jnp.max(others, axis=1), right)), axes)
    total = jax.lax.psum(jnp.sum(jnp.exp(others - top[:, None]), axis=1) + jnp.exp(right - top), axes)
    right, target = jax.lax.psum(jnp.where(mine, jnp.stack([right, target]), 0), axes)
    return jnp.log(total) + top - right, target

  def update(
    self, state: TrainState, rows: jax.Array, gradient: jax.Array, context: _Context, metrics: Metrics
  ) -> tuple[dict[str, Any], None]:
    """A step of the optimiser on the rows that were compared with."""
    table, (ids, norms) = _table(state), context
    if ids is None:
      updates, opt_state = self.tx.update(gradient, table.opt_state, rows)
      centres = optax.apply_updates(rows, updates)
    else:
      some = jax.tree.map(lambda x: self._take(x, ids) if x.ndim == 2 else x, table.opt_state)
      updates, moved = self.tx.update(gradient, some, rows)
      opt_state = jax.tree.map(lambda x, new: self._put(x, ids, new) if x.ndim == 2 else new, table.opt_state, moved)
      centres = self._put(table.centres, ids, optax.apply_updates(rows, updates))
    if 'norm_mean' in metrics:
      norms = jnp.stack([metrics['norm_mean'], metrics['norm_std']])
    return {'softmax': table.replace(centres=centres, opt_state=opt_state, norms=norms)}, None

  def inputs(self, size: int) -> dict[str, Any]:
    return {'label': jax.ShapeDtypeStruct((size,), jnp.int32, sharding=batch_sharding(self.mesh))}


def _table(state: TrainState) -> SoftmaxTable:
  assert state.softmax is not None  # `abstract` and `init` put it into the state
  return state.softmax


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _cosines(z: jax.Array, rows: jax.Array, dtype: Any) -> jax.Array:
  """Cosines float32 [b, n] of unit z float32 [b, d] with rows float32 [n, d] of any length.

  Rows are not normalised as such, which would be as many passes over [n, d] as this has products. These are of numbers
  of the type `dtype`, backwards too: differentiated automatically they would run at float32's speed.
  """
  return _cosines_forward(z, rows, dtype)[0]


def _cosines_forward(z, rows, dtype):
  length = jnp.sqrt(jnp.maximum(jnp.sum(rows * rows, axis=1), 1e-12))
  product = jnp.dot(z.astype(dtype), rows.astype(dtype).T, preferred_element_type=jnp.float32)
  return product / length[None, :], (z, rows, length)


def _cosines_backward(dtype, saved, gradient):
  z, rows, length = saved
  product = functools.partial(jnp.dot, preferred_element_type=jnp.float32)
  gradient = (gradient / length[None, :]).astype(dtype)
  of_z, of_rows = product(gradient, rows.astype(dtype)), product(gradient.T, z.astype(dtype))
  along = jnp.sum(of_rows * rows, axis=1) / length**2  # the length of a row changes nothing
  return of_z, of_rows - along[:, None] * rows


_cosines.defvjp(_cosines_forward, _cosines_backward)
