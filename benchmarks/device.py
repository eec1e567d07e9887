"""What a benchmark runs on: the processor, and bytes on a device."""

import platform
from typing import Any

import jax
import numpy as np


def processor() -> str:
  """The name of this machine's processor (Linux)."""
  with open('/proc/cpuinfo') as file:
    return next((line.split(':')[1].strip() for line in file if line.startswith('model name')), platform.machine())


def device_bytes(tree: Any) -> int:
  """On one device, of arrays or of their shapes."""
  shards = ((x.sharding.shard_shape(x.shape), x.dtype.itemsize) for x in jax.tree.leaves(tree))
  return sum(int(np.prod(shape, dtype=np.int64)) * itemsize for shape, itemsize in shards)


def peak_bytes() -> int | None:
  """The most bytes that were in use on the first device; None where it does not say."""
  return (jax.local_devices()[0].memory_stats() or {}).get('peak_bytes_in_use')
