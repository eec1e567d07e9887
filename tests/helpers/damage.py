"""Files that are damaged bit by bit, disks that are full, and how long to fuzz: FUZZ=EXAMPLES."""

import contextlib
import errno
import itertools
import os
import resource

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from gif_jax.core.errors import UserError

FUZZ = settings(
  max_examples=int(os.environ.get('FUZZ', 100)),
  deadline=None,
  derandomize='FUZZ' not in os.environ,
  database=None,
  suppress_health_check=list(HealthCheck),
)


class OtherError(UserError):
  pass


def flip(path, bit):
  """Changes one bit of a file."""
  with open(path, 'r+b') as file:
    file.seek(bit // 8)
    byte = file.read(1)[0] ^ 1 << bit % 8
    file.seek(bit // 8)
    file.write(bytes([byte]))


def changed(content, data):
  """Bytes of which some are changed, left out or put in, or none are; data: of Hypothesis."""
  for _ in range(data.draw(st.integers(0, 3))):
    place, put = data.draw(st.integers(0, len(content))), data.draw(st.binary(max_size=4))
    content = content[:place] + put + content[place + data.draw(st.just(len(put)) | st.integers(0, 9)) :]
  return content


def each_flip(path, step=1):
  """Changes one bit of a file after the other, and back; yields what was changed, while it is."""
  for bit in range(0, 8 * path.stat().st_size, step):
    flip(path, bit)
    yield f'bit {bit % 8} of byte {bit // 8}'
    flip(path, bit)


@contextlib.contextmanager
def refused(module, name, at=1):
  """Lets the so many-th call of a function, such as os.rename, find the disk full."""
  function, calls = getattr(module, name), itertools.count(1)

  def refusing(*arguments, **keywords):
    if next(calls) == at:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return function(*arguments, **keywords)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(module, name, refusing)
    yield


@contextlib.contextmanager
def small_disk(size):
  """No file may have more than `size` bytes: what a disk does that is full, for this process alone."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder):
  """{path below `folder`: its bytes} of all files."""
  return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}
