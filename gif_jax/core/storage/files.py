"""The one way to write files and folders: complete or not at all, also where the disk is full; and JSON read back.

A file is written under another name, brought to the disk and renamed. What goes wrong on the way is a DiskError that
names the file, and leaves what was there before.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gif_jax.core.errors import ConfigError, DiskError, UserError, cure, disk_error, reason, removed

PARTIAL = '.partial'  # what names of unfinished files end in; they begin with a dot
_LARGEST_JSON = 1 << 28  # bytes; large data sets are described in less
_CHECKSUM = 'checksum'  # key of a JSON object


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
  """Raises DiskError, naming `path` and the cure, where the disk refuses."""
  try:
    yield
  except OSError as error:
    raise disk_error(error, path, 'written') from error


def make_writable(flag: str, folder: Path) -> None:
  """Makes the folder that --FLAG names, and a file in it: hours of work must not end in an error about permissions.

  Raises ConfigError where that cannot be done.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
      file.write(b'x')
  except OSError as error:
    raise ConfigError(f'--{flag}={folder} cannot be written to ({reason(error)}): {cure(error)}.') from error


def _beside(path: Path) -> Path:
  """The name of `path` while it is not finished; processes do not share one."""
  return path.with_name(f'.{path.name}.{os.getpid()}{PARTIAL}')


@contextlib.contextmanager
def replacing(path: str | Path, *, sync: bool = True) -> Iterator[Path]:
  """A temporary path beside `path` that takes its name when the block ends well, and vanishes when it does not.

  sync: whether the content is on the disk before it has the name, so that it is complete after a power cut too.
  Raises DiskError.
  """
  path = Path(path)
  temporary = _beside(path)
  with writing(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
      yield temporary
      if sync:
        _to_disk(temporary)
      os.replace(temporary, path)
    finally:
      with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
    if sync:
      _to_disk(path.parent)


@contextlib.contextmanager
def replacing_folder(path: str | Path, *, replace: bool = False) -> Iterator[Path]:
  """The same for a folder: an empty one to fill, which becomes `path`. replace: whether one that is there gives way.

  Raises DiskError, also where `path` is there and does not give way.
  """
  path = Path(path)
  temporary = _beside(path)
  with writing(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    remove(temporary)  # of a process of the same number that was killed
    temporary.mkdir()
    try:
      yield temporary
      move_folder(temporary, path, replace=replace)
    except DiskError as error:  # of a file in it, whose name nobody knows
      raise DiskError(str(error).replace(str(temporary), str(path))) from error
    finally:
      remove(temporary)


def is_at(descriptor: int, path: Path) -> bool:
  """Whether an open file or folder still is what has that name."""
  try:
    return os.path.samestat(os.fstat(descriptor), os.stat(path))
  except FileNotFoundError:
    return False


@contextlib.contextmanager
def kept(folder: Path) -> Iterator[None]:
  """Raises DiskError where somebody removes the folder meanwhile, also for what libraries say of it in their words."""
  descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)  # open, so that no new folder gets the number of this one
  try:
    yield
  except UserError:
    raise
  except Exception as error:
    if is_at(descriptor, folder):
      raise
    raise removed(folder) from error
  else:
    if not is_at(descriptor, folder):
      raise removed(folder)
  finally:
    os.close(descriptor)


def move_file(source: Path, target: Path) -> None:
  """Gives a finished file its name, once it is on the disk. Raises DiskError."""
  with writing(target):
    _to_disk(source)
    os.replace(source, target)
    _to_disk(target.parent)


def move_folder(source: Path, target: Path, *, replace: bool = False) -> None:
  """Gives a finished folder its name. replace: whether one that is there gives way. Raises DiskError."""
  old = target.with_name(f'.{target.name}.replaced')
  with writing(target):
    for root, _, files in os.walk(source):
      for name in files:
        _to_disk(Path(root) / name)
      _to_disk(Path(root))
    if old.exists() and not target.exists():  # of a process that was killed between the two names
      os.rename(old, target)
    if target.exists():
      if not replace:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
      remove(old)
      os.rename(target, old)
    try:
      os.rename(source, target)
    except OSError:
      if old.exists():
        os.rename(old, target)
      raise
    _to_disk(target.parent)
    remove(old)


def _to_disk(path: Path) -> None:
  """Waits until a file, or the names in a folder, are on the disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  except OSError as error:
    if not path.is_dir():  # some network disks know nothing to wait for in a folder
      raise error
  finally:
    os.close(descriptor)


def remove(path: Path) -> None:
  """Deletes a file or a folder, if it is there, as far as it can be."""
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path, ignore_errors=True)
  else:
    with contextlib.suppress(OSError):
      path.unlink(missing_ok=True)


def remove_left_over(folder: Path, *, of: str = '', deep: bool = False) -> None:
  """Deletes what killed processes left unfinished right in a folder, or at any depth of it; of: this name alone.

  To be called by whoever holds the lock. Raises DiskError.
  """
  name = re.compile(rf'\.{re.escape(of)}\.\d+{re.escape(PARTIAL)}' if of else '')
  with writing(folder):
    for path in folder.rglob(f'.*{PARTIAL}') if deep else folder.glob(f'.*{PARTIAL}'):
      if name.match(path.name):
        remove(path)


def set_aside(path: Path) -> Path:
  """Renames what is damaged to NAME.damaged (or NAME.damaged-2 ...), for people to look at; returns the new path."""
  numbers = iter(range(2, 1 << 20))
  aside = path.with_name(f'{path.name}.damaged')
  while aside.exists():
    aside = path.with_name(f'{path.name}.damaged-{next(numbers)}')
  with writing(path):
    os.rename(path, aside)
  return aside


def write_bytes(path: str | Path, content: bytes, *, sync: bool = True) -> None:
  """Writes bytes; sync as for `replacing`."""
  with replacing(path, sync=sync) as temporary, open(temporary, 'wb') as file:
    file.write(content)


def write_text(path: str | Path, text: str) -> None:
  """Writes `text` as UTF-8; names of files that are no Unicode keep their bytes."""
  write_bytes(path, text.encode('utf-8', 'surrogateescape'))


def write_json(path: str | Path, content: Mapping[str, Any], *, checksum: bool = False) -> None:
  """Writes `content` as JSON, a list of numbers a line.

  Arrays become lists, named tuples become objects, and what JSON cannot say (NaN, infinities) becomes null.
  checksum: for files that are read back: one of the content is added, which `read_json` checks.
  """
  converted = plain(content)
  text = json.dumps(sealed(converted) if checksum else converted, indent=2, allow_nan=False)
  # A line break after a bracket is never part of a string, where it would be \n.
  text = re.sub(r'\[\n([^][{}"]*)\]', lambda numbers: f'[{" ".join(numbers[1].split())}]', text)
  write_text(path, text + '\n')


def plain(value: Any) -> Any:
  """A value as JSON has it."""
  if hasattr(value, '_asdict'):
    value = value._asdict()
  if isinstance(value, Mapping):
    return {str(key): plain(item) for key, item in value.items()}
  if hasattr(value, 'tolist'):  # NumPy and JAX arrays and scalars
    return plain(value.tolist())
  if isinstance(value, list | tuple):
    return [plain(item) for item in value]
  return None if isinstance(value, float) and not math.isfinite(value) else value


def sealed(content: dict) -> dict:
  """A JSON object with a checksum of the rest of it. Raises ValueError for one that has something of that name."""
  if _CHECKSUM in content:
    raise ValueError(f'{_CHECKSUM!r} is taken')
  return content | {_CHECKSUM: _digest(content)}


def opened(content: dict) -> dict:
  """The object that `sealed` was given. Raises ValueError where it is not as it was; one without a checksum passes."""
  for key, value in content.items():
    rest = {other: content[other] for other in content if other != key}
    if key == _CHECKSUM:
      if value != _digest(rest):
        raise ValueError('its content does not match its checksum')
      return rest
    if isinstance(value, str) and len(value) == 64 and value == _digest(rest):
      raise ValueError(f'its checksum is called {key!r}')
  return content


def _digest(content):
  text = json.dumps(content, sort_keys=True, separators=(',', ':'))
  return hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()


def read_json(path: str | Path, error: type[UserError], fix: str) -> dict:
  """The object in a JSON file, whose checksum is checked where it has one.

  Raises `error` with the file, what is wrong with it, and `fix`, the cure: it is missing, too large, no JSON object,
  nested too deeply, or not as it was written.
  """
  path = Path(path)
  try:
    if path.stat().st_size > _LARGEST_JSON:
      raise ValueError(f'it has more than {_LARGEST_JSON} bytes')
    content = json.loads(path.read_bytes().decode('utf-8-sig'))
    if not isinstance(content, dict):
      raise ValueError(f'it holds a {type(content).__name__}, no object')
    return opened(content)
  except OSError as problem:
    raise error(f'{path} cannot be read ({reason(problem)}): {fix}.') from problem
  except (ValueError, RecursionError) as problem:
    raise error(f'{path} is damaged ({str(problem)[:200]}): {fix}.') from problem
