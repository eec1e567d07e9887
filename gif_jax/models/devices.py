"""The devices a network runs on: one axis, 'data', along which batches are split."""

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def make_mesh(devices=None) -> jax.sharding.Mesh:
  """A mesh of all devices (or those given) along one axis, 'data'."""
  devices = jax.devices() if devices is None else devices
  return jax.make_mesh((len(devices),), ('data',), axis_types=(AxisType.Auto,), devices=devices)


def batch_sharding(mesh) -> NamedSharding:
  """Batches are split over the devices along their first axis."""
  return NamedSharding(mesh, PartitionSpec('data'))
