"""Verification sets as benchmarks: crops, who is who by what the file tells, fingerprints; damage and attacks."""

import os
import pickle
import struct
import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gif_jax.core.errors import DataError
from gif_jax.data.formats.bin_pairs import write_pairs
from gif_jax.evaluation.registry import open_benchmark
from gif_jax.evaluation.verification.dataset import PairSet
from tests.helpers.pictures import SIZE, encode, picture

PICTURES = [encode(picture(i)) for i in range(8)]


def bench(path, chosen, same, size=SIZE):
  write_pairs(path, [PICTURES[i] for i in chosen], same)
  return PairSet.open(path, size)


@pytest.fixture
def path(tmp_path):
  return tmp_path / 'lfw.bin'


def test_crops_are_the_decoded_images(path):
  found = bench(path, [0, 1, 2, 3], [True, False])
  assert (found.name, len(found.images)) == ('lfw', 4)
  assert found.same.tolist() == [True, False] and found.same.dtype == bool
  expected = [cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for one in PICTURES[:4]]
  np.testing.assert_array_equal(found.images[:], expected)
  np.testing.assert_array_equal(found.images[np.array([3, 1])], [expected[3], expected[1]])


@pytest.mark.parametrize(
  ('chosen', 'same', 'expected'),
  [
    # Genuine 0-1; impostor 2-3: nothing is known of them.
    ([0, 1, 2, 3], [True, False], [0, 0, 1, 2]),
    # Genuine 0-1 and 1-2 through the picture they share, so the impostor pair 2-3 is of that person and another.
    ([0, 1, 1, 2, 2, 3], [True, True, False], [0, 0, 0, 0, 0, 1]),
    # Two chains, 0-1 and 2-3, joined by the third pair only where it is genuine.
    ([0, 1, 2, 3, 1, 2], [True, True, False], [0, 0, 1, 1, 0, 1]),
    ([0, 1, 2, 3, 1, 2], [True, True, True], [0] * 6),
    # An image and itself; an image that says it is not itself (a wrong label): one picture is one person.
    ([4, 4, 5, 5], [True, False], [0, 0, 1, 1]),
    # No genuine pair at all.
    ([0, 1, 0, 2], [False, False], [0, 1, 0, 2]),
  ],
)
def test_identities_by_hand(path, chosen, same, expected):
  found = bench(path, chosen, same).identity
  assert found.dtype == np.int64 and sorted(set(found.tolist())) == list(range(len(set(expected))))
  assert len({*zip(found.tolist(), expected)}) == len(set(expected))  # the same parts, under whatever numbers


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.booleans()), min_size=1, max_size=12))
def test_identities_agree_with_joining_one_by_one(tmp_path_factory, pairs):
  group = list(range(8))
  for left, right, same in pairs:
    if same:
      group = [group[left] if one == group[right] else one for one in group]
  expected = [group[i] for pair in pairs for i in pair[:2]]
  path = tmp_path_factory.getbasetemp() / 'some.bin'
  found = bench(path, [i for pair in pairs for i in pair[:2]], [pair[2] for pair in pairs]).identity.tolist()
  assert len({*zip(found, expected)}) == len(set(expected)) == len(set(found)) == max(found) + 1


def test_the_fingerprint_is_of_images_pairs_and_size(path, tmp_path):
  first = bench(path, [0, 1, 2, 3], [True, False]).fingerprint
  assert bench(tmp_path / 'copy.bin', [0, 1, 2, 3], [True, False]).fingerprint == first
  others = [
    bench(path, [0, 1, 2, 4], [True, False]),
    bench(path, [0, 1, 3, 2], [True, False]),
    bench(path, [0, 1, 2, 3], [False, True]),
    bench(path, [0, 1, 2, 3], [True, False], size=2 * SIZE),
    bench(path, [0, 1, 2, 3, 4, 5], [True, False, False]),
  ]
  assert len({first, *(one.fingerprint for one in others)}) == 6


def _python_2(images, same):
  """As cPickle of Python 2 writes it with protocol 2: strings of bytes."""
  strings = b''.join(b'T' + struct.pack('<i', len(image)) + image for image in images)
  return b'\x80\x02](' + strings + b'e](' + b''.join(b'\x88' if one else b'\x89' for one in same) + b'e\x86.'


def test_files_of_python_2(path, tmp_path):
  expected = bench(path, [0, 1, 2, 3], [True, False])
  (tmp_path / 'old.bin').write_bytes(_python_2(PICTURES[:4], [True, False]))
  found = open_benchmark(str(tmp_path / 'old.bin'), SIZE)
  np.testing.assert_array_equal(found.images[:], expected.images[:])
  assert found.fingerprint == expected.fingerprint and found.identity.tolist() == expected.identity.tolist()


@pytest.mark.parametrize('damaged', [b'', b'no image', PICTURES[0][:20]])
def test_a_damaged_image_is_named_with_its_file(path, damaged):
  write_pairs(path, [*PICTURES[:3], damaged], [True, False])
  found = PairSet.open(path, SIZE)
  assert len(found.images[:3]) == 3
  with pytest.raises(DataError, match=r'lfw\.bin, image 3 cannot be decoded'):
    found.images[2:4]


def test_other_sizes_are_fitted_into_the_square(path):
  """A square keeps filling it; a picture twice as high as wide has black at both sides, where load_bin would fail."""
  grey = np.full((48, 48, 3), 200, np.uint8)
  write_pairs(path, [encode(grey, 'PNG'), encode(grey[:, :24], 'PNG')], [True])
  square, high = PairSet.open(path, 32).images[:]
  assert square.shape == (32, 32, 3) and (square == 200).all()
  assert (high[:, 8:24] == 200).all() and not high[:, :8].any() and not high[:, 24:].any()


class _Touch:
  """Pickled, it becomes a call that leaves a file."""

  def __init__(self, proof):
    self.proof = proof

  def __reduce__(self):
    return os.system, (f'touch {self.proof}',)


@pytest.mark.parametrize(
  'hidden',
  [lambda bad: bad, lambda bad: ([bad, *PICTURES[:3]], [True, False]), lambda bad: (PICTURES[:4], [True, bad])],
)
def test_a_file_that_runs_code_is_refused_and_nothing_ran(path, tmp_path, hidden):
  proof = tmp_path / 'it-ran'
  path.write_bytes(pickle.dumps(hidden(_Touch(proof)), 2))
  with pytest.raises(DataError, match=r'lfw\.bin: it tries to load posix\.system; nothing of it was run'):
    open_benchmark(str(path), SIZE)
  assert not proof.exists()
  pickle.loads(path.read_bytes())  # what Python itself does, and insightface's load_bin
  assert proof.exists()


def test_memory_is_that_of_the_encoded_images(path):
  """14 000 images, as in CFP: what stays is the file's content once, and numbers."""
  images = [PICTURES[i % 8] + struct.pack('<i', i // 2) * 200 for i in range(14000)]
  write_pairs(path, images, np.arange(7000) % 2 == 0)
  size = sum(map(len, images))
  del images
  tracemalloc.start()
  found = open_benchmark(str(path), SIZE)
  kept, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert found.images[-1:].shape == (1, SIZE, SIZE, 3)
  assert kept < 1.2 * size + (4 << 20) and peak < 2.2 * size + (12 << 20)


def test_a_picture_stored_once_or_for_every_pair_is_the_same_benchmark(path, tmp_path):
  chosen, same = [0, 1, 0, 2, 1, 0], [True, False, True]
  once = bench(path, chosen, same)
  apart = [bytearray(PICTURES[i]) for i in chosen]
  (tmp_path / 'apart.bin').write_bytes(pickle.dumps((apart, np.array(same, np.float32)), 2))
  assert path.stat().st_size < (tmp_path / 'apart.bin').stat().st_size
  found = PairSet.open(tmp_path / 'apart.bin', SIZE)
  np.testing.assert_array_equal(found.images[:], once.images[:])
  assert found.fingerprint == once.fingerprint and found.identity.tolist() == once.identity.tolist()
  assert len({id(found.images.records[i]) for i in range(6)}) == 3  # in memory once, too
