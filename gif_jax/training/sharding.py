"""Which array lives on which devices: one list of rules over the mesh of models.devices."""

import re

import jax
from jax.sharding import NamedSharding, PartitionSpec

from gif_jax.models.devices import batch_sharding, make_mesh

# First match wins; the pattern is searched in the array's path, e.g. `.params['backbone']['embedding']['kernel']`.
RULES = (
  (r'^\.joint\b', PartitionSpec('data')),  # rows of identities: all that grows with their number
  (r'.*', PartitionSpec()),  # small enough to be copied to every device
)


def state_sharding(mesh, state):
  """A sharding for every array of `state` (abstract or not), by RULES."""

  def place(path, _):
    name = jax.tree_util.keystr(path)
    return NamedSharding(mesh, next(spec for pattern, spec in RULES if re.search(pattern, name)))

  return jax.tree_util.tree_map_with_path(place, state)


def put_batch(batch: dict, mesh) -> dict:
  """This process's rows of a batch {name: numpy [B / processes, ...]} -> global arrays [B, ...] over the mesh."""
  sharding = batch_sharding(mesh)
  return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}


def on_this_process(copied):
  """Arrays that every device has a copy of, as arrays over this process's devices alone. Copies nothing."""
  whole = NamedSharding(make_mesh(jax.local_devices()), PartitionSpec())

  def view(array):
    parts = [shard.data for shard in array.addressable_shards]
    return jax.make_array_from_single_device_arrays(array.shape, whole, parts)

  return jax.tree.map(view, copied)
