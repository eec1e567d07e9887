"""Commands that are stopped, started twice or find no room: one line each. benchmarks/faults does it thoroughly."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest

from gif_jax.config import default
from gif_jax.core.errors import ConfigError
from gif_jax.core.storage import locks
from gif_jax.data.formats.bin_pairs import read_pairs, write_pairs
from gif_jax.validation import validate
from tests.helpers.photographs import write_people
from tests.helpers.places import ROOT
from tests.helpers.record_files import six_people

TINY = '--config=tests/helpers/tiny.py'
NOBODY_APART = ('--config.eval.validation_identities=0', '--config.eval.identities=0', '--config.data.held_out=0')
LIMITED = """
import os, resource, sys
resource.setrlimit(getattr(resource, sys.argv[1]), (int(sys.argv[2]),) * 2)
os.execv(sys.executable, [sys.executable, '-m', *sys.argv[3:]])
"""


def _limited(what, limit, module, *arguments):
  """A command that may use no more of something: (exit status, lines that are no progress or log)."""
  call = [sys.executable, '-c', LIMITED, what, str(limit), 'gif_jax', module, *map(str, arguments)]
  # JAX would complain, too, if it tried to keep what it compiles.
  environment = os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '1e9'}
  done = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True)
  said = [line.split('\r')[-1] for line in (done.stdout + done.stderr).splitlines()]
  return done.returncode, [line for line in said if line and line[0] != 'I' and '%|' not in line and '/s]' not in line]


def _one_line(found, *parts):
  status, lines = found
  assert status == 1 and len(lines) == 1, found
  assert all(part in lines[0] for part in parts), found


@pytest.mark.slow
@pytest.mark.parametrize('size', [64, 20_000, 300_000])
def test_a_file_system_that_takes_no_more_of_main(command, tmp_path, size):
  """As on a full disk, a little everywhere; then the same command goes on."""
  workdir = tmp_path / 'run'
  arguments = (TINY, f'--workdir={workdir}', '--config.data.cache=True', '--config.train.steps=3', *NOBODY_APART)
  _one_line(_limited('RLIMIT_FSIZE', size, 'train', *arguments), 'cannot be written', str(workdir), 'File too large')
  done = command('train', *arguments)
  assert done.returncode == 0 and 'Traceback' not in done.stdout, done.stdout
  assert json.loads((workdir / 'summary.json').read_text())['steps'] == 3


@pytest.mark.slow
@pytest.mark.parametrize(
  ('module', 'sizes'), [('convert', (64, 3000, 60_000)), ('audit', (64, 3000)), ('align', (64, 900))]
)
def test_a_file_system_that_takes_no_more(command, tiny_faces, tmp_path, module, sizes):
  write_people(tmp_path / 'faces', tiny_faces.train, 12)
  arguments = [f'--input={tmp_path / "faces"}', f'--output={tmp_path / "out"}']
  if module == 'align':
    numbers = '8 11 21 11 16 17 10 23 22 23'
    names = sorted(str(path.relative_to(tmp_path / 'faces')) for path in (tmp_path / 'faces').rglob('*.*'))
    (tmp_path / 'points.txt').write_text(''.join(f'{name} {numbers}\n' for name in names))
    arguments += [f'--landmarks={tmp_path / "points.txt"}', '--size=32']
  for size in sizes:
    _one_line(_limited('RLIMIT_FSIZE', size, module, *arguments), 'cannot be written', str(tmp_path), 'File too large')
  done = command(module, *arguments)
  assert done.returncode == 0 and 'Traceback' not in done.stdout, done.stdout


@pytest.mark.parametrize('module', ['train', 'tokenize', 'convert', 'audit', 'align', 'evaluate', 'inspect'])
def test_too_few_files_may_be_open(tmp_path, module):
  given = {'train': [TINY], 'tokenize': [TINY, '--output=a'], 'evaluate': ['--benchmarks=a'], 'inspect': ['a']}
  arguments = given.get(module, ['--input=a', '--output=b'])
  _one_line(_limited('RLIMIT_NOFILE', 40, module, *arguments), '40 files may be open', 'ulimit -n')


@pytest.mark.parametrize('module', ['train', 'tokenize', 'convert', 'audit', 'align', 'evaluate', 'inspect'])
def test_help_is_no_failure(command, module):
  done = command(module, '--help')
  assert done.returncode == 0 and '--' in done.stdout and 'Traceback' not in done.stdout


def test_a_second_start_is_refused_while_the_first_runs(command, tmp_path):
  with locks.locked(locks.inside(tmp_path), 'the first'):
    done = command('train', TINY, f'--workdir={tmp_path}')
  assert done.returncode == 1 and f'InUseError: --workdir={tmp_path} is in use by process {os.getpid()}' in done.stdout
  assert len(done.stdout.splitlines()) == 1 and [path.name for path in tmp_path.iterdir()] == ['.lock']


@pytest.mark.parametrize(
  ('module', 'arguments'),
  [('convert', ['--input=FACES']), ('align', ['--input=FACES', '--landmarks=a']), ('tokenize', [TINY])],
)
def test_a_second_start_with_an_output_is_refused(command, tiny_faces, tmp_path, module, arguments):
  write_people(tmp_path / 'faces', tiny_faces.train, 2)
  arguments = [argument.replace('FACES', str(tmp_path / 'faces')) for argument in arguments]
  with locks.locked(locks.beside(tmp_path / 'out'), 'the first'):
    done = command(module, *arguments, f'--output={tmp_path / "out"}')
  assert done.returncode == 1 and 'InUseError' in done.stdout and 'is in use by process' in done.stdout, done.stdout
  assert not (tmp_path / 'out').exists()


@pytest.mark.slow
def test_ctrl_c_before_training_keeps_what_is_done(command, tmp_path):
  """While faces are rendered, by workers that a terminal interrupts too; the same command goes on from there."""
  arguments = (TINY, f'--workdir={tmp_path}', '--config.data.cache=True', '--config.data.identities=400', *NOBODY_APART)
  call = [sys.executable, '-m', 'gif_jax.main', *arguments, '--config.train.steps=1']
  run = subprocess.Popen(
    call,
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    start_new_session=True,
  )
  deadline = time.monotonic() + 120
  while not list(tmp_path.glob('cache/.training*-0.npz')):
    assert time.monotonic() < deadline and run.poll() is None
    time.sleep(0.01)
  os.killpg(run.pid, signal.SIGINT)
  output = run.communicate(timeout=120)[0]
  assert run.returncode == 130 and 'Traceback' not in output, output
  assert output.splitlines()[-1].startswith('Stopped: ') and 'the same command goes on' in output.splitlines()[-1]
  done = command('train', *arguments, '--config.train.steps=1')
  assert done.returncode == 0 and 'continuing from' in done.stdout, done.stdout
  assert not list(tmp_path.glob('cache/.*'))


@pytest.mark.slow
def test_targets_that_are_too_small_are_known_before_the_first_step(command, tiny_faces, tmp_path):
  six_people(tmp_path / 'six.bin', tiny_faces.train)
  images, same = read_pairs(tmp_path / 'six.bin')
  write_pairs(tmp_path / 'few.bin', images[:8], same[:4])
  done = command('train', TINY, f'--workdir={tmp_path / "run"}', f'--config.eval.targets={tmp_path / "few.bin"}')
  assert done.returncode == 1 and 'EvaluationError: few: 2 genuine and 2 impostor pairs' in done.stdout, done.stdout
  assert not (tmp_path / 'run' / 'checkpoints').exists() and 'Traceback' not in done.stdout


@pytest.mark.parametrize(
  ('section', 'key', 'value'),
  [
    ('optim', 'lr', math.nan),
    ('loss', 'margin', math.inf),
    ('softmax', 'combined', (1.0, math.nan, 0.0)),
    ('data', 'imbalance', math.nan),
    ('eval', 'pairs', math.nan),
  ],
)
def test_settings_that_are_no_numbers(section, key, value):
  config = default()
  with config.ignore_type():
    config[section][key] = value
  with pytest.raises(ConfigError, match=f'config.{section}.{key}=.* is no number .*; give a finite one'):
    validate(config)


def test_nothing_is_said_after_the_one_line():
  """What libraries left half done when a disk was full complains as it is cleared away."""
  program = """
import asyncio, sys
from absl import flags
from gif_jax.commands.flags import _guarded
from gif_jax.core.errors import DiskError
flags.FLAGS([sys.argv[0], *sys.argv[1:]])

class Writer:
  def __del__(self):
    raise RuntimeError('Event loop is closed')

async def write():
  raise ValueError('No space left on device')

async def save():
  tasks = [asyncio.create_task(write()) for _ in range(2)]
  await asyncio.sleep(0.1)
  return [*tasks, write(), Writer()]

def main(_):
  global left
  left = asyncio.run(save())
  raise DiskError('the disk is full')

_guarded(main, [])
"""
  for flag, lines in (([], 1), (['--verbosity=0'], 2)):
    done = subprocess.run([sys.executable, '-c', program, *flag], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith('DiskError: the disk is full\n'), done.stderr
    assert min(2, done.stderr.count('\n')) == lines and not done.stdout, done.stderr
