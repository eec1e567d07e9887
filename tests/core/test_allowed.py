"""What settings may be: ranges as mathematics has them, values of the right kind, names that are nearly right."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gif_jax.core.allowed import did_you_mean, problem, ranges, shown, words
from gif_jax.core.texts import duration

ENDS = st.integers(-20, 20)


@given(ENDS, st.integers(1, 20), st.booleans(), st.booleans(), st.integers(-50, 50))
def test_an_interval_holds_what_lies_between_its_ends(least, size, open_below, open_above, value):
  most = least + size
  text = f'{"(" if open_below else "["}{least}, {most}{")" if open_above else "]"}'
  inside = (least < value if open_below else least <= value) and (value < most if open_above else value <= most)
  assert (problem(value, int, text) == '') == (problem(float(value), float, text) == '') == inside
  assert ('too small' in problem(value, int, text)) == (not inside and value <= least)


@pytest.mark.parametrize(
  ('kind', 'allowed', 'text'),
  [
    (int, '[1, inf)', 'a whole number, at least 1'),
    (float, '(0, inf)', 'a number, more than 0'),
    (float, '[0, 1)', 'a number, at least 0, less than 1'),
    (float, '(0, 0.5]', 'a number, more than 0, at most 0.5'),
    (float, '[0, pi/2)', 'a number, at least 0, less than pi/2'),
    (int, '[0, 1e9]', 'a whole number, at least 0, at most 1000000000'),
    (int, '(-inf, inf)', 'a whole number'),
    (tuple, '(0, 4] [0, 1)', '2 numbers, more than 0, at most 4; at least 0, less than 1'),
    (str, ('a', 'b', 'c'), 'a, b or c'),
    (str, ('a',), 'a'),
    (str, (), 'a text'),
    (bool, '', 'True or False'),
  ],
)
def test_ranges_in_words(kind, allowed, text):
  assert words(kind, allowed) == text


def test_a_right_angle():
  (limits,) = ranges('[0, pi/2)')
  assert limits.most == math.pi / 2
  assert not problem(1.57, float, '[0, pi/2)') and problem(math.pi / 2, float, '[0, pi/2)')


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf, 10**400, -(10**400), 2.0**128, (1, math.nan), [1e39]])
@pytest.mark.parametrize('kind', [int, float, tuple, str, bool])
def test_numbers_are_finite_first_of_all(kind, value):
  assert problem(value, kind, '[0, inf)' if kind is not str else ()).startswith('is no number to work with')


@pytest.mark.parametrize(
  ('value', 'kind', 'fits'),
  [
    (1, int, True),
    (1.0, int, False),
    (True, int, False),
    ('1', int, False),
    (None, int, False),
    (1, float, True),
    (1.0, float, True),
    (True, float, False),
    ('1', float, False),
    (True, bool, True),
    (1, bool, False),
    (0.0, bool, False),
    ('a', str, True),
    ('a\0', str, False),
    (b'a', str, False),
    ((1, 2.5), tuple, True),
    ([1, 2.5], tuple, True),
    ((1,), tuple, False),
    ((1, '2'), tuple, False),
    (1, tuple, False),
  ],
)
def test_kinds(value, kind, fits):
  allowed = {str: (), bool: '', tuple: '[0, inf) [0, inf)'}.get(kind, '[0, inf)')
  assert (problem(value, kind, allowed) == '') == fits


KNOWN = ['data.seed', 'optim.lr', 'train.batch_size', 'train.seed', 'train.steps', 'workdir']


@pytest.mark.parametrize(
  ('name', 'meant'),
  [
    ('train.batchsize', ' Did you mean train.batch_size?'),
    ('trian.steps', ' Did you mean train.steps?'),
    ('steps', ' Did you mean train.steps?'),
    ('batch-size', ' Did you mean train.batch_size?'),
    ('seed', ' Did you mean data.seed or train.seed?'),
    ('workdr', ' Did you mean workdir?'),
    ('zzz', ''),
    ('', ''),
  ],
)
def test_the_nearest_name(name, meant):
  assert did_you_mean(name, KNOWN) == meant


def test_values_are_shown_in_a_few_characters():
  assert shown('a') == "'a'" and shown(1.5) == '1.5'
  assert len(shown('x' * 10**6)) < 100 and shown('x' * 10**6).endswith('...')
  assert shown(10**5000) == 'a number without end'


@pytest.mark.parametrize(
  ('seconds', 'text'),
  [
    (0, 'less than a minute'),
    (44, 'less than a minute'),
    (50, 'about a minute'),
    (89, 'about a minute'),
    (104, 'about 2 minutes'),
    (5000, 'about 83 minutes'),
    (9 * 3600, 'about 9 hours'),
    (47 * 3600, 'about 2 days'),
    (81 * 86400, 'about 81 days'),
    (3e9, 'about 95 years'),
  ],
)
def test_durations(seconds, text):
  assert duration(seconds) == text
