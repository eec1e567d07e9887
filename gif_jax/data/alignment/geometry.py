"""Faces brought to one place: five points of a face -> the similarity onto the template -> the aligned crop.

A point is (x, y) in pixels, (0, 0) the middle of the top left one. The five are always in the order as they are seen:
left eye, right eye, nose, left and right corner of the mouth; the left eye is the one at the left in the picture.
"""

import itertools
import math

import cv2
import numpy as np

from gif_jax.core.errors import UserError

# Where the field has them in crops of 112x112 (InsightFace, `arcface_dst`).
_TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
_LEAST = 4  # sum of squared distances from their mean, in pixels: no face, or shares of the picture instead of pixels
_MOST = 1e9  # pixels: larger numbers are no places in pictures, and their squares may be no numbers
_NO_NUMBERS = 'points that are not numbers'
_TOO_CLOSE = 'points that all but coincide; they must be in pixels, not shares of the picture'
_OUTSIDE = 'points that do not lie in the picture'


def _reordered(*order):
  return lambda points: points[..., order, :]


# How five points stand in a file by mistake -> what brings them into their places. One of each may have happened.
_ORDERS = {
  '': _reordered(0, 1, 2, 3, 4),
  'the nose comes last': _reordered(0, 1, 4, 2, 3),
  'the points go round and the nose comes last': _reordered(0, 1, 4, 3, 2),
  'the nose comes first': _reordered(1, 2, 0, 3, 4),
  'the mouth comes before the eyes': _reordered(3, 4, 2, 0, 1),
  'the eyes are swapped': _reordered(1, 0, 2, 3, 4),
  'the corners of the mouth are swapped': _reordered(0, 1, 2, 4, 3),
  'all x come before all y': lambda points: points.reshape(*points.shape[:-2], 2, 5).swapaxes(-1, -2),
}
_MIRRORS = {
  '': _ORDERS[''],
  'left and right are swapped': _reordered(1, 0, 2, 4, 3),
  'y comes before x': lambda points: points[..., ::-1],
  'y is counted from the bottom': lambda points: points * [1, -1],
}
_EXACT = 1e-4  # misfit of points that were rounded
_SAMPLE = 10000  # rows that say what most are


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
  p, q = _plane(points), _plane(target)
  around = _about_mean(p)
  z = (around.conj() * _about_mean(q)).sum(-1) / _squares(around)
  move = q.mean() - z * p.mean(-1)
  return np.stack([np.stack([z.real, -z.imag, move.real], -1), np.stack([z.imag, z.real, move.imag], -1)], -2)


def fit(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """How badly points [..., 5, 2] fit the template, and whether they lie on it upright.

  misfit float64 [...]: the share of the squared distances from their mean that `similarity` leaves over, 0 to 1.
  upright bool [...]: it turns them by less than 45 degrees. Raises PointsError as `similarity` does.
  """
  p, q = _about_mean(_plane(points)), _about_mean(_plane(template(112)))
  product = (p.conj() * q).sum(-1)
  return 1 - np.square(np.abs(product)) / (_squares(p) * _squares(q)), product.real > np.abs(product.imag)


def mirrored(points: np.ndarray) -> np.ndarray:
  """Whether left and right are swapped: the template fits far better then. Bool [...] for points [..., 5, 2].

  Raises PointsError as `similarity` does.
  """
  return _better(points, _MIRRORS['left and right are swapped'](points))


def _better(points, others):
  # Twice as well: points of a profile, where left and right all but coincide, fit equally badly both ways. Points that
  # are those of the template but for rounding are right, whatever else fits as exactly.
  return np.maximum(fit(others)[0], _EXACT) < fit(points)[0] / 2


def wrong_order(points: np.ndarray) -> tuple[str, np.ndarray] | None:
  """How most of the points [n, 5, 2] stand in another order than this file's, and which do, bool [n]; None if few do.

  A few faces may look so, such as profiles found badly. Raises PointsError as `similarity` does.
  """
  some = points[:: max(1, len(points) // _SAMPLE)]
  orders = {}
  for (order, ordered), (mirror, turned) in itertools.product(_ORDERS.items(), _MIRRORS.items()):
    if not order and not mirror:
      continue

    def mend(points, ordered=ordered, turned=turned):
      return turned(ordered(points))

    if _better(some, mend(some)).sum() > len(some) / 2:
      misfit, upright = fit(mend(some))
      orders[' and '.join(filter(None, (order, mirror)))] = np.where(upright, misfit, 1).mean(), mend
  if not orders:
    return None
  what = min(orders, key=lambda what: (round(orders[what][0], 6), len(what)))
  return what, _better(points, orders[what][1](points))


def faults(
  points: np.ndarray, width: float | np.ndarray = np.inf, height: float | np.ndarray = np.inf
) -> dict[str, np.ndarray]:
  """What no face in a picture of that size has: {reason: which of points [..., 5, 2] are so, bool [...]}.

  width, height: of all pictures, or [...], of each.

  A row has one reason at most. Single points may lie outside, as in profiles at the edge; their mean may not, and a
  crop must show more than a pixel of the picture.
  """
  points = np.asarray(points, np.float64)
  known = (np.abs(points) < _MOST).all((-1, -2))
  points = np.where(known[..., None, None], points, 0)
  p, q = _about_mean(_complex(points)), _about_mean(_complex(template(112)))
  apart = _squares(p) > _LEAST
  middle = points.mean(-2)
  inside = (middle >= 0).all(-1) & (middle[..., 0] < width) & (middle[..., 1] < height)
  inside &= np.abs((p.conj() * q).sum(-1)) > _squares(p) / np.maximum(width, height)
  return {_NO_NUMBERS: ~known, _TOO_CLOSE: known & ~apart, _OUTSIDE: known & apart & ~inside}


def _plane(points):
  """Points that can be fitted, as complex numbers [..., 5]."""
  problems = faults(points)
  _refuse({reason: problems[reason] for reason in (_NO_NUMBERS, _TOO_CLOSE)})
  return _complex(np.asarray(points, np.float64))


def _complex(points):
  return points[..., 0] + 1j * points[..., 1]


def _about_mean(p):
  return p - p.mean(-1, keepdims=True)


def _squares(p):
  return np.square(np.abs(p)).sum(-1)


def _refuse(problems):
  for reason, bad in problems.items():
    if bad.any():
      raise PointsError(reason)


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
  points, (height, width) = np.asarray(points, np.float64), image.shape[:2]
  _refuse(faults(points, width, height))
  matrix = similarity(points, target)
  if (factor := math.ceil(0.5 / np.hypot(*matrix[:, 0]))) > 1:
    image, points = _shrink(image, points, factor)
    matrix = similarity(points, target)
  return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def _shrink(image, points, factor):
  """A picture of which every factor x factor pixels have become their mean, and where the points are in it."""
  short = [-side % factor for side in image.shape[:2]]
  image = cv2.copyMakeBorder(image, 0, short[0], 0, short[1], cv2.BORDER_REPLICATE)
  height, width = (side // factor for side in image.shape[:2])
  return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), (points + 0.5) / factor - 0.5
