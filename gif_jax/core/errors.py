"""Errors that a user can cure: one base class, and the one line with which every command ends for them."""

import errno
import os

from gif_jax.core.texts import one_line

_AGAIN = 'give the same command again; it goes on from what is saved'
_GONE = f'check that the disk is there and mounted, then {_AGAIN}'
_DENIED = 'correct the permissions (chmod, chown), or name another place'
_FILES = 'too many files are open: raise the limit with `ulimit -n 4096`'
_CURES = {
  errno.ENOSPC: f'make room, then {_AGAIN}',
  errno.EDQUOT: f'make room within the quota, then {_AGAIN}',
  errno.EFBIG: f'raise the limit on the size of files (`ulimit -f unlimited`), then {_AGAIN}',
  errno.EROFS: 'the disk is mounted for reading alone: mount it for writing, or name another place',
  errno.EACCES: _DENIED,
  errno.EPERM: _DENIED,
  errno.EMFILE: _FILES,
  errno.ENFILE: _FILES,
  errno.ENOENT: 'check the spelling, and that the disk is mounted',
  errno.ENOTDIR: 'a part of the path is a file where a folder is needed: name another place',
  errno.EISDIR: 'it is a folder where a file is needed: name another place',
  errno.EEXIST: 'something of that name is in the way: move it, or name another place',
  errno.ENAMETOOLONG: 'give a shorter name',
  errno.ELOOP: 'links lead round in a circle: remove one of them',
  errno.ENOTEMPTY: 'another process writes there: wait for it, or name another place',
} | dict.fromkeys((errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN), _GONE)


class UserError(Exception):
  """What a user can cure. The message is one line: what is wrong, which file or key, the cure.

  Every error that is raised on purpose for such a reason derives from this class; all else is a bug, shown with its
  traceback. No ValueError on purpose, so that `except ValueError` around a library's call does not take it for that
  library's.
  """


class ConfigError(UserError):
  """A setting that cannot work; the message names the key and the cure."""


class DataError(UserError):
  """Data that cannot be used; the message names the file or folder and the cure."""


class UnreadableError(UserError):
  """One file that is no image that can be decoded; the message is the reason alone."""


class DiskError(UserError):
  """A disk that is full, read-only or gone, too few file descriptors; the message names the path and the cure."""


def reason(error: OSError) -> str:
  """What the system says is wrong, without number and path."""
  return error.strerror or str(error) or type(error).__name__


def cure(error: OSError) -> str:
  """What to do about an error of the system."""
  return _CURES.get(error.errno or 0, 'look at the disk')


def disk_error(error: OSError, path: str | os.PathLike[str], verb: str) -> DiskError:
  """The DiskError for `error` at `path`; verb: what could not be done with it, such as 'written'."""
  return DiskError(f'{path} cannot be {verb} ({reason(error)}): {cure(error)}.')


def removed(path: str | os.PathLike[str]) -> DiskError:
  """For what somebody has taken away from whoever writes to it."""
  return DiskError(
    f'{path} was removed while it was written to: see that the disk is there and that nobody else works in it, then '
    'give the same command again.'
  )


def of_disk(error: BaseException) -> OSError | None:
  """The error of the system behind what a library raised in its own words; None where there is none.

  Errors that it chains, and groups, are looked through too.
  """
  seen = set()
  queue: list[BaseException | None] = [error]
  while queue:
    raised = queue.pop()
    if raised is None or id(raised) in seen:
      continue
    seen.add(id(raised))
    if isinstance(raised, OSError):
      return raised
    number = next((number for number in _CURES if os.strerror(number) in str(raised)), None)
    if number is not None:
      return OSError(number, os.strerror(number))
    behind = raised.__cause__ if raised.__suppress_context__ else raised.__context__
    queue += [behind, *getattr(raised, 'exceptions', ())]
  return None


def explain(error: BaseException) -> str | None:
  """The line with which a command ends for an error that a user can cure; None for a bug."""
  if isinstance(error, UserError):
    return one_line(f'{type(error).__name__}: {error}')
  if isinstance(error, KeyboardInterrupt):
    return 'Stopped: what was written is whole, and the same command goes on from what is saved.'
  if isinstance(error, BrokenPipeError):
    return 'Stopped: whoever read what this command prints is gone.'
  if isinstance(error, OSError):
    where = f'{error.filename}: ' if error.filename is not None else ''
    return one_line(f'{DiskError.__name__}: {where}{reason(error)}; {cure(error)}.')
  if isinstance(error, MemoryError):
    return f'MemoryError: there is too little memory{": " + one_line(str(error)) if str(error) else ""}.'
  if 'RESOURCE_EXHAUSTED' in str(error) and type(error).__name__.endswith('RuntimeError'):  # XLA's
    return one_line(
      f'MemoryError: a device has too little memory ({str(error).partition(chr(10))[0][:120]}): lower '
      'config.train.batch_size, or raise config.train.accumulate; of python -m gif_jax evaluate, lower --batch_size.'
    )
  if type(error).__name__ == 'BrokenProcessPool':  # its module takes a tenth of a second to import
    return 'DataError: a worker process was killed, for want of memory perhaps; give the same command again to go on.'
  return None
