"""A plan: what `compiled` finds out about a config and a machine, and what follows from it."""

import json
import logging
import math
import os
import select
import subprocess
import sys
import tempfile
from typing import Any

from ml_collections import ConfigDict
from tqdm import tqdm

from gif_jax.core.errors import ConfigError
from gif_jax.core.storage.files import plain
from gif_jax.planning import machines

_LOG = logging.getLogger(__name__)
GRAIN = 8  # images a device, of which the largest batch is a multiple
_POOL = 0.75  # of a GPU's memory that JAX takes, unless this variable says otherwise
_FRACTION = 'XLA_PYTHON_CLIENT_MEM_FRACTION'
_WAYS = {'all-reduce': 2.0}  # a sum goes to one device and back to all; times what a device has


def capacity(machine: machines.Machine) -> float:
  """Bytes of a device that programs can have; infinite for this machine's processors.

  Raises ConfigError where the variable that says it holds no share.
  """
  if not machine.chip:
    return math.inf
  if machine.kind == 'gpu':
    text = os.environ.get(_FRACTION) or str(_POOL)
    try:
      return machine.chip.memory * float(text)
    except ValueError:
      raise ConfigError(f'{_FRACTION}={text} is no share of the memory: give one such as .9, or unset it.') from None
  return machine.chip.memory


def make_plan(config: ConfigDict, topology: str, largest_batch: bool) -> dict[str, Any]:
  """Compiles everything in a process of its own, and says what came of it. See `_ask` for the keys.

  Raises ConfigError where the machine is none, its compiler is missing, or it cannot be divided like that.
  """
  machine = machines.machine(topology)
  machines.check_installed(machine)
  room = capacity(machine)
  wish = {
    'config': plain(config.to_dict()),
    'topology': topology,
    'largest_batch': largest_batch and math.isfinite(room),
    'capacity': room if math.isfinite(room) else 0,
  }
  plan = {'topology': topology, 'capacity': room if math.isfinite(room) else None, 'm': config.data.identities}
  plan |= {'batch': config.train.batch_size} | _ask(wish, machine)
  step = plan['parts']['train step']
  if 'memory' in step:
    plan['bounds'] = bounds(step, machine, plan['devices'], config.train.accumulate)
  return plan


def bounds(step: dict[str, Any], machine: machines.Machine, devices: int, accumulate: int) -> dict[str, float]:
  """Seconds that a step takes at least: by arithmetic, by memory traffic, by what devices send; {} for processors."""
  if not machine.chip:
    return {}
  sent = sum(each['size'] * each['times'] * _WAYS.get(each['op'], 1.0) for each in step['collectives'])
  limits = {'arithmetic': step['flops'] / machine.chip.flops}
  if step['bytes'] and accumulate == 1:  # of a loop's body one round is counted
    limits['memory traffic'] = step['bytes'] / machine.chip.bandwidth
  if devices > 1:
    limits['sending'] = sent * (devices - 1) / devices / machine.across
  return limits


def _ask(wish: dict[str, Any], machine: machines.Machine) -> dict[str, Any]:
  """{'devices', 'processes', 'parts': {name: measured}, 'trials', 'cure'}, from a process that compiles."""
  answer: dict[str, Any] = {'parts': {}, 'trials': []}
  with tempfile.TemporaryFile('w+') as said, tqdm(bar_format='{desc} {elapsed}') as bar:
    process = subprocess.Popen(
      [sys.executable, '-c', 'from gif_jax.planning.compiled import main; main()'],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=said,
      env=os.environ | machines.environment(machine),
    )
    assert process.stdin and process.stdout
    try:
      with process.stdin:
        process.stdin.write(json.dumps(wish).encode())
      for line in _lines(process, bar):
        _take(answer, line, bar)
    finally:
      process.kill()
      process.wait()
    if 'train step' not in answer['parts'] or 'predict' not in answer['parts']:
      said.seek(0)
      last = [line for line in said.read().splitlines() if line.strip()][-1:] or ['nothing said']
      raise ConfigError(f'--topology={machine.name}: its compiler ended early: {last[0]:.300}')
  return answer


def _lines(process, bar):
  """What it prints, and the bar's clock kept going in between."""
  begun = b''
  while True:
    if not select.select([process.stdout], [], [], 1.0)[0]:
      if sys.stderr.isatty():  # in a log every second would be a line
        bar.refresh()
      continue
    more = os.read(process.stdout.fileno(), 1 << 16)
    if not more:
      return
    *lines, begun = (begun + more).split(b'\n')
    yield from map(json.loads, lines)


def _take(answer, line, bar):
  if 'error' in line:
    raise ConfigError(line['error'])
  if 'doing' in line:
    bar.set_description_str(line['doing'])
  if 'devices' in line:
    answer |= line
  if 'part' in line:
    answer['parts'][line['part']], answer['cure'] = line['measured'], line['cure']
    _LOG.info('%s: compiled in %.0f s', line['part'], line['measured']['seconds'])
  if 'trial' in line:
    answer['trials'].append(line['trial'])


def largest(plan: dict[str, Any]) -> tuple[int, bool]:
  """(images of a device in the largest batch tried that fits, 0 for none; whether the next larger one does not)."""
  room = plan['capacity'] or 0
  fit = {trial['images']: (trial['total'] or math.inf) <= room for trial in plan['trials']}
  best = max((images for images, fits in fit.items() if fits), default=0)
  return best, not fit.get(best + GRAIN, True)
