"""A disk that is full at some moment, read-only or gone, and too few open files. See benchmarks/faults.py.

A tmpfs of some size is mounted where commands write, in a mount namespace of this process's own.
"""

import os
import shutil
import subprocess
import sys
import threading
import time

from benchmarks.faults import ROOT, Lab, Run, differences, judge, left_over, result
from benchmarks.faults_kills import COMMANDS

_INSIDE = 'GIF_JAX_FAULTS_NAMESPACE'
_BIG = '2g'
_PAGE = 4096
FILES = (20, 64, 128, 300)  # that may be open at a time


def enter_namespace() -> None:
  """Starts this program again where its mounts are its own. Exits, and says so, where that may not be."""
  if os.environ.get(_INSIDE):
    return
  for flags in ('-m', '-rm'):  # as root; as anybody, where the system lets them
    if not subprocess.run(['unshare', flags, 'mount', '-t', 'tmpfs', 'none', '/mnt'], capture_output=True).returncode:
      call = ['unshare', flags, sys.executable, '-m', 'benchmarks.faults', *sys.argv[1:]]
      os.execvpe('unshare', call, os.environ | {_INSIDE: flags, 'PYTHONPATH': str(ROOT)})
  sys.exit('disk: not possible here. It needs a mount namespace: root with CAP_SYS_ADMIN, or a system on which '
           '`unshare -rm` works (sysctl kernel.unprivileged_userns_clone=1).')  # fmt: skip


def disk(lab: Lab, rounds: int, only: str) -> None:
  """Every attack on every command."""
  peace, small = {}, {}
  for name, (kind, value) in (bar := lab.jobs(COMMANDS, only, _kinds(rounds))):
    bar.set_postfix_str(f'{name}, {kind}')
    call, template = COMMANDS[name]
    if name not in peace:
      peace[name] = lab.peaceful(call, template)
      small[name] = _most(lab, name)
    ATTACKS[kind](lab, name, *peace[name], value * small[name] if kind == 'full' else value)


def _kinds(rounds):
  kinds = [('full', share / max(rounds - 1, 1)) for share in range(rounds)]
  kinds += [('read-only', 0.0), *(('read-only later', share) for share in (0.3, 0.6, 0.9))]
  return [*kinds, *(('removed', share) for share in (0.3, 0.6, 0.9)), *(('files', count) for count in FILES)]


# ---- Mounts


def _mount(*options):
  return subprocess.run(['mount', '-t', 'tmpfs', *options], capture_output=True, text=True)


class _Disk:
  """A tmpfs at place/out with what the template has there."""

  def __init__(self, lab, name):
    self.lab, self.out = lab, lab.lay(COMMANDS[name].template, out=False) / 'out'
    source = lab.folder / 'templates' / COMMANDS[name].template / 'out'
    _mount('-o', f'size={_BIG}', 'none', self.out).check_returncode()
    shutil.copytree(source, self.out, symlinks=True, dirs_exist_ok=True)
    self.before = self.used()

  def __enter__(self):
    return self

  def __exit__(self, *_):
    subprocess.run(['umount', '-l', self.out], check=True)

  def used(self) -> int:
    """Bytes."""
    found = os.statvfs(self.out)
    return (found.f_blocks - found.f_bfree) * found.f_frsize

  def again(self, options: str) -> bool:
    """Mounts it again in another way; False where the system refuses, as where a file is being written."""
    return not _mount('-o', f'remount,{options}', 'none', self.out).returncode


def _most(lab, name):
  """Bytes that the command takes at most, beside those that were there."""
  with _Disk(lab, name) as there:
    started, most, ended = lab.start(COMMANDS[name].call), there.before, threading.Event()

    def watch():
      nonlocal most
      while not ended.is_set():
        most = max(most, there.used())
        time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    started.end()
    ended.set()
    watcher.join()
    return most - there.before


# ---- Attacks


def _full(lab, name, wanted, peace, size):
  size = int(size) // _PAGE * _PAGE
  with _Disk(lab, name) as there:
    there.again(f'size={max(there.before + size, _PAGE)}')  # 0 would be no limit
    run = lab.run(COMMANDS[name].call)
    there.again(f'size={_BIG}')
    _settle(lab, name, 'full', wanted, peace, run, room=size)


def _read_only(lab, name, wanted, peace, _):
  with _Disk(lab, name) as there:
    there.again('ro')
    run = lab.run(COMMANDS[name].call)
    there.again('rw')
    _settle(lab, name, 'read-only', wanted, peace, run)


def _read_only_later(lab, name, wanted, peace, share):
  with _Disk(lab, name) as there:
    started = lab.start(COMMANDS[name].call)
    time.sleep(share * peace.seconds)
    while not (done := there.again('ro')) and started.process.poll() is None:
      time.sleep(0.005)
    run = started.end()
    there.again('rw')
    _settle(lab, name, 'read-only later', wanted, peace, run, after=share, was_read_only=done)


def _removed(lab, name, wanted, peace, share):
  """All below out/ is removed while it runs; what the template has there, such as a network, is brought back after."""
  call, template = COMMANDS[name]
  out = lab.lay(template) / 'out'
  started = lab.start(call)
  time.sleep(share * peace.seconds)
  for path in out.iterdir():
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
  run = started.end()
  shutil.copytree(lab.folder / 'templates' / template / 'out', out, symlinks=True, dirs_exist_ok=True)
  _settle(lab, name, 'removed', wanted, peace, run, after=share)


def _files(lab, name, wanted, peace, count):
  lab.lay(COMMANDS[name].template)
  run = lab.run(COMMANDS[name].call, files=count)
  _settle(lab, name, 'files', wanted, peace, run, files=count)


ATTACKS = {
  'full': _full, 'read-only': _read_only, 'read-only later': _read_only_later, 'removed': _removed, 'files': _files,
}  # fmt: skip


def _settle(lab, name, kind, wanted, peace, run, **details):
  """Notes how the attacked run ended, and what the same command makes of what it left, once all is well."""
  out = lab.place / 'out'
  first = differences(wanted, result(out))
  again = lab.run(COMMANDS[name].call) if run.status or first else run
  unequal = differences(wanted, result(out))
  outcome, then = judge(run, not first, peace), judge(again, not unequal, peace)
  if outcome in ('refused', 'equal', 'noticed', 'told') and then not in ('equal', 'noticed'):
    outcome = 'otherwise' if then == 'refused' else then
    run = Run(again.status, run.output + again.output, f'{run.said}\n==== again\n{again.said}', again.seconds)
  details |= {'then': then, 'unequal': unequal[:10], 'left_over': left_over(out)}
  lab.note(f'{name}: {kind}', outcome, run, call=COMMANDS[name].call, **details)
