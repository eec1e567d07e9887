"""Which array lives on which devices: one list of rules over the mesh of `core.distributed.mesh`."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from gif_jax.core.distributed.mesh import batch_sharding, make_mesh
from gif_jax.core.errors import ConfigError
from gif_jax.models.batch_norm import group_of
from gif_jax.training.state import Batch

_Tree = TypeVar('_Tree')  # of arrays, or of their shapes

_LEAST = 1 << 14  # values; smaller arrays are not worth a collective of their own


def _everywhere(array: Any, mesh: Mesh) -> PartitionSpec:
  """A copy on every device."""
  del array, mesh
  return PartitionSpec()


def identities(array: Any, mesh: Mesh) -> PartitionSpec:
  """Rows, one per identity, split over all devices: all that grows with m. What is no matrix is copied."""
  return PartitionSpec(mesh.axis_names) if array.ndim == 2 else PartitionSpec()


def _shared(array: Any, mesh: Mesh) -> PartitionSpec:
  """Split over the devices that share a copy, along the longest axis that can be; small arrays are copied."""
  ways = mesh.shape['fsdp']
  axes = [axis for axis in range(array.ndim) if array.shape[axis] % ways == 0]
  if ways == 1 or array.size < _LEAST or not axes:
    return PartitionSpec()
  longest = max(axes, key=lambda axis: array.shape[axis])
  return PartitionSpec(*('fsdp' if axis == longest else None for axis in range(array.ndim)))


# First match wins; the pattern is searched in the array's path, e.g. `.params['backbone']['embedding']['kernel']`.
RULES = ((r'^\.(joint|softmax)\b', identities), (r'^\.(params|opt_state|ema)\b', _shared), (r'.*', _everywhere))


def state_sharding(mesh: Mesh, state: _Tree) -> _Tree:
  """A sharding for every array of `state` (abstract or not), by RULES."""

  def place(path, array):
    name = jax.tree_util.keystr(path)
    return NamedSharding(mesh, next(rule for pattern, rule in RULES if re.search(pattern, name))(array, mesh))

  return jax.tree_util.tree_map_with_path(place, state)


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> Batch:
  """This process's rows of a batch {name: numpy [B / processes, ...]} -> global arrays [B, ...] over the mesh."""
  sharding = batch_sharding(mesh)
  return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}


def gathered(params: _Tree, mesh: Mesh) -> _Tree:
  """Parameters as full copies, where they are used. Put together once for each use, and not kept for the other."""
  replicated = NamedSharding(mesh, PartitionSpec())
  return jax.lax.with_sharding_constraint(params, replicated) if mesh.shape['fsdp'] > 1 else params


def split_again(gradient: _Tree, mesh: Mesh) -> _Tree:
  """Gradients of parameters, split as these are, so that no device adds up more than its part."""
  if mesh.shape['fsdp'] == 1:
    return gradient
  place = jax.tree.map(lambda array: NamedSharding(mesh, _shared(array, mesh)), gradient)
  return jax.lax.with_sharding_constraint(gradient, place)


def parts(batch: Batch, k: int, mesh: Mesh) -> Batch:
  """A batch {name: [B, ...]} as k parts of it, [k, B / k, ...]; every example stays on its device."""

  def split(rows: jax.Array) -> jax.Array:
    shares = jnp.swapaxes(rows.reshape(len(rows) // k, k, *rows.shape[1:]), 0, 1)
    return jax.lax.with_sharding_constraint(shares, NamedSharding(mesh, PartitionSpec(None, mesh.axis_names)))

  return jax.tree.map(split, batch)


def on_this_process(tree: _Tree) -> _Tree:
  """Arrays as ones over this process's devices alone, a copy on each; what is split is put together first."""
  replicated = NamedSharding(make_mesh(jax.local_devices()), PartitionSpec())

  def view(array: jax.Array) -> jax.Array:
    if not array.is_fully_replicated:
      assert isinstance(array.sharding, NamedSharding)  # see `state_sharding`
      everywhere = NamedSharding(array.sharding.mesh, PartitionSpec())
      array = jax.jit(lambda x: x, out_shardings=everywhere)(array)
    parts = [shard.data for shard in array.addressable_shards]
    return jax.make_array_from_single_device_arrays(array.shape, replicated, parts)

  return jax.tree.map(view, tree)


def batch_norm_groups(config: ConfigDict, devices: int) -> tuple[int, int]:
  """(images that BatchNorm takes statistics over, how many devices these lie on)."""
  seen = config.train.batch_size // config.train.accumulate
  group = group_of(seen, config.model.batch_norm_group)
  return group, -(-group * devices // seen)


def check_divides(config: ConfigDict, devices: int, processes: int) -> None:
  """Raises ConfigError where a batch cannot be split over its parts, the devices, processes and groups of BatchNorm."""
  parts = config.train.accumulate
  if devices % config.train.fsdp:
    raise ConfigError(f'config.train.fsdp={config.train.fsdp} does not divide the {devices} devices; give a divisor.')
  for divisor, what in ((parts * devices, f'{devices} devices'), (processes, 'processes')):
    if config.train.batch_size % divisor:
      accumulated = f' times config.train.accumulate={parts}' if divisor != processes and parts > 1 else ''
      raise ConfigError(
        f'config.train.batch_size={config.train.batch_size} cannot be split over {what}{accumulated}; '
        f'choose a multiple of {divisor}.'
      )
  seen, group = config.train.batch_size // parts, config.model.batch_norm_group
  if (largest := batch_norm_groups(config, devices)[0]) < min(group, seen) / 2:
    raise ConfigError(
      f'config.model.batch_norm_group={group}: the {seen} images that the network sees at once are cut into groups of '
      f'{largest}, no larger ones divide them; give 0 for one group, or another config.train.batch_size.'
    )
