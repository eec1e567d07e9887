"""The programs of a training, compiled for a machine: what `plan` starts as a process of its own.

With the variables of `machines.environment`. Prints a JSON object a line: what it is about to do, and what came of it.
"""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from ml_collections import ConfigDict

from gif_jax.codes.identities import Identities, LabelSpace
from gif_jax.codes.size import choose_size
from gif_jax.codes.table import CodeTable
from gif_jax.core.distributed.mesh import batch_sharding, make_mesh, processes_of
from gif_jax.core.errors import ConfigError
from gif_jax.planning import machines
from gif_jax.planning.hlo import collectives
from gif_jax.planning.plan import GRAIN
from gif_jax.training.cost.compilation import CURE, device_bytes, needed
from gif_jax.training.cost.flops import multiply_adds
from gif_jax.training.program import Program, make_program
from gif_jax.training.sharding import batch_norm_groups, check_divides

STEPS = 10_000  # of the schedule, which changes no program's size
_TRIALS = 16  # batches that are compiled to find the largest, at most


class _People(CodeTable):
  """A table of m people as far as programs depend on it: its sizes."""

  def __init__(self, m: int, d: int, settings: ConfigDict):
    l, v = choose_size(m, settings.l, settings.v, settings.slack)
    self.meta = {'m': m, 'l': l, 'v': v, 'd': d, 'label_space': '', 'fingerprint': ''}


def devices_of(machine: machines.Machine) -> list[jax.Device]:
  """Its devices. Raises ConfigError where its compiler has no such machine."""
  if machine.kind == 'cpu':
    return jax.devices()
  try:
    return list(topologies.get_topology_desc(**machines.topology(machine)).devices)
  except Exception as error:  # of the plugin, whose errors have no type in common
    reason = str(error).strip().splitlines()[0]
    raise ConfigError(f'--topology={machine.name}: its compiler refuses it: {reason:.300}') from error


def table_of(config: ConfigDict) -> LabelSpace:
  """Of config.data.identities people. Raises ConfigError where no codes are that many."""
  m = config.data.identities
  if config.softmax.enabled:
    return Identities(m, '')
  try:
    return _People(m, config.model.d, config.tokenizer)
  except ValueError as error:
    raise ConfigError(f'config.{error}') from error


def program_of(config: ConfigDict, mesh: jax.sharding.Mesh) -> Program:
  """What would run on the devices. Raises ConfigError where they cannot divide the batch."""
  check_divides(config, mesh.size, processes_of(mesh))
  return make_program(config, table_of(config), STEPS, mesh)


def compile_step(config: ConfigDict, mesh: jax.sharding.Mesh) -> dict[str, Any]:
  """The train step: see `_measured`; and, beside it, where its memory goes, and FLOPs of a device."""
  program = program_of(config, mesh)
  measured = _measured(program.train_step, program.like, program.inputs)
  if 'memory' not in measured:
    return measured
  like = program.like
  parts = {
    'weights': device_bytes((like.params, like.batch_stats, like.ema)),
    'optimiser': device_bytes(like.opt_state),
    'rows of identities': device_bytes((like.joint, like.softmax)),
    'batch': device_bytes(program.inputs),
  }
  memory = measured['memory']
  parts['padding'] = memory['arguments'] - sum(parts.values())
  parts |= {'activations': memory['temporaries'], 'results': memory['results'], 'code': memory['code']}
  flops = 2 * multiply_adds(program.train_step, program.like, program.inputs) / mesh.size
  group, spread = batch_norm_groups(config, mesh.size)
  table = table_of(config)
  return measured | {
    'parts': parts,
    'flops': flops,
    'l': table.l,
    'v': table.v,
    'group': group,
    'group_devices': spread,
  }


def compile_init(config: ConfigDict, mesh: jax.sharding.Mesh) -> dict[str, Any]:
  """The program that makes the state of step 0."""
  return _measured(program_of(config, mesh).fresh)


def compile_predict(config: ConfigDict, mesh: jax.sharding.Mesh) -> dict[str, Any]:
  """The network in use, on the devices of one process, as evaluation has it: eval.batch_size images of each process."""
  first = mesh.devices.flat[0].process_index
  own = make_mesh([device for device in mesh.devices.flat if device.process_index == first])
  program = program_of(config, mesh)
  replicated = jax.sharding.NamedSharding(own, jax.sharding.PartitionSpec())
  variables = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated), program.like.variables
  )
  size = config.eval.batch_size + -config.eval.batch_size % own.size
  shape = size, config.data.size, config.data.size, 3
  return _measured(program.predict, variables, jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=batch_sharding(own)))


def _measured(function, *arguments) -> dict[str, Any]:
  """{'seconds', 'memory': bytes of a device, 'bytes': moved to and from it, 'collectives'}, or {'seconds', 'lacks'}."""
  started = time.perf_counter()
  try:
    compiled = function.lower(*arguments).compile()
  except jax.errors.JaxRuntimeError as error:  # of compilers that know how much there is
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    return {'seconds': time.perf_counter() - started, 'lacks': str(error).strip().splitlines()[0]}
  analysis = compiled.memory_analysis()
  return {
    'seconds': time.perf_counter() - started,
    'memory': {
      'total': needed(analysis),
      'arguments': analysis.argument_size_in_bytes,
      'temporaries': analysis.temp_size_in_bytes,
      'results': analysis.output_size_in_bytes - analysis.alias_size_in_bytes,
      'code': analysis.generated_code_size_in_bytes,
    },
    'bytes': _traffic(compiled),
    'collectives': [each._asdict() for each in collectives(compiled.as_text())],
  }


def _traffic(compiled: jax.stages.Compiled) -> float | None:
  """Bytes that a device reads and writes in its memory; the body of a loop is counted once."""
  # Compiled.cost_analysis() has nothing for GPUs; this is what it asks elsewhere. Any client can analyse any program.
  from jax._src.lib import xla_client

  executable = compiled.runtime_executable()
  assert executable
  module = executable.hlo_modules()[0]
  return xla_client._xla.hlo_module_cost_analysis(jax.local_devices()[0].client, module).get('bytes accessed')


def largest_batch(
  config: ConfigDict, mesh: jax.sharding.Mesh, capacity: float, known: dict[int, float | None]
) -> Iterator[dict[str, Any]]:
  """Compiles steps of other batches; yields {'images' of a device, 'total': bytes, None where they lack memory}.

  The last that fits, of `GRAIN` images more than which none does, is the largest. known: images -> total, so far.
  """
  tried: dict[int, float | None] = {}
  images = max(GRAIN, config.train.batch_size // mesh.size // GRAIN * GRAIN)
  while images and len(tried) < _TRIALS:
    tried[images] = known[images] if images in known else _total_of(config, mesh, images)
    yield {'images': images, 'total': tried[images]}
    images = _next(tried, capacity)


def _next(tried: dict[int, float | None], capacity: float) -> int:
  """The batch to try after these, images -> total; 0 where the largest is known."""
  fitting = {images: total for images, total in tried.items() if total is not None and total <= capacity}
  low, high = max(fitting, default=0), min(tried.keys() - fitting.keys(), default=0)
  if not high:  # as memory grows with the batch, and a quarter more at least
    guess = max(int(low * capacity / fitting[low]), low + low // 4)
    return max(low + GRAIN, min(guess, 16 * low) // GRAIN * GRAIN)
  if high - low <= GRAIN:
    return 0
  guess, total = (low + high) // 2, tried[high]
  if total is not None and len(tried) % 2:  # every other time on the line between both; memory may grow in leaps
    least = fitting.get(low, 0.0)
    guess = low + int((high - low) * (capacity - least) / (total - least))
  return max(low + GRAIN, min(guess, high - GRAIN) // GRAIN * GRAIN)


def _total_of(config: ConfigDict, mesh: jax.sharding.Mesh, images: int) -> float | None:
  """Bytes of a device that a step of so many of its images takes; None where the compiler says that it lacks them."""
  changed = config.copy_and_resolve_references()
  changed.train.batch_size = images * mesh.size * config.train.accumulate
  program = program_of(changed, mesh)
  return _measured(program.train_step, program.like, program.inputs).get('memory', {}).get('total')


_PARTS = {'train step': compile_step, 'init': compile_init, 'predict': compile_predict}


def main() -> None:
  """Answers the wish on standard input: {'config', 'topology', 'largest_batch', 'capacity'}."""

  def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)

  wish = json.load(sys.stdin)
  config = ConfigDict(wish['config'])
  try:
    say(doing='topology')
    mesh = make_mesh(devices_of(machines.machine(wish['topology'])), config.train.fsdp)
    say(devices=mesh.size, processes=processes_of(mesh))
    known = {}
    for name, compile_part in _PARTS.items():
      say(doing=f'compiling {name}')
      say(part=name, measured=(measured := compile_part(config, mesh)), cure=CURE)
      if name == 'train step' and config.train.accumulate == 1:
        known[config.train.batch_size // mesh.size] = measured.get('memory', {}).get('total')
    if wish['largest_batch']:
      say(doing='compiling other batches')
      for trial in largest_batch(config, mesh, wish['capacity'], known):
        say(trial=trial, doing=f'compiling other batches: {trial["images"]} images a device tried')
  except (ConfigError, ValueError) as error:
    say(error=str(error))
