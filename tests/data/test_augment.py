"""Augmentation is a function of (pixels, seed, position) alone, and each kind does what it says."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from gif_jax.core import counter_rng
from gif_jax.data import augment
from gif_jax.data.augment import Chances

KINDS = Chances._fields
SIZE = 112
ALL = Chances(*[0.5] * len(KINDS))


@pytest.fixture(scope='module')
def images():
  """Two hundred smooth pictures with noise, in which no kind can leave all pixels as they are."""
  rng = np.random.default_rng(0)
  coarse = rng.integers(20, 236, (200, 6, 6, 3), np.uint8)
  smooth = np.stack([cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for image in coarse])
  return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def _augmented(images, chances, *, seed=1, position=None):
  result = images.copy()
  augment.augment(result, seed, np.arange(len(images)) if position is None else position, chances)
  return result


def _changed(before, after):
  return (before != after).any((1, 2, 3))


def test_probability_zero_changes_nothing(images):
  np.testing.assert_array_equal(_augmented(images, augment.PLAIN), images)


@pytest.mark.parametrize('kind', KINDS)
def test_a_kind_changes_the_images_that_drew_it_and_no_other(images, kind):
  after = _augmented(images, Chances(**{kind: 0.3}))
  assert after.dtype == np.uint8 and after.shape == images.shape
  drawn = counter_rng.uniform(1, KINDS.index(kind), np.arange(200), 0) < 0.3
  changed = _changed(images, after)
  assert not changed[~drawn].any()
  assert changed[drawn].mean() > 0.9  # a crop may keep everything, a resolution may be nearly the whole one
  assert 35 < drawn.sum() < 85  # 60 expected, standard deviation 6.5


@pytest.mark.parametrize('kind', KINDS)
def test_probability_one_is_every_image(images, kind):
  assert _changed(images, _augmented(images, Chances(**{kind: 1.0}))).mean() > 0.95


def test_the_share_of_images_changed_is_the_probability():
  grey = np.zeros((20_000, 2, 2, 3), np.uint8)
  grey[..., 0] = 255
  for chance in (0.05, 0.5, 0.9):
    found = _changed(grey, _augmented(grey, Chances(grey=chance))).mean()
    assert abs(found - chance) < 4 * (chance * (1 - chance) / 20_000) ** 0.5


def test_kinds_are_drawn_independently():
  drawn = np.stack([counter_rng.uniform(1, stream, np.arange(20_000), 0) < 0.5 for stream in range(len(KINDS))])
  assert np.abs(np.corrcoef(drawn) - np.eye(len(KINDS))).max() < 0.03


@settings(deadline=None, derandomize=True, max_examples=20)
@given(st.permutations(range(12)), st.integers(1, 12))
def test_an_image_becomes_the_same_whatever_is_beside_it(images, order, cut):
  together = _augmented(images[:12], ALL)
  parts = [np.array(part) for part in (order[:cut], order[cut:]) if part]
  for part in parts:
    np.testing.assert_array_equal(_augmented(images[part], ALL, position=part), together[part])


def test_positions_and_seeds_differ(images):
  first = _augmented(images, ALL)
  for other in (_augmented(images, ALL, seed=2), _augmented(images, ALL, position=np.arange(200) + 200)):
    assert _changed(first, other).mean() > 0.8


def test_global_generators_are_left_alone(images):
  cv2.setRNGSeed(1)
  np.random.seed(1)
  first = _augmented(images, ALL)
  before = np.random.get_state()[1].copy()
  cv2.setRNGSeed(2)
  np.testing.assert_array_equal(_augmented(images, ALL), first)
  np.testing.assert_array_equal(np.random.get_state()[1], before)


def _one(change, image, *draws):
  result = image.copy()
  change(result, [*draws, *[0.5] * (5 - len(draws))])
  return result


def test_flip(images):
  np.testing.assert_array_equal(_one(augment.flip, images[0]), images[0][:, ::-1])


def test_grey_weights():
  image = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]]], np.uint8)
  found = _one(augment.grey, image)
  assert (found == found[..., :1]).all()
  assert found[..., 0].tolist() == [[76, 150], [29, 18]]  # .299, .587, .114 of 255; 2.99 + 11.74 + 3.42


def test_photometric_by_hand():
  image = np.array([[[100, 60, 20], [20, 60, 100]]], np.uint8)
  np.testing.assert_array_equal(_one(augment.photometric, image, 0.5, 0.5, 0.5), image)  # each times 1
  np.testing.assert_array_equal(_one(augment.photometric, image, 0.0, 0.5, 0.5), image // 2)
  # Greys are 67.4 and 52.6, their mean 60: with half the contrast a value x becomes 30 + x / 2.
  assert _one(augment.photometric, image, 0.5, 0.0, 0.5).tolist() == [[[80, 60, 40], [40, 60, 80]]]
  # With half the saturation x becomes x / 2 + grey / 2.
  assert _one(augment.photometric, image, 0.5, 0.5, 0.0).tolist() == [[[84, 64, 44], [36, 56, 76]]]


def test_photometric_beside_pillow(images):
  """Steps one after the other, as Pillow has them, each rounded: a few grey values apart."""
  factors = 0.5 + np.array([0.4, 0.3, 0.6])
  expected = Image.fromarray(images[0])
  for kind, factor in zip((ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), factors):
    expected = kind(expected).enhance(factor)
  found = _one(augment.photometric, images[0], 0.4, 0.3, 0.6)
  assert np.abs(found.astype(int) - np.asarray(expected)).max() <= 3


def test_blur_is_a_gaussian(images):
  point = np.zeros((SIZE, SIZE, 3), np.uint8)
  point[56, 56] = 255
  sigma = (0.004 + 0.016) * SIZE
  found = _one(augment.blur, point, 1.0)[56, :, 0].astype(float)
  squares = (np.arange(SIZE) - 56) ** 2
  expected = np.exp(-squares / (2 * sigma**2)) / np.exp(-squares / (2 * sigma**2)).sum() ** 2 * 255
  assert np.abs(found - expected).max() < 2


def test_low_resolution_has_as_many_values_as_the_small_image(images):
  found = _one(augment.low_resolution, images[0], 0.1, 0.0, 0.0)  # .28 of the side, nearest neighbours twice
  side = int(0.28 * SIZE)
  taken = np.arange(SIZE) * side // SIZE * SIZE // side
  np.testing.assert_array_equal(found, images[0][taken][:, taken])


@pytest.mark.parametrize('draw', [0.0, 0.5, 0.999])
def test_jpeg_is_what_pillow_decodes(images, draw):
  """The decoder against Pillow's, of a file that Pillow wrote: its tables of quantisation belong to the quality."""
  found = _one(augment.jpeg, images[0], draw)
  file = io.BytesIO()
  Image.fromarray(images[0]).save(file, 'JPEG', quality=10 + int(51 * draw), subsampling='4:2:0')
  np.testing.assert_array_equal(found, np.asarray(Image.open(file)))


def test_erase_box():
  image = np.full((100, 100, 3), 7, np.uint8)
  # .02 + .38 * .5 = .21 of the area, 1 : 1 at .5: 46 pixels a side; .25 of the 55 places down, .75 to the right.
  found = _one(augment.erase, image, 0.5, 0.5, 0.25, 0.75, 0.3)
  noise = (found != 7).any(-1)
  assert noise[13:59, 41:87].mean() > 0.99
  noise[13:59, 41:87] = False
  assert not noise.any()
  pixels = found[13:59, 41:87].ravel()
  assert abs(pixels.mean() - 127.5) < 4 * 73.9 / len(pixels) ** 0.5


def test_crop_box(images):
  # .2 + .8 * .25 = .4 of the area, 1 : 1 at .5: 71 pixels a side; half of the 42 places down, the last to the right.
  found = _one(augment.crop, images[0], 0.25, 0.5, 0.5, 0.999)
  expected = np.zeros_like(found)
  expected[21:92, 41:] = images[0][21:92, 41:]
  np.testing.assert_array_equal(found, expected)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.lists(st.floats(0, 0.999), min_size=5, max_size=5), st.sampled_from([1, 2, 16, 112]))
def test_any_draw_and_size_works(draws, size):
  image = np.full((size, size, 3), 200, np.uint8)
  for change in (augment.photometric, augment.blur, augment.low_resolution, augment.jpeg, augment.erase, augment.crop):
    change(image, draws)
