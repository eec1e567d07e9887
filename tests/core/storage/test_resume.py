"""Work that was stopped ends like work that was not: nothing damaged, and nothing of anything else, is gone on from."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gif_jax.core.errors import DiskError
from gif_jax.core.storage import arrays, resume
from gif_jax.core.storage.arrays import TRAILER, load_array, save_array
from gif_jax.core.storage.resume import Draft, Progress, fill, open_rows
from tests.helpers.damage import FUZZ, contents, each_flip, flip, small_disk
from tests.helpers.places import ROOT

ROWS = np.random.default_rng(0).integers(1, 256, (12, 5), np.uint8)
ORIGIN = {'faces': 'orl', 'size': [5, 7]}


class Killed(Exception):
  pass


@pytest.fixture(autouse=True)
def saves_often(monkeypatch):
  monkeypatch.setattr(os, 'fsync', lambda _: None)  # and waits for no disk
  monkeypatch.setattr(resume, 'SECONDS', 0)
  monkeypatch.setattr(resume, '_SHARE', 1e9)


class Blocks:
  """Gives rows a few at a time, counts them, and is stopped before one of them."""

  def __init__(self, rows=ROWS, size=2, stops_at=None, error=Killed):
    self.rows, self.size, self.stops_at, self.error, self.given = rows, size, stops_at, error, 0

  def __call__(self, start):
    for first in range(start, len(self.rows), self.size):
      if self.stops_at is not None and first + self.size > self.stops_at:
        raise self.error
      block = self.rows[first : first + self.size]
      self.given += len(block)
      yield block


def make(path, blocks, rows=ROWS, origin=ORIGIN):
  fill(path, rows.shape, rows.dtype, blocks, origin)


def stop(path, at, error=Killed, **how):
  with pytest.raises(error):
    make(path, Blocks(stops_at=at, error=error), **how)
  assert not path.exists()


def is_made(path, rows=ROWS):
  """Asserts that the file holds the rows and a checksum, and is alone in its folder."""
  np.testing.assert_array_equal(load_array(path, rows.dtype, rows.shape), rows)
  assert path.stat().st_size == np.lib.format.open_memmap(path, 'r').offset + rows.nbytes + TRAILER
  assert os.listdir(path.parent) == [path.name]


def test_rows_filled_at_once_are_the_file_that_is_saved(tmp_path):
  make(tmp_path / 'a' / 'x.npy', Blocks())
  is_made(tmp_path / 'a' / 'x.npy')
  save_array(tmp_path / 'y.npy', ROWS)
  assert (tmp_path / 'a' / 'x.npy').read_bytes() == (tmp_path / 'y.npy').read_bytes()


@pytest.mark.parametrize('at', range(0, len(ROWS), 2))
def test_rows_stopped_at_any_point_are_gone_on_with(tmp_path, at):
  path = tmp_path / 'x.npy'
  for error in (KeyboardInterrupt, Killed, SystemExit):
    stop(path, at, error)
    blocks = Blocks()
    make(path, blocks)
    is_made(path)
    assert blocks.given == len(ROWS) - at
    path.unlink()


def test_what_was_saved_about_once_a_minute_is_gone_on_with(tmp_path, monkeypatch):
  monkeypatch.setattr(resume, 'SECONDS', 60)
  for error, done in [(Killed, 2), (KeyboardInterrupt, 8)]:  # the first block is saved at once; Ctrl-C saves all
    stop(tmp_path / 'x.npy', 8, error)
    blocks = Blocks()
    make(tmp_path / 'x.npy', blocks)
    is_made(tmp_path / 'x.npy')
    assert blocks.given == len(ROWS) - done
    (tmp_path / 'x.npy').unlink()


@pytest.mark.slow
@FUZZ
@given(n=st.integers(1, 9), stops=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4), st.booleans()), max_size=4))
def test_rows_stopped_again_and_again_are_gone_on_with(tmp_path_factory, n, stops):
  path, rows = tmp_path_factory.mktemp('fill') / 'x.npy', ROWS[:n]
  for at, size, asked in stops:
    error = KeyboardInterrupt if asked else Killed
    if at < n:
      with pytest.raises(error):
        make(path, Blocks(rows, size, at, error), rows)
  make(path, Blocks(rows), rows)
  is_made(path, rows)


IS_KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from gif_jax.core.storage import resume

def blocks(start):
  yield np.ones((2, 5), np.uint8)
  yield np.ones((4, 5), np.uint8)
  os._exit(9)

resume.SECONDS, resume._SHARE = 0, 1e9
resume.fill(Path(sys.argv[1]), (12, 5), np.uint8, blocks, {})
"""


def test_a_process_that_is_killed_leaves_what_is_gone_on_with(tmp_path):
  assert subprocess.run([sys.executable, '-c', IS_KILLED, tmp_path / 'x.npy'], cwd=ROOT).returncode == 9
  rows, blocks = np.ones_like(ROWS), Blocks(np.ones_like(ROWS))
  make(tmp_path / 'x.npy', blocks, rows, {})
  is_made(tmp_path / 'x.npy', rows)
  assert blocks.given == len(ROWS) - 6


@pytest.mark.parametrize(
  'changes',
  [
    {'origin': ORIGIN | {'faces': 'lfw'}},
    {'origin': {}},
    {'rows': ROWS[:, :4]},
    {'rows': ROWS[:10]},
    {'rows': ROWS.astype(np.int8)},
  ],
)
def test_rows_of_something_else_are_not_gone_on_with(tmp_path, changes, caplog):
  stop(tmp_path / 'x.npy', 6)
  rows = changes.get('rows', ROWS)[::-1]
  blocks = Blocks(rows)
  make(tmp_path / 'x.npy', blocks, rows, changes.get('origin', ORIGIN))
  is_made(tmp_path / 'x.npy', rows)
  assert blocks.given == len(rows) and caplog.text.count('starting again') == 1


@pytest.mark.parametrize('lost', ['.x.npy.draft', '.x.npy.draft-0.npz'])
def test_rows_of_which_a_file_is_gone_or_cut_are_made_again(tmp_path, lost):
  for damage in (os.remove, lambda path: os.truncate(path, 100), lambda path: os.truncate(path, 0)):
    stop(tmp_path / 'x.npy', 6)
    damage(tmp_path / lost)
    blocks = Blocks()
    make(tmp_path / 'x.npy', blocks)
    is_made(tmp_path / 'x.npy')
    assert blocks.given == len(ROWS)
    (tmp_path / 'x.npy').unlink()


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'step'), [('.x.npy.draft', 11), ('.x.npy.draft-0.npz', 79)])
def test_any_flipped_bit_between_is_noticed_or_changes_nothing(tmp_path, name, step, monkeypatch):
  stop(tmp_path / 'x.npy', 6)
  monkeypatch.setattr(resume, 'SECONDS', 60)
  before = contents(tmp_path)
  for bit in range(0, 8 * len(before[name]), step):
    for file, written in before.items():
      (tmp_path / file).write_bytes(written)
    flip(tmp_path / name, bit)
    make(tmp_path / 'x.npy', Blocks())
    is_made(tmp_path / 'x.npy')
    (tmp_path / 'x.npy').unlink()


@pytest.mark.parametrize('done', [0, 6])
def test_rows_for_which_there_is_no_room(tmp_path, done):
  rows = np.resize(ROWS, (12, 5000))
  if done:
    stop(tmp_path / 'x.npy', done)
  before = contents(tmp_path)
  with small_disk(10_000), pytest.raises(DiskError, match=f'^{tmp_path}/.*x.npy.* cannot be written .File too large'):
    make(tmp_path / 'x.npy', Blocks(rows), rows)
  assert contents(tmp_path).keys() <= before.keys()
  make(tmp_path / 'x.npy', Blocks(rows), rows)
  is_made(tmp_path / 'x.npy', rows)


def _saved(folder, **how):
  """A Progress that has come as far as row 6 of 8, in two steps, and what it saved."""
  progress = Progress(folder, 'work', ORIGIN, **how)
  rows = open_rows(folder / 'rows.npy', (8, 3), np.int32, resume=False)
  rows[:] = np.arange(24).reshape(8, 3)
  kept = {'sums': np.linspace(0, 1, 5), 'names': np.array(['a', 'Zoë'])}
  progress.save(1, kept, filled=[rows], rows=2)
  progress.save(3, kept, filled=[rows], rows=6)
  return progress, rows, kept


def _equal(found, kept):
  return found.keys() == kept.keys() and all(np.array_equal(found[name], kept[name]) for name in kept)


def test_progress_is_found_again(tmp_path, caplog):
  _, rows, kept = _saved(tmp_path / 'new', part=1)
  again = Progress(tmp_path / 'new', 'work', ORIGIN, part=1)
  with caplog.at_level('INFO', 'gif_jax'):
    done, found = again.load(0)
  assert done == 3 and _equal(found, kept) and again.is_intact([rows])
  assert f'{tmp_path}/new/work-1.npz: continuing from 3' in caplog.text
  for name, part in [('work', 0), ('other', 1)]:
    assert Progress(tmp_path / 'new', name, ORIGIN, part=part).load(7) == (7, {})
  again.remove()
  assert os.listdir(tmp_path / 'new') == ['rows.npy'] and again.load(7) == (7, {})


def test_progress_without_a_folder_saves_nothing():
  progress = Progress(None, 'work', ORIGIN)
  progress.save(3, {'a': np.ones(3)})
  progress.remove()
  assert progress.load(7) == (7, {}) and not progress.due()


@pytest.mark.parametrize(
  ('origin', 'named'),
  [
    (ORIGIN | {'faces': 'lfw'}, "was saved with faces='orl', this run has 'lfw'"),
    (ORIGIN | {'size': [7, 5]}, 'was saved with size=[5, 7], this run has [7, 5]'),
    (ORIGIN | {'more': 1}, 'was saved with more=None, this run has 1'),
    ({'faces': 'orl'}, 'was saved with size=[5, 7], this run has None'),
  ],
)
def test_progress_of_something_else_is_forgotten(tmp_path, caplog, origin, named):
  _, rows, _ = _saved(tmp_path)
  other = Progress(tmp_path, 'work', origin)
  assert other.load(7) == (7, {}) and f'work-0.npz {named}: starting again' in caplog.text
  assert os.listdir(tmp_path) == ['rows.npy'] and other.is_intact([rows]) and not other.sums
  assert Progress(tmp_path, 'work', ORIGIN).load(7) == (7, {})


@pytest.mark.slow
def test_damaged_progress_is_not_used(tmp_path, caplog):
  progress, _, kept = _saved(tmp_path)
  written, forgotten = progress.path.read_bytes(), 0
  for place in each_flip(progress.path, 7):
    caplog.clear()
    again = Progress(tmp_path, 'work', ORIGIN)
    done, found = again.load(0)
    if progress.path.exists():
      assert done == 3 and _equal(found, kept) and again.sums == progress.sums, place
    else:
      assert (done, found, again.sums) == (0, {}, []) and 'starting again' in caplog.text
      forgotten += 1
      progress.path.write_bytes(written)
  assert forgotten > 100


def test_any_flipped_bit_in_rows_that_are_done_is_noticed(tmp_path):
  progress, rows, _ = _saved(tmp_path)
  bits = rows.reshape(-1).view(np.uint8)
  for place in range(rows.nbytes):
    for bit in range(8):
      bits[place] ^= 1 << bit
      assert progress.is_intact([rows]) == (place >= 6 * 3 * 4)
      bits[place] ^= 1 << bit
  assert progress.is_intact([rows]) and not progress.is_intact([rows, rows]) and not progress.is_intact([])
  assert not progress.is_intact([rows[:4]])


def test_rows_are_kept_only_if_they_are_those(tmp_path):
  those = ((4, 3), 'i4', True)
  for asked, kept in [
    (those, False),
    (those, True),
    (((5, 3), 'i4', True), False),
    (((5, 3), 'f4', True), False),
    (((5, 3), 'f4', True), True),
    (((5, 3), 'f4', False), False),
  ]:
    shape, dtype, resumed = asked
    rows = open_rows(tmp_path / 'rows.npy', shape, dtype, resume=resumed)
    assert rows.shape == shape and rows.dtype == dtype and rows.any() == kept and os.listdir(tmp_path) == ['rows.npy']
    rows[:] = 1
    rows.flush()


def test_a_draft_is_found_again(tmp_path):
  draft = Draft(tmp_path / 'd', {'seed': 1})
  assert draft.load('codes') is None
  draft.save('codes', 1, np.arange(3))
  draft.save('codes', 10, np.arange(4))
  draft.save('other', 2, np.arange(5))
  step, array = Draft(tmp_path / 'd', {'seed': 1}).load('codes')
  assert step == 10 and array.tolist() == [0, 1, 2, 3]
  assert len(list((tmp_path / 'd').glob('codes*'))) == 1  # what came before is gone
  draft.remove()
  assert not (tmp_path / 'd').exists()


def test_a_draft_made_with_other_settings_begins_again(tmp_path, caplog):
  Draft(tmp_path / 'd', {'seed': 1}).save('codes', 1, np.arange(3))
  with caplog.at_level('INFO', 'gif_jax'):
    assert Draft(tmp_path / 'd', {'seed': 2}).load('codes') is None
  assert 'begun with other settings' in caplog.text
  Draft(tmp_path / 'd', {'seed': 2}).save('codes', 1, np.arange(3))
  flip(tmp_path / 'd' / 'made_with.json', 8 * 11)
  assert Draft(tmp_path / 'd', {'seed': 2}).load('codes') is None


def test_a_draft_whose_saving_is_cut_short_has_the_state_before(tmp_path, monkeypatch):
  draft = Draft(tmp_path / 'd', {})
  draft.save('codes', 1, np.arange(3))
  before = contents(tmp_path)

  def cut(file, *_, **__):
    file.write(b'\x93NUMPY')
    raise Killed

  monkeypatch.setattr(arrays.np.lib.format, 'write_array', cut)
  with pytest.raises(Killed):
    draft.save('codes', 2, np.arange(4))
  assert contents(tmp_path) == before and Draft(tmp_path / 'd', {}).load('codes')[0] == 1


def test_a_damaged_draft_is_made_again(tmp_path, caplog):
  draft = Draft(tmp_path / 'd', {})
  draft.save('codes', 3, np.arange(5))
  file = tmp_path / 'd' / 'codes.3.npy'
  for _ in each_flip(file, 5):
    assert draft.load('codes') is None
  assert caplog.text.count(f'{file} ') >= 8 * file.stat().st_size // 5
  file.write_bytes(file.read_bytes()[:150])
  assert draft.load('codes') is None and 'it was cut or damaged: it is made again' in caplog.text
