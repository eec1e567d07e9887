"""Which array lives on which devices: one mesh, one list of rules."""

import re

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

# First match wins; the pattern is searched in the array's path, e.g. `.params['backbone']['embedding']['kernel']`.
RULES = (
  (r'^\.joint\b', PartitionSpec('data')),  # rows of identities: all that grows with their number
  (r'.*', PartitionSpec()),  # small enough to be copied to every device
)


def make_mesh(devices=None) -> jax.sharding.Mesh:
  """A mesh of all devices (or those given) along one axis, 'data'."""
  devices = jax.devices() if devices is None else devices
  return jax.make_mesh((len(devices),), ('data',), axis_types=(AxisType.Auto,), devices=devices)


def state_sharding(mesh, state):
  """A sharding for every array of `state` (abstract or not), by RULES."""

  def place(path, _):
    name = jax.tree_util.keystr(path)
    return NamedSharding(mesh, next(spec for pattern, spec in RULES if re.search(pattern, name)))

  return jax.tree_util.tree_map_with_path(place, state)


def batch_sharding(mesh) -> NamedSharding:
  """Batches are split over the devices along their first axis."""
  return NamedSharding(mesh, PartitionSpec('data'))


def put_batch(batch: dict, mesh) -> dict:
  """This process's rows of a batch {name: numpy [B / processes, ...]} -> global arrays [B, ...] over the mesh."""
  sharding = batch_sharding(mesh)
  return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}
