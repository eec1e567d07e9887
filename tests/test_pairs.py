"""Verification sets: every form in which their pickles come is read, and no pickle is run."""

import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gif_jax.core.errors import DataError
from gif_jax.data.pairs import read_pairs, write_pairs
from tests.test_recordio import GOLDEN
from tests.test_recordio import IMAGES as FACES

FUZZ = settings(
  max_examples=int(os.environ.get('FUZZ', 200)), deadline=None, derandomize='FUZZ' not in os.environ, database=None,
  suppress_health_check=list(HealthCheck),
)  # fmt: skip
IMAGES = [b'\xff\xd8 one', b'', b'\x80' * 300, b'four']
SAME = [True, False]
FORMS = {
  'bytes': lambda image: image,
  'row': lambda image: np.frombuffer(image, np.uint8).copy(),
  'column': lambda image: np.frombuffer(image, np.uint8).copy()[:, None],
  'read-only': lambda image: np.frombuffer(image, np.uint8),
}
BOOLEANS = {
  'list': SAME, 'tuple': tuple(SAME), 'integers': [1, 0], 'NumPy': [np.True_, np.False_], 'array': np.array(SAME),
  'NumPy integers': [np.int64(1), np.uint8(0)], 'array of bytes': np.array([1, 0], np.uint8),
}  # fmt: skip


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  return tmp_path_factory.mktemp('pairs') / 'lfw.bin'


def read(path, content):
  path.write_bytes(content)
  return read_pairs(path)


def refused(path, content, match):
  with pytest.raises(DataError, match=match):
    read(path, content)


@pytest.mark.parametrize('protocol', range(6))
@pytest.mark.parametrize('form', FORMS)
def test_every_form(path, form, protocol):
  for same in BOOLEANS.values():
    for kind in (list, tuple):
      pairs = read(path, pickle.dumps((kind(map(FORMS[form], IMAGES)), same), protocol))
      assert pairs.images == IMAGES and pairs.same.dtype == bool and pairs.same.tolist() == SAME


@pytest.mark.parametrize('protocol', [0, 2, 4, 5])
def test_numpy_1_and_opencv(protocol):
  pairs = read_pairs(GOLDEN / f'protocol{protocol}.bin')
  assert pairs.images == FACES[:4] and pairs.same.tolist() == [True, False]


def test_python_2(path):
  """Written by hand as its cPickle does: strings of bytes, NumPy arrays whose content and type are such strings."""
  text = b'(lp1\nS"\\xff\\xd8 \\n1"\np2\naS\'b\'\na(lp3\nI01\natp4\n.'
  assert read(path, b'(' + text).images == [b'\xff\xd8 \n1', b'b']
  array = (
    b'cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05'
    b'(K\x01K\x02\x85cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff'
    b'K\x00tb\x89U\x02\xff\xd8tb'
  )
  assert read(path, b'\x80\x02]q\x01(U\x03abc' + array + b'e]q\x02\x88a\x86.').images == [b'abc', b'\xff\xd8']


def test_what_we_write_is_read_by_pickle(path):
  write_pairs(path, tuple(IMAGES), np.array(SAME))
  assert pickle.loads(path.read_bytes()) == (IMAGES, SAME)  # InsightFace's load_bin does this
  assert all(type(same) is bool for same in pickle.loads(path.read_bytes())[1])
  assert read_pairs(path).images == IMAGES
  with pytest.raises(DataError, match='4 images for 1 pairs'):
    write_pairs(path, IMAGES, [True])
  assert [file.name for file in path.parent.iterdir()] == [path.name]


class _Attack:
  """Pickled, it becomes a call."""

  def __init__(self, *call):
    self.call = call

  def __reduce__(self):
    return self.call[0], self.call[1:]


@pytest.mark.parametrize('protocol', range(6))
def test_code_is_not_run(path, tmp_path, protocol):
  proof = tmp_path / 'it-ran'
  command = f'touch {proof}'
  loaded = [
    (_Attack(os.system, command), r'tries to load posix\.system'),
    (([_Attack(os.system, command)] * 2, [True]), r'tries to load posix\.system'),
    ((IMAGES, [True, _Attack(eval, f'open({str(proof)!r}, "w")')]), r'tries to load (__builtin__|builtins)\.eval'),
    (_Attack(getattr, 'x', 'join'), r'tries to load (__builtin__|builtins)\.getattr'),
    (_Attack(np.load, str(proof)), r'tries to load numpy\.load'),
  ]
  for content, match in loaded:
    refused(path, pickle.dumps(content, protocol), rf'lfw\.bin: it {match}; nothing of it was run')
  assert not proof.exists()
  pickle.loads(pickle.dumps(loaded[0][0], protocol))  # what Python itself does
  assert proof.exists()


@pytest.mark.parametrize(('content', 'match'), [
  (b"(S'true'\nios\nsystem\n.", r'os\.system'), (b'\x80\x02cos\nsystem\n.', r'os\.system'),
  (b'\x80\x02cbuiltins\nbytes\nJ\xff\xff\xff\x7f\x85R.', 'damaged'),  # two gigabytes of zeros
  (b'\x80\x02cbuiltins\nbytes\nJ\xff\xff\xff\x7f\x85\x81.', 'other things'),
  (b'\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.', 'not '),
  (b'\x80\x05\x96' + struct.pack('<Q', 1 << 62) + b'.', 'cut off or damaged'),
  (b'\x8e' + struct.pack('<Q', 1 << 62) + b'.', 'cut off or damaged'),
  (b'\x95' + struct.pack('<Q', 1 << 62) + b'N.', 'not '),
  (b'Nr\xff\xff\xff\xff.', 'not '), (b'\x82\x01.', 'other things'), (b'Pname\n.', 'other things'),
  (b'cnumpy\ndtype\n}b.', 'other things'), (b'cnumpy\nndarray\nNb.', 'damaged'), (b'', 'cut off'),
  (b'cnumpy\nndarray\n(N((KkI1\nI1\nI1\nI1\nttcnumpy\ndtype\n(U\x02u1tRNU\x01ktb.', 'damaged'),
])  # fmt: skip
def test_hostile_files(path, content, match):
  refused(path, content, match)


@pytest.mark.parametrize(('found', 'match'), [
  ({1: 2}, 'other things'), ((IMAGES,), 'not '), ((IMAGES, SAME, SAME), 'not '), (([], []), 'empty'), (None, 'not '),
  ((IMAGES[:3], SAME), '3 images for 2 booleans'), ((IMAGES, [2, 0]), 'booleans'), ((IMAGES, ['a', 'b']), 'booleans'),
  ((IMAGES, [0.0, 1.0]), 'other things'), ((IMAGES, 7), 'booleans'), ((b'abcd', SAME), 'no list'),
  ((['a'] * 4, SAME), 'no bytes but str'), (([bytearray(b'a')] * 4, SAME), 'tries to load'),
  (([np.zeros((4, 4, 3), np.uint8)] * 4, SAME), r'the shape \(4, 4, 3\): images must be encoded'),
  (([np.zeros(3)] * 4, SAME), 'single bytes'), (([np.zeros(3, object)] * 4, SAME), 'single bytes'),
  ((IMAGES, np.zeros(2)), 'single bytes'),
])  # fmt: skip
def test_other_contents(path, found, match):
  refused(path, pickle.dumps(found, 3), rf'lfw\.bin.*{match}')


def test_files_that_are_not_there(tmp_path):
  for path in (tmp_path, tmp_path / 'none.bin'):
    with pytest.raises(DataError, match=f'{path.name} cannot be read'):
      read_pairs(path)


def _bounded(path, content):
  """Reads what may be anything: pairs, or a DataError; memory in proportion to the file."""
  tracemalloc.start()
  try:
    pairs = read(path, content)
    assert len(pairs.images) == 2 * len(pairs.same) > 0 and all(type(image) is bytes for image in pairs.images)
  except DataError as error:
    assert 'lfw.bin' in str(error)
  finally:
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
  assert peak < 300 * len(content) + (1 << 20)


VALID = [
  pickle.dumps((list(map(form, IMAGES)), same), protocol)
  for protocol in range(6) for form in FORMS.values() for same in (SAME, BOOLEANS['NumPy'], BOOLEANS['array'])
]  # fmt: skip
CODES = st.sampled_from([code for name, code in vars(pickle).items() if isinstance(code, bytes) and len(code) == 1])
WORDS = st.sampled_from([
  b'cnumpy\nndarray\n', b'cnumpy\ndtype\n', b'cnumpy.core.multiarray\n_reconstruct\n', b'U\x02u1', b'K\x00', b'K\x01',
  b'cnumpy._core.multiarray\nscalar\n', b'cnumpy.core.numeric\n_frombuffer\n', b'c_codecs\nencode\n', b'U\x06latin1',
  b'X\x01\0\0\0a', b'q\x00', b'h\x00', b'c__builtin__\nbytes\n', b'\xff' * 8, b'\x85', b'\x86', b'R', b'b', b'(', b't',
])  # fmt: skip


@FUZZ
@given(content=st.binary(max_size=200))
def test_any_bytes(path, content):
  _bounded(path, content)


@FUZZ
@given(st.lists(CODES | WORDS | st.binary(max_size=3), max_size=60))
def test_any_program(path, pieces):
  _bounded(path, b''.join(pieces))


@FUZZ
@given(st.sampled_from(VALID), st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1), CODES | WORDS), max_size=4))
def test_any_change_of_a_valid_file(path, content, changes):
  for lost, where, piece in changes:
    at = int(where * len(content))
    content = content[:at] + piece + content[at + (0, len(piece), len(content))[lost] :]
  _bounded(path, content)


def test_repeating_does_not_multiply(path):
  """A long text made into bytes, or bytes into a number, again and again with few bytes of program for each."""
  text = b'X' + struct.pack('<I', 1 << 16) + b'a' * (1 << 16) + b'q\x000'
  again = b'c_codecs\nencode\nh\x00X\x06\0\0\0latin1\x86R'
  _bounded(path, b'\x80\x02' + text + b'(' + again * 3000 + b'l.')
  number = b'cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nU\x02i8\x85Rh\x01\x86R'
  _bounded(path, b'\x80\x02' + b'T' + text[1:].replace(b'q\x00', b'q\x01') + b'(' + number * 3000 + b'l.')
  refused(path, b'\x80\x02' + text + b'(' + again * 3000 + b'l.', 'repeats itself')
