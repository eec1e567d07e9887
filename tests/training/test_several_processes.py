"""Runs of two real processes: they equal runs of one, continue them, stop together, fail together."""

import contextlib
import json
import re
import shutil
import signal
import socket
import threading
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from gif_jax.codes import tokenizer
from gif_jax.codes.table import CodeTable
from gif_jax.core.distributed import processes, roll_call
from gif_jax.core.distributed.mesh import make_mesh
from gif_jax.core.errors import ConfigError
from gif_jax.training.program import make_program, open_checkpoints
from gif_jax.training.state import state_sha256
from gif_jax.training.train import train
from tests.helpers import short
from tests.helpers.ports import free_port
from tests.helpers.record_files import packed_faces

_LIMIT = 240  # seconds until a pair that hangs fails the test; nothing here takes a third of them


@pytest.fixture
def pair(command):
  """Starts `python -m gif_jax.MODULE ARGUMENTS` as two processes."""
  started = []

  def start(module, *arguments, second=(), devices=1):
    flags = (f'--coordinator=localhost:{free_port()}', '--processes=2')
    runs = [
      command(module, *arguments, *flags, f'--process={i}', *more, devices=devices, popen=True, server=i)
      for i, more in enumerate([(), second])
    ]
    started.extend(runs)
    return runs

  yield start
  for run in started:
    run.kill()
    run.communicate()


# Gloo writes "[Gloo] Rank 1 is connected to 3 peer ranks. Expected number of connected peer ranks is : 3" piece by
# piece and from a thread for every device, so the pieces of several lines may come in any order.
_GLOO = re.compile(
  r'(\[Gloo\] Rank | is connected to | peer ranks\. |Expected number of connected peer ranks is : |\d|\n)+'
)


def _ended(runs):
  """What processes printed, without what Gloo says of its connections."""
  outputs = [run.communicate(timeout=_LIMIT)[0] for run in runs]
  return [''.join(line for line in text.splitlines(True) if not _GLOO.fullmatch(line)) for text in outputs]


def _steps(workdir):
  folder = workdir / 'checkpoints'
  return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.exists() else []


def _rows(workdir):
  return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def _until(runs, workdir, step):
  """Waits for the checkpoint of a step."""
  deadline = time.monotonic() + _LIMIT
  while max(_steps(workdir), default=0) < step and all(run.poll() is None for run in runs):
    assert time.monotonic() < deadline, f'no step {step} yet'
    time.sleep(0.01)
  assert all(run.poll() is None for run in runs), _ended(runs)


@pytest.mark.slow
@pytest.mark.parametrize('form', ['fixed', 'joint'])
def test_a_run_goes_on_with_another_number_of_processes(pair, tiny_config, tiny_faces, tmp_path, form):
  """One of eight devices, of which two processes of two continue step 2; and one opens what these two have saved."""
  flags = {
    'optim.lr': 1e-4,
    'optim.warmup': 0.0,
    'optim.clip': 0.0,
    'log.every_steps': 1,
    'train.steps': 5,
    'checkpoint.every_steps': 2,
    'checkpoint.keep': 3,
    'joint.enabled': form == 'joint',
    'joint.retokenize_every_steps': 4,
  }
  config = tiny_config.copy_and_resolve_references()
  config.update_from_flattened_dict(flags)
  alone, together = tmp_path / 'alone', tmp_path / 'together'
  alone.mkdir()
  table = tokenizer.ensure_table(config, tiny_faces, alone)
  one = train(config, alone, tiny_faces, table)
  shutil.copytree(alone, together, ignore=shutil.ignore_patterns('4', '5', '*_table', 'summary.json'))
  runs = pair(
    'train',
    '--config=tests/helpers/tiny.py',
    f'--workdir={together}',
    *(f'--config.{k}={flags[k]}' for k in flags),
    devices=2,
  )
  outputs = _ended(runs)
  assert [run.returncode for run in runs] == [0, 0], outputs
  assert outputs[0].count('verification accuracy  ') == 1 and outputs[1] == '', outputs[1]

  rows = _rows(alone), _rows(together)
  assert [row['step'] for row in rows[1]] == [1, 2, 3, 4, 5]
  np.testing.assert_allclose(*([row['loss'] for row in own] for own in rows), rtol=1e-5)
  two = json.loads((together / 'summary.json').read_text())
  assert two['resumed_from_step'] == 2
  for name in set(one) - {'images_per_second', 'resumed_from_step', 'state_sha256'}:
    np.testing.assert_allclose(two[name], one[name], atol=1e-6, err_msg=name)
  hidden = [path.name for path in together.rglob('*') if 'partial' in path.name or path.name.startswith('.')]
  assert hidden == ['.lock']
  for name in ('trained_table', 'next_table') if form == 'joint' else ():
    CodeTable.open(together / name).verify()

  config.joint.rows = 'device'
  checkpoints = open_checkpoints(config, together, table)
  state = checkpoints.restore(make_program(config, table, 5, make_mesh()).like)
  checkpoints.close()
  assert int(state.step) == 5 and state_sha256(state) == two['state_sha256']


@pytest.mark.slow
def test_rows_on_two_hosts_equal_rows_on_eight_devices(pair, tmp_path):
  flags = short.flags(train__steps=6, checkpoint__every_steps=2, **short.JOINT)
  summaries = []
  for where in ('host', 'device'):
    given = (*flags, f'--workdir={tmp_path / where}', f'--config.joint.rows={where}')
    runs = pair('train', '--config=tests/helpers/tiny.py', *given, devices=4)
    outputs = _ended(runs)
    assert [run.returncode for run in runs] == [0, 0], outputs
    summaries.append(json.loads((tmp_path / where / 'summary.json').read_text()))
  assert summaries[0]['state_sha256'] == summaries[1]['state_sha256']
  rows = tmp_path / 'host' / 'checkpoints' / '6' / 'rows'
  assert {path.name for path in rows.glob('vectors.*.npy')} >= {'vectors.0.npy', 'vectors.10.npy'}


@pytest.mark.slow
def test_a_signal_to_one_stops_all_and_the_same_command_continues(pair, tmp_path):
  flags = short.flags(checkpoint__every_steps=1, train__steps=100_000, data__cache=True)
  arguments = ('train', '--config=tests/helpers/tiny.py', f'--workdir={tmp_path}', *flags)
  begun = 0
  for number, asked in ((signal.SIGTERM, 1), (signal.SIGINT, 0)):
    runs = pair(*arguments)
    _until(runs, tmp_path, begun + 2)
    runs[asked].send_signal(number)
    outputs = _ended(runs)
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert 'the same command continues from there' in outputs[0]
    assert ('continuing from step' in outputs[0]) == bool(begun)
    begun = _steps(tmp_path)[-1]
    steps = [row['step'] for row in _rows(tmp_path)]
    assert steps == sorted(set(steps)) and steps[-1] == begun
  assert not list((tmp_path / 'cache').glob('*.partial'))


@pytest.mark.slow
def test_a_bad_image_of_one_ends_all(pair, tiny_faces, tmp_path):
  records = packed_faces(tmp_path / 'records', tiny_faces.train)
  content = (tmp_path / 'records' / 'images.bin').read_bytes()
  place = content.index(records[5])
  damaged = content[:place] + bytes(len(records[5])) + content[place + len(records[5]) :]
  (tmp_path / 'records' / 'images.bin').write_bytes(damaged)
  np.save(tmp_path / 'vectors.npy', np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32))
  runs = pair(
    'train',
    '--config=tests/helpers/tiny.py',
    f'--workdir={tmp_path / "run"}',
    '--config.data.source=records',
    f'--config.data.path={tmp_path / "records"}',
    f'--config.tokenizer.vectors={tmp_path / "vectors.npy"}',
    '--config.data.check_colour=False',
    '--config.eval.identities=0',
    '--config.eval.validation_identities=0',
  )
  outputs = _ended(runs)
  assert [run.returncode for run in runs] == [1, 1], outputs
  failed = next(i for i, output in enumerate(outputs) if re.search(r'^DataError: .*records', output, re.MULTILINE))
  assert 'Traceback' not in outputs[failed]
  assert f'process {failed} failed, so this one ends, too: DataError: ' in outputs[1 - failed]


@pytest.mark.slow
def test_another_config_in_one_process_is_named(pair, tmp_path):
  runs = pair(
    'train', '--config=tests/helpers/tiny.py', f'--workdir={tmp_path / "run"}', second=('--config.optim.lr=0.2',)
  )
  outputs = _ended(runs)
  assert [run.returncode for run in runs] == [1, 1], outputs
  assert re.search(r'^ConfigError: process 1 on .* has config.optim.lr=0.2, process 0 has 0.1. Start', outputs[1], re.M)
  assert 'process 1 failed, so this one ends, too: ConfigError: ' in outputs[0]
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (('', 2, 0), '--processes and --process go with --coordinator=HOST:PORT'),
    (('auto', 0, 1), '--processes and --process go with --coordinator=HOST:PORT'),
    (('localhost', 2, 0), '--coordinator=localhost is no HOST:PORT'),
    (('localhost:99999', 2, 0), '--coordinator=localhost:99999 is no HOST:PORT'),
    (('http://localhost:1234', 2, 0), '--coordinator=http://localhost:1234 is no HOST:PORT'),
    (('a b:1234', 2, 0), '--coordinator=a b:1234 is no HOST:PORT'),
    (('localhost:', 2, 0), '--coordinator=localhost: is no HOST:PORT'),
    (('nowhere.invalid:1234', 2, 0), '--coordinator=nowhere.invalid:1234: the name nowhere.invalid leads nowhere'),
    (('localhost:1234', 0, -1), 'needs --processes=N'),
    (('localhost:1234', 2, -1), 'needs --processes=N'),
    (('localhost:1234', 2, 2), '--processes=2 --process=2'),
  ],
)
def test_flags_that_make_no_sense(monkeypatch, flags, message):
  given = {name: SimpleNamespace(value=value) for name, value in zip(('coordinator', 'processes', 'process'), flags)}
  monkeypatch.setattr(processes.flags, 'FLAGS', given)
  with pytest.raises(ConfigError, match=message), processes.together():
    pass


def test_processes_with_unlike_devices_are_named(monkeypatch):
  devices = [SimpleNamespace(process_index=i) for i in (0, 0, 1)]
  monkeypatch.setattr(jax, 'devices', lambda: devices)
  with pytest.raises(ConfigError, match='process 0 2, process 1 1'):
    processes._check_devices()


@pytest.fixture
def waiting(commands):
  """Starts a process that waits for others, with little patience."""

  def start(port, who):
    program = f"""
import logging
from types import SimpleNamespace
from gif_jax.commands.flags import _guarded
from gif_jax.core.distributed import processes, roll_call
from absl import flags
flags.FLAGS.mark_as_parsed()
logging.getLogger('gif_jax').setLevel(logging.INFO)
roll_call.PATIENCE, roll_call._REPORT, roll_call._OTHERS = 3.0, 1.0, 2
given = {dict(zip(('coordinator', 'processes', 'process'), who))!r}
def main(_):
  processes.flags = SimpleNamespace(FLAGS={{name: SimpleNamespace(value=value) for name, value in given.items()}})
  with processes.together():
    pass
_guarded(main, [])
"""
    return commands.start_program(program)

  return start


@pytest.mark.parametrize('who', ['auto', 'nobody', 'process 0', 'taken', 'somebody else'])
def test_others_who_do_not_come(waiting, who):
  port = free_port()
  flags, wanted = {
    'auto': (('auto', 0, -1), 'no cluster is found'),
    'nobody': ((f'localhost:{port}', 2, 1), 'where process 0 should be, does not answer'),
    'process 0': ((f'localhost:{port}', 3, 0), f'nobody has come to .*:{port} with --process=1, 2'),
    'taken': ((f'localhost:{port}', 2, 0), 'process 0 cannot listen there'),
    'somebody else': ((f'localhost:{port}', 2, 1), 'answers, but is no process 0 .* given twice, or another program'),
  }[who]
  with contextlib.ExitStack() as stack:
    if who in ('taken', 'somebody else'):
      other = stack.enter_context(socket.create_server(('localhost', port)))
    if who == 'somebody else':
      threading.Thread(target=_hang_up, args=(other,), daemon=True).start()
    run = waiting(port, flags)
    output = run.communicate(timeout=_LIMIT)[0]
  assert run.returncode == 1 and 'Traceback' not in output, output
  error = next(line for line in output.splitlines() if line.startswith('ConfigError: '))
  assert re.search(wanted, error), output
  if who in ('nobody', 'process 0'):
    assert re.search('has waited 1 of at most 3 seconds', output)


def _hang_up(server):
  while True:
    with contextlib.suppress(OSError):
      server.accept()[0].close()


def test_a_number_that_is_given_twice_is_refused_and_the_run_goes_on(waiting):
  port = free_port()
  address = f'localhost:{port}'
  first, second, twice = (waiting(port, (address, 3, i)) for i in (0, 1, 1))
  ended = next(run for run in _first_to_end(second, twice))
  output = ended.communicate(timeout=_LIMIT)[0]
  assert '--process=1 is there already' in output and 'each with its own --process' in output, output
  assert 'Traceback' not in output and ended.returncode == 1
  for run in (first, second, twice):
    run.kill()
    run.communicate()


def _first_to_end(*runs):
  deadline = time.monotonic() + _LIMIT
  while time.monotonic() < deadline:
    yield from (run for run in runs if run.poll() is not None)
    time.sleep(0.05)


def test_another_number_of_processes_is_refused(waiting):
  port = free_port()
  first, second = waiting(port, (f'localhost:{port}', 3, 0)), waiting(port, (f'localhost:{port}', 2, 1))
  output = second.communicate(timeout=_LIMIT)[0]
  assert 'process 0 was started with --processes=3, this one with --processes=2' in output, output
  first.kill()
  first.communicate()


def test_whoever_connects_says_nothing_but_a_number(waiting):
  """Others who look for open ports, or send much, are not part of a run and do not end it."""
  port = free_port()
  first = waiting(port, (f'localhost:{port}', 2, 0))
  deadline = time.monotonic() + _LIMIT
  for content in (b'', b'GET / HTTP/1.0\r\n\r\n', b'x' * 100_000, b'process 99 of 2\n', b'process -1 of 2\n'):
    while True:
      try:
        with socket.create_connection(('localhost', port), 2) as one:
          one.sendall(content)
          one.shutdown(socket.SHUT_WR)
          one.settimeout(10)
          assert roll_call._GO not in (one.recv(1000) or b'')
        break
      except OSError:  # not there yet, or hung up at once
        if content and first.poll() is None and time.monotonic() < deadline and _listens(port):
          break
        time.sleep(0.05)
  second = waiting(port, (f'localhost:{port}', 2, 1))
  for run in (first, second):
    output = run.communicate(timeout=_LIMIT)[0]
    assert run.returncode == 0, output


def _listens(port):
  with contextlib.suppress(OSError), socket.create_connection(('localhost', port), 2):
    return True
  return False


def test_process_0_listens_at_the_address_given_alone():
  assert roll_call.listening_address('localhost', 1234) in ('127.0.0.1:1234', '[::1]:1234')
  assert roll_call.listening_address('127.0.0.1', 1234) == '127.0.0.1:1234'


def test_a_name_that_others_cannot_reach_is_listened_to_everywhere(monkeypatch, caplog):
  addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, '', ('127.0.1.1', 1234))]  # Debian's own name of a machine
  monkeypatch.setattr(socket, 'getaddrinfo', lambda *args, **kwargs: addresses)
  with caplog.at_level('WARNING', 'gif_jax'):
    assert roll_call.listening_address('node0', 1234) in ('[::]:1234', '0.0.0.0:1234')
  assert 'listens at all' in caplog.text


@pytest.mark.parametrize('module', ['train', 'tokenize', 'evaluate'])
def test_help_tells_of_several_processes(command, module):
  done = command(module, '--help')
  assert all(f'--{flag}=' in done.stdout for flag in ('coordinator', 'processes', 'process')), done.stdout
