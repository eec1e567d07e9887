"""The size of a code: hand values, and exactness of the rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gif_jax.codes.size import choose_size


@pytest.mark.parametrize(
  ('m', 'size'),
  [
    (1, (1, 5)),
    (5, (1, 5)),
    (20, (1, 20)),
    (21, (2, 5)),
    (1_000, (3, 10)),
    (100_000, (4, 18)),
    (1_000_000, (5, 16)),
    (2_059_906, (5, 19)),
  ],
)
def test_hand_values(m, size):
  assert choose_size(m) == size


def test_slack_is_exact():
  assert choose_size(10, slack=0.1) == (1, 11)  # in floating point 10 * 1.1 is above 11
  assert choose_size(1000, slack=0.331) == (3, 11)
  assert choose_size(1000, slack=0.332) == (3, 12)


def test_one_size_given():
  assert choose_size(1000, v=10) == (3, 10)
  assert choose_size(1001, v=10) == (4, 10)
  assert choose_size(1000, l=4) == (4, 6)
  assert choose_size(8, l=3) == (3, 5)
  assert choose_size(250, l=1) == (1, 250)


def test_both_given_need_to_reach_m_only():
  assert choose_size(1000, l=3, v=10, slack=1.0) == (3, 10)


@given(m=st.integers(1, 10**12), l=st.integers(0, 12), slack=st.sampled_from([0.0, 0.05, 0.5]))
def test_codes_suffice_and_one_value_fewer_would_not(m, l, slack):
  if l and 256**l < 2 * m:
    return
  length, v = choose_size(m, l=l, slack=slack)
  assert v**length >= m * (1 + slack)
  assert v == 5 or (v - 1) ** length < m * (1 + slack) + 1
  assert l or v <= 20


@pytest.mark.parametrize(
  ('arguments', 'names'),
  [
    ({'m': 1001, 'l': 3, 'v': 10}, r'tokenizer\.l=3 and tokenizer\.v=10 give 1000 codes for 1001'),
    ({'m': 257, 'l': 1}, r'raise tokenizer\.l'),
    ({'m': 10, 'v': 1}, r'tokenizer\.v=1'),
    ({'m': 10, 'v': 257}, r'tokenizer\.v=257'),
    ({'m': 10, 'l': -1}, r'tokenizer\.l=-1'),
    ({'m': 10, 'slack': -0.1}, r'tokenizer\.slack'),
    ({'m': 0}, 'at least one identity'),
  ],
)
def test_errors_name_the_setting(arguments, names):
  with pytest.raises(ValueError, match=names):
    choose_size(**arguments)
