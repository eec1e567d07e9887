"""One run at a time in a folder: a lock that whoever writes there holds, and that ends with its process.

The lock is the system's (flock) on a hidden file, so it is gone when the process is, however it ends, and also holds on
NFS between machines. The file says who has it.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from gif_jax.core.errors import UserError, disk_error
from gif_jax.core.storage.files import is_at, kept, remove_left_over

_LOG = logging.getLogger(__name__)

INSIDE = '.lock'
_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_UNKNOWN = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class InUseError(UserError):
  """Somebody else writes there; the message says who, since when, and the cure."""


def inside(folder: Path) -> Path:
  """The file that stands for a folder that is worked in."""
  return folder / INSIDE


def beside(output: Path) -> Path:
  """The file that stands for an output that may not be there before all is done."""
  return output.with_name(f'.{output.name}{INSIDE}')


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
  """Holds the lock in the file `path`: `inside` or `beside` a place. what: the place, in the words of a flag.

  Files that a killed process left unfinished at the place are deleted.
  Raises InUseError where another process, or another part of this one, holds it; DiskError where the file cannot be
  made, and where the folder it is `inside` is removed meanwhile. Where the disk knows no locks, the log says so, and
  nothing is held.
  """
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, held = _taken(path, what)
  except OSError as error:
    raise disk_error(error, path, 'written') from error
  try:
    if held:
      remove_left_over(path.parent, of='' if path.name == INSIDE else path.name[1 : -len(INSIDE)])
    with kept(path.parent) if path.name == INSIDE else contextlib.nullcontext():
      yield
  finally:
    if path.name != INSIDE:  # one beside an output goes with the work; while it is held, so that nobody waits at it
      with contextlib.suppress(OSError):
        path.unlink()
    os.close(descriptor)


def _taken(path, what):
  """The open file, locked and with our name in it, and whether the disk knows locks."""
  while True:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
      held = _lock(descriptor, path, what)
      if not held or is_at(descriptor, path):  # else it was deleted by who held it before: there is another one now
        if held:
          _sign(descriptor)
        return descriptor, held
    except BaseException:
      os.close(descriptor)
      raise
    os.close(descriptor)


def _lock(descriptor, path, what):
  """Whether the lock is held; False where the disk knows none."""
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
    if error.errno in _TAKEN:
      raise InUseError(f'{what} is in use {_holder(descriptor)}: wait until it ends, or name another place.') from None
    if error.errno not in _UNKNOWN:
      raise
    _LOG.warning('%s: this disk knows no locks (%s); see to it that one run alone works there', what, error.strerror)
    return False
  return True


def _sign(descriptor):
  """Says who has the lock. A full disk does not keep anybody from having it."""
  command = ' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:300]
  text = {'host': socket.gethostname(), 'process': os.getpid(), 'since': time.strftime('%Y-%m-%d %H:%M:%S %z')}
  with contextlib.suppress(OSError):
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(text | {'command': command}).encode(), 0)


def _holder(descriptor):
  try:
    note = json.loads(os.pread(descriptor, 4096, 0))
    return f'by process {note["process"]} on {note["host"]} since {note["since"]}'
  except (OSError, ValueError, KeyError, TypeError, RecursionError):  # just being written, or cut
    return 'by another process'
