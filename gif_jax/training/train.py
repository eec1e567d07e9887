"""Training, top to bottom: devices -> data -> program -> state -> restore -> steps -> figures."""

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from gif_jax.codes.identities import Identities
from gif_jax.codes.table import CodeTable, TableError
from gif_jax.config import train_steps
from gif_jax.core import interrupts, plots
from gif_jax.core.distributed import processes
from gif_jax.core.distributed.mesh import make_mesh
from gif_jax.core.distributed.preemption import Stop
from gif_jax.core.errors import ConfigError
from gif_jax.core.storage.arrays import save_arrays
from gif_jax.core.storage.files import write_json
from gif_jax.data.augment import Chances, augment
from gif_jax.data.colour import check_colour
from gif_jax.data.sets.base import FaceSets
from gif_jax.evaluation import in_training
from gif_jax.evaluation.benchmarks import check as check_benchmark
from gif_jax.models.trained import open_backbone
from gif_jax.training import estimate, input_pipeline, optim, run_record, sharding
from gif_jax.training import summary as report
from gif_jax.training import train_step as steps
from gif_jax.training.compilation import compile_step
from gif_jax.training.metrics import MetricsLog, Window, describe, progress
from gif_jax.training.objectives import joint
from gif_jax.training.profiling import FIRST, Trace
from gif_jax.training.program import make_predictor, make_program, make_search, open_checkpoints

_LOG = logging.getLogger(__name__)


def check_table(table: CodeTable, config, faces: FaceSets) -> None:
  """Raises TableError if the table was made for other people, or for another embedding size."""
  cure = 'Make one for this data: python -m gif_jax tokenize with the same --config, or use another --workdir.'
  if table.extends:
    cure = 'Give the people of the table it extends in their order, then the newcomers in theirs (README.md).'
  if table.m != faces.m:
    raise TableError(f'{table.path}: the table holds m={table.m} identities, the data {faces.m}. {cure}')
  made_for = table.label_space
  if made_for and made_for != faces.label_space:
    raise TableError(f'{table.path}: the table was made for "{made_for}", the data is "{faces.label_space}". {cure}')
  if table.d != config.model.d:
    raise TableError(f'{table.path}: code vectors have d={table.d}, config.model.d={config.model.d}. {cure}')


def _sample(faces, seed, chances, rows=8, columns=8):
  """Neighbouring images from places spread over a set, augmented: uint8 [rows, columns, size, size, 3]."""
  starts = np.arange(rows) * len(faces) // rows
  index = (starts[:, None] + np.arange(columns)) % len(faces)
  images = faces[index.ravel()]
  augment(images, seed, np.arange(len(images)), chances)
  return images.reshape(rows, columns, *images.shape[1:])


def _check_divides(config):
  devices, parts = jax.device_count(), config.train.accumulate
  if devices % config.train.fsdp:
    raise ConfigError(f'config.train.fsdp={config.train.fsdp} does not divide the {devices} devices; give a divisor.')
  for divisor, what in ((parts * devices, f'{devices} devices'), (jax.process_count(), 'processes')):
    if config.train.batch_size % divisor:
      accumulated = f' times config.train.accumulate={parts}' if divisor != jax.process_count() and parts > 1 else ''
      raise ConfigError(
        f'config.train.batch_size={config.train.batch_size} cannot be split over {what}{accumulated}; '
        f'choose a multiple of {divisor}.'
      )


def train(
  config,
  workdir: Path,
  faces: FaceSets,
  table: CodeTable | Identities,
  *,
  targets: Mapping[str, Any] = MappingProxyType({}),
  accept: bool = False,
) -> dict | None:
  """Trains to the last step, continuing from the newest checkpoint in `workdir`, then evaluates.

  table: of codes, or for a softmax who it tells apart. accept: see `record.check`.

  Writes config.json, starts.jsonl, checkpoints/, metrics.jsonl, tensorboard/, eval.npz, summary.json and plots. Returns
  the summary, or None if a signal stopped the run (its state is saved). Raises ConfigError, DataError, TableError,
  CheckpointError, NonFiniteLossError and DiskError, each naming the cure.
  """
  # ---- Devices
  _check_divides(config)
  changed = run_record.check(workdir, config, accept)
  mesh = make_mesh(fsdp=config.train.fsdp)

  # ---- Data
  if isinstance(table, CodeTable):
    check_table(table, config, faces)
  if config.data.check_colour and config.data.source != 'synthetic':
    check_colour(faces.train, config.data.path, 'Or set config.data.check_colour=False.')
  total = train_steps(config, len(faces.train))
  run_record.check_length(workdir, total)
  chances = Chances(**config.augment)
  if processes.first():
    plots.contact_sheet(_sample(faces.train, config.train.seed, chances), workdir / 'training_faces.png')

  for name, target in targets.items():  # what cannot be measured is better known now than after the last step
    if target.images is None:
      raise ConfigError(f'config.eval.targets: {name} has no pictures to embed; leave it out.')
    check_benchmark(target)

  # ---- Program and state
  program = make_program(config, table, total, mesh)
  checkpoints = open_checkpoints(config, workdir, table)
  parameters = sum(x.size for x in jax.tree.leaves(program.like.params['backbone'])) / 1e6
  _LOG.info(
    '%s: backbone %.1f M parameters, %s, %d device(s)',
    config.model.backbone,
    parameters,
    _classifier(program.like, table),
    mesh.size,
  )

  # ---- Restore
  state = checkpoints.restore(program.like)
  state = program.init() if state is None else state
  start = int(state.step)
  if start:
    _LOG.info('continuing from step %d', start)
  rate = optim.schedule(config.optim, total, config.optim.lr)
  run_record.note_start(workdir, config, start, total, changed, rate)
  metrics = MetricsLog(workdir, start)
  flops, peak = estimate.image_flops(config, table.l, table.v, table.m), estimate.devices_peak(config)
  _LOG.info(
    'a training image is %.3g GFLOP; matrix products reach %.3g TFLOP/s in %s on all devices',
    flops / 1e9,
    peak / 1e12,
    config.model.dtype,
  )
  if start < total:
    seconds = estimate.training_seconds(config, faces, total - start, flops, peak)
    _LOG.info('%s', estimate.describe(config, faces, start, total, seconds))
  window = Window(config.train.batch_size, flops, peak)

  # ---- Steps
  iterator = input_pipeline.batches(
    faces.train,
    table,
    batch_size=config.train.batch_size,
    seed=config.train.seed,
    start=start,
    stop=total,
    workers=config.data.workers,
    chances=chances,
    labels=config.joint.enabled or config.softmax.enabled,
    neighbours=config.train.neighbours,
    process=jax.process_index(),
    processes=jax.process_count(),
  )
  try:
    traced = config.log.profile_steps if processes.first() else 0
    trace = Trace(workdir / 'profile', start + FIRST, traced, window)
    with Stop() as stop, checkpoints, progress(total, start) as bar, trace:
      train_step = None
      window.restart()
      for step in range(start + 1, total + 1):
        with interrupts.kept_from_children() if train_step is None else contextlib.nullcontext():  # workers start
          batch = sharding.put_batch(window.next(iterator), mesh)
        if train_step is None:  # compiled here and not in the first call, so that no figure includes it
          train_step = compile_step(program.train_step, state, batch)
          window.restart()
        with trace.step(step), jax.transfer_guard('disallow'):  # nothing goes between host and devices unasked
          state, step_metrics = train_step(state, batch)
          window.add(step_metrics)
        bar.update()
        stopping = stop.asked(last=step == total)
        last = step == total or stopping
        retokenising = config.joint.enabled and _due(step, config.joint.retokenize_every_steps) and step < total
        evaluating = _due(step, config.eval.every_steps) and not stopping
        saving = last or evaluating or _due(step, config.checkpoint.every_steps)
        if saving or retokenising or _due(step, config.log.every_steps):
          row = window.flush(step, float(rate(step - 1)))
          bar.set_postfix_str(describe(row))
          found = None
          if retokenising:
            state = state.replace(joint=joint.retokenise(state.joint, table.v, config.tokenizer, mesh, workdir))
          if evaluating:
            found, measured = _validate(program, state, faces, targets, config)
            row |= measured
          metrics.write(step, row)
          if saving:
            checkpoints.save(step, state, found)
          window.restart()
        if stopping:
          _LOG.info('stopped by a signal: step %d is saved; the same command continues from there', step)
          return None
  finally:
    iterator.close()
    metrics.close()

  # ---- Figures
  return _finish(config, workdir, faces, targets, table, program, state, metrics, window, start, mesh)


def _classifier(state, table):
  if state.softmax:
    return f'a softmax over {table.m} identities, {state.softmax.centres.size / 1e6:.2f} M parameters'
  read_by = {'code heads': 'heads', 'sequence decoder': 'sequence'}
  parts = {name: sum(x.size for x in jax.tree.leaves(state.params.get(part))) for name, part in read_by.items()}
  sizes = ', '.join(f'{name} {size / 1e6:.2f} M' for name, size in parts.items() if size)
  return f'{sizes} (l={table.l}, v={table.v}, m={table.m})'


def _due(step, every):
  return every > 0 and step % every == 0


def _validate(program, state, faces, targets, config):
  """Figures of the validation people, None without any; and all figures as a log row. Targets pick no checkpoint."""
  predict, found = make_predictor(program, state), None
  if len(faces.validation):
    embedding = in_training.embed(predict, faces.validation, config.eval, 'validation')
    found = in_training.verification_figures(embedding, faces.validation.labels(), config.eval).figures
  row = {f'validation/{name}': value for name, value in (found or {}).items()}
  benchmarks = in_training.target_figures(predict, targets, config.eval)
  return found, row | {f'targets/{name}': next(iter(found.values())) for name, found in benchmarks.items()}


def _finish(config, workdir, faces, targets, table, program, state, metrics, window, start, mesh):
  predict = make_predictor(program, state)
  if config.joint.enabled:
    again = joint.retokenise(state.joint, table.v, config.tokenizer, mesh, workdir)
    encoder = open_backbone(workdir).name
    joint.write_table(again, table, workdir / 'next_table', encoder)
    table = joint.write_table(state.joint, table, workdir / 'trained_table', encoder)
  vectors = state.softmax.on_host() if state.softmax else table.vectors
  benchmarks = in_training.target_figures(predict, targets, config.eval)
  summary = {
    **({'targets': benchmarks} if benchmarks else {}),
    **(_unseen(config, workdir, faces.test, predict) if len(faces.test) else {}),
    **in_training.closed_set_figures(predict, faces.held_out, table, vectors, config.eval, make_search(program, state)),
    'images_per_second': window.images / window.seconds if window.seconds else None,
    'steps': int(state.step),
    'resumed_from_step': start,
    'state_sha256': steps.state_sha256(state),
  }
  if processes.first():
    report.plot_training(metrics.rows(), workdir / 'training.png')
    write_json(workdir / 'summary.json', summary)
  return summary


def _unseen(config, workdir, test, predict):
  """Figures of people nobody trained on, beside eval.npz and roc.png."""
  identity = test.labels()
  embedding = in_training.embed(predict, test, config.eval, 'unseen people')
  found = in_training.verification_figures(embedding, identity, config.eval)
  pixels = in_training.pixel_figures(test, config.eval)
  if processes.first():
    lengths = np.linalg.norm(embedding, axis=1, keepdims=True)
    save_arrays(workdir / 'eval.npz', {'embedding': embedding / np.maximum(lengths, 1e-12), 'identity': identity})
    report.plot_roc({'this run': found.curve, 'raw pixels': pixels.curve}, workdir / 'roc.png')
  return found.figures | {f'pixel_{name}': value for name, value in pixels.figures.items()}
