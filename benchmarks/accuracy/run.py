"""One run of the accuracy benchmark in a process of its own, so that what it costs is its own.

python -m benchmarks.accuracy.run WORKDIR --cache=DIR        # WORKDIR/config.json says what to run; needs Linux
"""

import argparse
import os
import sys
import time
from pathlib import Path

import jax

from benchmarks.accuracy.rows import check_keys, differences, flat, plain
from benchmarks.device import peak_bytes, processor
from gif_jax import config
from gif_jax.codes import tokenizer
from gif_jax.codes.identities import Identities
from gif_jax.commands.flags import quiet_libraries
from gif_jax.config import train_steps
from gif_jax.core.distributed.mesh import make_mesh
from gif_jax.core.errors import ConfigError
from gif_jax.core.storage.files import read_json, write_json
from gif_jax.data.sets.open import open_faces
from gif_jax.training.cost.compilation import device_bytes
from gif_jax.training.program import make_program
from gif_jax.training.train import train

_CURE = 'remove that folder, or use another --output'


def run(settings: config.ConfigDict, workdir: Path, cache: Path) -> dict | None:
  """Trains and evaluates in `workdir`, or continues what began there; writes config.json, summary.json and cost.json.

  cache: folder of rendered faces. Returns the summary, None if a signal stopped the run with its state saved. Raises
  ConfigError if `workdir` is of other settings.
  """
  started = time.perf_counter()
  check_same(settings, workdir)
  write_json(workdir / 'config.json', plain(settings))
  faces = open_faces(settings, cache)
  people = Identities(faces.m, faces.label_space)
  table = people if settings.softmax.enabled else tokenizer.ensure_table(settings, faces, workdir)
  summary = train(settings, workdir, faces, table)
  if summary is not None:
    spent = {'wall_seconds': time.perf_counter() - started, 'cpu_seconds': sum(os.times()[:4])} | _peaks()
    write_json(workdir / 'cost.json', spent | _step(settings, faces, table) | {'machine': _machine()})
  return summary


def check_same(settings: config.ConfigDict, workdir: Path) -> None:
  """Raises ConfigError if what is in `workdir`, finished or not, is of other settings; the message names the key."""
  file = workdir / 'config.json'
  if not file.exists():
    if (workdir / 'summary.json').exists():
      raise ConfigError(f'{workdir} holds a run and no config.json that says of what: remove that folder.')
    return
  asked, recorded = flat(plain(settings)), flat(read_json(file, ConfigError, _CURE))
  if keys := differences(asked, recorded):
    more = f' (and {", ".join(f"config.{key}" for key in keys[1:])} other than asked for)' if keys[1:] else ''
    raise ConfigError(
      f'{workdir} is of config.{keys[0]}={recorded.get(keys[0])!r}, asked for is {asked.get(keys[0])!r}{more}: '
      'remove that folder, or use another --output.'
    )


def _peaks():
  """Most bytes that were in use: of the host, /proc's VmHWM, since getrusage counts the parent's before exec too."""
  with open('/proc/self/status') as file:
    resident = next(int(line.split()[1]) * 1024 for line in file if line.startswith('VmHWM'))
  return {'peak_resident_bytes': resident, 'peak_device_bytes': peak_bytes()}


def _step(settings, faces, table):
  """Bytes on one device: of the network with its optimiser, of what grows with m, of a step's temporary arrays."""
  mesh = make_mesh()
  program = make_program(settings, table, train_steps(settings, len(faces.train)), mesh)
  rows = {'joint': program.like.joint, 'softmax': program.like.softmax}
  memory = program.train_step.lower(program.like, program.inputs).compile().memory_analysis()
  return {
    'network_bytes': device_bytes(program.like.replace(joint=None, softmax=None)),
    'identity_bytes': device_bytes(rows),
    'step_temporaries_bytes': memory.temp_size_in_bytes if memory else None,
  }


def _machine():
  device = jax.local_devices()[0]
  return {
    'device': processor() if device.platform == 'cpu' else device.device_kind,
    'devices': jax.device_count(),
    'cores': len(os.sched_getaffinity(0)),
    'jax': jax.__version__,
    'date': time.strftime('%Y-%m-%d'),
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('workdir', type=Path)
  parser.add_argument('--cache', type=Path, required=True)
  options = parser.parse_args()
  quiet_libraries()
  recorded = read_json(options.workdir / 'config.json', ConfigError, _CURE)
  check_keys(flat(recorded), str(options.workdir / 'config.json'))
  settings = config.default()
  settings.update(recorded)
  if run(settings, options.workdir, options.cache) is None:
    sys.exit('stopped by a signal: its state is saved, and the next attempt continues from there')


if __name__ == '__main__':
  main()
