"""From a network, or embeddings made elsewhere, and the paths of benchmarks to a report and thresholds."""

import logging
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from gif_jax import __version__
from gif_jax.core.distributed import processes
from gif_jax.core.errors import ConfigError, DataError
from gif_jax.core.lists import parts
from gif_jax.core.storage import locks
from gif_jax.core.storage.arrays import load_array
from gif_jax.core.storage.files import make_writable
from gif_jax.data.colour import check_colour
from gif_jax.data.sets.trained_on import KEPT
from gif_jax.evaluation.all_pairs.dataset import LabelledSet
from gif_jax.evaluation.benchmark import Benchmark, StoredBenchmark
from gif_jax.evaluation.evaluator import Evaluator
from gif_jax.evaluation.overlap import Seen
from gif_jax.evaluation.registry import open_benchmarks
from gif_jax.evaluation.report.thresholds import write_thresholds
from gif_jax.evaluation.report.write import write_report
from gif_jax.evaluation.result import Overlap, Result, check_embedding
from gif_jax.models.extraction import cache
from gif_jax.models.gif import INPUT
from gif_jax.models.trained import open_network

_LOG = logging.getLogger(__name__)

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

  Whoever a run was trained on is left out of labelled sets; what other benchmarks share with its training set is said.

  Raises ConfigError for settings that do not go together, DataError for benchmarks that are missing or cannot be used,
  CheckpointError and EvaluationError for networks and embeddings, InUseError where another evaluation writes there,
  DiskError; nothing is left out without saying so.
  """
  _check(settings)
  folder = report_folder(settings)
  source: _Files | _Checkpoint = _Files(settings) if settings.embeddings else _Checkpoint(settings)
  if settings.workdir:
    make_writable('workdir', Path(settings.workdir))
  make_writable('output', folder)
  with processes.locked(locks.inside(folder), f'--output={folder}'):
    return _evaluate(settings, source, folder), source.about


def _evaluate(settings, source, folder):
  # All of them are opened first: what is missing shows itself now and not after hours of work.
  benchmarks = open_benchmarks(parts(settings.benchmarks), source.size)
  source.check(benchmarks.values())
  overlaps = source.overlaps(benchmarks)
  results = [
    result._replace(overlap=overlaps.get(measured.benchmark.name))
    for measured in Evaluator(benchmarks).results(source.embed, settings.replicates)
    for result in measured.results
  ]
  if not processes.first():
    return results
  write_report(folder, results, {name: benchmark.images for name, benchmark in benchmarks.items()}, source.about)
  if settings.workdir:
    file = 'thresholds.json' if settings.flip else 'thresholds_noflip.json'
    write_thresholds(Path(settings.workdir) / file, results, source.about)
  return results


def report_folder(settings: Settings) -> Path:
  """Where the report goes."""
  return Path(settings.output or Path(settings.workdir) / 'evaluation')


def _check(settings):
  if bool(settings.workdir) == bool(settings.embeddings):
    raise ConfigError('give either --workdir, the folder of a run, or --embeddings, files made elsewhere.')
  if settings.embeddings and not settings.output:
    raise ConfigError('--embeddings needs --output, the folder for the report.')
  files, benchmarks = parts(settings.embeddings), parts(settings.benchmarks)
  if not benchmarks:
    raise ConfigError('--benchmarks names nothing to measure on.')
  if files and len(files) != len(benchmarks):
    raise ConfigError(f'--embeddings names {len(files)} files for {len(benchmarks)} benchmarks: give one for each.')


class _Checkpoint:
  """Embeddings by a network that a run has trained."""

  def __init__(self, settings: Settings):
    self.settings = settings
    network = open_network(settings.workdir, settings.step or None)
    self.encoder, self.size = network.encoder(flip=settings.flip), network.size
    self.about = _about(Path(settings.workdir).resolve().name, self.encoder.name) | {
      'input': f'{self.size}x{self.size} {INPUT["colour"]}, {INPUT["normalisation"]}',
      'embedding': 'f(x) + f(flip x)' if settings.flip else 'f(x)',
    }

  def check(self, benchmarks: Iterable[StoredBenchmark]) -> None:
    """Raises DataError for what this network should not be measured on."""
    for benchmark in benchmarks:
      if benchmark.images is None:
        raise DataError(f'{benchmark.name} has no pictures to embed; give --embeddings, or the folder with pictures.')
      if self.settings.check_colour:
        check_colour(benchmark.images, benchmark.name, 'Or give --nocheck_colour.')

  def overlaps(self, benchmarks: dict[str, StoredBenchmark]) -> dict[str, Overlap]:
    """What each benchmark shares with the training set. Of labelled sets, whoever was trained on is taken out.

    Raises DataError where too few people are left.
    """
    seen, overlaps = Seen(self.settings.workdir), {}
    for name, benchmark in benchmarks.items():
      if (both := seen.overlap(benchmark, left_out=True)) is None:
        continue
      overlaps[name], shared = both
      if isinstance(benchmark, LabelledSet) and shared.any():
        benchmarks[name] = benchmark.only(np.flatnonzero(~shared))
        self._check_left(benchmarks[name], overlaps[name])
      if processes.first() and (words := overlaps[name].words(name)):
        _LOG.warning('%s', words)
    return overlaps

  def _check_left(self, benchmark, overlap):
    able = np.unique(benchmark.identity, return_counts=True)[1] > 1
    if able.sum() > 1:
      return
    kept = Path(self.settings.workdir) / KEPT
    some = kept.exists() and kept.stat().st_size
    convert = f'python -m gif_jax convert --input=DATA --people={kept} --output=KEPT, DATA being what it was trained on'
    raise DataError(
      f'{overlap.words(benchmark.name)[:-1]}: fewer than two with two or more images remain. Measure on other people'
      + (f', or on those kept apart: {convert}.' if some else '.')
    )

  def embed(self, benchmark: Benchmark) -> cache.Embeddings:
    """Kept in WORKDIR/embeddings."""
    key = f'{self.encoder.name}; {self.about["embedding"]}; {benchmark.fingerprint}'
    folder = Path(self.settings.workdir) / 'embeddings'
    embeddings = cache.embeddings(
      folder, benchmark.name, key, self.encoder.encode, benchmark.images, self.settings.batch_size
    )
    check_embedding(embeddings.embedding, len(benchmark.identity), benchmark.name)
    return embeddings


class _Files:
  """Embeddings that were made elsewhere."""

  size = _SIZE

  def __init__(self, settings: Settings):
    paths = parts(settings.embeddings)
    self._next = iter(paths)
    self.about = _about('embeddings made elsewhere', ', '.join(paths))

  def check(self, benchmarks: Iterable[StoredBenchmark]) -> None:
    """Pictures were looked at by whoever made the embeddings."""

  def overlaps(self, benchmarks: dict[str, StoredBenchmark]) -> dict[str, Overlap]:
    """Nobody knows what made the embeddings."""
    del benchmarks
    return {}

  def embed(self, benchmark: Benchmark) -> cache.Embeddings:
    """The next file: benchmarks come in the order in which both were named."""
    fix = '--embeddings must name .npy files of floats [n, d], one for each benchmark'
    embedding = load_array(next(self._next), np.floating, (None, None), fix=fix)
    check_embedding(embedding, len(benchmark.identity), benchmark.name)
    return cache.Embeddings(embedding, None)


def _about(name: str, fingerprint: str) -> dict[str, Any]:
  devices = jax.devices()
  return {
    'name': name,
    'fingerprint': fingerprint,
    'date': date.today().isoformat(),
    'gif_jax': __version__,
    'jax': jax.__version__,
    'hardware': f'{len(devices)} x {devices[0].device_kind}',
  }
