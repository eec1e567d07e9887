"""Checksums of what is read back: nothing that a disk or a copy has damaged is used.

An array has its SHA-256 behind its data (`core.storage.arrays`), a JSON file in a key of its own
(`core.storage.files`). A folder that a library writes gets SHA256SUMS, which `sha256sum -c SHA256SUMS` checks too.
"""

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gif_jax.core.errors import disk_error, reason

SUMS = 'SHA256SUMS'
_OF_FILES = (errno.EISDIR, errno.ENOTDIR, errno.EIO, errno.ELOOP)
_THREADS = 8  # files hashed at a time: hashing leaves the interpreter's lock to others


def sha256(path: str | Path) -> str:
  """Of a file's bytes, in hexadecimal."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _files(folder: Path, left_out: Collection[str]) -> list[str]:
  """All files below a folder, by their paths below it, sorted."""
  names = (os.path.relpath(os.path.join(root, name), folder) for root, _, files in os.walk(folder) for name in files)
  return sorted(name for name in names if name not in left_out)


def folder_sums(folder: Path, left_out: Collection[str] = (), others: Collection[Path] = ()) -> str:
  """The text of SHA256SUMS for a folder: a line for every file in it, but for those `left_out`.

  others: folders with SHA256SUMS of their own. A file that is linked to one of theirs is not read again.
  """
  names = _files(folder, {SUMS, *left_out})
  linked = {name: (folder / name).stat() for name in names}
  known = _known(others) if any(status.st_nlink > 1 for status in linked.values()) else {}

  def digest(name):
    status = linked[name]
    return known.get((status.st_dev, status.st_ino)) or sha256(folder / name)

  with ThreadPoolExecutor(_THREADS) as pool:
    digests = pool.map(digest, names)
  return ''.join(f'{digest}  {name}\n' for digest, name in zip(digests, names))


def _known(folders: Collection[Path]) -> dict[tuple[int, int], str]:
  """(device, inode) -> the checksum that a folder has of that file."""
  known = {}
  for folder in folders:
    with contextlib.suppress(OSError, ValueError):  # no checksums, or damaged ones: files are read then
      for line in (folder / SUMS).read_text().splitlines():
        digest, name = line.split('  ', 1)
        with contextlib.suppress(FileNotFoundError):
          status = (folder / name).stat()
          known[status.st_dev, status.st_ino] = digest
  return known


def write_sums(folder: Path, left_out: Collection[str] = (), others: Collection[Path] = ()) -> None:
  """Writes SHA256SUMS into a folder that is not in use yet; arguments as of `folder_sums`. Raises OSError."""
  (folder / SUMS).write_text(folder_sums(folder, left_out, others))


def fault(
  folder: Path,
  left_out: Collection[str] = (),
  part: int = 0,
  parts: int = 1,
  wanted: Callable[[str], bool] | None = None,
) -> str:
  """What is wrong with a folder that has SHA256SUMS: the first file that is missing or not as it was written, or ''.

  left_out: as when the checksums were written; part, parts: which share of the files is looked at, so that several
  processes divide them; wanted: which files at all, None: all. Hidden files are nobody's business. A folder without
  SHA256SUMS has no fault that could be seen. Raises DiskError where the disk, and not the folder, is what is wrong.
  """
  sums = folder / SUMS
  if not sums.exists():
    return ''
  try:
    lines = [line.split('  ', 1) for line in sums.read_text().splitlines()]
  except (ValueError, IsADirectoryError):
    lines = []
  except OSError as error:
    raise disk_error(error, sums, 'read') from error
  if not lines or any(len(line) != 2 or len(line[0]) != 64 for line in lines):
    return f'{SUMS} is damaged'
  listed = {name for _, name in lines}
  others = [name for name in _files(folder, {SUMS, *left_out}) if not os.path.basename(name).startswith('.')]
  if unlisted := next((name for name in others if name not in listed), None):
    return f'{SUMS} does not list {unlisted}'
  chosen = [line for line in lines if wanted is None or wanted(line[1])][part::parts]
  with ThreadPoolExecutor(_THREADS) as pool:
    return next(filter(None, pool.map(lambda line: _fault_of(folder, *line), chosen)), '')


def _fault_of(folder, digest, name):
  try:
    actual = sha256(folder / name)
  except FileNotFoundError:
    return f'{name} is missing'
  except OSError as error:
    if error.errno not in _OF_FILES:  # the disk is away, or too many files are open: that says nothing of this file
      raise disk_error(error, folder / name, 'read') from error
    return f'{name} cannot be read ({reason(error)})'
  return '' if actual == digest else f'{name} is not as it was written'
