"""Rows on hosts: a run ends with the bits of one with rows on devices, however it is divided or interrupted."""

import json
import random
import shutil
import time

import jax
import numpy as np
import pytest

from gif_jax.codes import tree
from gif_jax.codes.table import CodeTable
from gif_jax.core.distributed.mesh import make_mesh
from gif_jax.models.checkpoint import rows as checkpoint_rows
from gif_jax.models.checkpoint.manager import Checkpoints
from gif_jax.training import input_pipeline, joint_tables
from gif_jax.training.feed import open_feed
from gif_jax.training.objectives.joint_on_host import IN_FLIGHT
from gif_jax.training.program import make_program
from gif_jax.training.row_feed import labels_of_steps
from gif_jax.training.state import state_sha256
from tests.helpers import short

ROWS = 'vectors', 'codes'


@pytest.fixture
def config(tiny_config):
  config = tiny_config.copy_and_resolve_references()
  config.joint.enabled, config.joint.lr, config.joint.start = True, 4.0, 'random'
  return config


class People:
  """Random pictures of m people, drawn again and again, in place of rendered ones."""

  def __init__(self, m, size=32, n=96):
    self.label = np.random.default_rng(m).integers(0, m, n)
    self.images = np.random.default_rng(0).integers(0, 256, (n, size, size, 3), np.uint8)

  def __len__(self):
    return len(self.label)

  def __getitem__(self, index):
    return self.images[index].copy()

  def labels(self, index=slice(None)):
    return self.label[index]


def _table(path, m, d=16, l=3, v=10):
  vectors = np.random.default_rng(0).normal(size=(m, d)).astype(np.float32)
  vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
  codes = tree.random_codes(m, l, v)
  return CodeTable.write(path, codes, vectors, v=v, encoder='', seed=0, label_space='', settings={})


class Run:
  """A run without its loop: steps, one at a time or several."""

  def __init__(self, config, folder, where, *, m, devices, table=None):
    self.config = config.copy_and_resolve_references()
    self.config.joint.rows = where
    self.folder, self.faces, mesh = folder, People(m), make_mesh(jax.devices()[:devices], config.train.fsdp)
    self.table = table or _table(folder / 'table', m)
    self.program = make_program(self.config, self.table, 20, mesh)
    self.feed = open_feed(self.config, self.program, self.faces, self.table, mesh, folder)
    self.state = None

  def start(self, whole=None):
    self.state = self.feed.split(self.feed.init() if whole is None else whole)
    return self

  def steps(self, count):
    stream = input_pipeline.batches(
      self.faces, self.table, batch_size=self.config.train.batch_size, seed=0, start=int(self.state.step), labels=True
    )
    for _ in range(count):
      self.state, _, moved = self.program.train_step(self.state, self.feed.put(next(stream)))
      self.feed.take(moved)
    stream.close()
    return self

  def retokenised(self):
    self.state = self.feed.split(
      joint_tables.retokenised(self.feed.whole(self.state), self.table.v, self.config.tokenizer, self.folder)
    )
    return self

  @property
  def whole(self):
    return self.feed.whole(self.state)

  @property
  def sha(self):
    return state_sha256(self.whole)


def _both(config, tmp_path, **sizes):
  return [Run(config, tmp_path / where, where, **sizes).start() for where in ('device', 'host')]


@pytest.mark.slow
@pytest.mark.parametrize(
  ('devices', 'm', 'settings'),
  [
    (1, 8, {}),  # everybody is in every batch, so all rows come from steps under way
    (1, 60, {'joint.negatives': 512, 'joint.start': 'table', 'train.accumulate': 4}),
    (8, 8, {'joint.negatives': 5}),  # a number that the devices do not divide
    (8, 61, {'joint.negatives': 9, 'joint.embeddings': 1.0, 'joint.uniformity': 0.5, 'train.accumulate': 2}),
    (4, 60, {'joint.negatives': 6, 'train.fsdp': 2, 'train.ema': 0.5}),
  ],
)
def test_rows_on_hosts_equal_rows_on_devices(config, tmp_path, devices, m, settings):
  config.update_from_flattened_dict(settings)
  device, host = _both(config, tmp_path, m=m, devices=devices)
  assert device.sha == host.sha
  for _ in range(2):
    assert device.steps(4).sha == host.steps(4).sha
  assert device.retokenised().steps(3).sha == host.retokenised().steps(3).sha
  before = device.table.rows(np.arange(m))[1] if config.joint.start == 'table' else 0
  assert np.abs(host.whole.joint.on_host().vectors - before).max() > 0.1


@pytest.mark.slow
def test_the_state_of_a_step_holds_nothing_of_anybody(config, tmp_path):
  texts = []
  for m in (1_000, 100_000):
    table = _table(tmp_path / str(m) / 'table', m, v=50)
    run = Run(config, tmp_path / str(m), 'host', m=m, devices=8, table=table).start()
    batch = run.feed.put({'image': np.zeros((16, 32, 32, 3), np.uint8)})
    assert not any(m in leaf.shape for leaf in jax.tree.leaves((run.state, batch)))
    texts.append(run.program.train_step.lower(run.state, batch).as_text())
  assert texts[0] == texts[1]


def test_labels_of_a_step_are_those_of_its_images(config, tmp_path):
  faces, table = People(60), _table(tmp_path / 'table', 60)
  labels = labels_of_steps(config, faces, table)
  stream = input_pipeline.batches(faces, table, batch_size=16, seed=0, start=5, stop=8, labels=True)
  for step, batch in enumerate(stream, 5):
    np.testing.assert_array_equal(labels(step), batch['label'])


@pytest.mark.slow
def test_rows_of_steps_under_way_are_not_on_the_disk_yet(config, tmp_path):
  """What makes the host's part overlap the devices': at most so many steps are waited for."""
  run = Run(config, tmp_path, 'host', m=8, devices=1).start().steps(IN_FLIGHT + 1)
  stored = run.feed.vectors.own.copy()
  assert np.abs(stored - run.whole.joint.vectors.own).max() > 0.01


# --- checkpoints


def _checkpoints(folder, keep=2):
  return Checkpoints(folder / 'checkpoints', keep, {})


def _saved(run, folder):
  saved = _checkpoints(folder)
  saved.save(int(run.state.step), run.whole)
  saved.close()


@pytest.mark.slow
@pytest.mark.parametrize(('first', 'then'), [('device', 'host'), ('host', 'device'), ('host', 'host')])
@pytest.mark.parametrize('devices', [(1, 1), (8, 3)])
def test_a_checkpoint_opens_wherever_rows_are(config, tmp_path, first, then, devices):
  config.train.batch_size = 24
  run = Run(config, tmp_path / 'run', first, m=61, devices=devices[0]).start().steps(3)
  _saved(run, tmp_path)
  again = Run(config, tmp_path / 'again', then, m=61, devices=devices[1], table=run.table)
  saved = _checkpoints(tmp_path)
  again.start(saved.restore(again.feed.whole(again.program.like)))
  saved.close()
  assert again.sha == run.sha
  if devices[0] == devices[1]:
    assert again.steps(3).sha == run.steps(3).sha


def _names(folder, step):
  return {path.name for path in (folder / 'checkpoints' / str(step) / checkpoint_rows.FOLDER).glob('*.npy')}


@pytest.mark.slow
def test_a_checkpoint_writes_what_moved_and_links_the_rest(config, tmp_path):
  run = Run(config, tmp_path / 'run', 'host', m=200, devices=1).start()
  saved, expected, last = _checkpoints(tmp_path, keep=99), {}, 10
  for step in range(1, last + 1):
    run.steps(1)
    saved.save(step, run.whole)
    expected[step] = run.sha
  saved.close()
  names = {step: _names(tmp_path, step) for step in expected}
  assert names[1] == {'vectors.0.npy', 'codes.0.npy'}
  assert names[3] == names[1] | {f'vectors.0.{step}.{part}.npy' for step in (2, 3) for part in ('rows', 'labels')}
  written = [step for step in expected if not any(f'.{step}.' in name for name in names[step])]
  assert len(written) > 1, 'all rows are written again once what moved is half of them'
  folder = tmp_path / 'checkpoints'
  inodes = {name: {(folder / str(s) / 'rows' / f'{name}.0.npy').stat().st_ino for s in expected} for name in ROWS}
  assert len(inodes['codes']) == 1 and len(inodes['vectors']) == len(written)
  for step in range(last, 0, -1):  # the newest is restored, and then removed
    again = Run(config, tmp_path / f'again{step}', 'host', m=200, devices=1, table=run.table)
    reader = _checkpoints(tmp_path)
    assert state_sha256(reader.restore(again.feed.whole(again.program.like))) == expected[step]
    reader.close()
    shutil.rmtree(folder / str(step))


@pytest.mark.slow
def test_what_was_restored_is_linked_by_the_next_checkpoint(config, tmp_path):
  run = Run(config, tmp_path / 'run', 'host', m=200, devices=1).start().steps(2)
  _saved(run, tmp_path)
  again = Run(config, tmp_path / 'again', 'host', m=200, devices=1, table=run.table)
  saved = _checkpoints(tmp_path)
  again.start(saved.restore(again.feed.whole(again.program.like))).steps(1)
  saved.save(3, again.whole)
  saved.close()
  assert _names(tmp_path, 3) == {'vectors.0.npy', 'codes.0.npy', 'vectors.0.3.rows.npy', 'vectors.0.3.labels.npy'}


TRAIN = ('train', '--config=tests/helpers/tiny.py')
TRAIN += tuple(short.flags(train__steps=8, checkpoint__every_steps=1, **short.JOINT))


@pytest.fixture(scope='module')
def on_devices(command, tmp_path_factory):
  """The summary of a run that nothing interrupted, with rows on devices."""
  workdir = tmp_path_factory.mktemp('device')
  done = command(*TRAIN, f'--workdir={workdir}', '--config.joint.rows=device')
  assert done.returncode == 0, done.stdout
  return json.loads((workdir / 'summary.json').read_text())


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 2])
def test_a_killed_run_ends_with_the_bits_of_one_on_devices(command, on_devices, tmp_path, workers):
  arguments = (*TRAIN, f'--workdir={tmp_path}', f'--config.data.workers={workers}')
  checkpoints, target = tmp_path / 'checkpoints', random.randint(1, 5)
  running = command(*arguments, popen=True)
  while running.poll() is None and not list(checkpoints.glob(f'{target}*')):  # whole or in the making
    time.sleep(0.001)
  time.sleep(random.random() / 20)
  running.kill()
  running.communicate()
  done = command(*arguments)
  assert done.returncode == 0, done.stdout
  assert json.loads((tmp_path / 'summary.json').read_text())['state_sha256'] == on_devices['state_sha256']
  assert not (tmp_path / 'rows').exists()
