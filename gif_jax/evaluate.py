"""Measures a network: python -m gif_jax.evaluate --workdir=runs/ms1mv3_r50 --benchmarks=lfw.bin,IJBC,tinyface

A benchmark is NAME.bin (LFW, CFP-FP, AgeDB-30, RFW ...), the folder of IJB-B, IJB-C or TinyFace, or any set of known
people, all of whose pairs are compared. Tables, curves and the hardest pairs go to WORKDIR/evaluation, thresholds to
WORKDIR/thresholds.json. Embeddings made elsewhere: --embeddings=FILE.npy,... instead of --workdir, one per benchmark.
"""

from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import app, flags

from gif_jax import __version__
from gif_jax.command_line import define_processes, make_writable, parse_flags, quiet_libraries
from gif_jax.config import ConfigError
from gif_jax.data.benchmarks.opening import open_benchmarks
from gif_jax.data.colour import check_colour
from gif_jax.data.images import DataError
from gif_jax.evaluation import cache
from gif_jax.evaluation.benchmarks import measure
from gif_jax.evaluation.page import terminal_text, write_report
from gif_jax.evaluation.result import EvaluationError, Result, check_embedding
from gif_jax.evaluation.resume import ExtractError
from gif_jax.evaluation.thresholds import write_thresholds
from gif_jax.models.gif import INPUT
from gif_jax.training import processes
from gif_jax.training.backbone import open_network
from gif_jax.training.checkpoint import CheckpointError

_SIZE = 112  # pixels a side of pictures in a report where no network says


class Settings(NamedTuple):
  """What is measured, and how; the flags of the command."""

  benchmarks: str
  workdir: str = ''
  step: int = 0
  embeddings: str = ''
  output: str = ''
  flip: bool = True
  replicates: int = 1000
  batch_size: int = 200
  check_colour: bool = True


def evaluate(settings: Settings) -> tuple[list[Result], dict[str, Any]]:
  """Measures everything in `settings.benchmarks` and writes the report: the results, and what was measured.

  Raises ConfigError for settings that do not go together, DataError for benchmarks that are not there or cannot be
  used, CheckpointError and EvaluationError for networks and embeddings; nothing is left out without saying so.
  """
  _check(settings)
  folder = Path(settings.output or Path(settings.workdir) / 'evaluation')
  source = _Files(settings) if settings.embeddings else _Checkpoint(settings)
  # All of them are opened first: what is missing shows itself now and not after hours of work.
  benchmarks = open_benchmarks(_listed(settings.benchmarks), source.size)
  source.check(benchmarks.values())
  if settings.workdir:
    make_writable('workdir', Path(settings.workdir))
  make_writable('output', folder)
  results = []
  for i, (name, benchmark) in enumerate(benchmarks.items()):
    found = source.embeddings(i, benchmark)
    check_embedding(found.embedding, len(benchmark.identity), name)
    results += measure(benchmark, found.embedding, norm=found.norm, replicates=settings.replicates)
  if not processes.first():
    return results, source.about
  write_report(folder, results, {name: benchmark.images for name, benchmark in benchmarks.items()}, source.about)
  if settings.workdir:
    file = 'thresholds.json' if settings.flip else 'thresholds_noflip.json'
    write_thresholds(Path(settings.workdir) / file, results, source.about)
  return results, source.about


def _listed(text):
  return [part for part in text.split(',') if part]


def _check(settings):
  if bool(settings.workdir) == bool(settings.embeddings):
    raise ConfigError('give either --workdir, the folder of a run, or --embeddings, files made elsewhere.')
  if settings.embeddings and not settings.output:
    raise ConfigError('--embeddings needs --output, the folder for the report.')
  files, benchmarks = _listed(settings.embeddings), _listed(settings.benchmarks)
  if not benchmarks:
    raise ConfigError('--benchmarks names nothing to measure on.')
  if files and len(files) != len(benchmarks):
    raise ConfigError(f'--embeddings names {len(files)} files for {len(benchmarks)} benchmarks: give one for each.')


class _Checkpoint:
  """Embeddings by a network that a run has trained."""

  def __init__(self, settings):
    self.settings = settings
    network = open_network(settings.workdir, settings.step or None)
    self.encoder, self.size = network.encoder(flip=settings.flip), network.size
    self.about = _about(Path(settings.workdir).resolve().name, self.encoder.name) | {
      'input': f'{self.size}x{self.size} {INPUT["colour"]}, {INPUT["normalisation"]}',
      'embedding': 'f(x) + f(flip x)' if settings.flip else 'f(x)',
    }  # fmt: skip

  def check(self, benchmarks):
    """Raises DataError for what this network should not be measured on."""
    for benchmark in benchmarks:
      if benchmark.images is None:
        raise DataError(f'{benchmark.name} has no pictures to embed; give --embeddings, or the folder with pictures.')
      if self.settings.check_colour:
        check_colour(benchmark.images, benchmark.name, 'Or give --nocheck_colour.')

  def embeddings(self, _, benchmark) -> cache.Embeddings:
    """Kept in WORKDIR/embeddings."""
    key = f'{self.encoder.name}; {self.about["embedding"]}; {benchmark.fingerprint}'
    folder = Path(self.settings.workdir) / 'embeddings'
    return cache.embeddings(
      folder, benchmark.name, key, self.encoder.encode, benchmark.images, self.settings.batch_size
    )


class _Files:
  """Embeddings that were made elsewhere."""

  size = _SIZE

  def __init__(self, settings):
    self.paths = _listed(settings.embeddings)
    self.about = _about('embeddings made elsewhere', ', '.join(self.paths))

  def check(self, benchmarks):
    """Pictures were looked at by whoever made the embeddings."""

  def embeddings(self, i, benchmark) -> cache.Embeddings:
    """File i."""
    del benchmark
    try:
      return cache.Embeddings(np.load(self.paths[i], mmap_mode='r', allow_pickle=False), None)
    except (OSError, ValueError) as error:
      raise DataError(f'--embeddings: {self.paths[i]} cannot be read as a .npy array ({error}).') from error


def _about(name: str, fingerprint: str) -> dict[str, Any]:
  devices = jax.devices()
  return {
    'name': name, 'fingerprint': fingerprint, 'date': date.today().isoformat(), 'gif_jax': __version__,
    'jax': jax.__version__, 'hardware': f'{len(devices)} x {devices[0].device_kind}',
  }  # fmt: skip


def main(_) -> None:
  quiet_libraries()
  settings = Settings(**{name: flags.FLAGS[name].value for name in Settings._fields})
  with processes.together(DataError, CheckpointError, EvaluationError, ExtractError):
    processes.check_same({'flags': settings._asdict()})
    found = evaluate(settings)
    if processes.first():
      print(terminal_text(*found))
      print(f'Report: {Path(settings.output or Path(settings.workdir) / "evaluation") / "evaluation.html"}')


if __name__ == '__main__':
  flags.DEFINE_string('benchmarks', None, 'What to measure on: .bin files, folders, tfds:NAME; commas between.')
  flags.DEFINE_string('workdir', '', 'The run whose network is measured.')
  flags.DEFINE_integer('step', 0, 'Which of its checkpoints; 0: the newest.', lower_bound=0)
  flags.DEFINE_string('embeddings', '', 'Instead of --workdir: .npy files, float [n, d], one for each benchmark.')
  flags.DEFINE_string('output', '', 'Folder for the report; default: WORKDIR/evaluation.')
  flags.DEFINE_bool('flip', True, 'Embed the mirror image, too, and add the two, as the field does.')
  flags.DEFINE_integer('replicates', 1000, 'Of the bootstrap behind the intervals; 0: no intervals.', lower_bound=0)
  flags.DEFINE_integer('batch_size', 200, 'Images embedded at a time.', lower_bound=1)
  flags.DEFINE_bool('check_colour', True, 'Stop where red and blue of a benchmark look swapped.')
  flags.mark_flags_as_required(['benchmarks'])
  define_processes()
  app.run(main, flags_parser=parse_flags)
