"""The devices a network runs on. Batches are split over all of them; parameters may be split over some."""

from collections.abc import Sequence

import jax
import numpy as np
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


def processes_of(mesh: jax.sharding.Mesh) -> int:
  """How many processes have its devices."""
  return len({device.process_index for device in mesh.devices.flat})


def own_rows(mesh: jax.sharding.Mesh, size: int) -> np.ndarray:
  """Which rows of a batch this process brings, in their order: int64 [b]. `size` rows, split as `batch_sharding`.

  So row i of a batch is row i of its array, however many processes and devices there are.
  """
  part = size // mesh.size
  own = [i for i, device in enumerate(mesh.devices.flat) if device.process_index == jax.process_index()]
  return np.concatenate([np.arange(i * part, (i + 1) * part) for i in own])
