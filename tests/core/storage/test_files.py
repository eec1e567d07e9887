"""Files appear whole or not at all, and JSON is what every reader of JSON takes; damage to it is noticed."""

import builtins
import contextlib
import json
import os
from types import MappingProxyType, SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gif_jax.core.errors import ConfigError, DiskError
from gif_jax.core.storage import arrays, files
from gif_jax.core.storage.files import read_json, replacing, replacing_folder, write_bytes, write_json, write_text
from tests.helpers.damage import FUZZ, OtherError, changed, contents, each_flip, refused, small_disk

VALUES = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
  lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
  max_leaves=12,
)
OBJECTS = st.dictionaries(st.text().filter(lambda key: key != 'checksum'), VALUES, max_size=5)
WRITERS = {
  'bytes': lambda path: write_bytes(path, b'\0' * 1000),
  'text': lambda path: write_text(path, 'new' * 1000),
  'JSON': lambda path: write_json(path, {'new': list(range(1000))}, checksum=True),
}
EVERY_WRITER = pytest.mark.parametrize('write', WRITERS.values(), ids=WRITERS)


class Pair(NamedTuple):
  first: int
  second: np.ndarray


@pytest.fixture
def hasty(monkeypatch):
  """Waits for no disk: many files are written."""
  monkeypatch.setattr(os, 'fsync', lambda _: None)


def test_json_round_trip(tmp_path):
  content = {
    'a': np.float32(0.5),
    'b': np.arange(3),
    'c': [np.inf, {'d': float('nan')}],
    0.1: True,
    'e': 'text',
    'f': Pair(1, np.zeros((2, 2))),
    'g': MappingProxyType({'h': np.bool_(True)}),
    'i': [],
    'j': ['[\n1, 2]', '"[', '\ud800'],
  }
  write_json(tmp_path / 'deep' / 'summary.json', content)
  assert json.loads((tmp_path / 'deep' / 'summary.json').read_text()) == {
    'a': 0.5,
    'b': [0, 1, 2],
    'c': [None, {'d': None}],
    '0.1': True,
    'e': 'text',
    'f': {'first': 1, 'second': [[0, 0], [0, 0]]},
    'g': {'h': True},
    'i': [],
    'j': ['[\n1, 2]', '"[', '\ud800'],
  }


def test_a_list_of_numbers_takes_one_line(tmp_path):
  write_json(tmp_path / 'a.json', {'a': [1, 2.5, None], 'b': [[1, 2], [3, 4]]})
  assert '  "a": [1, 2.5, null],\n' in (tmp_path / 'a.json').read_text()
  assert len((tmp_path / 'a.json').read_text().splitlines()) == 7


def test_what_json_cannot_say_leaves_the_old_file_and_nothing_else(tmp_path):
  write_json(tmp_path / 'summary.json', {'a': 1})
  before = contents(tmp_path)
  with pytest.raises(TypeError):
    write_json(tmp_path / 'summary.json', {'a': SimpleNamespace()})
  assert contents(tmp_path) == before


def test_text_is_utf8(tmp_path):
  write_text(tmp_path / 'a.md', 'Zoë — 陈 \udcff\n')
  assert (tmp_path / 'a.md').read_bytes() == 'Zoë — 陈 '.encode() + b'\xff\n'


@EVERY_WRITER
@pytest.mark.parametrize(('module', 'name'), [(builtins, 'open'), (os, 'replace'), (os, 'fsync'), (os, 'open')])
@pytest.mark.parametrize('old', [{}, {'a': b'old'}])
def test_a_disk_that_refuses_leaves_the_old_file_and_nothing_else(tmp_path, write, module, name, old):
  for file, text in old.items():
    (tmp_path / file).write_bytes(text)
  with (
    refused(module, name),
    pytest.raises(DiskError, match=f'{tmp_path}/a cannot be written .No space left on device.: make room'),
  ):
    write(tmp_path / 'a')
  assert contents(tmp_path) == old


@EVERY_WRITER
def test_a_file_that_does_not_fit_leaves_the_old_one_and_nothing_else(tmp_path, write):
  (tmp_path / 'a').write_bytes(b'old')
  with small_disk(100), pytest.raises(DiskError, match=f'{tmp_path}/a cannot be written .File too large.: raise the'):
    write(tmp_path / 'a')
  assert contents(tmp_path) == {'a': b'old'}


@EVERY_WRITER
def test_a_place_where_no_file_can_be(tmp_path, write):
  (tmp_path / 'file').write_text('old')
  (tmp_path / 'folder').mkdir()
  for place in (tmp_path / 'file' / 'a', tmp_path / 'folder', tmp_path / ('long' * 100)):
    with pytest.raises(DiskError, match=f'{place} cannot be written .*(move it|name another place|shorter name)'):
      write(place)
  assert contents(tmp_path) == {'file': b'old'} and not list((tmp_path / 'folder').iterdir())


@pytest.mark.parametrize('error', [KeyError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_what_was_there_and_nothing_else(tmp_path, error):
  write_text(tmp_path / 'a', 'old')
  write_text(tmp_path / 'b' / 'x', 'old')
  before = contents(tmp_path)
  with pytest.raises(error), replacing(tmp_path / 'a') as temporary:
    temporary.write_text('half')
    raise error
  for replace in (False, True):
    with pytest.raises(error), replacing_folder(tmp_path / 'b', replace=replace) as temporary:
      (temporary / 'x').write_text('half')
      raise error
  assert contents(tmp_path) == before


def _write_folder(path, **how):
  with replacing_folder(path, **how) as temporary:
    (temporary / 'y').write_text('new')


def test_a_folder_gives_way_when_told_to(tmp_path):
  _write_folder(tmp_path / 'a' / 'b')
  (tmp_path / 'a' / 'b' / 'x').write_text('old')
  before = contents(tmp_path)
  with pytest.raises(DiskError, match=f'{tmp_path}/a/b cannot be written'):
    _write_folder(tmp_path / 'a' / 'b')
  assert contents(tmp_path) == before
  _write_folder(tmp_path / 'a' / 'b', replace=True)
  assert contents(tmp_path) == {'a/b/y': b'new'} and os.listdir(tmp_path / 'a') == ['b']


@pytest.mark.parametrize(
  ('name', 'at', 'replace'),
  [(name, 1, replace) for name in ('fsync', 'open', 'rename') for replace in (False, True)] + [('rename', 2, True)],
)
def test_a_disk_that_refuses_leaves_the_old_folder_and_nothing_else(tmp_path, name, at, replace):
  if replace:
    write_text(tmp_path / 'a' / 'x', 'old')
  before = contents(tmp_path)
  with refused(os, name, at), pytest.raises(DiskError, match=f'{tmp_path}/a cannot be written .No space left'):
    _write_folder(tmp_path / 'a', replace=replace)
  assert contents(tmp_path) == before and os.listdir(tmp_path) == ['a'] * replace


@pytest.mark.slow
@FUZZ
@given(content=OBJECTS, checksum=st.booleans())
def test_any_object_is_read_as_it_was_written(tmp_path, hasty, content, checksum):
  write_json(tmp_path / 'a.json', content, checksum=checksum)
  found = read_json(tmp_path / 'a.json', OtherError, 'make it again')
  assert json.dumps(found) == json.dumps(content)  # types and order too
  assert files.opened(files.sealed(content)) == files.opened(content) == content


def test_any_flipped_bit_is_noticed_or_changes_nothing(tmp_path):
  path, content = tmp_path / 'a.json', {'a': [1, 2.5e7, None], 'b': {'c': 'Zoë\n', 'd': True}}
  write_json(path, content, checksum=True)
  unnoticed = []
  for _ in each_flip(path):
    try:
      if (found := read_json(path, OtherError, 'make it again')) != content:
        unnoticed.append(list(found))
    except OtherError as error:
      assert str(error).startswith(f'{path} is damaged (') and str(error).endswith('): make it again.')
  assert not unnoticed


@pytest.mark.parametrize(
  'damaged',
  [
    b'',
    b'[1]',
    b'1',
    b'null',
    b'"a"',
    b'{"a": 1',
    b'{"a": 1} {}',
    b'\xff\xfe{}',
    b'{"a": "\xff"}',
    b'\0' * 100,
    b'[' * 100_000,
    b'{"a":' * 100_000,
    b'{"a": ' + b'1' * 5000 + b'}',
    b'{"a": 1, "checksum": ""}',
    b'{"checksum": []}',
  ],
)
def test_what_is_no_object_of_json_is_refused(tmp_path, damaged):
  (tmp_path / 'a.json').write_bytes(damaged)
  with pytest.raises(OtherError, match=f'^{tmp_path}/a.json is damaged (?s:.*): make it again.$') as raised:
    read_json(tmp_path / 'a.json', OtherError, 'make it again')
  assert len(str(raised.value)) < 1000


def test_what_is_no_file_or_too_large_is_refused(tmp_path):
  write_json(tmp_path / 'large.json', {})
  os.truncate(tmp_path / 'large.json', files._LARGEST_JSON + 1)
  for place, why in [('none', 'No such'), ('', 'Is a'), ('large.json/a', 'Not a'), ('large.json', 'it has more than')]:
    with pytest.raises(OtherError, match=rf'^{tmp_path / place} (cannot be read|is damaged) \({why}.*: make it again'):
      read_json(tmp_path / place, OtherError, 'make it again')


@pytest.mark.slow
@FUZZ
@given(st.binary() | st.builds(lambda value: json.dumps(value).encode('utf-8-sig'), OBJECTS), st.data())
def test_any_bytes_are_an_object_or_refused(tmp_path, found, data):
  (tmp_path / 'a.json').write_bytes(changed(found, data))
  with contextlib.suppress(OtherError):
    assert isinstance(read_json(tmp_path / 'a.json', OtherError, 'make it again'), dict)


def test_what_is_damaged_is_set_aside_under_a_name_of_its_own(tmp_path):
  for number in range(3):
    write_text(tmp_path / 'a.json', str(number))
    files.set_aside(tmp_path / 'a.json')
  assert contents(tmp_path) == {'a.json.damaged': b'0', 'a.json.damaged-2': b'1', 'a.json.damaged-3': b'2'}
  (tmp_path / 'b').mkdir()
  assert files.set_aside(tmp_path / 'b') == tmp_path / 'b.damaged'
  with pytest.raises(DiskError, match=f'{tmp_path}/b cannot be written .No such file'):
    files.set_aside(tmp_path / 'b')


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
  kept = ['a', '.a', 'a.1.partial', '.a.partial.npy', 'b/.a.1.partial']
  for name in [*kept, '.a.1.partial', '.a.npy.22.partial', '.folder.1.partial/x']:
    write_text(tmp_path / name, 'x')
  files.remove_left_over(tmp_path, of='a')
  assert sorted(contents(tmp_path)) == sorted([*kept, '.a.npy.22.partial', '.folder.1.partial/x'])
  files.remove_left_over(tmp_path)
  assert sorted(contents(tmp_path)) == sorted(kept) and not (tmp_path / '.folder.1.partial').exists()


def test_a_folder_that_cannot_be_written_to_is_named_with_its_flag(tmp_path):
  files.make_writable('output', tmp_path / 'a' / 'b')
  assert (tmp_path / 'a' / 'b').is_dir() and not contents(tmp_path)
  (tmp_path / 'file').write_text('')
  with pytest.raises(ConfigError, match=f'^--output={tmp_path}/file/a cannot be written to .*: .*name another place.$'):
    files.make_writable('output', tmp_path / 'file' / 'a')


@pytest.mark.parametrize('fallocate', [True, False])
def test_reserved_space_is_taken(tmp_path, monkeypatch, fallocate):
  if not fallocate:  # as on macOS
    monkeypatch.delattr(os, 'posix_fallocate', raising=False)
  (tmp_path / 'a').write_bytes(b'header')
  arrays.reserve(tmp_path / 'a', 3_000_000)
  assert (tmp_path / 'a').read_bytes() == b'header'.ljust(3_000_000, b'\0')
  assert (tmp_path / 'a').stat().st_blocks * 512 >= 3_000_000
  with small_disk(4_000_000), pytest.raises(OSError, match='File too large'):
    arrays.reserve(tmp_path / 'a', 5_000_000)
