"""A disk that is full at some moment, read-only or gone, and too few open files.

A tmpfs of some size is mounted where commands write, in a mount namespace of this process's own.
"""

import os
import shutil
import subprocess
import sys
import time
from typing import NamedTuple

from benchmarks.faults.commands import COMMANDS
from benchmarks.faults.judge import WRONG, Run, judge
from benchmarks.faults.lab import ROOT, Lab
from benchmarks.faults.results import differences, left_over, result
from gif_jax.core.storage.files import remove

_INSIDE = 'GIF_JAX_FAULTS_NAMESPACE'
_BIG = '2g'
_PAGE = 4096
FILES = (20, 64, 128, 300)  # that may be open at a time
MOMENTS = (0.0, 0.3, 0.6, 0.9)  # of the time in which a command writes


# The draft of a table takes more than all that main writes after it, so those who have one are attacked for themselves.
ATTACKED = COMMANDS | {
  'train, half a run': COMMANDS['train, fixed']._replace(template='half a run'),
  'train, half a joint run': COMMANDS['train, joint']._replace(template='half a joint run'),
}


def enter_namespace() -> None:
  """Starts this program again where its mounts are its own. Exits, and says so, where that may not be."""
  if os.environ.get(_INSIDE):
    return
  for flags in ('-m', '-rm'):  # as root; as anybody, where the system lets them
    if not subprocess.run(['unshare', flags, 'mount', '-t', 'tmpfs', 'none', '/mnt'], capture_output=True).returncode:
      call = ['unshare', flags, sys.executable, '-m', 'benchmarks.faults', *sys.argv[1:]]
      os.execvpe('unshare', call, os.environ | {_INSIDE: flags, 'PYTHONPATH': str(ROOT)})
  sys.exit(
    'disk: not possible here. It needs a mount namespace: root with CAP_SYS_ADMIN, or a system on which '
    '`unshare -rm` works (sysctl kernel.unprivileged_userns_clone=1).'
  )


def disk(lab: Lab, rounds: int, only: str) -> None:
  """Every attack on every command."""
  peace = {}
  rows = {f'{name}: {kind} {value}': (name, kind, value) for name in ATTACKED for kind, value in _kinds(rounds)}
  for row, _ in (bar := lab.jobs(rows, only, range(1))):
    name, kind, value = rows[row]
    bar.set_postfix_str(row)
    if name not in peace:
      wanted, run = lab.peaceful(*ATTACKED[name], runs=1)
      peace[name] = Peace(wanted, run, *_watched(lab, name))
    ATTACKS[kind](lab, name, peace[name], value)


class Peace(NamedTuple):
  """A command undisturbed."""

  wanted: dict  # its result
  run: Run
  most: int  # bytes that it takes, at most, beside those that were there
  writes: float  # seconds from when it first took some to when it last took more


def _kinds(rounds):
  kinds = [('full', round(1.05 * share / max(rounds - 1, 1), 3)) for share in range(rounds)]
  kinds += [(kind, share) for kind in ('full later', 'removed') for share in MOMENTS]
  return [*kinds, ('read-only', 0.0), *(('files', count) for count in FILES)]


# ---- Mounts


def _mount(*options):
  return subprocess.run(['mount', '-t', 'tmpfs', *options], capture_output=True, text=True)


class _Disk:
  """A tmpfs at place/out with what the template has mounted."""

  def __init__(self, lab, name):
    self.out = lab.lay(ATTACKED[name].template, out=False) / 'out'
    self.source = lab.folder / 'templates' / ATTACKED[name].template / 'out'
    _mount('-o', f'size={_BIG}', 'none', self.out).check_returncode()
    self.fill()
    self.before = self.used()

  def fill(self) -> None:
    """Puts there what the template has."""
    shutil.copytree(self.source, self.out, symlinks=True, dirs_exist_ok=True)

  def __enter__(self):
    return self

  def __exit__(self, *_):
    subprocess.run(['umount', '-l', self.out], check=True)

  def used(self) -> int:
    """Bytes."""
    status = os.statvfs(self.out)
    return (status.f_blocks - status.f_bfree) * status.f_frsize

  def again(self, options: str) -> bool:
    """Mounts it again in another way; False where the system refuses, as where a file is being written."""
    return not _mount('-o', f'remount,{options}', 'none', self.out).returncode

  def writes(self) -> bool:
    """Whether the command has taken some of it."""
    return self.used() > self.before


def _watched(lab, name):
  """Bytes that the command takes at most, beside those that were there; seconds from the first to the last."""
  with _Disk(lab, name) as mounted:
    started, used = lab.start(ATTACKED[name].call), [(0.0, mounted.before)]
    while started.process.poll() is None:
      if (now := mounted.used()) != used[-1][1]:
        used.append((time.monotonic(), now))
      time.sleep(0.001)
    started.end()
  grown = [when for (when, now), (_, before) in zip(used[1:], used) if now > before]
  return max(now for _, now in used) - mounted.before, grown[-1] - grown[0] if grown else 0.0


# ---- Attacks


def _full(lab, name, peace, share):
  size = int(share * peace.most) // _PAGE * _PAGE
  with _Disk(lab, name) as mounted:
    mounted.again(f'size={max(mounted.before + size, _PAGE)}')  # 0 would be no limit
    run = lab.run(ATTACKED[name].call)
    mounted.again(f'size={_BIG}')
    _settle(lab, name, 'full', peace, run, room=size, most=peace.most)


def _read_only(lab, name, peace, _):
  with _Disk(lab, name) as mounted:
    mounted.again('ro')
    run = lab.run(ATTACKED[name].call)
    mounted.again('rw')
    _settle(lab, name, 'read-only', peace, run)


def _full_later(lab, name, peace, share):
  """No room beside what it uses by then. Nor can it be read-only by then: the system refuses while files are open."""
  with _Disk(lab, name) as mounted:
    started = _at_work(lab, name, peace, share, mounted)
    while not mounted.again(f'size={max(mounted.used(), _PAGE)}') and started.process.poll() is None:
      time.sleep(0.001)  # it has just taken more
    attacked, run = time.monotonic(), started.end()
    details = {'moment': share, 'before_its_end': round(time.monotonic() - attacked, 2)}
    mounted.again(f'size={_BIG}')
    _settle(lab, name, 'full later', peace, run, **details)


def _removed(lab, name, peace, share):
  """All below out/ is removed while it runs; what the template has there, such as a network, is brought back after."""
  with _Disk(lab, name) as mounted:
    started = _at_work(lab, name, peace, share, mounted)
    for path in mounted.out.iterdir():
      remove(path)
    attacked, run = time.monotonic(), started.end()
    details = {'moment': share, 'before_its_end': round(time.monotonic() - attacked, 2)}
    mounted.fill()
    _settle(lab, name, 'removed', peace, run, **details)


def _at_work(lab, name, peace, share, mounted):
  """The command, started, after that share of the time in which it writes."""
  started = lab.start(ATTACKED[name].call)
  while not mounted.writes() and started.process.poll() is None:
    time.sleep(0.001)
  time.sleep(share * peace.writes)
  return started


def _files(lab, name, peace, count):
  lab.lay(ATTACKED[name].template)
  run = lab.run(ATTACKED[name].call, files=count)
  _settle(lab, name, 'files', peace, run, files=count)


ATTACKS = {'full': _full, 'full later': _full_later, 'read-only': _read_only, 'removed': _removed, 'files': _files}


def _settle(lab, name, kind, peace, run, **details):
  """Notes how the attacked run ended, and what the same command makes of what it left, once all is well."""
  out = lab.place / 'out'
  first = differences(peace.wanted, result(out))
  again = lab.run(ATTACKED[name].call) if run.status or first else run
  unequal = differences(peace.wanted, result(out))
  outcome, then = judge(run, not first, peace.run), judge(again, not unequal, peace.run)
  details |= {'ended': outcome, 'then': then, 'unequal': unequal[:10], 'left_over': left_over(out)}
  if outcome not in WRONG and then not in ('equal', 'noticed'):  # the one that is to blame is kept
    outcome = 'otherwise' if then in ('refused', 'told') else then
    run = Run(again.status, run.output + again.output, f'{run.said}\n==== again\n{again.said}', again.seconds)
  lab.note(f'{name}: {kind}', outcome, run, call=ATTACKED[name].call, **details)
