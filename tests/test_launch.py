"""Launch scripts call what they say."""

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / 'launch' / 'local.sh'


def _launch(*arguments):
  return subprocess.run([SCRIPT, *arguments], env=os.environ | {'PYTHON': 'echo'}, capture_output=True, text=True)


def test_local_passes_config_workdir_and_flags():
  done = _launch('configs/quickstart.py', 'out', '--config.train.steps=3')
  assert done.stdout.split() == [
    '-m', 'gif_jax.main', '--config=configs/quickstart.py', '--workdir=out', '--config.train.steps=3',
  ]  # fmt: skip


def test_local_names_a_workdir_after_the_config():
  assert '--workdir=runs/r100' in _launch('configs/r100.py', '--config.train.steps=3').stdout


def test_local_without_a_config_says_how():
  done = _launch()
  assert done.returncode == 2 and 'usage' in done.stderr
