"""Arrays come back from files bit for bit, or not at all: nothing damaged, foreign or hostile is taken for an array."""

import contextlib
import math
import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gif_jax.core.errors import DataError, DiskError
from gif_jax.core.storage.arrays import TRAILER, load_array, load_arrays, new_array, save_array, save_arrays, seal
from tests.helpers.damage import FUZZ, OtherError, changed, contents, each_flip, small_disk

ARRAYS = hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, min_side=0, max_dims=4, max_side=4))
SMALL = np.arange(6, dtype=np.float32).reshape(2, 3)
SEVERAL = {'a': SMALL, 'b_c': np.array('text')}


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
  """Waits for no disk: many files are written."""
  monkeypatch.setattr(os, 'fsync', lambda _: None)


def same(a, b):
  return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def refused(path, why='', load=load_array, **how):
  """Asserts that a file is no array, in one line that names it."""
  with pytest.raises(DataError, match=f'^{path} .*{why}.*: copy it again, or make it again.$') as raised:
    load(path, **how)
  assert '\n' not in str(raised.value)


def header(descr, shape, fortran=False):
  """The beginning of a .npy that says what it likes."""
  text = repr({'descr': descr, 'fortran_order': fortran, 'shape': shape}).encode()
  text = text.ljust(181) + b'\n'
  return b'\x93NUMPY\x01\0' + len(text).to_bytes(2, 'little') + text


@pytest.mark.slow
@FUZZ
@given(array=ARRAYS, fortran=st.booleans())
def test_any_array_is_read_as_it_was_written(tmp_path, array, fortran):
  path = tmp_path / 'a.npy'
  array = np.asfortranarray(array) if fortran and array.ndim else array
  save_array(path, array)
  mapped, read = load_array(path, array.dtype, array.shape), load_array(path, mmap=False)
  assert same(mapped, array) and same(read, array) and same(np.load(path), array)
  assert read.flags.writeable and not (array.size and mapped.flags.writeable)
  np.save(path, array)
  assert same(load_array(path), array) and same(load_array(path, mmap=False), array)


@pytest.mark.slow
@FUZZ
@given(array=ARRAYS)
def test_any_array_filled_in_place_is_the_file_that_is_saved_at_once(tmp_path, array):
  array = np.array(array, order='C')
  rows = new_array(tmp_path / 'a.npy', array.shape, array.dtype)
  assert rows.shape == array.shape and rows.dtype == array.dtype and not any(rows.tobytes())
  rows[...] = array
  rows.flush()
  seal(tmp_path / 'a.npy')
  save_array(tmp_path / 'b.npy', array)
  written = contents(tmp_path)
  assert written['a.npy'] == written['b.npy']


@pytest.mark.slow
@pytest.mark.parametrize(
  'array',
  [
    SMALL,
    np.arange(5),
    np.array(['Zoë', '']),
    np.float64(1),
    np.zeros((0, 3)),
    np.asfortranarray(SMALL),
    SMALL > 2,
    # One bit in the header of these makes them longer by just the length of the checksum.
    np.ones(10, np.int8),
    np.arange(20, dtype=np.float32),
    np.ones((4, 10), np.float32),
  ],
)
def test_every_flipped_bit_is_noticed(tmp_path, array):
  path, unnoticed = tmp_path / 'a.npy', []
  save_array(path, array)
  for place in each_flip(path):
    try:
      unnoticed.append((place, load_array(path, mmap=False)))
    except DataError as error:
      assert str(path) in str(error) and '\n' not in str(error)
  assert not unnoticed


def test_every_cut_and_every_byte_too_many_is_noticed(tmp_path):
  path = tmp_path / 'a.npy'
  save_array(path, SMALL)
  written = path.read_bytes()
  for length in range(len(written)):
    path.write_bytes(written[:length])
    if length == len(written) - TRAILER:  # a file without a checksum, and whole
      assert same(load_array(path), SMALL)
    else:
      refused(path)
  for more in (b'\0', b'x' * TRAILER, written[-TRAILER:], written, bytes(10_000)):
    path.write_bytes(written + more)
    refused(path, f'has {len(written) + len(more)} bytes, its header asks for others')
  path.write_bytes(written[:-TRAILER] + b'x' * TRAILER)
  refused(path, 'does not match its checksum')
  assert same(load_array(path, check=False), SMALL)


class Payload:
  """What makes a file where it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return open, (str(self.path), 'w')


def test_no_object_is_made(tmp_path):
  path, marker = tmp_path / 'a.npy', tmp_path / 'marker'
  np.save(path, np.array([Payload(marker)], object), allow_pickle=True)
  refused(path, 'could run code')
  path.write_bytes(pickle.dumps(Payload(marker)))
  refused(path, 'is no .npy array')
  np.savez(tmp_path / 'a.npz', a=np.array([Payload(marker)], object))
  refused(tmp_path / 'a.npz', load=load_arrays)
  path.write_bytes(header('|O', (2,)) + bytes(16))
  refused(path, 'could run code')
  path.write_bytes(header([('a', '|O')], (2,)) + bytes(16))
  refused(path)
  assert not marker.exists()


@pytest.mark.parametrize(
  ('written', 'why'),
  [
    (b'', 'is empty, 0 bytes'),
    (b'1 2 3\n', 'is no .npy array'),
    (b'\x93NUMPY\x01', 'is no .npy array'),
    (header('<f4', (6,)).replace(b'Y\x01\0', b'Y\x03\0') + bytes(24), 'damaged header'),
    (header('<f4', (6,)).replace(b'Y\x01\0', b'Y\x09\x09') + bytes(24), 'damaged header'),
    (header('<f4', (-6,)) + bytes(24), 'damaged header'),
    (header('<f4', (6.0,)) + bytes(24), 'damaged header'),
    (header('<f4', 6) + bytes(24), 'damaged header'),
    (header('<q9', (6,)) + bytes(24), 'damaged header'),
    (header('(' * 5000, (6,)) + bytes(24), 'damaged header'),
    (header('<f4', (6,)).replace(b'{', b'(') + bytes(24), 'damaged header'),
    (header('<f4', (1 << 40,)) + bytes(24), 'has 216 bytes, its header asks for others'),
    (header('<f4', (1 << 62, 1 << 62)) + bytes(24), 'damaged header'),
  ],
)
def test_what_is_no_array_is_refused(tmp_path, written, why):
  (tmp_path / 'a.npy').write_bytes(written)
  for mmap in (True, False):
    refused(tmp_path / 'a.npy', why, mmap=mmap)


@pytest.mark.parametrize('descr', ['<f4', '|S0', '<U0', '|V0', ('<f4', (0,))])
@pytest.mark.parametrize('shape', [(1 << 44,), (1 << 40, 0, 1 << 40)])
@pytest.mark.parametrize('mmap', [True, False])
def test_no_memory_is_taken_for_what_a_file_does_not_hold(tmp_path, descr, shape, mmap):
  (tmp_path / 'a.npy').write_bytes(header(descr, shape))
  tracemalloc.start()
  try:
    with contextlib.suppress(DataError):
      found = load_array(tmp_path / 'a.npy', mmap=mmap)
      assert found.shape == shape and not found.nbytes
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
  finally:
    tracemalloc.stop()


@pytest.mark.parametrize('load', [load_array, load_arrays])
def test_what_is_no_file_is_refused(tmp_path, load):
  save_arrays(tmp_path / 'several.npy', {'a': SMALL})
  refused(tmp_path / 'none.npy', r'cannot be read \(No such file', load)
  refused(tmp_path, r'cannot be read \(Is a directory', load)
  refused(tmp_path / 'several.npy' / 'a.npy', r'cannot be read \(Not a directory', load)
  refused(tmp_path / 'several.npy', 'archive of several')


def test_the_wrong_kind_is_refused_in_the_words_of_whoever_asks(tmp_path):
  path = tmp_path / 'a.npy'
  save_array(path, SMALL)
  for dtype, wanted in [(np.float64, 'float64'), ('<i4', 'int32'), (np.integer, 'integers'), (bool, 'bool')]:
    refused(path, rf'holds float32 \[2, 3\], wanted {wanted}', dtype=dtype)
  for shape, wanted in [((2, 4), '2, 4'), ((2, 3, 1), '2, 3, 1'), ((6,), '6'), ((), ''), ((None, 2), "'any', 2")]:
    refused(path, rf'holds float32 \[2, 3\], wanted \[{wanted}\]', shape=shape)
  for dtype in (np.float32, 'float32', np.floating, None):
    for shape in ((2, 3), (None, 3), (None, None), None):
      assert same(load_array(path, dtype, shape), SMALL)
  with pytest.raises(OtherError, match=f'^{path} holds float32 .2, 3., wanted bool: delete it.$'):
    load_array(path, bool, error=OtherError, fix='delete it')
  with pytest.raises(OtherError, match=f'^{path} .*: delete it.$'):
    load_arrays(path, error=OtherError, fix='delete it')


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
  save_array(tmp_path / 'a.npy', SMALL)
  save_arrays(tmp_path / 'a.npz', SEVERAL)
  before = contents(tmp_path)
  for save, name, arrays in [(save_array, 'a.npy', np.ones(1000)), (save_arrays, 'a.npz', {'a': np.ones(1000)})]:
    with small_disk(500), pytest.raises(DiskError, match=f'{tmp_path}/{name} cannot be written .File too large'):
      save(tmp_path / name, arrays)
  assert contents(tmp_path) == before


@pytest.mark.slow
@FUZZ
@given(arrays=st.dictionaries(st.sampled_from(['a', 'note', 'x_1', 'Zoë', '0']), ARRAYS, max_size=4))
def test_any_arrays_are_read_as_they_were_written(tmp_path, arrays):
  save_arrays(tmp_path / 'a.npz', arrays)
  found = load_arrays(tmp_path / 'a.npz')
  assert list(found) == list(arrays) and all(same(found[name], arrays[name]) for name in arrays)


@pytest.mark.slow
def test_every_flipped_bit_of_several_arrays_is_noticed_or_changes_nothing(tmp_path):
  path, unnoticed = tmp_path / 'a.npz', []
  save_arrays(path, SEVERAL)
  for place in each_flip(path):
    try:
      found = load_arrays(path)
      if found.keys() != SEVERAL.keys() or not all(same(found[name], SEVERAL[name]) for name in SEVERAL):
        unnoticed.append((place, found))
    except DataError as error:
      assert str(path) in str(error) and '\n' not in str(error)
  assert not unnoticed


def test_several_arrays_that_are_cut_are_refused(tmp_path):
  path = tmp_path / 'a.npz'
  save_arrays(path, SEVERAL)
  written = path.read_bytes()
  for length in range(len(written)):
    path.write_bytes(written[:length])
    refused(path, load=load_arrays)


def test_archives_that_unpack_to_more_than_they_are_are_refused(tmp_path):
  path = tmp_path / 'a.npz'
  np.savez_compressed(path, a=np.zeros(100_000))
  refused(path, 'is compressed', load_arrays)
  save_array(tmp_path / 'a.npy', np.zeros(1000))
  with zipfile.ZipFile(path, 'w') as archive:
    archive.write(tmp_path / 'a.npy', 'a.npy')
    archive.filelist *= 50  # many names for the same bytes
  refused(path, 'claims more bytes than it has', load_arrays)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.write(tmp_path / 'a.npy', 'a.npy')
    archive.filelist[0].file_size = 1 << 40
  refused(path, 'claims more bytes than it has', load_arrays)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('a.txt', 'text')
  refused(path, 'is no .npy array', load_arrays)


DESCRS = st.sampled_from(
  [
    '<f4',
    '>i2',
    'f',
    '|b1',
    '<c8',
    '|S0',
    '<U0',
    '|V0',
    '|S3',
    '<m8[s]',
    '|O',
    '',
    '<f4,<i4',
    ('<f4', (2,)),
    [('a', '<f4')],
    [],
    4,
    None,
  ]
)
LENGTHS = st.integers(0, 4) | st.sampled_from([True, -1, 1 << 33, 1 << 64, 1.0, 'a'])


@FUZZ
@given(
  descr=DESCRS,
  shape=st.lists(LENGTHS, max_size=3).map(tuple),
  fortran=st.booleans() | st.just(0),
  itemsize=st.sampled_from([0, 1, 2, 3, 4, 8]),
)
def test_any_header_is_of_what_the_file_holds_or_refused(tmp_path, descr, shape, fortran, itemsize):
  path = tmp_path / 'a.npy'
  size = itemsize * math.prod(length for length in shape if isinstance(length, int))
  path.write_bytes(header(descr, shape, fortran) + bytes(min(max(size, 0), 1000)))
  try:
    mapped = load_array(path)
  except DataError:
    refused(path, mmap=False)
  else:
    assert mapped.shape == shape and mapped.nbytes <= len(path.read_bytes())
    assert same(mapped, load_array(path, mmap=False))


@FUZZ
@given(data=st.data())
def test_any_bytes_are_arrays_or_refused(tmp_path, data):
  path = tmp_path / 'a'
  load = data.draw(st.sampled_from([load_array, load_arrays]))
  if load is load_array:
    save_array(path, SMALL)
  else:
    save_arrays(path, SEVERAL)
  found = data.draw(st.binary() | st.just(path.read_bytes()[:-TRAILER]) | st.just(path.read_bytes()))
  path.write_bytes(changed(found, data))
  for how in [{}] if load is load_arrays else [{}, {'mmap': False, 'check': False}]:
    try:
      load(path, **how)
    except DataError as error:
      assert str(error).startswith(f'{path} ')
