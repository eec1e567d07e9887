"""The compiled step: how long compiling took, what memory a step needs, and whether the device has it."""

import logging
import math
import time
from typing import Any, Protocol

import jax

from gif_jax.core.texts import size

_LOG = logging.getLogger(__name__)
CURE = (
  'Should it run out of memory: lower config.train.batch_size, raise config.train.accumulate (the batch in so many '
  'parts), set config.model.remat=True (activations are computed twice instead of kept), or config.train.fsdp to a '
  'number of devices (they share one copy of weights and optimiser).'
)


class StepMemory(Protocol):
  """What `jax.stages.Compiled.memory_analysis()` says of a device, in bytes."""

  @property
  def argument_size_in_bytes(self) -> int: ...
  @property
  def output_size_in_bytes(self) -> int: ...
  @property
  def alias_size_in_bytes(self) -> int: ...
  @property
  def temp_size_in_bytes(self) -> int: ...
  @property
  def generated_code_size_in_bytes(self) -> int: ...


def compile_step(step: jax.stages.Wrapped, *arguments: Any) -> jax.stages.Compiled:
  """step.lower(*arguments).compile(), with the log saying what it took and what it needs, before it is run.

  step: a jitted function. A warning with the cure where the memory of a device is too small.
  """
  _LOG.info('compiling the training step')
  started = time.perf_counter()
  compiled = step.lower(*arguments).compile()
  _LOG.info('compiled in %.1f s', time.perf_counter() - started)
  capacity = (jax.local_devices()[0].memory_stats() or {}).get('bytes_limit', 0)
  if memory := compiled.memory_analysis():
    _LOG.log(logging.WARNING if 0 < capacity < needed(memory) else logging.INFO, '%s', describe(memory, capacity))
  return compiled


def needed(memory: StepMemory) -> int:
  """Bytes of a device that a step takes.

  Results that lie where donated arguments lay (aliased) take nothing more.
  """
  return (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
    + memory.temp_size_in_bytes
    + memory.generated_code_size_in_bytes
  )


def device_bytes(tree: Any) -> int:
  """On one device, of arrays or of their shapes."""
  shards = ((x.sharding.shard_shape(x.shape), x.dtype.itemsize) for x in jax.tree.leaves(tree))
  return sum(math.prod(shape) * itemsize for shape, itemsize in shards)


def describe(memory: StepMemory, capacity: int) -> str:
  """A step's memory in words, and the cure if it needs more than capacity, the bytes of a device; 0 = not known."""
  parts = {
    'arguments': memory.argument_size_in_bytes,
    'temporaries': memory.temp_size_in_bytes,
    'output': memory.output_size_in_bytes,
    'of it in place of arguments': memory.alias_size_in_bytes,
    'code': memory.generated_code_size_in_bytes,
  }
  listed = ', '.join(f'{name} {size(bytes_)}' for name, bytes_ in parts.items())
  of_capacity = f' of {size(capacity)}' if capacity else ''
  text = f'a step needs {size(needed(memory))}{of_capacity} on each device: {listed}'
  return f'{text}. {CURE}' if 0 < capacity < needed(memory) else text
