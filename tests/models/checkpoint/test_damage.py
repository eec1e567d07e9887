"""A checkpoint that is damaged is noticed, set aside under a name that says so, and an earlier one is used."""

import logging
import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gif_jax.core.distributed.mesh import make_mesh
from gif_jax.core.storage import checksums, locks
from gif_jax.models.checkpoint import reader
from gif_jax.models.checkpoint.manager import Checkpoints, abstract
from gif_jax.models.checkpoint.reader import CheckpointError, read_saved
from gif_jax.training import sharding
from tests.helpers.checkpoints import ORIGIN, state_of, write_run


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  return write_run(tmp_path_factory.mktemp('written'))


@pytest.fixture
def run(written, tmp_path):
  return shutil.copytree(written, tmp_path / 'run')


def _restored(workdir):
  state = state_of(0)
  like = abstract(state, sharding.state_sharding(make_mesh(), state))
  with Checkpoints(workdir / 'checkpoints', 2, ORIGIN) as checkpoints:
    return checkpoints.restore(like)


def _names(workdir):
  return sorted(path.name for path in (workdir / 'checkpoints').iterdir())


def _equal(state, step):
  expected = state_of(step)
  jax.tree.map(np.testing.assert_array_equal, state, expected)


def _flip(path, bit):
  content = bytearray(path.read_bytes())
  content[bit // 8] ^= 1 << bit % 8
  path.write_bytes(content)


def test_what_is_whole_is_restored(run):
  _equal(_restored(run), 3)
  assert _names(run) == ['1', '2', '3']


def test_a_checkpoint_can_be_checked_by_hand(run):
  text = (run / 'checkpoints' / '3' / checksums.SUMS).read_text()
  names = {line.split('  ')[1] for line in text.splitlines()}
  there = {
    str(path.relative_to(run / 'checkpoints' / '3'))
    for path in (run / 'checkpoints' / '3').rglob('*')
    if path.is_file()
  }
  assert there - names == {checksums.SUMS, '_CHECKPOINT_METADATA', 'commit_success.txt'} and not names - there


def _files(folder):
  return sorted(path for path in folder.rglob('*') if path.is_file())


DAMAGE = {
  'flipped': lambda path, bits: _flip(path, bits.randrange(8 * path.stat().st_size)),
  'cut': lambda path, bits: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
  'empty': lambda path, bits: path.write_bytes(b''),
  'missing': lambda path, bits: path.unlink(),
}


@pytest.mark.slow
@pytest.mark.parametrize('damage', DAMAGE)
def test_any_damage_to_any_file_of_the_newest(run, damage, tmp_path, caplog):
  bits = random.Random(damage)
  for number, path in enumerate(_files(run / 'checkpoints' / '3')):
    place = shutil.copytree(run, tmp_path / str(number))
    DAMAGE[damage](place / path.relative_to(run), bits)
    caplog.clear()
    with caplog.at_level(logging.WARNING, 'gif_jax'):
      state = _restored(place)
    if '3' in _names(place):  # what orbax writes last, and nothing of which is used, or the list of checksums alone
      assert path.name in ('_CHECKPOINT_METADATA', 'commit_success.txt', checksums.SUMS), path
      _equal(state, 3)
    else:
      assert _names(place) == ['1', '2', '3.damaged'], path
      assert 'is damaged' in caplog.text and '3.damaged' in caplog.text
      _equal(state, 2)


def test_every_leaf_of_an_undetected_flip_would_be_noticed(run):
  """The sums speak of the files; that they hold all that is restored is shown by a flip in each."""
  for path in _files(run / 'checkpoints' / '3'):
    if path.name not in ('_CHECKPOINT_METADATA', checksums.SUMS) and path.parent.name != '3':
      before = path.read_bytes()
      for bit in (0, 8 * len(before) - 1):
        _flip(path, bit)
        assert str(path.relative_to(run / 'checkpoints' / '3')) in reader.fault(run / 'checkpoints' / '3')
        path.write_bytes(before)
  assert reader.fault(run / 'checkpoints' / '3') == ''


def test_damaged_figures_do_not_decide_what_stays(run):
  metrics = next((run / 'checkpoints' / '1').rglob('metrics/metrics'))
  metrics.write_text(metrics.read_text().replace('1.0', '0.0'))
  _equal(_restored(run), 3)
  assert _names(run) == ['1.damaged', '2', '3']


def test_none_is_whole(run):
  for step in (1, 2, 3):
    _flip(next((run / 'checkpoints' / str(step)).rglob('manifest.ocdbt')), 99)
  with pytest.raises(CheckpointError, match=r'checkpoints: none of 3 checkpoints is whole; copy one .* start afresh'):
    _restored(run)


def test_names_that_are_taken(run):
  (run / 'checkpoints' / '3.damaged').mkdir()
  next((run / 'checkpoints' / '3').rglob('manifest.ocdbt')).unlink()
  _restored(run)
  assert _names(run) == ['1', '2', '3.damaged', '3.damaged-2']


@pytest.mark.parametrize('name', ['state/manifest.ocdbt', 'state/_METADATA', 'origin/metadata', 'state/d'])
def test_earlier_versions_have_no_sums(run, name):
  """What they wrote is restored as it was; what of it cannot be read at all is set aside all the same."""
  for path in (run / 'checkpoints').rglob(checksums.SUMS):
    path.unlink()
  _equal(_restored(shutil.copytree(run, run.with_name('whole'))), 3)
  path = run / 'checkpoints' / '3' / name
  shutil.rmtree(path) if path.is_dir() else path.write_bytes(b'x')
  _equal(_restored(run), 2)
  assert '3.damaged' in _names(run)


def _params(found):
  like = {'backbone': {'kernel': jax.ShapeDtypeStruct((20, 30), jnp.float32)}}
  return found.read({'params': like})['params']['backbone']['kernel']


def test_readers_take_an_earlier_one_too(run, caplog):
  _flip(next((run / 'checkpoints' / '3').rglob('manifest.ocdbt')), 77)
  with caplog.at_level(logging.WARNING, 'gif_jax'):
    found = read_saved(run)
  assert found.step == 2 and 'checkpoints/3 is damaged (state/manifest.ocdbt is not as it was written)' in caplog.text
  np.testing.assert_array_equal(_params(found), state_of(2).params['backbone']['kernel'])
  assert _names(run) == ['1', '2', '3.damaged']


def test_readers_leave_what_somebody_trains(run):
  _flip(next((run / 'checkpoints' / '3').rglob('manifest.ocdbt')), 77)
  with locks.locked(locks.inside(run), 'the run'):
    assert read_saved(run).step == 2
  assert _names(run) == ['1', '2', '3']


def test_readers_are_told_of_the_step_they_named(run):
  _flip(next((run / 'checkpoints' / '3').rglob('manifest.ocdbt')), 77)
  with pytest.raises(CheckpointError, match=r'checkpoints/3 is damaged \(state/manifest.ocdbt .*copy it again'):
    read_saved(run, 3)
  assert read_saved(run, 2).step == 2 and _names(run) == ['1', '2', '3']
