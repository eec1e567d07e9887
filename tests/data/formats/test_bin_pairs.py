"""Verification sets: every form in which their pickles come is read, and no pickle is run."""

import os
import pickle
import struct
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gif_jax.core.errors import DataError
from gif_jax.data.formats.bin_pairs import read_pairs, write_pairs
from tests.helpers.golden_records import GOLDEN
from tests.helpers.golden_records import IMAGES as FACES

FUZZ = settings(
  max_examples=int(os.environ.get('FUZZ', 200)),
  deadline=None,
  derandomize='FUZZ' not in os.environ,
  database=None,
  suppress_health_check=list(HealthCheck),
)
IMAGES = [b'\xff\xd8 one', b'', b'\x80' * 300, b'four']
SAME = [True, False]
FORMS = {
  'bytes': lambda image: image,
  'row': lambda image: np.frombuffer(image, np.uint8).copy(),
  'column': lambda image: np.frombuffer(image, np.uint8).copy()[:, None],
  'read-only': lambda image: np.frombuffer(image, np.uint8),
  'bytearray': bytearray,
  'memoryview': lambda image: bytes(memoryview(image)),
  'NumPy bytes': np.bytes_,
}
NUMBERS = [
  np.bool_,
  np.int8,
  np.uint8,
  np.int16,
  np.uint16,
  np.int32,
  np.uint32,
  np.int64,
  np.uint64,
  np.float16,
  np.float32,
  np.float64,
]
BOOLEANS = {
  'list': SAME,
  'integers': [1, 0],
  'floats': [1.0, 0.0],
  'mixed': [1.0, np.False_],
  'column': [[1], [0.0]],
  'zero': [True, -0.0],
  'objects': np.array([True, 0.0], object),
  'NumPy objects': np.array([np.int64(1), np.float32(0)], object),
} | {
  f'{form} of {kind.__name__}': make(kind)
  for kind in NUMBERS
  for form, make in {
    'scalars': lambda kind: [kind(1), kind(0)],
    'arrays': lambda kind: [np.ones(1, kind), np.zeros((1, 1), kind)],
    'array': lambda kind: np.array(SAME, kind),
    'big-endian': lambda kind: np.array(SAME, np.dtype(kind).newbyteorder('>')),
    'Fortran': lambda kind: np.asfortranarray(np.array(SAME, kind)[:, None]),
    'every other': lambda kind: np.array([1, 5, 0, 5]).astype(kind)[::2],
  }.items()
}


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
def test_every_form_of_images(path, form, protocol):
  images = [*map(FORMS[form], IMAGES)]
  objects = np.empty(len(images), object)
  objects[:] = images
  for container in (images, tuple(images), objects):
    pairs = read(path, pickle.dumps((container, SAME), protocol))
    assert pairs.images == IMAGES and pairs.same.dtype == bool and pairs.same.tolist() == SAME


@pytest.mark.parametrize('protocol', range(6))
@pytest.mark.parametrize('form', BOOLEANS)
def test_every_form_of_labels(path, form, protocol):
  same = BOOLEANS[form]
  for container in (same, tuple(same)):
    pairs = read(path, pickle.dumps((IMAGES, container), protocol))
    assert pairs.images == IMAGES and pairs.same.dtype == bool and pairs.same.tolist() == SAME


def test_a_picture_is_kept_once_however_often_it_is_stored(path):
  """As others write it, twice in the file; as we write it, once: one object for whoever reads it."""
  pictures = [bytes([i]) * 1000 for i in range(3)]
  chosen = [0, 1, 0, 2, 1, 0]
  apart = [bytes(bytearray(pictures[i])) for i in chosen]
  path.write_bytes(pickle.dumps((apart, [True] * 3)))
  assert path.stat().st_size > 6000 and len({*map(id, read_pairs(path).images)}) == 3
  write_pairs(path, apart, [True] * 3)
  assert 3000 < path.stat().st_size < 3200
  for images in (read_pairs(path).images, pickle.loads(path.read_bytes(), encoding='bytes')[0]):
    assert images == apart and len({*map(id, images)}) == 3


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
  assert write_pairs(path, tuple(IMAGES), np.array(SAME)) == 4
  assert write_pairs(path, (*IMAGES[:2], *IMAGES[:2]), SAME) == 2
  assert write_pairs(path, [bytearray(b'a'), memoryview(b'a')], [0]) == 1
  assert pickle.loads(path.read_bytes()) == ([b'a', b'a'], [False])
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


@pytest.mark.parametrize(
  ('content', 'match'),
  [
    (b"(S'true'\nios\nsystem\n.", r'os\.system'),
    (b'\x80\x02cos\nsystem\n.', r'os\.system'),
    (b'\x80\x02cbuiltins\nbytes\nJ\xff\xff\xff\x7f\x85R.', 'damaged'),  # two gigabytes of zeros
    (b'\x80\x02cbuiltins\nbytes\nJ\xff\xff\xff\x7f\x85\x81.', 'other things'),
    (b'\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.', 'not '),
    (b'\x80\x05\x96' + struct.pack('<Q', 1 << 62) + b'.', 'cut off or damaged'),
    (b'\x8e' + struct.pack('<Q', 1 << 62) + b'.', 'cut off or damaged'),
    (b'\x95' + struct.pack('<Q', 1 << 62) + b'N.', 'not '),
    (b'Nr\xff\xff\xff\xff.', 'not '),
    (b'\x82\x01.', 'other things'),
    (b'Pname\n.', 'other things'),
    (b'cnumpy\ndtype\n}b.', 'other things'),
    (b'cnumpy\nndarray\nNb.', 'damaged'),
    (b'', 'cut off'),
    (b'\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.', 'damaged'),
    (b'cnumpy\nndarray\n(N((KkI1\nI1\nI1\nI1\nttcnumpy\ndtype\n(U\x02u1tRNU\x01ktb.', 'damaged'),
  ],
)
def test_hostile_files(path, content, match):
  refused(path, content, match)


OBJECTS = np.empty(4, object)
OBJECTS[:] = 'a'


@pytest.mark.parametrize(
  ('found', 'match'),
  [
    ({1: 2}, 'other things'),
    ((IMAGES,), 'not '),
    ((IMAGES, SAME, SAME), 'not '),
    (([], []), 'empty'),
    (None, 'not '),
    ((IMAGES[:3], SAME), '2 labels for 3 images, wanted one for two'),
    ((IMAGES, np.zeros(3)), '3 labels for 4 images'),
    ((SAME, IMAGES), '4 labels for 2 images'),
    ((IMAGES, [1, 2]), 'label 1 is 2, wanted 0 or 1'),
    ((IMAGES, [-1, 1]), 'label 0 is -1'),
    ((IMAGES, [0, 0.5]), r'label 1 is 0\.5'),
    ((IMAGES, np.array([np.nan, 1])), 'label 0 is nan'),
    ((IMAGES, np.array([0, 256])), 'label 1 is 256'),
    ((IMAGES, np.array([0, 256], '>i4')), 'label 1 is 256'),
    ((IMAGES, [True, 1 << 2000]), 'label 1 is [0-9]{40}, wanted'),
    ((IMAGES, [1, np.uint8(3)]), 'label 1 is 3'),
    ((IMAGES, [True, 'b']), 'label 1 is a str'),
    ((IMAGES, [None, True]), 'label 0 is None'),
    ((IMAGES, [[0, 1], True]), 'label 0 is a list'),
    ((IMAGES, [True, np.zeros(9)]), 'label 1 is an array'),
    ((IMAGES, [True, 1j]), 'tries to load (__builtin__|builtins).complex'),
    ((IMAGES, np.array([0j, 1])), 'labels: an array of type c16'),
    ((IMAGES, np.array(['0', '1'])), 'labels: .* type U1'),
    ((IMAGES, [True, np.longdouble(1)]), 'label 1: an array of type f16'),
    ((IMAGES, 7), 'labels: an int, no list'),
    ((IMAGES, np.zeros((2, 2))), r'labels: the shape \(2, 2\)'),
    ((b'abcd', SAME), 'images: a bytes, no list'),
    ((np.array(IMAGES), SAME), 'images: an array of type S300'),
    (([b'', b'', b'', 'a'], SAME), 'image 3 is a str, wanted bytes'),
    ((OBJECTS, SAME), 'image 0 is a str'),
    (([b'', None, b'', b''], SAME), 'image 1 is None'),
    (([b'', b'', b'', 1], SAME), 'image 3 is an int'),
    ((np.zeros(4, np.uint8), SAME), 'image 0 is an int'),
    (
      ([b'', np.zeros((4, 4, 3), np.uint8)] * 2, SAME),
      r'image 1: the shape \(4, 4, 3\), wanted a row \(images encoded',
    ),
    (([np.zeros(3)] * 4, SAME), 'image 0: an array of type f8'),
    (([OBJECTS] * 4, SAME), 'image 0: an array of type O8'),
  ],
)
def test_other_contents(path, found, match):
  refused(path, pickle.dumps(found, 3), rf'lfw\.bin is no verification set: {match}|lfw\.bin.*{match}')


def test_a_byte_that_is_no_boolean_is_not_true(path):
  content = pickle.dumps((IMAGES, np.array([True, True])), 4)
  assert content.count(b'\x01\x01') == 1
  refused(path, content.replace(b'\x01\x01', b'\x01\x02'), 'label 1 is 2')


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
  for protocol in range(6)
  for form in FORMS.values()
  for same in (SAME, *(BOOLEANS[name] for name in ('floats', 'objects', 'scalars of float32', 'big-endian of int64')))
]
CODES = st.sampled_from([code for name, code in vars(pickle).items() if isinstance(code, bytes) and len(code) == 1])
WORDS = st.sampled_from(
  [
    b'cnumpy\nndarray\n',
    b'cnumpy\ndtype\n',
    b'cnumpy.core.multiarray\n_reconstruct\n',
    b'U\x02u1',
    b'K\x00',
    b'K\x01',
    b'c__builtin__\nbytearray\n',
    b'cbuiltins\nbytearray\n',
    b'G\x3f\xf0\0\0\0\0\0\0',
    b'U\x02f8',
    b'U\x02O8',
    b'U\x01>',
    b'cnumpy._core.multiarray\nscalar\n',
    b'cnumpy.core.numeric\n_frombuffer\n',
    b'c_codecs\nencode\n',
    b'U\x06latin1',
    b'X\x01\0\0\0a',
    b'q\x00',
    b'h\x00',
    b'c__builtin__\nbytes\n',
    b'\xff' * 8,
    b'\x85',
    b'\x86',
    b'R',
    b'b',
    b'(',
    b't',
  ]
)


@FUZZ
@given(content=st.binary(max_size=200))
def test_any_bytes(path, content):
  _bounded(path, content)


@pytest.mark.slow
@FUZZ
@given(st.lists(CODES | WORDS | st.binary(max_size=3), max_size=60))
def test_any_program(path, pieces):
  _bounded(path, b''.join(pieces))


@pytest.mark.slow
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


def test_shapes_do_not_multiply(path):
  """A shape of numbers and tuples whose product would be a long tuple; lists in lists that are endless as text."""
  array = b'\x80\x02]q\x00cnumpy\nndarray\nq\x01(C\x02abcnumpy\ndtype\nU\x02u1\x85R(J\xff\xff\xff\x7fK\x01\x85ttRq\x02'
  _bounded(path, array + b'00(h\x02h\x02l(\x88l\x86.')
  refused(path, array + b'00(h\x02h\x02l(\x88l\x86.', 'an array in it is damaged')
  deep = b']q\x00' + b'0(h\x00h\x00lq\x00' * 200
  refused(path, b'\x80\x02(' + deep + deep + b'l(\x88l\x86.', 'image 0 is a list')
  refused(path, b'\x80\x02(C\x00C\x00l(' + deep + b'l\x86.', 'label 0 is a list')


def test_labels_that_are_one_large_array_again_and_again(path):
  """Each is looked at, none is read whole for every label."""
  large = pickle.dumps(np.zeros(1 << 16, np.uint8), 2)[:-1] + b'r\x00\x01\x00\x000'
  again, begun = b'j\x00\x01\x00\x00', time.monotonic()
  refused(path, large + b'(' + b'C\x00' * 8000 + b'l(' + again * 4000 + b'l\x86.', 'label 0 is an array')
  _bounded(path, large + b'(' + again * 8000 + b'l(' + b'\x88' * 4000 + b'l\x86.')
  assert len({*map(id, read_pairs(path).images)}) == 1
  assert time.monotonic() - begun < 5
