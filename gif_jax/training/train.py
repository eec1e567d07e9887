"""Training, top to bottom: devices -> data -> program -> state -> restore -> steps -> evaluation."""

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
from ml_collections import ConfigDict

from gif_jax.codes.identities import LabelSpace
from gif_jax.codes.table import CodeTable
from gif_jax.config import train_steps
from gif_jax.core import interrupts
from gif_jax.core.distributed import processes
from gif_jax.core.distributed.mesh import make_mesh, own_rows
from gif_jax.core.distributed.preemption import Stop
from gif_jax.data.augment import Chances
from gif_jax.data.colour import check_colour
from gif_jax.data.sets.base import FaceSets
from gif_jax.evaluation.benchmark import Benchmark
from gif_jax.evaluation.in_training import RunEvaluator
from gif_jax.training import input_pipeline, joint_tables, optim, run_record, sharding, summary
from gif_jax.training.cost import estimate
from gif_jax.training.cost.compilation import compile_step
from gif_jax.training.cost.profiling import FIRST, Trace
from gif_jax.training.feed import open_feed
from gif_jax.training.metrics import MetricsLog, Window, describe, progress
from gif_jax.training.program import identity_vectors, make_predictor, make_program, make_search, open_checkpoints
from gif_jax.training.state import state_sha256

_LOG = logging.getLogger(__name__)


def train(
  config: ConfigDict,
  workdir: Path,
  faces: FaceSets,
  table: LabelSpace,
  *,
  targets: Mapping[str, Benchmark] = MappingProxyType({}),
  accept: bool = False,
) -> dict[str, Any] | None:
  """Trains to the last step, continuing from the newest checkpoint in `workdir`, then evaluates.

  table: of codes, or for a softmax who it tells apart. targets: the benchmarks of eval.targets. accept: see
  `run_record.check`.

  Writes config.json, starts.jsonl, checkpoints/, metrics.jsonl, tensorboard/, eval.npz, summary.json and plots. Returns
  the summary, or None if a signal stopped the run (its state is saved). Raises ConfigError, DataError, TableError,
  CheckpointError, NonFiniteLossError and DiskError, each naming the cure.
  """
  # ---- Devices
  sharding.check_divides(config, jax.device_count(), jax.process_count())
  changed = run_record.check(workdir, config, accept)
  mesh = make_mesh(fsdp=config.train.fsdp)

  # ---- Data
  if config.data.check_colour and config.data.source != 'synthetic':
    check_colour(faces.train, config.data.path, 'Or set config.data.check_colour=False.')
  total = train_steps(config, len(faces.train))
  run_record.check_length(workdir, total)
  chances = Chances(**config.augment)
  if processes.first():
    summary.plot_faces(faces.train, config.train.seed, chances, workdir / 'training_faces.png')
  evaluator = RunEvaluator(config.eval, faces, targets)

  # ---- Program and state
  program = make_program(config, table, total, mesh)
  checkpoints = open_checkpoints(config, workdir, table)
  _LOG.info('%s', estimate.describe_network(config, program.like, table, mesh))

  # ---- Restore
  feed = open_feed(config, program, faces.train, table, mesh, workdir)
  restored = checkpoints.restore(feed.whole(program.like))
  state = feed.split(feed.init() if restored is None else restored)
  start = int(state.step)
  if start:
    _LOG.info('continuing from step %d', start)
  rate = optim.schedule(config.optim, total, config.optim.lr)
  run_record.note_start(workdir, config, start, total, changed, rate)
  log = MetricsLog(workdir, start)
  cost = estimate.announce(config, faces, table, start, total)
  window = Window(config.train.batch_size, cost.image_flops, cost.peak)

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
    rows=own_rows(mesh, config.train.batch_size),
  )
  try:
    traced = config.log.profile_steps if processes.first() else 0
    trace = Trace(workdir / 'profile', start + FIRST, traced, window)
    with Stop() as stop, checkpoints, progress(total, start) as bar, trace:
      train_step = None
      window.restart()
      for step in range(start + 1, total + 1):
        with interrupts.kept_from_children() if train_step is None else contextlib.nullcontext():  # workers start
          batch = feed.put(window.next(iterator))
        if train_step is None:  # compiled here and not in the first call, so that no metric includes it
          train_step = compile_step(program.train_step, state, batch)
          window.restart()
        with trace.step(step), jax.transfer_guard('disallow'):  # nothing goes between host and devices unasked
          state, step_metrics, moved = train_step(state, batch)
          window.add(step_metrics)
        feed.take(moved)
        bar.update()
        stopping = stop.asked(last=step == total)
        last = step == total or stopping
        retokenising = config.joint.enabled and _due(step, config.joint.retokenize_every_steps) and step < total
        evaluating = _due(step, config.eval.every_steps) and not stopping
        saving = last or evaluating or _due(step, config.checkpoint.every_steps)
        if saving or retokenising or _due(step, config.log.every_steps):
          row = window.flush(step, float(rate(step - 1)))
          bar.set_postfix_str(describe(row))
          validation = None
          if retokenising:
            state = feed.split(joint_tables.retokenised(feed.whole(state), table.v, config.tokenizer, workdir))
          if evaluating:
            validation, measured = evaluator.validate(make_predictor(program, state))
            row |= measured
          log.write(step, row)
          if saving:
            checkpoints.save(step, feed.whole(state), validation)
          window.restart()
        if stopping:
          _LOG.info('stopped by a signal: step %d is saved; the same command continues from there', step)
          feed.close()
          return None
  finally:
    iterator.close()
    log.close()

  # ---- Evaluation
  state = feed.whole(state)
  if isinstance(table, CodeTable) and state.joint:
    table = joint_tables.write_tables(state.joint, table, config.tokenizer, workdir)
  vectors, search = identity_vectors(state, table), make_search(program, state)
  final = evaluator.finish(make_predictor(program, state), table, vectors, search)
  metrics = final.metrics | {
    'images_per_second': window.images / window.seconds if window.seconds else None,
    'steps': int(state.step),
    'resumed_from_step': start,
    'state_sha256': state_sha256(state),
  }
  if processes.first():
    summary.write(workdir, metrics, final, log.rows())
  feed.close()
  return metrics


def _due(step: int, every: int) -> bool:
  return every > 0 and step % every == 0
