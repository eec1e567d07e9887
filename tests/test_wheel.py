"""The wheel: all of the package with its experiments, installed and run outside of the checkout."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

import gif_jax
from tests.helpers import short
from tests.helpers.architecture import PACKAGE, files
from tests.helpers.places import ROOT

pytestmark = pytest.mark.slow
SOURCES = ('setup.cfg', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE', 'CHANGELOG.md', 'CITATION.cff')


def _run(*call, **options):
  done = subprocess.run(list(map(str, call)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
  assert done.returncode == 0, done.stdout
  return done.stdout


@pytest.fixture(scope='module')
def distributions(tmp_path_factory):
  """The sdist, and the wheel that is built of it, from a copy of what they are made of."""
  copy = tmp_path_factory.mktemp('sources')
  for name in SOURCES:
    shutil.copy(ROOT / name, copy)
  for name in ('configs', 'gif_jax'):
    shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns('__pycache__'))
  # Without isolation nothing is downloaded; .[test] has the setuptools that is needed.
  _run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', copy / 'dist', copy)
  (sdist,), (wheel,) = (copy / 'dist').glob('*.tar.gz'), (copy / 'dist').glob('*.whl')
  return sdist, wheel


@pytest.fixture(scope='module')
def installed(distributions, tmp_path_factory):
  """An environment in which the installed wheel is what Python imports."""
  target = tmp_path_factory.mktemp('installed')
  flags = ('--quiet', '--no-deps', '--no-index', '--disable-pip-version-check')
  _run(sys.executable, '-m', 'pip', 'install', *flags, '--target', target, distributions[1])
  return os.environ | {'PYTHONPATH': str(target), 'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1'}


def test_both_have_all_files(distributions):
  sdist, wheel = distributions
  wanted = {str(path.relative_to(ROOT)) for path in files()} | {'gif_jax/py.typed'}
  wanted |= {f'gif_jax/configs/{path.name}' for path in (ROOT / 'configs').glob('*.py')}
  with zipfile.ZipFile(wheel) as archive:
    assert {name for name in archive.namelist() if '.dist-info/' not in name} == wanted
  with tarfile.open(sdist) as archive:
    names = {name.partition('/')[2] for name in archive.getnames()}
  assert wanted | set(SOURCES) <= names and not any(name.startswith('tests') for name in names)


def test_version_is_said_once(distributions):
  assert distributions[1].name.startswith(f'gif_jax-{gif_jax.__version__}-')
  assert f"__version__ = '{gif_jax.__version__}'" in (PACKAGE / '__init__.py').read_text()


def test_the_quickstart_runs_outside_of_the_checkout(installed, tmp_path):
  where = _run(sys.executable, '-c', 'import gif_jax; print(gif_jax.__file__)', env=installed, cwd=tmp_path)
  assert where.startswith(installed['PYTHONPATH'])
  call = (sys.executable, '-m', 'gif_jax.main', '--config=configs/quickstart.py', *short.flags())
  _run(*call, env=installed, cwd=tmp_path)
  assert json.loads((tmp_path / 'runs' / 'quickstart' / 'summary.json').read_text())['steps'] == 2


def test_the_program_has_a_name_of_its_own(installed, tmp_path):
  program = f'{installed["PYTHONPATH"]}/bin/gif-jax'
  assert 'gif-jax VERB' in _run(program, '--help', env=installed, cwd=tmp_path)
  assert 'Settings of --config' in _run(program, 'train', '--help', env=installed, cwd=tmp_path)
