"""Training, top to bottom: devices -> data -> program -> state -> restore -> steps -> figures."""

import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from gif_jax.codes.table import CodeTable, TableError
from gif_jax.config import ConfigError, train_steps
from gif_jax.data import pipeline
from gif_jax.data.augment import Chances, augment
from gif_jax.data.colour import check_colour
from gif_jax.data.sources import FaceSets
from gif_jax.evaluation import report
from gif_jax.evaluation.files import write_json
from gif_jax.models import gif
from gif_jax.models.devices import batch_sharding, make_mesh
from gif_jax.training import figures, joint, optim, sharding, steps
from gif_jax.training.backbone import open_backbone
from gif_jax.training.checkpoint import CheckpointError, Checkpoints, abstract
from gif_jax.training.metrics import MetricsLog, Window, describe, progress

_LOG = logging.getLogger(__name__)


class Program(NamedTuple):
  """What runs on the devices; a function of the config, l and v, and of m only in the size of `joint`'s rows."""

  init: Callable  # () -> TrainState
  train_step: Callable  # (state, batch) -> (state, metrics); the state passed in is donated
  predict: Callable  # (state, images uint8 [B, size, size, 3]) -> see `steps.make_predict`, on the devices of both
  like: steps.TrainState  # shapes, dtypes and shardings of the state


def make_program(config, table: CodeTable, total_steps: int, mesh) -> Program:
  """Everything jitted, sharded and donated, in this one place. Of `table` l and v matter, to `joint` its rows too."""
  model = gif.build(config.model, table.l, table.v)
  tx = optim.optimiser(config.optim, total_steps)
  init = steps.make_init(model, tx, config.data.size, config.train.seed)
  shape = jax.eval_shape(init)
  if config.joint.enabled:
    shape = shape.replace(joint=joint.shape(table, mesh))
  placed = sharding.state_sharding(mesh, shape)
  rows = batch_sharding(mesh)
  whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  # Initial values need no optimised code, and on a CPU compiling it takes far longer than running it.
  options = {'xla_backend_optimization_level': 0} if jax.default_backend() == 'cpu' else None
  vector_rate = optim.schedule(config.optim, total_steps, config.joint.lr)
  train_step = steps.make_train_step(model, tx, config, vector_rate, mesh)
  fresh = jax.jit(init, out_shardings=placed.replace(joint=None), compiler_options=options)
  return Program(
    init=lambda: fresh().replace(joint=joint.place(table, mesh) if config.joint.enabled else None),
    train_step=jax.jit(train_step, in_shardings=(placed, rows), out_shardings=(placed, whole), donate_argnums=0),
    predict=jax.jit(steps.make_predict(model, config.loss.scale)),
    like=abstract(shape, placed),
  )


def check_table(table: CodeTable, config, faces: FaceSets) -> None:
  """Raises TableError if the table was made for other people, or for another embedding size."""
  cure = 'Make one for this data: python -m gif_jax.tokenize with the same --config, or use another --workdir.'
  if table.extends:
    cure = 'Give the people of the table it extends in their order, then the newcomers in theirs (README.md).'
  if table.m != faces.m:
    raise TableError(f'{table.path}: the table holds m={table.m} identities, the data {faces.m}. {cure}')
  made_for = table.meta['label_space']
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


def _check_divides(config, mesh):
  for divisor, what in ((mesh.size, 'devices'), (jax.process_count(), 'processes')):
    if config.train.batch_size % divisor:
      raise ConfigError(
        f'config.train.batch_size={config.train.batch_size} cannot be split over {divisor} {what}; '
        f'choose a multiple of {divisor}.'
      )


class Trained(NamedTuple):
  """A network as a run left it, on all devices of this process."""

  predict: Callable  # uint8 [B, size, size, 3] -> {'embedding', 'norm', 'log_probs'}, see `steps.make_predict`
  codes: np.ndarray  # uint8 [m, l], what the heads read
  vectors: np.ndarray  # [m, d], the code vectors
  step: int


def open_trained(config, workdir: Path, table: CodeTable) -> Trained:
  """The newest checkpoint in `workdir`, for use. `table` is the one the run began with, or one that extends it.

  Raises CheckpointError where there is none, or it was trained with another network or table.
  """
  mesh = make_mesh(jax.local_devices())
  program = make_program(config, table, 1, mesh)
  checkpoints = _checkpoints(config, workdir, table)
  state = checkpoints.restore(program.like)
  checkpoints.close()
  if state is None:
    raise CheckpointError(f'{workdir / "checkpoints"} holds no checkpoint yet: train first, or check the path.')
  rows = state.joint.on_host() if state.joint else table
  return Trained(_predictor(program, state), rows.codes, rows.vectors, int(state.step))


class _Stop:
  """Set once SIGTERM or SIGINT asks the run to end after the step it is in; a second one ends it at once."""

  def __init__(self):
    self.asked = False
    self.previous = {}

  def __enter__(self):
    self.previous = {s: signal.signal(s, self._ask) for s in (signal.SIGTERM, signal.SIGINT)}
    return self

  def _ask(self, number, frame):
    del frame
    self.asked = True
    signal.signal(number, self.previous[number])

  def __exit__(self, *_):
    for number, handler in self.previous.items():
      signal.signal(number, handler)


def _checkpoints(config, workdir, table):
  origin = {
    'config.model': config.model.to_dict(), 'config.data.size': config.data.size,
    'config.optim.name': config.optim.name, 'config.joint.enabled': config.joint.enabled, 'table': table.fingerprint,
  }  # fmt: skip
  return Checkpoints(workdir / 'checkpoints', config.checkpoint.keep, origin, table.extends)


def train(config, workdir: Path, faces: FaceSets, table: CodeTable) -> dict | None:
  """Trains to the last step, continuing from the newest checkpoint in `workdir`, then evaluates.

  Writes checkpoints/, metrics.jsonl, tensorboard/, eval.npz, summary.json and plots. Returns the summary,
  or None if a signal stopped the run (its state is saved). Raises ConfigError, DataError, TableError, CheckpointError
  and NonFiniteLossError, each naming the cure.
  """
  # ---- Devices
  mesh = make_mesh()
  _check_divides(config, mesh)

  # ---- Data
  check_table(table, config, faces)
  if config.data.check_colour and config.data.source != 'synthetic':
    check_colour(faces.train, config.data.path, 'Or set config.data.check_colour=False.')
  total = train_steps(config, len(faces.train))
  chances = Chances(**config.augment)
  report.contact_sheet(_sample(faces.train, config.train.seed, chances), workdir / 'training_faces.png')

  # ---- Program and state
  program = make_program(config, table, total, mesh)
  checkpoints = _checkpoints(config, workdir, table)
  parameters = sum(x.size for x in jax.tree.leaves(program.like.params['backbone'])) / 1e6
  heads = sum(x.size for x in jax.tree.leaves(program.like.params['heads'])) / 1e6
  _LOG.info('%s: backbone %.1f M parameters, code heads %.2f M (l=%d, v=%d, m=%d), %d device(s)',
               config.model.backbone, parameters, heads, table.l, table.v, table.m, mesh.size)  # fmt: skip

  # ---- Restore
  state = checkpoints.restore(program.like)
  state = program.init() if state is None else state
  start = int(state.step)
  if start:
    _LOG.info('continuing from step %d', start)
  metrics = MetricsLog(workdir, start)
  rate = optim.schedule(config.optim, total, config.optim.lr)
  window = Window(config.train.batch_size)

  # ---- Steps
  iterator = pipeline.batches(
    faces.train, table, batch_size=config.train.batch_size, seed=config.train.seed, start=start, stop=total,
    workers=config.data.workers, chances=chances, labels=config.joint.enabled,
    process=jax.process_index(), processes=jax.process_count(),
  )  # fmt: skip
  try:
    with _Stop() as stop, progress(total, start) as bar:
      train_step = None
      window.restart()
      for step in range(start + 1, total + 1):
        batch = sharding.put_batch(window.next(iterator), mesh)
        if train_step is None:  # compiled here and not in the first call, so that no figure includes it
          _LOG.info('compiling the training step')
          train_step = program.train_step.lower(state, batch).compile()
          window.restart()
        state, step_metrics = train_step(state, batch)
        window.add(step_metrics)
        bar.update()
        last = step == total or stop.asked
        retokenising = config.joint.enabled and _due(step, config.joint.retokenize_every_steps) and step < total
        evaluating = _due(step, config.eval.every_steps) and not stop.asked
        saving = last or evaluating or _due(step, config.checkpoint.every_steps)
        if saving or retokenising or _due(step, config.log.every_steps):
          row = window.flush(step, float(rate(step - 1)))
          bar.set_postfix_str(describe(row))
          found = None
          if retokenising:
            state = state.replace(joint=joint.retokenise(state.joint, table.v, config.tokenizer, mesh))
          if evaluating:
            found, measured = _validate(program, state, faces, config)
            row |= measured
          metrics.write(step, row)
          if saving:
            checkpoints.save(step, state, found)
          window.restart()
        if stop.asked:
          _LOG.info('stopped by a signal: step %d is saved; the same command continues from there', step)
          return None
  finally:
    iterator.close()
    metrics.close()
    checkpoints.close()

  # ---- Figures
  return _finish(config, workdir, faces, table, program, state, metrics, window, start, mesh)


def _due(step, every):
  return every > 0 and step % every == 0


def _predictor(program, state):
  """predict(images) on this process's devices alone: `extract` has every process at other images."""
  state = sharding.on_this_process(state.replace(opt_state=None, joint=None))  # neither is needed, both may be large
  return lambda images: program.predict(state, images)


def _validate(program, state, faces, config):
  """Figures of the validation people, None without any; and all figures as a log row. Targets pick no checkpoint."""
  predict, found = _predictor(program, state), None
  if len(faces.validation):
    embedding = figures.embed(predict, faces.validation, config.eval, 'validation')
    found = figures.verification_figures(embedding, faces.validation.labels(), config.eval).figures
  row = {f'validation/{name}': value for name, value in (found or {}).items()}
  targets = figures.target_figures(predict, faces.targets, config.eval)
  return found, row | {f'targets/{name}': next(iter(found.values())) for name, found in targets.items()}


def _finish(config, workdir, faces, table, program, state, metrics, window, start, mesh):
  predict = _predictor(program, state)
  if config.joint.enabled:
    again = joint.retokenise(state.joint, table.v, config.tokenizer, mesh)
    encoder = open_backbone(workdir).name
    joint.write_table(again, table, workdir / 'next_table', encoder)
    table = joint.write_table(state.joint, table, workdir / 'trained_table', encoder)
  targets = figures.target_figures(predict, faces.targets, config.eval)
  summary = {
    **({'targets': targets} if targets else {}),
    **(_unseen(config, workdir, faces.test, predict) if len(faces.test) else {}),
    **figures.closed_set_figures(predict, faces.held_out, table, config.eval),
    'images_per_second': window.images / window.seconds if window.seconds else None,
    'steps': int(state.step),
    'resumed_from_step': start,
    'state_sha256': steps.state_sha256(state),
  }
  report.plot_training(metrics.rows(), workdir / 'training.png')
  write_json(workdir / 'summary.json', summary)
  return summary


def _unseen(config, workdir, test, predict):
  """Figures of people nobody trained on, beside eval.npz and roc.png."""
  identity = test.labels()
  embedding = figures.embed(predict, test, config.eval, 'unseen people')
  found = figures.verification_figures(embedding, identity, config.eval)
  pixels = figures.pixel_figures(test, config.eval)
  lengths = np.linalg.norm(embedding, axis=1, keepdims=True)
  np.savez(workdir / 'eval.partial.npz', embedding=embedding / np.maximum(lengths, 1e-12), identity=identity)
  (workdir / 'eval.partial.npz').replace(workdir / 'eval.npz')
  report.plot_roc({'this run': found.curve, 'raw pixels': pixels.curve}, workdir / 'roc.png')
  return found.figures | {f'pixel_{name}': value for name, value in pixels.figures.items()}
