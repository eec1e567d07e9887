"""Landmark files: the forms they come in, and the line that is wrong."""

import numpy as np
import pytest

from gif_jax.core.errors import DataError
from gif_jax.data.align import template
from gif_jax.data.landmarks import read_landmarks

NAMES = ['p00/0.png', 'p00/my photo, 2.jpg', 'p01/3 4 5.png', 'p01/J\u00fcrgen.jpg']
POINTS = template(112).reshape(-1)


def line(name, points=POINTS, between=' '):
  return name + between + between.join(map(str, points))


def read(tmp_path, *lines, names=NAMES):
  (tmp_path / 'points.txt').write_text('\n'.join(lines))
  return read_landmarks(tmp_path / 'points.txt', tmp_path, names)


@pytest.mark.parametrize('between', [' ', ',', '\t', ', ', '  ', '\x0b', '\x1c ', '\u00a0'])
@pytest.mark.parametrize('more', [(), (0.998,), (-1e-3,)])
def test_every_form_gives_the_points_in_the_order_of_the_photographs(tmp_path, between, more):
  lines = [line(name, [*(POINTS + row), *more], between) for row, name in enumerate(NAMES)]
  points = read(tmp_path, '', *lines[::-1], '  ', '')
  np.testing.assert_array_equal(points, [template(112) + row for row in range(4)])
  assert points.dtype == np.float64


def test_photographs_without_a_line_or_with_no_numbers_have_no_points(tmp_path):
  points = read(tmp_path, line(NAMES[1]), line(NAMES[2], [*POINTS[:9], 'NaN']), line('p01/Ju\u0308rgen.jpg'))
  np.testing.assert_array_equal(np.isfinite(points).all((1, 2)), [False, True, False, True])


def test_numbers_of_every_spelling(tmp_path):
  points = read(tmp_path, f'{NAMES[0]} 1e1 2E+1 30. 20 +20 .5e2 12 80 29 8.0e1')
  np.testing.assert_array_equal(points[0].reshape(-1), [10, 20, 30, 20, 20, 50, 12, 80, 29, 80])


@pytest.mark.parametrize(
  ('bad', 'message'),
  [
    (line('p00/0.png', POINTS[:9]), 'line 2: 9 numbers after the path; wanted PATH x1 y1'),
    (line('p00/0.png', [*POINTS, 1, 2]), 'line 2: 12 numbers after the path'),
    ('image x1 y1 x2 y2 x3 y3 x4 y4 x5 y5', 'line 2: 0 numbers after the path'),
    (line('p00/7.png'), r'line 2: .* has no image p00/7\.png; paths are those below --input'),
    (line('/p00/0.png'), r'line 2: .* has no image /p00/0\.png'),
    (line(NAMES[3]), 'line 2: p01/J\u00fcrgen.jpg was in line 1 already; a photograph has one face'),
  ],
)
def test_the_line_that_is_wrong_is_named(tmp_path, bad, message):
  with pytest.raises(DataError, match=message) as error:
    read(tmp_path, line(NAMES[3]), bad)
  assert 'points.txt' in str(error.value)


def test_files_that_are_left_out_for_another_reason_may_have_a_line(tmp_path):
  (tmp_path / 'p00').mkdir()
  (tmp_path / 'p00' / 'link.png').touch()
  assert np.isfinite(read(tmp_path, line('p00/link.png'), line(NAMES[0]))[0]).all()


def test_a_file_with_left_and_right_swapped_is_named(tmp_path):
  swapped = template(112)[[1, 0, 2, 4, 3]].reshape(-1)
  with pytest.raises(DataError, match='line 2 and 2 others: left and right are swapped'):
    read(tmp_path, line(NAMES[0]), *(line(name, swapped) for name in NAMES[1:]))
  assert len(read(tmp_path, line(NAMES[0], swapped), *(line(name) for name in NAMES[1:]))) == 4  # one odd face


def test_a_file_that_is_not_there(tmp_path):
  with pytest.raises(DataError, match=r'nowhere\.txt cannot be read \(No such file'):
    read_landmarks(tmp_path / 'nowhere.txt', tmp_path, NAMES)
