"""Pictures that are there twice, beside comparing every pair; which hashes survive compression, and which must not."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gif_jax.audit.duplicates import ALIKE, DISTANCE, DOWN, candidates, confirmed, correlation, repeats
from gif_jax.audit.image_hashes import Together, mark
from gif_jax.data.sets.synthetic import SyntheticFaces


def all_pairs(look, down):
  near = [np.bitwise_count(hashes[:, None] ^ hashes) for hashes in (look, down)]
  return np.argwhere(np.triu((near[0] <= DISTANCE) & (near[1] <= DOWN), 1))


def hashes(rng, n, flips):
  """Half of them close to an earlier one."""
  found = rng.integers(0, 2**64, n, np.uint64)
  for i in range(1, n, 2):
    found[i] = found[i - 1]
    for bit in rng.integers(0, 64, rng.integers(flips + 1)):
      found[i] ^= np.uint64(1) << np.uint64(bit)
  return found


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(0, 200))
def test_candidates_are_those_of_comparing_everything(seed, n):
  rng = np.random.default_rng(seed)
  look, down = hashes(rng, n, DISTANCE + 2), hashes(rng, n, DOWN + 2)
  np.testing.assert_array_equal(candidates(look, down), all_pairs(look, down))
  np.testing.assert_array_equal(candidates(look, 0 * down), all_pairs(look, 0 * down))


def test_a_thousand_equal_hashes_are_one_group_at_bounded_cost():
  equal = np.full(1000, 7, np.uint64)
  pairs = candidates(equal, equal)
  assert 999 <= len(pairs) <= 64 * 1000
  assert set(pairs[:, 1].tolist()) == set(range(1, 1000))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=30))
def test_repeats_are_those_of_a_loop(rows):
  content, person = (np.array([row[k] for row in rows], kind) for k, kind in ((0, np.uint64), (1, np.int64)))
  root, pairs = repeats(content, person)
  first, first_own, wanted = {}, {}, []
  for i, (picture, who) in enumerate(rows):
    assert root[i] == first.setdefault(picture, i)
    earlier = first_own.setdefault((picture, who), i if first[picture] == i else None)
    if first[picture] != i:
      wanted.append((first[picture] if earlier is None else earlier, i))
      first_own[picture, who] = i if earlier is None else earlier
  assert list(map(tuple, pairs.tolist())) == wanted


def jpeg(image, quality):
  return cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def smaller(image):
  return cv2.resize(image, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)


def larger(image):
  return cv2.resize(image, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC)


def brighter(image):
  return np.clip(image * 1.1 + 5, 0, 255).astype(np.uint8)


@pytest.fixture(scope='module')
def pictures():
  return SyntheticFaces(11, 112, 40, 3)[:]


@pytest.mark.parametrize('change', [np.copy, smaller, larger, brighter])
def test_what_is_stored_again_is_the_same_picture(pictures, change):
  for image in pictures[:40]:
    assert correlation(jpeg(image, 95), jpeg(change(image), 60)) >= ALIKE


def test_most_that_is_compressed_again_has_near_hashes(pictures):
  first, second = (np.array([mark(jpeg(image, q))[1:3] for image in pictures], np.uint64) for q in (95, 70))
  near = np.bitwise_count(first ^ second) <= (DISTANCE, DOWN)
  assert near.all(1).mean() > 0.98


@pytest.mark.slow
def test_other_photographs_are_not_the_same_picture(pictures):
  images = Together([_Encoded([jpeg(image, 90) for image in pictures])])
  pairs = np.stack(np.triu_indices(40, 1), 1)
  assert not confirmed(images, pairs).any()


class _Encoded(list):
  def where(self, index):
    return f'image {index}'
