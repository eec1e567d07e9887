"""What a benchmark runs on: the processor, and what its device had in use."""

import platform

import jax


def processor() -> str:
  """The name of this machine's processor (Linux)."""
  with open('/proc/cpuinfo') as file:
    return next((line.split(':')[1].strip() for line in file if line.startswith('model name')), platform.machine())


def peak_bytes() -> int | None:
  """The most bytes that were in use on the first device; None where it does not say."""
  return (jax.local_devices()[0].memory_stats() or {}).get('peak_bytes_in_use')
