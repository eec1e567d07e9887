"""An extraction that was killed ends like one that was not: the same bits, and never the results of another set."""

import logging
import os
import resource
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gif_jax.core.errors import DiskError
from gif_jax.core.storage import resume
from gif_jax.models.extraction import extract as extraction
from gif_jax.models.extraction import identity_moments as moments
from gif_jax.models.extraction.extract import extract
from gif_jax.models.extraction.identity_moments import ExtractError, identity_moments

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (61, 4, 5, 3), np.uint8)  # 8 batches of 8, the last one not full
LABELS = RNG.permutation(np.arange(61) % 5)


class Killed(Exception):
  pass


class Network:
  """Counts its batches, and is killed at one of them."""

  def __init__(self, dies_at=0):
    self.calls, self.dies_at = 0, dies_at

  def embed(self, images):
    self.calls += 1
    if self.calls == self.dies_at:
      raise Killed
    return {'z': _features(images), 'rank': jnp.argsort(_features(images), 1)}

  def encode(self, images):
    return self.embed(images)['z']


@jax.jit
def _features(images):
  return jnp.sin(images.reshape(len(images), -1).astype(jnp.float32))


def _extract(network, state=None, images=IMAGES, batch_size=8, key='one'):
  return extract(network.embed, images, batch_size, progress='', state=state, key=key)


def _moments(network, state=None, images=IMAGES, batch_size=8, key='one', labels=LABELS):
  return identity_moments(network.encode, images, labels, 5, batch_size, within=True, progress='', state=state, key=key)


BOTH = pytest.mark.parametrize('run', [_extract, _moments])


@pytest.fixture(autouse=True)
def saves_often(monkeypatch):
  monkeypatch.setattr(resume, 'SECONDS', 0)
  monkeypatch.setattr(resume, '_SHARE', 1e9)


def _equal(a, b):
  for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert left.dtype == right.dtype and left.tobytes() == right.tobytes()


def _kill(run, state, at, **changes):
  with pytest.raises(Killed):
    run(Network(at), state, **changes)


@BOTH
@pytest.mark.parametrize('at', [1, 2, 3, 8])
def test_killed_again_and_again(run, tmp_path, at):
  _kill(run, tmp_path, at)
  if at > 3:
    _kill(run, tmp_path, 1)
  network = Network()
  _equal(run(network, tmp_path), run(Network()))
  # The batch it was killed in and the one before, whose result was still on its way, are the only ones run again.
  assert network.calls == 8 - max(0, at - 2)


@BOTH
def test_a_finished_one_is_not_run_again(run, tmp_path):
  first = run(Network(), tmp_path)
  network = Network()
  _equal(run(network, tmp_path), first)
  assert network.calls <= 1


@BOTH
def test_what_is_saved_about_once_a_minute(run, tmp_path, monkeypatch):
  monkeypatch.setattr(resume, 'SECONDS', 60)
  _kill(run, tmp_path, 7)
  network = Network()
  _equal(run(network, tmp_path), run(Network()))
  assert network.calls == 7  # the first batch alone was saved


@BOTH
@pytest.mark.parametrize(
  ('changes', 'named'),
  [
    ({'key': 'two'}, "key='one', this run has 'two'"),
    ({'batch_size': 16}, 'batch_size=8, this run has 16'),
    ({'images': IMAGES[::-1]}, 'first image='),
  ],
)
def test_what_belongs_to_something_else_is_not_continued(run, tmp_path, caplog, changes, named):
  _kill(run, tmp_path, 6)
  with caplog.at_level(logging.INFO):
    # Killed before anything new is saved: the old record must not stand beside what the new run has begun.
    _kill(run, tmp_path, 1, **changes)
  assert named in caplog.text and 'starting again' in caplog.text
  network = Network()
  _equal(run(network, tmp_path), run(Network()))
  assert network.calls == 8


def test_other_labels_are_not_continued(tmp_path, caplog):
  _kill(_moments, tmp_path, 6)
  other = LABELS[::-1]
  _equal(_moments(Network(), tmp_path, labels=other), _moments(Network(), labels=other))
  assert 'labels=' in caplog.text and 'starting again' in caplog.text


def _flip(path, place):
  """Changes one bit of a file."""
  content = bytearray(path.read_bytes())
  content[place] ^= 4
  path.write_bytes(content)


@BOTH
@pytest.mark.parametrize('damage', ['cut', 'empty', *range(7)])
def test_a_damaged_record_is_not_continued(run, tmp_path, caplog, damage):
  _kill(run, tmp_path, 6)
  (record,) = tmp_path.glob('*.npz')
  if isinstance(damage, int):
    _flip(record, (2 * damage + 1) * record.stat().st_size // 14)
  else:
    record.write_bytes(record.read_bytes()[:-30] if damage == 'cut' else b'')
  _equal(run(Network(), tmp_path), run(Network()))
  assert f'{record} ' in caplog.text and 'starting again' in caplog.text


@pytest.mark.parametrize('name', ['rows-0-0.npy', 'rows-0-1.npy'])
@pytest.mark.parametrize('damage', ['cut', 'gone', 'header', 'first row', 'last row saved'])
def test_rows_that_were_damaged_are_made_again(tmp_path, caplog, name, damage):
  _kill(_extract, tmp_path, 6)
  rows = tmp_path / name
  if damage == 'cut':
    os.truncate(rows, rows.stat().st_size - 1)
  elif damage == 'gone':
    rows.unlink()
  else:
    row = np.load(rows, mmap_mode='r')
    place = {'header': 20, 'first row': row.offset, 'last row saved': row.offset + 32 * row[0].nbytes - 1}
    _flip(rows, place[damage])
  network = Network()
  _equal(_extract(network, tmp_path), _extract(Network()))
  assert f'{tmp_path}/rows-0.npz is of rows that were damaged: starting again' in caplog.text
  assert network.calls >= 8  # all of it


def test_ctrl_c_while_rows_are_filled(tmp_path, monkeypatch):
  """What is saved then is of whole batches."""

  class Interrupted(np.memmap):
    calls = 0

    def __setitem__(self, *args):
      Interrupted.calls += 1
      if Interrupted.calls == 8:  # the second leaf of the fourth batch
        raise KeyboardInterrupt
      super().__setitem__(*args)

  allocate = extraction._allocate
  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(
      extraction, '_allocate', lambda *args: jax.tree.map(lambda rows: rows.view(Interrupted), allocate(*args))
    )
    _extract(Network(), tmp_path)
  network = Network()
  _equal(_extract(network, tmp_path), _extract(Network()))
  assert network.calls == 5


@pytest.mark.parametrize('before', [True, False])
def test_ctrl_c_while_sums_are_added(tmp_path, monkeypatch, before):
  add, calls = moments._add, []

  def interrupted(*args):
    calls.append(args)
    if len(calls) == 4 and before:
      os.kill(os.getpid(), signal.SIGINT)
    add(*args)
    if len(calls) == 4 and not before:
      os.kill(os.getpid(), signal.SIGINT)

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(moments, '_add', interrupted)
    _moments(Network(), tmp_path)
  network = Network()
  _equal(_moments(network, tmp_path), _moments(Network()))
  assert network.calls == 4


def test_results_of_another_shape_are_not_continued(tmp_path, caplog):
  _kill(_extract, tmp_path / 'rows', 6)

  def zeros(state=None):
    return extract(lambda x: jnp.zeros((len(x), 75)), IMAGES, 8, progress='', state=state, key='one')

  _equal(zeros(tmp_path / 'rows'), zeros())
  assert 'rows-0.npz is of rows that were damaged: starting again' in caplog.text
  _kill(_moments, tmp_path / 'moments', 6)
  with pytest.raises(ExtractError, match='features of size 60, these have 75: delete'):
    identity_moments(
      lambda x: jnp.zeros((len(x), 75)),
      IMAGES,
      LABELS,
      5,
      8,
      within=True,
      progress='',
      state=tmp_path / 'moments',
      key='one',
    )


def test_results_are_mapped_from_the_disk(tmp_path):
  result = _extract(Network(), tmp_path)
  assert all(isinstance(leaf, np.memmap) and not leaf.flags.writeable for leaf in result.values())
  assert result['z'].filename == tmp_path / 'rows-0-1.npy'
  assert not list(tmp_path.glob('*.partial'))


@BOTH
def test_a_folder_that_cannot_be_written_to(run, tmp_path):
  (tmp_path / 'file').write_text('')
  network = Network()
  wanted = f'{tmp_path}/file/state cannot be written .Not a directory.: .* name another place'
  with pytest.raises(DiskError, match=wanted):
    run(network, tmp_path / 'file' / 'state')
  assert not network.calls


@BOTH
def test_a_full_disk(run, tmp_path):
  _kill(run, tmp_path, 4)
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # what a disk does that is full, for this process alone
  try:
    wanted = rf'{tmp_path}/\w+-0.npz cannot be written .File too large.: raise the limit .* same command again'
    with pytest.raises(DiskError, match=wanted):
      run(Network(), tmp_path)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert not list(tmp_path.glob('*.partial'))
  network = Network()
  _equal(run(network, tmp_path), run(Network()))
  assert network.calls == 6


def test_no_room_for_the_result(tmp_path):
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
  try:
    with pytest.raises(DiskError, match=f'{tmp_path}/rows-0-0.npy cannot be written'):
      _extract(Network(), tmp_path)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert not list(tmp_path.iterdir())


def test_progress_goes_on_where_it_was(tmp_path, capsys):
  _kill(_moments, tmp_path, 6)
  capsys.readouterr()
  identity_moments(Network().encode, IMAGES, LABELS, 5, 8, within=True, progress='faces', state=tmp_path, key='one')
  shown = capsys.readouterr().err
  assert '32/61 [' in shown and '61/61 [' in shown and ' 0/61' not in shown
