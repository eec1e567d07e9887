"""Faces brought to one place: five points of a face -> the similarity onto the template -> the aligned crop.

A point is (x, y) in pixels, (0, 0) the middle of the top left one. The five are always in the order as they are seen:
left eye, right eye, nose, left and right corner of the mouth; the left eye is the one at the left in the picture.
"""

import math

import cv2
import numpy as np

from gif_jax.core.errors import UserError

# Where the field has them in crops of 112x112 (InsightFace, `arcface_dst`).
_TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
_SWAPPED = [1, 0, 2, 4, 3]
_LEAST = 4  # sum of squared distances from their mean, in pixels: no face, or shares of the picture instead of pixels


class PointsError(UserError):
  """Five points that no face can have; the message is the reason alone."""


def template(size: int) -> np.ndarray:
  """Where the five points lie in aligned crops: float64 [5, 2], for crops of `size` pixels a side.

  As InsightFace has it: that of 112 in proportion; for 128 and its multiples 8 is added to x first, then it is in
  proportion to 128, which leaves more room around the face.
  """
  wide = size % 128 == 0
  return (np.array(_TEMPLATE) + np.array([8 * wide, 0])) * (size / (128 if wide else 112))


def similarity(points: np.ndarray, target: np.ndarray) -> np.ndarray:
  """Turns, scales and moves `points` onto `target` with the smallest sum of squared distances: float64 [..., 2, 3].

  points: [..., 5, 2]; target: [5, 2]. This is Umeyama's transform ("Least-squares estimation of transformation
  parameters between two point patterns", PAMI 1991), in the plane one quotient: with points p and targets q about
  their means as complex numbers, scale and turn are z = sum(conj(p) q) / sum(|p|^2). Reflections have no z.
  Raises PointsError for points that are not finite, or that lie within a pixel or two.
  """
  points = np.asarray(points, np.float64)
  if not np.isfinite(points).all():
    raise PointsError('points that are not numbers')
  if not usable(points).all():
    raise PointsError('points that all but coincide; they must be in pixels')
  p, q = points[..., 0] + 1j * points[..., 1], target[:, 0] + 1j * target[:, 1]
  middle = p.mean(-1)
  p = p - middle[..., None]
  z = (p.conj() * (q - q.mean())).sum(-1) / np.square(np.abs(p)).sum(-1)
  move = q.mean() - z * middle
  return np.stack([np.stack([z.real, -z.imag, move.real], -1), np.stack([z.imag, z.real, move.imag], -1)], -2)


def usable(points: np.ndarray) -> np.ndarray:
  """Whether `similarity` takes the points: bool [...] for [..., 5, 2]."""
  return np.square(points - points.mean(-2, keepdims=True)).sum((-1, -2)) > _LEAST


def mirrored(points: np.ndarray) -> np.ndarray:
  """Whether left and right are swapped: the template fits far better then. Bool [...] for usable points [..., 5, 2]."""
  points, target = np.asarray(points, np.float64), template(112)

  def misfit(points):
    matrix = similarity(points, target)
    placed = points @ matrix[..., :2].swapaxes(-1, -2) + matrix[..., None, :, 2]
    return np.square(placed - target).sum((-1, -2))

  # Twice as well: points of a profile, where left and right all but coincide, fit equally badly both ways.
  return misfit(points[..., _SWAPPED, :]) < misfit(points) / 2


def crop(image: np.ndarray, points: np.ndarray, size: int) -> np.ndarray:
  """The aligned face: uint8 [size, size, 3] of a picture uint8 [height, width, 3] with its five points [5, 2].

  Raises PointsError for points that no face can have.
  """
  return warp(image, points, template(size), size)


def warp(image: np.ndarray, points: np.ndarray, target: np.ndarray, size: int) -> np.ndarray:
  """A square out of a picture, uint8 [size, size, 3], in which the five points lie nearest to `target` [5, 2].

  Bilinear, and black outside of the picture, as in the field; a face more than twice as large as in the square is
  shrunk first, because a bilinear warp would take a few of its pixels and leave out all others between them.
  Raises PointsError for points that no face can have.
  """
  points = np.asarray(points, np.float64)
  matrix = similarity(points, target)
  scale, (height, width) = float(np.hypot(*matrix[:, 0])), image.shape[:2]
  x, y = points.mean(0)
  if not (0 <= x < width and 0 <= y < height and scale * max(width, height) > 1):
    raise PointsError('points that do not lie in the picture')
  if (factor := math.ceil(0.5 / scale)) > 1:
    image, points = _shrink(image, points, factor)
    matrix = similarity(points, target)
  return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def _shrink(image, points, factor):
  """A picture of which every factor x factor pixels have become their mean, and where the points are in it."""
  short = [-side % factor for side in image.shape[:2]]
  image = cv2.copyMakeBorder(image, 0, short[0], 0, short[1], cv2.BORDER_REPLICATE)
  height, width = (side // factor for side in image.shape[:2])
  return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), (points + 0.5) / factor - 0.5
