"""Product codes: unique for any vectors, every digit readable by itself, digits kept while vectors move."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.stats import ortho_group

from gif_jax.codes.product import build_codes, exchange
from gif_jax.codes.tree import build_codes as build_tree
from gif_jax.codes.tree import random_codes


def _unit(x):
  return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def _check_laws(codes, m, l, v):
  assert codes.shape == (m, l) and codes.dtype == np.uint8
  assert codes.max() < v
  assert len(np.unique(codes, axis=0)) == m


@settings(deadline=None, max_examples=25)
@given(
  l=st.integers(1, 4),
  v=st.integers(2, 6),
  fill=st.one_of(st.just(1.0), st.floats(0, 1)),
  kind=st.sampled_from(['normal', 'duplicates', 'equal', 'zero']),
  again=st.booleans(),
)
def test_codes_are_unique_for_any_vectors(l, v, fill, kind, again):
  m = max(1, round(fill * v**l))
  rng = np.random.default_rng(m)
  vectors = {
    'normal': rng.standard_normal((m, 3)),
    'duplicates': rng.standard_normal((m, 3))[rng.integers(0, 1 + m // 3, m)],
    'equal': np.ones((m, 3)),
    'zero': np.zeros((m, 3)),
  }[kind]
  found = build_codes(vectors, l, v, earlier=random_codes(m, l, v) if again else None, progress=False)
  _check_laws(found.codes, m, l, v)
  assert found.explained.shape == (l,) and np.all(found.explained < 1 + 1e-6)


def test_more_codes_than_64_bits_count():
  vectors = _unit(np.random.default_rng(0).standard_normal((300, 40)))
  _check_laws(build_codes(vectors, 20, 10, progress=False).codes, 300, 20, 10)


def test_explained_is_one_minus_within_over_total_of_each_digit():
  vectors = _unit(np.random.default_rng(0).standard_normal((300, 8)))
  found = build_codes(vectors, 3, 7, progress=False)
  total = ((vectors - vectors.mean(0)) ** 2).sum()
  for digit, explained in zip(found.codes.T, found.explained):
    groups = [vectors[digit == value] for value in np.unique(digit)]
    within = sum(((group - group.mean(0)) ** 2).sum() for group in groups)
    assert explained == pytest.approx(1 - within / total, abs=1e-5)


def test_codes_are_a_function_of_the_seed():
  vectors = _unit(np.random.default_rng(0).standard_normal((400, 8)))
  first, again, other = (build_codes(vectors, 3, 8, seed=seed, progress=False).codes for seed in (1, 1, 2))
  assert np.array_equal(first, again)
  assert not np.array_equal(first, other)


def test_planted_traits_become_digits():
  """Every combination of 3 traits of 7 values, in turned orthogonal subspaces; half of the people start mixed up."""
  rng = np.random.default_rng(0)
  traits = np.indices((7, 7, 7)).reshape(3, -1).T
  vectors = np.concatenate([rng.standard_normal((7, 8))[trait] for trait in traits.T], 1)
  vectors = vectors @ ortho_group.rvs(24, random_state=0) + 0.02 * rng.standard_normal((343, 24))
  earlier, mixed = traits.copy(), rng.permutation(343)[:170]
  earlier[mixed] = traits[rng.permutation(mixed)]
  np.testing.assert_array_equal(build_codes(vectors, 3, 7, earlier=earlier, progress=False).codes, traits)


def test_every_digit_says_more_than_the_later_digits_of_a_tree():
  rng = np.random.default_rng(0)
  vectors = _unit(rng.standard_normal((1000, 32)) * np.geomspace(1, 0.1, 32))
  product, tree = (build(vectors, 3, 10, progress=False).codes for build in (build_codes, build_tree))
  assert min(_alone(vectors, product)) > 2 * min(_alone(vectors, tree))


def _alone(vectors, codes):
  for digit in codes.T:
    means = np.stack([vectors[digit == value].mean(0) for value in range(10)])
    yield 1 - np.var(vectors - means[digit], axis=0).sum() / np.var(vectors, axis=0).sum()


def _books_and_cost(m):
  rng = np.random.default_rng(0)
  books = np.zeros((3, 9, 12), np.float32)
  for j in range(3):
    books[j, :, 4 * j : 4 * j + 4] = rng.standard_normal((9, 4))
  vectors = rng.standard_normal((m, 12)).astype(np.float32)
  return books, ((vectors[:, None, None] - books) ** 2).sum(-1)


def _total(cost, codes):
  return float(np.take_along_axis(cost, codes[:, :, None], 2).sum(dtype=np.float64))


def _exact(cost, codes):
  """The smallest cost at which everyone has another row of `codes`."""
  every = sum(cost[:, j, codes[:, j]] for j in range(3))
  return float(every[linear_sum_assignment(every)].sum(dtype=np.float64))


@pytest.mark.parametrize(('m', 'tolerance'), [(200, 1e-5), (600, 0.02)])  # one block, three blocks
def test_exchanging_lowers_the_cost_towards_the_exact_matching(m, tolerance):
  books, cost = _books_and_cost(m)
  codes = np.indices((9, 9, 9)).reshape(3, -1).T[:m].copy()
  names, rng = sorted(codes.tolist()), np.random.default_rng(0)
  exact, totals = _exact(cost, codes), [_total(cost, codes)]
  for _ in range(20):
    exchange(codes, cost, books, None, rng)
    totals.append(_total(cost, codes))
  assert sorted(codes.tolist()) == names
  assert np.all(np.diff(totals) <= 1e-3)
  assert totals[-1] == pytest.approx(exact, rel=tolerance)


def test_codes_nobody_has_are_taken_where_they_fit_better():
  books, cost = _books_and_cost(60)
  every = np.indices((9, 9, 9)).reshape(3, -1).T
  codes, rng = every[:60].copy(), np.random.default_rng(0)
  for i in range(30):
    exchange(codes, cost, books, i % 3, rng)
  assert len(np.unique(codes, axis=0)) == 60
  assert _total(cost, codes) == pytest.approx(_exact(cost, every), rel=0.02)


def test_digits_keep_their_meaning_while_vectors_move():
  rng = np.random.default_rng(0)
  vectors = _unit(rng.standard_normal((500, 16)) * np.geomspace(1, 0.1, 16))
  moved = _unit(vectors + 0.03 * rng.standard_normal(vectors.shape))
  earlier = build_codes(vectors, 3, 8, progress=False)
  again = build_codes(moved, 3, 8, earlier=earlier.codes, progress=False)
  afresh = build_codes(moved, 3, 8, seed=1, progress=False)
  kept, by_chance = ((found.codes == earlier.codes).mean(0) for found in (again, afresh))
  assert (kept > 0.5).all() and (kept > 2 * by_chance).all(), (kept, by_chance)
  assert again.explained.min() > 0.95 * afresh.explained.min()


@pytest.mark.parametrize(
  ('vectors', 'l', 'v', 'names'),
  [
    (np.ones((28, 2)), 3, 3, r'tokenizer\.l=3 and tokenizer\.v=3 give 27 codes for 28'),
    (np.ones((4, 2)), 0, 5, r'tokenizer\.l=0'),
    (np.ones((4, 2)), 1, 257, r'tokenizer\.v=257'),
    (np.array([[1, 0], [np.nan, 0]]), 1, 5, 'identity 1 is not finite'),
    (np.ones(4), 1, 5, 'must be'),
    (np.ones((0, 2)), 1, 5, 'must be'),
  ],
)
def test_errors_name_the_setting(vectors, l, v, names):
  with pytest.raises(ValueError, match=names):
    build_codes(vectors, l, v, progress=False)
