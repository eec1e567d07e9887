"""What a user can cure ends in one line that says how, whatever it holds; what is a bug is left alone."""

import ast
import errno
import importlib
import os
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gif_jax
from gif_jax.core import errors
from gif_jax.core.errors import DataError, DiskError, UserError, disk_error, explain, of_disk, one_line
from tests.helpers.damage import FUZZ

PACKAGE = Path(gif_jax.__file__).parent
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), '/data/faces')


def _error_classes():
  for path in sorted(PACKAGE.rglob('*.py')):
    module = '.'.join(path.relative_to(PACKAGE.parent).with_suffix('').parts).removesuffix('.__init__')
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.ClassDef) and node.name.endswith('Error') and not node.name.startswith('_'):
        yield module, node.name


@pytest.mark.parametrize(('module', 'name'), list(_error_classes()))
def test_every_error_is_one_that_a_user_can_cure(module, name):
  cls = getattr(importlib.import_module(module), name)
  assert issubclass(cls, UserError) and not issubclass(cls, ValueError | OSError)
  assert explain(cls('what, where, cure')) == f'{name}: what, where, cure'


@pytest.mark.slow
def test_all_of_them_are_found():
  found = {name for _, name in _error_classes()}
  assert found >= {'UserError', 'ConfigError', 'DataError', 'UnreadableError', 'DiskError', 'InUseError'}


@pytest.mark.parametrize(
  ('error', 'line'),
  [
    (DataError('a.npy is\r\ncut:\x1b[2J copy it'), 'DataError: a.npy is cut:\\x1b[2J copy it'),
    (
      FULL,
      'DiskError: /data/faces: No space left on device; make room, then give the same command again; it goes on '
      'from what is saved.',
    ),
    (
      OSError(errno.ENOSPC, 'No space left on device'),
      'DiskError: No space left on device; make room, then give the same command again; it goes on from what is saved.',
    ),
    (
      FileNotFoundError(errno.ENOENT, 'No such file or directory', 'a\nb'),
      'DiskError: a b: No such file or directory; check the spelling, and that the disk is mounted.',
    ),
    (
      PermissionError(errno.EACCES, 'Permission denied', 'a\udcff'),
      'DiskError: a\\udcff: Permission denied; correct the permissions (chmod, chown), or name another place.',
    ),
    (OSError('some library\nspeaks'), 'DiskError: some library speaks; look at the disk.'),
    (OSError(), 'DiskError: OSError; look at the disk.'),
    (BrokenPipeError(errno.EPIPE, 'Broken pipe'), 'Stopped: whoever read what this command prints is gone.'),
    (KeyboardInterrupt(), 'Stopped: what was written is whole, and the same command goes on from what is saved.'),
    (MemoryError(), 'MemoryError: there is too little memory.'),
    (MemoryError('Unable to\nallocate 1 TiB'), 'MemoryError: there is too little memory: Unable to allocate 1 TiB.'),
    (
      BrokenProcessPool('A process was terminated abruptly'),
      'DataError: a worker process was killed, for want of memory perhaps; give the same command again to go on.',
    ),
  ],
)
def test_one_line_that_says_what_to_do(error, line):
  assert explain(error) == line


@pytest.mark.parametrize(
  'bug',
  [
    ValueError('x'),
    KeyError('x'),
    AssertionError(),
    TypeError(),
    IndexError(),
    AttributeError(),
    RuntimeError(),
    ZeroDivisionError(),
    UnicodeDecodeError('utf-8', b'\xff', 0, 1, 'x'),
    RecursionError(),
    SystemExit(2),
    ExceptionGroup('x', [ValueError('x')]),
  ],
)
def test_a_bug_has_no_line(bug):
  assert explain(bug) is None


ANY_TEXT = st.text(st.characters() | st.sampled_from('\r\n\t\0\x1b\x7f\x85\u2028\u2029\u202e\ud800\udcff\\ '))


@FUZZ
@given(ANY_TEXT)
def test_a_line_is_one_line_whatever_is_in_it(text):
  line = one_line(text)
  assert line.isprintable() and len(line.splitlines()) <= 1
  line.encode()  # no lone surrogates
  assert one_line(line) == line
  if text.isprintable() and text.split(' ') == text.split():
    assert line == text


@FUZZ
@given(ANY_TEXT, st.sampled_from([*errors._CURES, None, 0, 9999]))
def test_every_line_of_explain_is_one_line(text, number):
  system = OSError(number, text, text)
  for error in (DataError(text), system, OSError(text), MemoryError(text), disk_error(system, text, 'written')):
    assert explain(error).isprintable()


@pytest.mark.parametrize('number', errors._CURES)
def test_every_error_of_the_system_has_its_cure(number):
  error = disk_error(OSError(number, os.strerror(number)), '/data/faces', 'written')
  assert isinstance(error, DiskError)
  assert str(error) == f'/data/faces cannot be written ({os.strerror(number)}): {errors._CURES[number]}.'


def _chained(error, cause, explicit):
  try:
    try:
      raise cause
    except BaseException:
      if explicit:
        raise error from cause
      raise error  # noqa: B904  what is tested
  except BaseException as raised:
    return raised


@pytest.mark.parametrize('explicit', [True, False])
def test_what_a_disk_did_is_found_behind_other_errors(explicit):
  error = _chained(RuntimeError('the second'), _chained(ValueError('the first'), FULL, explicit), explicit)
  assert of_disk(error) is FULL
  assert of_disk(ExceptionGroup('several', [KeyError('x'), ExceptionGroup('more', [error])])) is FULL
  assert of_disk(FULL) is FULL


def test_what_a_disk_did_is_found_in_the_words_of_a_library():
  error = of_disk(_chained(RuntimeError('failed'), ValueError('INTERNAL: a/b: No space left on device [x]'), True))
  assert error.errno == errno.ENOSPC and 'No space left on device; make room' in explain(error)


def test_what_no_disk_did_is_left_alone():
  error, other = ValueError('x'), KeyError('y')
  error.__cause__, other.__cause__ = other, error  # a ring ends too
  assert of_disk(error) is None
  assert of_disk(ExceptionGroup('several', [error, other])) is None


def test_a_device_without_memory_is_one_line():
  error = type('JaxRuntimeError', (RuntimeError,), {})
  line = errors.explain(error('RESOURCE_EXHAUSTED: Out of memory allocating 437487175488 bytes.\nmore\nand more'))
  assert '437487175488 bytes' in line and 'config.train.batch_size' in line and '\n' not in line
  assert errors.explain(error('INTERNAL: a bug')) is None
