"""Landmark files: the forms they come in, and the line that is wrong."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gif_jax.core.errors import DataError
from gif_jax.core.lists import indexed, path_key
from gif_jax.data.alignment import landmarks
from gif_jax.data.alignment.geometry import template
from gif_jax.data.alignment.landmarks import read_landmarks

NAMES = ['p00/0.png', 'p00/my photo, 2.jpg', 'p01/3 4 5.png', 'p01/J\u00fcrgen.jpg']
POINTS = template(112).reshape(-1)


def line(name, points=POINTS, between=' '):
  return name + between + between.join(map(str, points))


def swapped(points):
  return points[..., [1, 0, 2, 4, 3], :]


def read(tmp_path, *lines, names=NAMES):
  (tmp_path / 'points.txt').write_text('\n'.join(lines))
  return read_landmarks(tmp_path / 'points.txt', tmp_path, names)


@pytest.mark.parametrize('between', [' ', ',', '\t', ', ', '  ', '\x0b', '\x1c ', '\u00a0'])
@pytest.mark.parametrize('more', [(), (0.998,), (-1e-3,), (0,), ('nan',)])
def test_every_form_gives_the_points_in_the_order_of_the_photographs(tmp_path, between, more):
  lines = [line(name, [*(POINTS + row), *more], between) for row, name in enumerate(NAMES)]
  points = read(tmp_path, '', *lines[::-1], '  ', '')
  np.testing.assert_array_equal(points, [template(112) + row for row in range(4)])
  assert points.dtype == np.float64


@pytest.mark.parametrize('mark', ['nan', 'inf', '0', '-1', '1e999'])
def test_a_face_that_was_not_found_may_be_any_point(tmp_path, mark):
  points = read(tmp_path, *(line(name, [mark] * 10) for name in NAMES[:3]), line(NAMES[3]))
  np.testing.assert_array_equal(np.isfinite(points).all((1, 2)), [False, False, False, True])


def test_photographs_without_a_line_or_with_no_numbers_have_no_points(tmp_path):
  points = read(tmp_path, line(NAMES[1]), line(NAMES[2], [*POINTS[:9], 'NaN']), line('p01/Ju\u0308rgen.jpg'))
  np.testing.assert_array_equal(np.isfinite(points).all((1, 2)), [False, True, False, True])


def test_numbers_of_every_spelling(tmp_path):
  points = read(tmp_path, f'{NAMES[0]} 1e1 2E+1 30. 20 +20 .5e2 12 80 29 8.0e1')
  np.testing.assert_array_equal(points[0].reshape(-1), [10, 20, 30, 20, 20, 50, 12, 80, 29, 80])


@pytest.mark.parametrize('name', ['p00/7', 'p00/IMG 0012', '12', '1,2, 3', 'nan', 'a b.png 1e5', '.5'])
@pytest.mark.parametrize('more', [(), (0.9,)])
@pytest.mark.parametrize('between', [' ', ','])
def test_names_that_end_in_numbers(tmp_path, name, more, between):
  points = read(tmp_path, line(name, [*POINTS, *more], between), line('p00/0.png'), names=[name, 'p00/0.png'])
  np.testing.assert_array_equal(points, [template(112)] * 2)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
  names=st.lists(
    st.lists(st.sampled_from(['a', 'é', '12', '1.5', ' ', ', ', '-', 'nan', '/'])).map(
      lambda parts: 'p/' + ''.join(parts) + '.png'
    ),
    min_size=1,
    max_size=4,
    unique=True,
  ),
  numbers=st.lists(st.floats(0, 9999), min_size=10, max_size=11),
  between=st.sampled_from([' ', ',', ' , ', '\t']),
)
def test_any_name_and_numbers_are_read_as_they_were_written(tmp_path_factory, names, numbers, between):
  names = list({path_key(name): name for name in names}.values())
  lines = [name + between + between.join(map(repr, numbers)) for name in names]
  (tmp_path := tmp_path_factory.mktemp('points')).joinpath('points.txt').write_text('\n'.join(lines))
  found = [
    (name, values) for _, name, values in landmarks._lines(tmp_path / 'points.txt', tmp_path, indexed(names, path_key))
  ]
  assert found == [(name, numbers[:10]) for name in names]


@pytest.mark.parametrize(
  'text',
  [
    'a' + ' 1234' * 10 + ' x',
    'a' + ' 12345678' * 10 + ' x',
    ' 1' * 200_000 + ' x',
    ', ' * 200_000,
    '1' * 400_000 + 'x',
    'a 1' + '.' * 400_000,
    'a' + ' 1' * 200_000,
    ' ,' * 100_000 + '1' * 100_000,
    'a' + '\u0301\u0323' * 100_000 + ' 1' * 10,
  ],
)
def test_long_lines_that_are_no_rows_are_refused_at_once(tmp_path, text):
  started = time.process_time()
  with pytest.raises(DataError, match=r'line 1: \d+ numbers after the path|line 1: .* has no image'):
    read(tmp_path, text)
  assert time.process_time() - started < 3


@pytest.mark.parametrize(
  ('bad', 'message'),
  [
    (line('p00/0.png', POINTS[:9]), 'line 2: 9 numbers after the path; wanted PATH x1 y1'),
    (line('p00/0.png', [*POINTS, 1, 2]), 'line 2: 12 numbers after the path'),
    ('image x1 y1 x2 y2 x3 y3 x4 y4 x5 y5', 'line 2: 0 numbers after the path'),
    (line('p00/7.png'), r"line 2: .* has no image 'p00/7\.png'; paths are those below --input"),
    (line('/p00/0.png'), r"line 2: .* has no image '/p00/0\.png'"),
    (line(NAMES[3]), "line 2: 'p01/J\u00fcrgen.jpg' is in line 1 too; a photograph has one face"),
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
  mirrored = swapped(template(112)).reshape(-1)
  with pytest.raises(DataError, match=r'line 2: left and right are swapped \(3 such lines\); .*the eye at the left'):
    read(tmp_path, line(NAMES[0]), *(line(name, mirrored) for name in NAMES[1:]))
  assert len(read(tmp_path, line(NAMES[0], mirrored), *(line(name) for name in NAMES[1:]))) == 4  # one odd face


@pytest.mark.parametrize(
  ('wrong', 'message'),
  [
    (lambda points: points[:, ::-1], 'y comes before x'),
    (lambda points: points[[0, 1, 3, 4, 2]], 'the nose comes last'),
    (lambda points: points.T.reshape(5, 2), 'all x come before all y'),
    (lambda points: points / 112, 'points that all but coincide; they must be in pixels, not shares of the picture'),
    (lambda points: points - 200, 'points that do not lie in the picture'),
  ],
)
def test_what_is_wrong_with_most_lines_is_wrong_with_the_file(tmp_path, wrong, message):
  odd = wrong(template(112)).reshape(-1)
  with pytest.raises(DataError, match=rf'points\.txt, line 2: {message} \(3 such lines\); copy the file'):
    read(tmp_path, line(NAMES[0]), *(line(name, odd) for name in NAMES[1:]))
  found = read(tmp_path, *(line(name) for name in NAMES[:2]), *(line(name, odd) for name in NAMES[2:]))
  np.testing.assert_allclose(found[2].reshape(-1), odd, atol=1e-12)  # left to whoever aligns that one


def test_a_file_that_is_not_there(tmp_path):
  with pytest.raises(DataError, match=r'nowhere\.txt cannot be read \(No such file'):
    read_landmarks(tmp_path / 'nowhere.txt', tmp_path, NAMES)
