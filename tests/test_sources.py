"""Sets of faces: labels, who is in which set, and the cache."""

import numpy as np
import pytest

from gif_jax.config import ConfigError
from gif_jax.data import sources
from tests import tiny


def test_labels_and_sizes(tiny_faces):
  assert tiny_faces.m == 20
  assert len(tiny_faces.train) == 80 and len(tiny_faces.held_out) == 20
  np.testing.assert_array_equal(tiny_faces.train.labels(), np.repeat(np.arange(20), 4))
  np.testing.assert_array_equal(tiny_faces.held_out.labels(), np.arange(20))
  np.testing.assert_array_equal(tiny_faces.train.labels(np.array([5, 0, 79])), [1, 0, 19])
  np.testing.assert_array_equal(tiny_faces.train.labels(slice(3, 6)), [0, 1, 1])


def test_no_image_is_in_two_sets(tiny_faces):
  sets = (tiny_faces.train, tiny_faces.held_out, tiny_faces.validation, tiny_faces.test)
  images = [image.tobytes() for faces in sets for image in faces[:]]
  assert len(set(images)) == len(images)


def test_people_of_evaluation_do_not_depend_on_those_trained_on(tiny_faces):
  config = tiny.get_config()
  config.data.identities = 35
  np.testing.assert_array_equal(sources.open_faces(config, None).test[:], tiny_faces.test[:])


def test_indices_and_slices_agree(tiny_faces):
  index = np.array([7, 3, 3, 60])
  np.testing.assert_array_equal(tiny_faces.train[index], tiny_faces.train[:][index])
  np.testing.assert_array_equal(tiny_faces.train[10:14], tiny_faces.train[:][10:14])


def test_a_cache_holds_what_rendering_gives_and_is_used_again(tiny_faces, tmp_path):
  config = tiny.get_config()
  config.data.cache = True
  cached = sources.open_faces(config, tmp_path)
  for name in ('train', 'held_out', 'validation', 'test'):
    np.testing.assert_array_equal(getattr(cached, name)[:], getattr(tiny_faces, name)[:])
  written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
  assert len(written) == 4 and all(path.suffix == '.npy' for path in written)
  sources.open_faces(config, tmp_path)
  assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written


def test_other_faces_get_another_cache(tmp_path):
  config = tiny.get_config()
  config.data.cache = True
  sources.open_faces(config, tmp_path)
  config.data.seed = 1
  sources.open_faces(config, tmp_path)
  assert len(list(tmp_path.iterdir())) == 8


def test_no_held_out_images_is_an_empty_set(tmp_path):
  config = tiny.get_config()
  config.data.cache, config.data.held_out = True, 0
  assert len(sources.open_faces(config, tmp_path).held_out) == 0


def test_label_spaces_name_the_people():
  config = tiny.get_config()
  spaces = {sources.open_faces(config, None).label_space}
  config.data.seed = 1
  spaces.add(sources.open_faces(config, None).label_space)
  config.data.identities = 21
  spaces.add(sources.open_faces(config, None).label_space)
  assert len(spaces) == 3


def test_paths_that_do_not_fit():
  config = tiny.get_config()
  config.data.path = '/nowhere'
  with pytest.raises(ConfigError, match='/nowhere does not exist'):
    sources.open_faces(config, None)
