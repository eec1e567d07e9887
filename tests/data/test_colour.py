"""Swapped colours are noticed, whatever the size of the set; colours that say nothing are not."""

import numpy as np
import pytest

from gif_jax.core.errors import DataError
from gif_jax.data.colour import check_colour
from gif_jax.training.run import run
from tests.helpers import tiny
from tests.helpers.record_files import packed_faces


def test_rendered_faces_pass_and_swapped_ones_do_not(tiny_faces):
  images = tiny_faces.train[:]
  check_colour(images, 'faces', '')
  with pytest.raises(DataError, match=r'set\.bin: the middle of faces is more blue .* probably swapped.*Cure\.'):
    check_colour(images[..., ::-1], 'set.bin', 'Cure.')


def test_grey_pictures_and_a_handful_say_nothing(tiny_faces):
  images = tiny_faces.train[:]
  check_colour(np.repeat(images[..., :1], 3, axis=3), 'grey', '')
  check_colour(images[:10, ..., ::-1], 'few', '')
  check_colour(np.concatenate([images[:6, ..., ::-1], np.repeat(images[..., :1], 3, axis=3)]), 'mostly grey', '')


def test_grey_with_the_noise_of_colour_compression_says_nothing():
  rng = np.random.default_rng(0)
  grey = rng.integers(0, 255, (50, 32, 32, 1), np.uint8).repeat(3, 3)
  noisy = grey.copy()
  noisy[..., 2] = np.minimum(grey[..., 2], 254) + 1
  check_colour(noisy, 'nearly grey', '')


@pytest.mark.slow
def test_training_stops_and_can_be_told_to_go_on(tiny_faces, tmp_path):
  class Swapped:
    def __len__(self):
      return len(tiny_faces.train)

    def __getitem__(self, index):
      return tiny_faces.train[index][..., ::-1]

    def labels(self, index=slice(None)):
      return tiny_faces.train.labels(index)

  config = tiny.get_config()
  config.data.source, config.data.path = 'records', str(packed_faces(tmp_path / 'data', Swapped()).path)
  config.eval.identities = config.eval.validation_identities = 0
  config.train.steps = 1
  with pytest.raises(DataError, match=r'probably swapped.*config\.data\.check_colour=False'):
    run(config, tmp_path / 'run')
  config.data.check_colour = False
  assert run(config, tmp_path / 'run')['steps'] == 1
