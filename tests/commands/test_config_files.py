"""Files of --config: the working directory's first, then those installed with the package."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gif_jax.commands.config_files import INSTALLED, beside, with_installed
from tests.helpers.places import ROOT


@pytest.mark.parametrize(
  ('given', 'resolved'),
  [
    (['--config=configs/r100.py'], [f'--config={INSTALLED}/r100.py']),
    (['-config=configs/r100.py:short'], [f'-config={INSTALLED}/r100.py:short']),
    (['--config', 'configs/r100.py', '--workdir=a'], ['--config', f'{INSTALLED}/r100.py', '--workdir=a']),
    (['--config=configs/nowhere.py'], None),
    (['--config=elsewhere/r100.py'], None),
    (['--config=/configs/r100.py'], None),
    (['--config=configs/../r100.py'], None),
    (['--workdir', 'configs/r100.py'], None),
    (['configs/r100.py', '--config'], None),
    (['--config.data.path=configs/r100.py'], None),
    ([], None),
  ],
)
def test_installed_files_stand_in_for_missing_ones(monkeypatch, tmp_path, given, resolved):
  monkeypatch.chdir(tmp_path)
  assert with_installed(given) == (resolved or given)


def test_files_of_the_working_directory_come_first(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'configs').mkdir()
  (tmp_path / 'configs' / 'r100.py').write_text('')
  assert with_installed(['--config=configs/r100.py:short']) == ['--config=configs/r100.py:short']


def test_files_that_may_be_meant(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'mine.py').write_text('')
  assert beside('nowhere.py') == ['mine']
  assert {'configs/quickstart', 'configs/r100'} <= set(beside('configs/nowhere.py'))
  assert beside('elsewhere/nowhere.py') == []


def test_installed_files_are_those_of_the_checkout():
  assert INSTALLED.resolve() == ROOT / 'configs'


def _train(folder, *arguments):
  call = [sys.executable, '-m', 'gif_jax.main', *arguments]
  environment = os.environ | {'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])}
  done = subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True)
  return done.stdout + done.stderr


def test_experiments_load_from_any_folder(tmp_path):
  """Those that begin with another one, too; the settings are read, and the last one is refused."""
  for name in ('quickstart_joint.py', 'wf42m.py:r100,softmax'):
    output = _train(tmp_path, f'--config=configs/{name}', '--config.train.steps=-1')
    assert output == 'ConfigError: config.train.steps=-1 is too small; give at least 0.\n'


def test_own_experiments_begin_with_installed_ones(tmp_path):
  (tmp_path / 'configs').mkdir()
  (tmp_path / 'configs' / 'mine.py').write_text(
    'from gif_jax.configs import quickstart\n\n'
    'def get_config():\n  c = quickstart.get_config()\n  c.train.steps = -1\n  return c\n'
  )
  assert 'config.train.steps=-1 is too small' in _train(tmp_path, '--config=configs/mine.py')


def test_misspelt_names_are_compared_with_installed_ones(tmp_path):
  output = _train(tmp_path, '--config=configs/quickstat.py')
  assert 'Did you mean configs/quickstart.py?' in output and not Path(tmp_path / 'runs').exists()
