"""Sets of faces: labels, who is in which set, and the cache."""

import numpy as np
import pytest

from gif_jax.core.errors import ConfigError
from gif_jax.core.storage import resume
from gif_jax.data.sets import open, synthetic
from tests.helpers import tiny


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
  np.testing.assert_array_equal(open.open_faces(config, None).test[:], tiny_faces.test[:])


def test_indices_and_slices_agree(tiny_faces):
  index = np.array([7, 3, 3, 60])
  np.testing.assert_array_equal(tiny_faces.train[index], tiny_faces.train[:][index])
  np.testing.assert_array_equal(tiny_faces.train[10:14], tiny_faces.train[:][10:14])


@pytest.mark.slow
def test_a_cache_holds_what_rendering_gives_and_is_used_again(tiny_faces, tmp_path):
  config = tiny.get_config()
  config.data.cache = True
  cached = open.open_faces(config, tmp_path)
  for name in ('train', 'held_out', 'validation', 'test'):
    np.testing.assert_array_equal(getattr(cached, name)[:], getattr(tiny_faces, name)[:])
  written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
  assert len(written) == 4 and all(path.suffix == '.npy' for path in written)
  open.open_faces(config, tmp_path)
  assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written


@pytest.mark.slow
@pytest.mark.parametrize('damage', ['cut', 'empty', 'flipped'])
def test_a_damaged_cache_is_made_again(tmp_path, caplog, damage):
  faces = synthetic.SyntheticFaces(3, 32, 6, 2)
  file = synthetic.cached(faces, tmp_path, 'some').path
  content = file.read_bytes()
  middle = len(content) // 2
  flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
  file.write_bytes({'cut': content[:middle], 'empty': b'', 'flipped': flipped}[damage])
  np.testing.assert_array_equal(synthetic.cached(faces, tmp_path, 'some')[:], faces[:])
  assert [str(file) in record.getMessage() for record in caplog.records if record.levelname == 'WARNING'] == [True]
  assert 'it is made again' in caplog.text and file.read_bytes() == content


class Killed(Exception):
  pass


@pytest.mark.slow
@pytest.mark.parametrize('block', range(1, 5))
def test_rendering_that_was_killed_goes_on(tmp_path, monkeypatch, block):
  faces = synthetic.SyntheticFaces(3, 32, 80, 1)  # four blocks
  monkeypatch.setattr(resume, 'SECONDS', 0)
  monkeypatch.setattr(resume, '_SHARE', 1e9)
  rendered = []

  def dying(function, jobs):
    for job in jobs:
      rendered.append(job)
      if len(rendered) == block:
        raise Killed
      yield function(job)

  monkeypatch.setattr(synthetic, 'on_all_cores', dying)
  with pytest.raises(Killed):
    synthetic.cached(faces, tmp_path, 'some')
  assert not [path for path in tmp_path.iterdir() if not path.name.startswith('.')]
  np.testing.assert_array_equal(synthetic.cached(faces, tmp_path, 'some')[:], faces[:])
  assert len(rendered) == 5  # the block it was killed in alone was begun twice
  assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
def test_other_faces_get_another_cache(tmp_path):
  config = tiny.get_config()
  config.data.cache = True
  open.open_faces(config, tmp_path)
  config.data.seed = 1
  open.open_faces(config, tmp_path)
  assert len(list(tmp_path.iterdir())) == 8


@pytest.mark.slow
def test_no_held_out_images_is_an_empty_set(tmp_path):
  config = tiny.get_config()
  config.data.cache, config.data.held_out = True, 0
  assert len(open.open_faces(config, tmp_path).held_out) == 0


def test_label_spaces_name_the_people():
  config = tiny.get_config()
  spaces = {open.open_faces(config, None).label_space}
  config.data.seed = 1
  spaces.add(open.open_faces(config, None).label_space)
  config.data.identities = 21
  spaces.add(open.open_faces(config, None).label_space)
  assert len(spaces) == 3


def test_paths_that_do_not_fit():
  config = tiny.get_config()
  config.data.path = '/nowhere'
  with pytest.raises(ConfigError, match='/nowhere does not exist'):
    open.open_faces(config, None)
