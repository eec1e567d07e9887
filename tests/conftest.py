"""Eight virtual CPU devices for the whole test session, and what several tests share."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from gif_jax.codes import tokenizer
from gif_jax.data.sets.open import open_faces
from tests.helpers import tiny
from tests.helpers.cpu_time import CpuTime
from tests.helpers.photographs import write_people
from tests.helpers.places import ROOT

# Ctrl-C is tested too, and a shell ignores it in what it starts in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)

jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_rank_promotion', 'raise')


def pytest_addoption(parser):
  parser.addoption('--cpu-limit', type=float, default=0, help='CPU-seconds of a test that is not marked slow')
  parser.addoption('--cpu-report', type=Path, help='a file for the CPU time of each test')


def pytest_configure(config):
  limit, report = config.getoption('--cpu-limit'), config.getoption('--cpu-report')
  config.pluginmanager.register(CpuTime(limit, report and report.absolute()))


@pytest.fixture(scope='session', autouse=True)
def compiled(tmp_path_factory):
  """Where tests and the commands they start keep what XLA compiled, so that each program is compiled once."""
  folder = tmp_path_factory.mktemp('compiled')
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
  return folder


@pytest.fixture(scope='session')
def command(compiled):
  """Runs `python -m gif_jax VERB ARGUMENTS` in the project's root; devices: virtual CPU devices."""

  def start(verb, *arguments, devices=1, popen=False):
    environment = os.environ | {
      'JAX_PLATFORMS': 'cpu',
      'JAX_NUM_CPU_DEVICES': str(devices),
      'JAX_COMPILATION_CACHE_DIR': str(compiled),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
    }
    call = [sys.executable, '-m', 'gif_jax', verb, *map(str, arguments)]
    run = subprocess.Popen if popen else subprocess.run
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True}
    return run(call, cwd=ROOT, env=environment, **pipes)

  return start


@pytest.fixture(scope='session')
def tiny_config():
  return tiny.get_config()


@pytest.fixture(scope='session')
def tiny_faces(tiny_config):
  return open_faces(tiny_config, cache=None)


@pytest.fixture(scope='session')
def tiny_table(tiny_config, tiny_faces, tmp_path_factory):
  return tokenizer.make_table(tiny_config, tiny_faces, tmp_path_factory.mktemp('tiny') / 'table')


@pytest.fixture(scope='session')
def photographs(tiny_faces, tmp_path_factory):
  """Twenty people with four photographs each. Tests that change a folder make their own."""
  root = tmp_path_factory.mktemp('photographs')
  write_people(root, tiny_faces.train, 20)
  return root


@pytest.fixture
def root(tiny_faces, tmp_path):
  """Five people with four photographs each, for tests to damage."""
  write_people(tmp_path / 'faces', tiny_faces.train, 5)
  return tmp_path / 'faces'
