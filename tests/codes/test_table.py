"""The table on disk: a round trip, atomic writing, and an error that names the cure for every kind of damage."""

import json
import pickle
import shutil

import numpy as np
import pytest

from gif_jax.codes.homogenise import homogenise
from gif_jax.codes.quality.measure import explained_alone
from gif_jax.codes.table import CodeTable, TableError
from gif_jax.codes.tree import build_codes
from gif_jax.codes.vectors import initialise
from gif_jax.core.storage.arrays import TRAILER
from gif_jax.core.storage.files import write_json


def _write(path, seed=0, **changes):
  means = np.random.default_rng(seed).standard_normal((50, 12)).astype(np.float32)
  vectors, transform = initialise(means, 8)
  vectors, report = homogenise(vectors, epochs=1, lr=0.1, subset=16, scaled=True, seed=seed, progress=False)
  codes = build_codes(vectors, 2, 8, seed=seed, progress=False)
  arguments = {
    'codes': codes,
    'vectors': vectors,
    'v': 8,
    'encoder': 'pixels',
    'seed': seed,
    'label_space': 'abc',
    'settings': {'l': 0, 'slack': 0.1},
    'transform': transform,
    'explained': explained_alone(codes, vectors),
    'report': report,
  } | changes
  return CodeTable.write(path, **arguments), arguments


@pytest.fixture
def table(tmp_path):
  return _write(tmp_path / 'table')[0]


def test_round_trip(tmp_path):
  _, wrote = _write(tmp_path / 'deep' / 'table')
  table = CodeTable.open(tmp_path / 'deep' / 'table')
  assert (table.m, table.l, table.v, table.d) == (50, 2, 8, 8)
  assert table.codes.dtype == np.uint8 and table.vectors.dtype == np.float16
  assert isinstance(table.codes, np.memmap) and isinstance(table.vectors, np.memmap)
  assert np.array_equal(table.codes, wrote['codes'])
  np.testing.assert_allclose(table.vectors, wrote['vectors'], atol=1e-3)
  np.testing.assert_array_equal(table.transform.components, wrote['transform'].components)
  np.testing.assert_array_equal(table.transform.mean, wrote['transform'].mean)
  for key in ('encoder', 'seed', 'label_space', 'settings'):
    assert table.meta[key] == wrote[key]
  assert table.meta['explained'] == pytest.approx(list(wrote['explained']))
  assert table.meta['homogenisation']['loss_after'] == wrote['report'].loss_after
  table.verify()


def test_without_transform_or_report(tmp_path):
  table, _ = _write(tmp_path / 'table', transform=None, report=None)
  assert table.transform is None and table.meta['homogenisation'] is None
  assert not (tmp_path / 'table' / 'transform.npz').exists()
  table.verify()


def test_rows(table):
  labels = np.array([49, 0, 3, 3])
  codes, vectors = table.rows(labels)
  assert codes.dtype == np.int32 and vectors.dtype == np.float32
  assert type(codes) is np.ndarray and type(vectors) is np.ndarray
  assert np.array_equal(codes, table.codes[labels])
  np.testing.assert_allclose(vectors, table.vectors[labels], atol=1e-3)
  np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize('label', [-1, 50])
def test_rows_outside(table, label):
  with pytest.raises(TableError, match=f'label {label} is outside 0..49.*m=50.*gif_jax tokenize'):
    table.rows(np.array([0, label]))


def test_rows_want_integers(table):
  with pytest.raises(TableError, match='integers'):
    table.rows(np.array([0.0]))


def test_the_same_input_gives_the_same_fingerprint(tmp_path):
  first, again = _write(tmp_path / 'a')[0], _write(tmp_path / 'b')[0]
  other = _write(tmp_path / 'c', seed=1)[0]
  assert first.fingerprint == again.fingerprint != other.fingerprint
  assert first.meta == again.meta


def test_pickled_by_path(table):
  frozen = pickle.dumps(table)
  assert len(frozen) < 1000
  thawed = pickle.loads(frozen)
  assert set(vars(thawed)) == {'path'}
  assert np.array_equal(thawed.rows(np.arange(5))[0], table.rows(np.arange(5))[0])
  assert thawed.fingerprint == table.fingerprint


def test_an_existing_path_is_kept(table):
  before = {path.name: path.read_bytes() for path in table.path.iterdir()}
  with pytest.raises(TableError, match='table exists: delete it, or write'):
    _write(table.path)
  assert {path.name: path.read_bytes() for path in table.path.iterdir()} == before
  table.verify()


def test_a_failing_write_leaves_nothing(tmp_path):
  with pytest.raises(TypeError, match='JSON'):
    _write(tmp_path / 'table', settings={'key': object()})
  assert list(tmp_path.iterdir()) == []


def _changed(array, row, value):
  array = array.copy()
  array[row] = value
  return array


CODES = np.stack([np.arange(50) // 8, np.arange(50) % 8], 1).astype(np.uint8)
VECTORS = np.eye(50, 8, dtype=np.float32) + np.eye(50, 8, -8, dtype=np.float32)
VECTORS[16:, 0] = 1


@pytest.mark.parametrize(
  ('changes', 'names'),
  [
    ({'codes': _changed(CODES, 1, CODES[0])}, 'codes: two identities share a code'),
    ({'codes': _changed(CODES, 1, 8)}, 'codes: digits span 0..8, v=8'),
    ({'codes': CODES.astype(np.float32)}, 'codes: must be integers'),
    ({'codes': CODES[:49]}, r'vectors: must be \[49, d\]'),
    ({'vectors': _changed(VECTORS, 7, np.nan)}, 'vectors: the vector of identity 7'),
    ({'vectors': _changed(VECTORS, 7, 0.5)}, 'vectors: the vector of identity 7 .*normalise'),
  ],
)
def test_arrays_that_make_no_table(tmp_path, changes, names):
  good = {'codes': CODES, 'vectors': VECTORS, 'transform': None}
  CodeTable.write(tmp_path / 'good', **good, v=8, encoder='', seed=0, label_space='', settings={})
  with pytest.raises(TableError, match=names):
    _write(tmp_path / 'bad', **(good | changes))
  assert not (tmp_path / 'bad').exists()


def _edit(file, sealed=True, **changes):
  """Changes meta.json; sealed: with a checksum that fits."""
  meta = {key: value for key, value in (json.loads(file.read_text()) | changes).items() if value != 'drop'}
  if sealed:
    del meta['checksum']
    write_json(file, meta, checksum=True)
  else:
    file.write_text(json.dumps(meta))


DAMAGE = {
  'no table': (shutil.rmtree, 'no such table.*gif_jax tokenize'),
  'no meta': (lambda path: (path / 'meta.json').unlink(), 'meta.json is missing'),
  'meta cut short': (lambda path: (path / 'meta.json').write_text('{"version"'), 'meta.json is damaged .*copy'),
  'meta of another kind': (lambda path: (path / 'meta.json').write_text('[]'), 'meta.json is damaged .it holds a list'),
  'meta changed': (lambda path: _edit(path / 'meta.json', False, seed=9), 'meta.json is damaged .*its checksum'),
  'version': (lambda path: _edit(path / 'meta.json', version=99), 'format version 99'),
  'key': (lambda path: _edit(path / 'meta.json', seed='drop', v='drop'), 'lacks v, seed'),
  'type': (lambda path: _edit(path / 'meta.json', m='50'), 'm, l, v, d as integers'),
  'no codes': (lambda path: (path / 'codes.npy').unlink(), r'codes.npy cannot be read \(No such file.*copy'),
  'no vectors': (lambda path: (path / 'vectors.npy').unlink(), r'vectors.npy cannot be read \(No such file.*copy'),
  'codes cut short': (lambda path: _cut(path / 'codes.npy', 5), 'codes.npy has 263 bytes, .* damaged: copy'),
  'data cut short': (lambda path: _cut(path / 'codes.npy', TRAILER + 5), 'codes.npy has 223 bytes, .* damaged: copy'),
  'header cut short': (lambda path: _cut(path / 'codes.npy', 190), 'codes.npy has a damaged header: copy'),
  'empty vectors': (lambda path: (path / 'vectors.npy').write_bytes(b''), 'vectors.npy is empty, 0 bytes: copy'),
  'shape': (lambda path: np.save(path / 'codes.npy', CODES[:9]), 'codes.npy holds uint8 .9, 2., wanted .50, 2.: copy'),
  'dtype': (lambda path: np.save(path / 'codes.npy', CODES.astype(int)), 'codes.npy holds int64 .* wanted uint8: copy'),
  'no transform': (lambda path: (path / 'transform.npz').unlink(), r'transform.npz cannot be read .No such.*copy'),
  'transform cut short': (lambda path: _cut(path / 'transform.npz', 99), 'transform.npz is damaged .*: copy'),
  'transform changed': (lambda path: _flip(path / 'transform.npz', 500), 'transform.npz is damaged .*: copy'),
  'transform shape': (lambda path: np.savez(path / 'transform.npz', mean=np.ones(3), components=np.eye(3)), 'd=8'),
}


def _cut(file, n):
  file.write_bytes(file.read_bytes()[:-n])


def _flip(file, place):
  contents = bytearray(file.read_bytes())
  contents[place] ^= 1
  file.write_bytes(contents)


@pytest.mark.parametrize('kind', DAMAGE)
def test_damage_is_named(table, kind):
  harm, names = DAMAGE[kind]
  thawed = pickle.loads(pickle.dumps(table))
  harm(table.path)
  with pytest.raises(TableError, match=names):
    CodeTable.open(table.path)
  with pytest.raises(TableError, match=names):  # and where a worker opens it late
    _ = thawed.rows(np.array([0])), thawed.transform


@pytest.mark.parametrize('name', ['codes', 'vectors'])
@pytest.mark.parametrize('place', [128, 150, -1 - TRAILER, -1])
def test_verify_finds_changed_contents(table, name, place):
  _flip(table.path / f'{name}.npy', place)
  damaged = CodeTable.open(table.path)
  with pytest.raises(TableError, match=f'{name}(.npy)? does not match its checksum.*copy the table'):
    damaged.verify()


def test_verify_finds_a_changed_meta(table):
  _edit(table.path / 'meta.json', v=9)
  with pytest.raises(TableError, match='fingerprint'):
    CodeTable.open(table.path).verify()


def test_a_table_of_an_earlier_version_is_read(table):
  expected = table.codes.copy(), table.vectors.copy()
  for name in ('codes', 'vectors'):
    np.save(table.path / f'{name}.npy', np.load(table.path / f'{name}.npy'))
  _edit(table.path / 'meta.json', False, checksum='drop')
  opened = CodeTable.open(table.path)
  opened.verify()
  assert np.array_equal(opened.codes, expected[0]) and np.array_equal(opened.vectors, expected[1])
  assert opened.fingerprint == table.fingerprint
