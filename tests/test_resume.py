"""A run that was killed ends like one that was not: the same bits, whatever the number of workers."""

import json
import random
import signal
import time

import pytest


@pytest.fixture(scope='module')
def uninterrupted(command, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('uninterrupted')
  done = command('main', '--config=tests/tiny.py', f'--workdir={workdir}')
  assert done.returncode == 0, done.stdout
  return json.loads((workdir / 'summary.json').read_text()), [
    json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()
  ]


def _newest_step(workdir):
  folder = workdir / 'checkpoints'
  steps = [int(path.name) for path in folder.iterdir() if path.name.isdigit()] if folder.exists() else []
  return max(steps, default=0)


def _rows_without_times(rows):
  return [{k: v for k, v in row.items() if k not in ('images_per_second', 'data_stall')} for row in rows]


@pytest.mark.parametrize('workers', [0, 2])
def test_killed_run_ends_with_the_same_state(command, uninterrupted, tmp_path, workers):
  arguments = ('main', '--config=tests/tiny.py', f'--workdir={tmp_path}', '--config.checkpoint.every_steps=1')
  running = command(*arguments, f'--config.data.workers={workers}', popen=True)
  target = random.randint(2, 6)
  while running.poll() is None and _newest_step(tmp_path) < target:
    time.sleep(0.01)
  running.kill()
  running.communicate()
  assert not (tmp_path / 'summary.json').exists(), 'the run ended before it could be killed'

  done = command(*arguments, f'--config.data.workers={2 - workers}')
  assert done.returncode == 0, done.stdout
  assert 'leaked' not in done.stdout
  summary, rows = uninterrupted
  resumed = json.loads((tmp_path / 'summary.json').read_text())
  assert resumed['resumed_from_step'] >= target
  assert resumed['state_sha256'] == summary['state_sha256']
  assert resumed['verification_accuracy'] == summary['verification_accuracy']
  final = json.loads((tmp_path / 'metrics.jsonl').read_text().splitlines()[-1])
  assert final['step'] == rows[-1]['step']


def test_sigterm_saves_and_ends_well(command, uninterrupted, tmp_path):
  arguments = ('main', '--config=tests/tiny.py', f'--workdir={tmp_path}', '--config.checkpoint.every_steps=1')
  running = command(*arguments, '--config.data.workers=1', '--config.train.steps=100000', popen=True)
  while running.poll() is None and _newest_step(tmp_path) < 3:
    time.sleep(0.01)
  running.send_signal(signal.SIGTERM)
  output, _ = running.communicate(timeout=60)
  assert running.returncode == 0, output
  assert 'the same command continues from there' in output
  steps = [json.loads(line)['step'] for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  assert steps == sorted(set(steps))
  assert _newest_step(tmp_path) == steps[-1]


def test_running_again_after_the_end_changes_nothing(command, tmp_path, uninterrupted):
  arguments = ('main', '--config=tests/tiny.py', f'--workdir={tmp_path}', '--config.train.steps=4')
  assert command(*arguments).returncode == 0
  first = json.loads((tmp_path / 'summary.json').read_text())
  rows = (tmp_path / 'metrics.jsonl').read_text()
  assert command(*arguments).returncode == 0
  again = json.loads((tmp_path / 'summary.json').read_text())
  assert again['resumed_from_step'] == 4 and again['images_per_second'] is None
  assert again['state_sha256'] == first['state_sha256']
  assert (tmp_path / 'metrics.jsonl').read_text() == rows


def test_seeds_matter(command, tmp_path, uninterrupted):
  done = command('main', '--config=tests/tiny.py', f'--workdir={tmp_path}', '--config.train.seed=1')
  assert done.returncode == 0, done.stdout
  assert json.loads((tmp_path / 'summary.json').read_text())['state_sha256'] != uninterrupted[0]['state_sha256']
