"""The devices a network runs on. Batches are split over all of them; parameters may be split over some."""

from collections.abc import Sequence

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def make_mesh(devices: Sequence[jax.Device] | None = None, fsdp: int = 1) -> jax.sharding.Mesh:
  """A mesh of all devices (or those given): ('data', 'fsdp') of n / fsdp x fsdp.

  `fsdp` devices, neighbours, share one copy of the parameters where a sharding rule says so; `data` counts the copies.
  Raises ValueError where fsdp does not divide the devices.
  """
  devices = jax.devices() if devices is None else devices
  if len(devices) % fsdp:
    raise ValueError(f'{len(devices)} devices cannot be split into groups of {fsdp}')
  return jax.make_mesh((len(devices) // fsdp, fsdp), ('data', 'fsdp'), (AxisType.Auto,) * 2, devices=devices)


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
  """Batches are split over all devices along their first axis."""
  return NamedSharding(mesh, PartitionSpec(mesh.axis_names))
