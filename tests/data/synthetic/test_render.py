"""The face renderer: the same bytes everywhere, identities that differ, and pixels that do not give them away."""

import hashlib
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from gif_jax.data.synthetic import FaceRenderer, scene

HUGE = 2**40 + 3
PAIRS = np.array([[0, 0], [0, 1], [7, 0], [HUGE, 5], [7, 2**50], [123456, 3]])
# Pins that every machine computes the same pictures: a new value means that every stored result is of another world.
GOLDEN = {
  56: '88fe96937f02f8069f435c2231b59db8adb4243754d3d2742cbbfa68cb4ef226',
  112: 'c9c6742d7db9206d4d2991fb3a24532e6b275e2f57abf89ab520c3c3b1a5047f',
}


def grid(identities: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
  return np.repeat(np.arange(identities), samples), np.tile(np.arange(samples), identities)


def digest(images: np.ndarray) -> str:
  return hashlib.sha256(images.tobytes()).hexdigest()


@pytest.mark.parametrize('size', [56, 112])
def test_golden(size):
  assert digest(FaceRenderer(3, size).render(*PAIRS.T)) == GOLDEN[size]


def test_same_bytes_alone_in_a_batch_and_shuffled():
  renderer = FaceRenderer(1, 56)
  identities, samples = grid(4, 5)
  images = renderer.render(identities, samples)
  order = np.random.default_rng(0).permutation(len(images))
  np.testing.assert_array_equal(renderer.render(identities[order], samples[order]), images[order])
  alone = [FaceRenderer(1, 56).render(identities[i : i + 1], samples[i : i + 1])[0] for i in range(len(images))]
  np.testing.assert_array_equal(alone, images)


def test_same_bytes_whatever_was_rendered_before():
  renderer = FaceRenderer(1, 32)
  before = renderer.render(*PAIRS.T)
  renderer.render(*grid(40, 1))
  np.testing.assert_array_equal(renderer.render(*PAIRS.T), before)


def test_same_bytes_pickled():
  renderer = FaceRenderer(2, 56)
  images = renderer.render(*PAIRS.T)
  copy = pickle.loads(pickle.dumps(renderer))
  assert (copy.seed, copy.size) == (2, 56)
  np.testing.assert_array_equal(copy.render(*PAIRS.T), images)


def test_same_bytes_in_another_process_on_a_lesser_processor():
  code = (
    'import hashlib; from gif_jax.data.synthetic import FaceRenderer; '
    f'print(hashlib.sha256(FaceRenderer(2, 48).render({PAIRS[:, 0].tolist()}, {PAIRS[:, 1].tolist()})'
    '.tobytes()).hexdigest())'
  )
  vectors = np.show_config(mode='dicts')['SIMD Extensions'].get('found', [])
  environment = os.environ | {'NPY_DISABLE_CPU_FEATURES': ' '.join(vectors)}
  output = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True, env=environment
  ).stdout
  assert output.strip() == digest(FaceRenderer(2, 48).render(*PAIRS.T))


def test_float32_throughout(monkeypatch):
  """Float64 would slip in unseen, through an integer array in a sum, and cost half of the speed."""
  dtypes, lay = set(), scene.lay

  def spy(planes, rgb, alpha):
    dtypes.update((planes.dtype, rgb.dtype, alpha.dtype))
    lay(planes, rgb, alpha)

  monkeypatch.setattr(scene, 'lay', spy)
  FaceRenderer(0, 32).render(np.arange(60), np.arange(60))
  assert dtypes == {np.dtype(np.float32)}


@pytest.mark.parametrize('size', [32, 56, 100, 112, 113, 224])
def test_shapes(size):
  images = FaceRenderer(0, size).render(np.array([4, 4, HUGE]), np.array([0, 1, 0], np.int32))
  assert images.shape == (3, size, size, 3) and images.dtype == np.uint8
  assert len({digest(image) for image in images}) == 3
  assert all(image.std() > 10 for image in images)


def test_none():
  assert FaceRenderer(0, 56).render(np.zeros(0, np.int64), np.zeros(0, np.int64)).shape == (0, 56, 56, 3)


def test_seeds_and_samples_differ():
  images = [FaceRenderer(seed, 56).render(*PAIRS.T) for seed in (0, 1)]
  assert len({digest(image) for image in np.concatenate(images)}) == 2 * len(PAIRS)


def test_sizes_show_the_same_face():
  large, small = (FaceRenderer(0, size).render(*grid(6, 4)).astype(np.float32) for size in (112, 56))
  shrunk = large.reshape(-1, 56, 2, 56, 2, 3).mean((2, 4))
  assert np.abs(shrunk - small).mean() < 8
  assert np.corrcoef(shrunk.ravel(), small.ravel())[0, 1] > 0.97


@pytest.mark.slow
def test_samples_of_one_look_more_alike_than_two():
  """The middle of the face, each picture standardised: the mean of 12 finds the other 12 of its person among 40."""
  images = FaceRenderer(0, 56).render(*grid(40, 24)).astype(np.float32)[:, 14:46, 14:42]
  images = (images - images.mean((1, 2, 3), keepdims=True)) / images.std((1, 2, 3), keepdims=True)
  first, second = images.reshape(40, 2, 12, -1).mean(2).transpose(1, 0, 2)
  distances = np.square(first[:, None] - second[None]).sum(-1)
  assert (distances.argmin(1) == np.arange(40)).mean() > 0.3


@pytest.mark.slow
def test_pixels_alone_do_not_tell_who_it_is():
  """Grey cosine verifies better than chance and far from well."""
  images = FaceRenderer(0, 56).render(*grid(100, 6)).astype(np.float32).mean(-1).reshape(600, -1)
  images -= images.mean(1, keepdims=True)
  images /= np.sqrt(np.square(images).sum(1, keepdims=True))
  cosine = images @ images.T
  person = np.arange(600) // 6
  same = cosine[(person[:, None] == person) & (np.arange(600)[:, None] < np.arange(600))]
  other = cosine[person[:, None] < person]
  thresholds = np.linspace(-1, 1, 401)[:, None]
  accuracy = ((same >= thresholds).mean(1) + (other < thresholds).mean(1)) / 2
  assert 0.52 < accuracy.max() < 0.75


@pytest.mark.parametrize('size', [0, 31, 225, -56, 56.5])
def test_size_out_of_range(size):
  with pytest.raises(ValueError, match='choose a whole size from 32 to 224'):
    FaceRenderer(0, size)


@pytest.mark.parametrize(
  'identities, samples, message',
  [
    ([0, -1], [0, 0], 'identities holds -1'),
    ([0, 1], [0, -2], 'samples holds -2'),
    ([0, 1], [0], 'differ in length'),
    ([0.5], [0], 'vector of integers'),
    ([[0]], [[0]], 'vector of integers'),
    (3, 0, 'vector of integers'),
  ],
)
def test_errors(identities, samples, message):
  with pytest.raises(ValueError, match=message):
    FaceRenderer(0, 56).render(np.array(identities), np.array(samples))
