"""One at a time: a lock keeps out other processes and other parts of its own, and ends with its process."""

import errno
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest

from gif_jax.core.errors import ConfigError, DiskError
from gif_jax.core.storage.files import write_text
from gif_jax.core.storage.locks import InUseError, beside, inside, locked
from tests.helpers.damage import small_disk
from tests.helpers.places import ROOT

PLACES = pytest.mark.parametrize('place', [inside, beside])

HOLDS = """
import subprocess, sys, time
from pathlib import Path
from gif_jax.core.storage.locks import locked
with locked(Path(sys.argv[1]), 'there'):
  child = subprocess.Popen(['sleep', '1'])  # it must not have the lock from us
  print(child.pid, flush=True)
  sys.stdin.read()
"""

CONTENDS = """
import os, sys, time
from pathlib import Path
from gif_jax.core.storage.locks import InUseError, locked
path, done = Path(sys.argv[1]), 0
log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND)
while done < 20:
  try:
    with locked(path, 'there'):
      os.write(log, f'{os.getpid()} enters\\n'.encode())
      time.sleep(0.0005)
      os.write(log, f'{os.getpid()} leaves\\n'.encode())
      done += 1
  except InUseError:
    pass
  time.sleep(0.001)
"""


def start(program, *arguments):
  call = [sys.executable, '-c', program, *map(str, arguments)]
  return subprocess.Popen(call, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def take(path):
  with locked(path, '--output=there'):
    pass


def in_use(path, by):
  with pytest.raises(InUseError, match=rf'^--output=there is in use {by}: wait until it ends, or name another place.$'):
    take(path)


def by(process):
  host = re.escape(socket.gethostname())
  return rf'by process {process} on {host} since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{{4}}'


@PLACES
def test_another_part_of_this_process_is_kept_out(tmp_path, place):
  path = place(tmp_path / 'made' / 'on the way')
  with locked(path, 'there'):
    in_use(path, by(os.getpid()))
    in_use(path, by(os.getpid()))  # who was kept out has taken nothing away
    take(place(tmp_path / 'other'))
  take(path)


@PLACES
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM, None])
def test_another_process_is_kept_out_until_the_one_that_has_it_ends(tmp_path, place, number):
  path = place(tmp_path / 'out')
  with start(HOLDS, path) as process:
    process.stdout.readline()
    in_use(path, by(process.pid))
    if number:
      process.send_signal(number)
    else:
      process.stdin.close()
    process.wait()
    take(path)


def test_whoever_takes_a_lock_removes_what_killed_processes_left_there(tmp_path):
  inner, own, others = 'out/.roc.png.1.partial', '.out.1.partial', '.out.v2.1.partial'
  for place, gone in ((inside, inner), (beside, own)):
    for name in (inner, own, others):
      write_text(tmp_path / name, 'x')
    take(place(tmp_path / 'out'))
    left = {name for name in (inner, own, others) if (tmp_path / name).exists()}
    assert left == {inner, own, others} - {gone}


@pytest.mark.parametrize('error', [None, KeyError, KeyboardInterrupt])
def test_what_is_left_of_a_lock(tmp_path, error):
  for place in (inside, beside):
    try:
      with locked(place(tmp_path / 'out'), 'there'):
        assert place(tmp_path / 'out').exists()
        if error:
          raise error
    except (KeyError, KeyboardInterrupt):
      pass
    take(place(tmp_path / 'out'))
  assert inside(tmp_path / 'out').exists() and not beside(tmp_path / 'out').exists()
  assert os.listdir(tmp_path) == ['out'] and os.listdir(tmp_path / 'out') == ['.lock']


@pytest.mark.slow
@PLACES
def test_of_many_processes_one_at_a_time_is_inside(tmp_path, place):
  path, log = place(tmp_path / 'out'), tmp_path / 'log'
  log.touch()
  processes = [start(CONTENDS, path, log) for _ in range(6)]
  for process in processes:
    process.communicate()
  assert not any(process.returncode for process in processes)
  lines = [line.split() for line in log.read_text().splitlines()]
  assert len(lines) == 2 * 20 * 6
  for (one, enters), (other, leaves) in zip(lines[::2], lines[1::2]):
    assert (enters, leaves) == ('enters', 'leaves') and one == other


@pytest.mark.slow
@PLACES
def test_of_many_threads_one_at_a_time_is_inside(tmp_path, place):
  path, most, now, done = place(tmp_path / 'out'), [], [], []

  def contend():
    while len(done) < 200:
      try:
        with locked(path, 'there'):
          now.append(1)
          most.append(len(now))
          now.pop()
          done.append(1)
      except InUseError:
        pass

  threads = [threading.Thread(target=contend) for _ in range(6)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert set(most) == {1}


@pytest.mark.parametrize('note', [b'', b'{', b'{}', b'[]', b'1', b'null', b'\xff', b'[' * 4096, bytes(5000)])
def test_who_has_it_need_not_be_known(tmp_path, note):
  path = inside(tmp_path)
  with locked(path, 'there'):
    path.write_bytes(note)
    in_use(path, 'by another process')
  path.write_bytes(note)
  take(path)


@PLACES
def test_what_a_longer_note_left_is_not_read(tmp_path, place):
  path = place(tmp_path / 'out')
  path.parent.mkdir(exist_ok=True)
  path.write_bytes(b'x' * 10_000)
  with locked(path, 'there'):
    in_use(path, by(os.getpid()))


@PLACES
def test_a_full_disk_keeps_nobody_from_having_it(tmp_path, place):
  path = place(tmp_path / 'out')
  with small_disk(0), locked(path, 'there'):
    in_use(path, 'by another process')


def _fails(number):
  def flock(*_):
    raise OSError(number, os.strerror(number))

  return flock


@PLACES
@pytest.mark.parametrize('number', [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_disk_without_locks(tmp_path, place, number, monkeypatch, caplog):
  path = place(tmp_path / 'out')
  monkeypatch.setattr(fcntl, 'flock', _fails(number))
  with locked(path, 'there'), locked(path, 'there'):
    pass
  assert caplog.text.count(f'knows no locks ({os.strerror(number)}); see to it that one run alone works there') == 2
  assert path.exists() == (place is inside)


def test_a_disk_that_is_gone(tmp_path, monkeypatch):
  monkeypatch.setattr(fcntl, 'flock', _fails(errno.EIO))
  with pytest.raises(DiskError, match=f'^{tmp_path}/.lock cannot be written .*: check that the disk is there'):
    take(inside(tmp_path))


def test_a_place_that_cannot_be_written(tmp_path):
  (tmp_path / 'file').write_text('')
  (tmp_path / 'folder' / '.lock').mkdir(parents=True)
  for path in (inside(tmp_path / 'file'), beside(tmp_path / 'file' / 'a'), inside(tmp_path / 'folder')):
    with pytest.raises(DiskError, match=f'^{path} cannot be written .*(move it|name another place)'):
      take(path)


@pytest.mark.parametrize('again', [False, True])
@pytest.mark.parametrize('error', [None, ValueError('Error writing a file: NOT_FOUND'), OSError(errno.EIO, 'gone')])
def test_a_folder_that_is_removed_meanwhile_is_missed(tmp_path, again, error):
  """Whoever makes it again, such as a library that writes there, makes another one."""
  run = tmp_path / 'run'
  message = f'^{run} was removed while it was written to: .* the same command again'
  with pytest.raises(DiskError, match=message), locked(inside(run), 'there'):
    shutil.rmtree(run)
    if again:
      run.mkdir()
    if error:
      raise error


@pytest.mark.parametrize('error', [ConfigError('a key'), KeyboardInterrupt()])
def test_what_is_said_already_is_said(tmp_path, error):
  with pytest.raises(type(error)), locked(inside(tmp_path / 'run'), 'there'):
    shutil.rmtree(tmp_path / 'run')
    raise error


def test_an_error_in_a_folder_that_is_there_stays_what_it_is(tmp_path):
  with pytest.raises(ValueError, match='bug'), locked(inside(tmp_path), 'there'):
    (tmp_path / '.lock').unlink()  # somebody takes it for a left-over
    raise ValueError('a bug')
  with locked(inside(tmp_path), 'there'):
    (tmp_path / '.lock').unlink()
