"""Time and memory of a training step of `joint` beside `fixed`, and of `joint` for different numbers of identities.

python -m benchmarks.joint_step

All programs of one table are timed in turn, round after round, so that what else the machine does meets all alike.
"""

import argparse
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
from tqdm import tqdm

from configs import quickstart, quickstart_joint
from gif_jax.codes import size, tree
from gif_jax.codes.table import CodeTable
from gif_jax.models.devices import make_mesh
from gif_jax.training import sharding
from gif_jax.training.program import make_program


def _table(m, d, folder):
  """A table of m people nobody has seen: only sizes matter here."""
  l, v = size.choose_size(m)
  rng = np.random.default_rng(0)
  vectors = rng.normal(size=(m, d)).astype(np.float32)
  vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
  codes = tree.random_codes(m, l, v)
  return CodeTable.write(folder / f'{m}', codes, vectors, v=v, encoder='', seed=0, label_space='', settings={})


def _subject(config, table, mesh):
  """A compiled step with its state and batch, and the device memory its state and its temporaries take."""
  program = make_program(config, table, 1000, mesh)
  rng = np.random.default_rng(0)
  b, s = config.train.batch_size, config.data.size
  label = rng.integers(0, table.m, b)
  code, code_vector = table.rows(label)
  looked_up = {'label': label.astype(np.int32)} if config.joint.enabled else {'code': code, 'code_vector': code_vector}
  images = rng.integers(0, 256, (b, s, s, 3), np.uint8)
  batch = sharding.put_batch({'image': images} | looked_up, mesh)
  state = program.init()
  step = program.train_step.lower(state, batch).compile()
  memory = step.memory_analysis()
  return SimpleNamespace(
    step=step, state=state, batch=batch, seconds=[],
    state_mb=memory.argument_size_in_bytes / 1e6, temporary_mb=memory.temp_size_in_bytes / 1e6,
  )  # fmt: skip


def _run(subject, steps):
  started = time.process_time()
  for _ in range(steps):
    subject.state, metrics = subject.step(subject.state, subject.batch)
  jax.block_until_ready((subject.state, metrics))
  return (time.process_time() - started) / steps


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--m', type=int, nargs='+', default=[1_000, 100_000], help='numbers of identities')
  parser.add_argument('--rounds', type=int, default=12)
  parser.add_argument('--steps', type=int, default=4, help='steps of every program in a round')
  options = parser.parse_args()
  mesh = make_mesh()
  subjects = {}
  with tempfile.TemporaryDirectory() as folder:
    for m in options.m:
      table = _table(m, quickstart.get_config().model.d, Path(folder))
      for name, experiment in (('fixed', quickstart), ('joint', quickstart_joint)):
        subjects[name, m] = _subject(experiment.get_config(), table, mesh)
    for subject in subjects.values():
      _run(subject, options.steps)
    for _ in tqdm(range(options.rounds), unit='round'):
      for subject in subjects.values():
        subject.seconds.append(_run(subject, options.steps))
  _print(subjects, options.m[0])


def _print(subjects, smallest):
  base = np.median(subjects['fixed', smallest].seconds)
  print('| form | m | CPU-seconds a step | against `fixed` at the smallest m | arguments MB | temporaries MB |')
  print('| --- | --- | --- | --- | --- | --- |')
  for (name, m), s in subjects.items():
    median = np.median(s.seconds)
    print(f'| `{name}` | {m} | {median:.4f} | {median / base:.3f} | {s.state_mb:.1f} | {s.temporary_mb:.1f} |')


if __name__ == '__main__':
  main()
