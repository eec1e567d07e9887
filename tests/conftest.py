"""Eight virtual CPU devices for the whole test session, and what several tests share."""

import os
import signal
from collections import Counter
from pathlib import Path

import jax
import pytest

from gif_jax.codes import tokenizer
from gif_jax.data.sets.open import open_faces
from tests.helpers import memory, tiny
from tests.helpers.commands import Commands
from tests.helpers.compiled import Compiled, machine_folder
from tests.helpers.cpu_time import CpuTime
from tests.helpers.photographs import write_people

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
  config.option.loadscopereorder = False  # of pytest-xdist: by the number of tests, but see below


def pytest_collection_modifyitems(items):
  """Files with the most slow tests come first, so that no process works alone at the end."""
  tests = Counter(item.path for item in items)
  slow = Counter(item.path for item in items if item.get_closest_marker('slow'))
  items.sort(key=lambda item: (-slow[item.path], -tests[item.path]))


def pytest_collection_finish():
  memory.keep()


@pytest.fixture(scope='session')
def programs(tmp_path_factory):
  """What XLA compiled, for this process and for others; see tests/helpers/compiled.py."""
  programs = Compiled(tmp_path_factory.mktemp('compiled'), machine_folder())
  for setting, value in programs.settings().items():
    jax.config.update(setting, value)
    os.environ[setting.upper()] = str(value)  # for what tests start
  jax.devices()  # made here, not in the first test that computes
  return programs


@pytest.fixture(scope='module', autouse=True)
def exchanged(programs):
  """Each file of tests begins with all programs that were compiled before, and passes its own on."""
  programs.exchange()
  yield
  programs.exchange()


@pytest.fixture(scope='session')
def commands(programs, tmp_path_factory):
  commands = Commands(tmp_path_factory.mktemp('commands'))
  yield commands
  commands.close()


@pytest.fixture(scope='session')
def command(commands):
  """Runs `python -m gif_jax VERB ARGUMENTS` to its end, or with popen=True only starts it; see helpers/commands.py."""

  def run(verb, *arguments, popen=False, **how):
    return (commands.start if popen else commands.run)(verb, *arguments, **how)

  return run


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
