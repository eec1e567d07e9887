"""Five points onto the template: the law of the fit, another implementation of it, and the crop."""

import itertools
import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gif_jax.data.alignment.geometry import PointsError, crop, faults, mirrored, similarity, template, wrong_order
from gif_jax.data.synthetic.render import FaceRenderer
from tests.helpers import places

GOLDEN = json.loads((places.GOLDEN / 'align_golden.json').read_text())
SWAPPED = [1, 0, 2, 4, 3]


def moved(points, angle, scale, x, y):
  """Points turned, scaled and moved, and the matrix [2, 3] that does it."""
  turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
  return points @ turn.T + [x, y], np.column_stack([turn, [x, y]])


def test_the_template_of_every_size():
  np.testing.assert_array_equal(template(112)[0], [38.2946, 51.6963])
  np.testing.assert_allclose(template(56), template(112) / 2)
  np.testing.assert_allclose(template(128), template(112) + np.array([8, 0]))
  np.testing.assert_allclose(template(256), 2 * template(128))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.floats(-3.2, 3.2), st.floats(0.2, 50), *[st.floats(-5000, 5000)] * 2, st.sampled_from([56, 112, 128]))
def test_what_moved_the_template_is_undone(angle, scale, x, y, size):
  points, matrix = moved(template(size), angle, scale, x, y)
  found = np.vstack([similarity(points, template(size)), [0, 0, 1]])
  np.testing.assert_allclose(found @ np.vstack([matrix, [0, 0, 1]]), np.eye(3), atol=1e-7)


def test_fits_are_those_of_scikit_image():
  points = np.array([case['points'] for case in GOLDEN])
  expected = np.array([case['matrix'] for case in GOLDEN])
  assert len(GOLDEN) == 30
  np.testing.assert_allclose(similarity(points, template(112)), expected, rtol=1e-8, atol=1e-8)
  np.testing.assert_allclose(similarity(points[7], template(112)), expected[7], rtol=1e-8, atol=1e-8)


def test_no_fit_is_a_reflection():
  points = template(112) * [-1, 1]
  matrix = similarity(points, template(112))
  assert np.linalg.det(matrix[:, :2]) > 0


def test_points_on_a_line_are_enough():
  line = np.array([[0.0, 0], [10, 0], [20, 0], [30, 0], [40, 0]])
  matrix = similarity(line, line[:, ::-1] * 2)
  np.testing.assert_allclose(line @ matrix[:, :2].T + matrix[:, 2], line[:, ::-1] * 2, atol=1e-9)


@pytest.mark.parametrize(
  ('points', 'reason'),
  [
    (np.full((5, 2), 7.3), 'all but coincide; they must be in pixels'),
    (template(112) / 112, 'all but coincide; they must be in pixels'),
    (np.where(np.eye(5, 2), np.nan, template(112)), 'not numbers'),
    (np.where(np.eye(5, 2), np.inf, template(112)), 'not numbers'),
    (template(112) * 1e300, 'not numbers'),
    (template(112) - 300, 'do not lie in the picture'),
    (template(112) * [-1, 1] * 1e6 + [9e7, -7e7], 'do not lie in the picture'),
    (template(112) * 1e5 - template(112).mean(0) * 1e5 + 56, 'do not lie in the picture'),
  ],
)
def test_points_that_no_face_can_have(points, reason):
  with pytest.raises(PointsError, match=reason):
    crop(np.zeros((112, 112, 3), np.uint8), points, 112)


def test_mirrored_faces_are_known_in_every_direction():
  rng = np.random.default_rng(0)
  faces = np.array([moved(template(112), angle, 3, 50, 900)[0] for angle in np.linspace(0, 6, 20)])
  faces += rng.normal(scale=10, size=faces.shape)
  assert not mirrored(faces).any() and mirrored(faces[:, SWAPPED]).all() and mirrored(faces * [-1, 1]).all()
  profile = np.array([[50.0, 50], [49, 50], [30, 70], [47, 92], [46, 92]])  # the far eye found before the near one
  assert not mirrored(profile)


# The points of a head in millimetres: x to the right as it is seen, y down, z towards whoever sees it.
HEAD = np.array([[-32, 0, 0], [32, 0, 0], [0, 36, 38], [-26, 68, 8], [26, 68, 8]])


def heads(n, yaw, pitch, noise, seed=0):
  """Points [n, 5, 2] of heads turned by angles in degrees, from .. to, seen from afar; noise in millimetres."""
  rng = np.random.default_rng(seed)
  a, b, c = np.deg2rad([rng.uniform(*yaw, n), rng.uniform(*pitch, n), rng.uniform(-20, 20, n)])[..., None]
  x, y, z = np.moveaxis(HEAD * rng.normal(1, 0.06, (n, 5, 3)), -1, 0)
  x, z = x * np.cos(a) + z * np.sin(a), z * np.cos(a) - x * np.sin(a)
  y = y * np.cos(b) - z * np.sin(b)
  x, y = np.stack([x, y]) + rng.normal(0, noise, (2, n, 5))
  points = np.stack([x * np.cos(c) - y * np.sin(c), x * np.sin(c) + y * np.cos(c)], -1)
  return points * rng.uniform(0.3, 3, (n, 1, 1)) + rng.uniform(100, 300, (n, 1, 2))


def reordered(*order):
  return lambda points: points[:, order]


MIRRORS = {
  'left and right are swapped': reordered(1, 0, 2, 4, 3),
  'y comes before x': lambda points: points[..., ::-1],
  'y is counted from the bottom': lambda points: [0, 900] + points * [1, -1],
}
ORDERS = {
  'the nose comes last': reordered(0, 1, 3, 4, 2),
  'the nose comes first': reordered(2, 0, 1, 3, 4),
  'all x come before all y': lambda points: points.swapaxes(1, 2).reshape(-1, 5, 2),
}
HALVES = {
  'the mouth comes before the eyes': reordered(3, 4, 2, 0, 1),
  'the eyes are swapped': reordered(1, 0, 2, 3, 4),
  'the corners of the mouth are swapped': reordered(0, 1, 2, 4, 3),
}


@pytest.mark.slow
def test_wrong_orders_are_told_apart():
  """Of heads that look to all sides, a third of them in profile."""
  points = np.concatenate(
    [heads(800, (-45, 45), (-25, 25), 4), heads(200, (60, 90), (-20, 20), 4), heads(200, (-90, -60), (-20, 20), 4)]
  )
  assert wrong_order(points) is None
  for what, wrong in (MIRRORS | ORDERS | HALVES).items():
    found, rows = wrong_order(wrong(points))
    assert found == what and rows[:800].mean() > 0.95 and rows.dtype == bool
  for (order, wrong), (mirror, turned) in itertools.product(ORDERS.items(), MIRRORS.items()):
    assert wrong_order(wrong(turned(points)))[0] == f'{order} and {mirror}'


@pytest.mark.parametrize('pitch', [(-40, -20), (-10, 10), (20, 40)])
@pytest.mark.parametrize('yaw', [(-10, 10), (40, 60), (60, 75), (75, 90), (90, 100), (-95, -60)])
@pytest.mark.parametrize('noise', [1, 8])
def test_files_of_profiles_alone_are_in_order(yaw, pitch, noise):
  assert wrong_order(heads(400, yaw, pitch, noise)) is None


def test_half_of_the_rows_are_not_most():
  points = heads(100, (-30, 30), (-10, 10), 2)
  points[:50] = points[:50, SWAPPED]
  assert wrong_order(points) is None
  points[50] = points[50, SWAPPED]
  what, rows = wrong_order(points)
  assert what == 'left and right are swapped' and rows.tolist() == [True] * 51 + [False] * 49
  assert wrong_order(points[:0]) is None


def test_faults_by_hand():
  face = template(112)
  rows = np.array([face, face / 112, face * np.nan, face * 1e300, face - 100, face - [50, 0], face + 50, face * 1e4])
  number, close, outside = faults(rows).values()
  assert number.tolist() == [False, False, True, True, False, False, False, False]
  assert close.tolist() == [False, True, False, False, False, False, False, False]
  assert outside.tolist() == [False, False, False, False, True, False, False, False]
  assert [*faults(rows, 100, 100).values()][2].tolist() == [False] * 4 + [True, False, True, True]
  assert [*faults(rows, 120, 125).values()][2].tolist() == [False] * 4 + [True, False, False, True]


def test_an_aligned_picture_stays_as_it_is():
  image = FaceRenderer(0, 112).render(np.arange(1), np.arange(1))[0]
  np.testing.assert_array_equal(crop(image, template(112), 112), image)
  wide = crop(image, template(112), 128)  # 8 pixels more at the sides, 16 below
  np.testing.assert_array_equal(wide[:112, 8:120], image)
  assert not wide[112:].any() and not wide[:, :8].any() and not wide[:, 120:].any()


@pytest.mark.parametrize(('angle', 'scale'), [(0.3, 2.2), (-0.8, 3.7), (3, 1.9), (1.6, 7.1)])
def test_a_face_in_a_larger_picture_is_cut_out_again(angle, scale):
  face = cv2.GaussianBlur(FaceRenderer(0, 112).render(np.arange(1), np.arange(1))[0], (0, 0), 1.5)
  points, matrix = moved(template(112), angle, scale, 0, 0)
  shift = 500 - points.mean(0)
  matrix[:, 2] += shift
  canvas = cv2.warpAffine(face, matrix, (1000, 1000), flags=cv2.INTER_CUBIC)
  inner = np.s_[4:-4, 4:-4]
  difference = np.abs(crop(canvas, points + shift, 112)[inner].astype(int) - face[inner])
  assert difference.mean() < 0.5 and difference.max() <= 8


@pytest.mark.parametrize('shape', [(700, 903), (903, 700), (1001, 1000)])
def test_a_large_face_is_averaged(shape):
  """Pixels at random: what a bilinear warp alone would take of them varies as they do, what an area says does not."""
  noise = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
  found = crop(noise, template(112) * 6 + 5.3, 112)
  assert abs(found.mean() - 127.5) < 1 and found.std() < 74 / 4.5
  ramp = np.repeat(np.linspace(0, 250, shape[1]).astype(np.uint8)[None, :, None], shape[0], 0).repeat(3, 2)
  x = np.arange(112) * 6 + 5.3  # where the pixels of the crop lie
  np.testing.assert_allclose(crop(ramp, template(112) * 6 + 5.3, 112)[50, :, 0], x * 250 / (shape[1] - 1), atol=1.5)


@pytest.mark.parametrize('size', [96, 100, 112, 120, 128, 140, 160, 168, 180, 200, 250, 256, 320, 400])
def test_points_that_are_the_template_are_in_order(size):
  """Nothing is left over by them, so that what fits equally well is no better."""
  points = np.stack([template(size), template(112) * size / 112, np.rint(template(112) * 8)])
  assert wrong_order(np.repeat(points, 5, 0)) is None and not mirrored(points).any()
