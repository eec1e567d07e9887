"""Product codes: unique for any vectors, every digit readable by itself, digits kept while vectors move."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.stats import ortho_group

from gif_jax.codes import product
from gif_jax.codes.extend import extend_codes, placeholders
from gif_jax.codes.product import build_codes, exchange, settle_newcomers
from gif_jax.codes.quality.measure import explained_alone
from gif_jax.codes.tree import build_codes as build_tree
from gif_jax.codes.tree import random_codes


def _unit(x):
  return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def _check_laws(codes, m, l, v):
  assert codes.shape == (m, l) and codes.dtype == np.uint8
  assert codes.max() < v
  assert len(np.unique(codes, axis=0)) == m


@pytest.mark.slow
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
  codes = build_codes(vectors, l, v, earlier=random_codes(m, l, v) if again else None, progress=False)
  _check_laws(codes, m, l, v)


@pytest.mark.slow
def test_memory_mapped_half_precision_is_read_as_it_is(tmp_path, monkeypatch):
  vectors = _unit(np.random.default_rng(0).standard_normal((3000, 16))).astype(np.float16)
  np.save(tmp_path / 'vectors.npy', vectors)
  monkeypatch.setattr(product, 'ROWS', 700)  # slices, as with millions
  mapped = build_codes(np.load(tmp_path / 'vectors.npy', mmap_mode='r'), 4, 8, progress=False)
  np.testing.assert_array_equal(mapped, build_codes(vectors.astype(np.float32), 4, 8, progress=False))


def test_planted_traits_become_digits():
  """Every combination of 3 traits of 7 values, in turned orthogonal subspaces; half of the people start mixed up."""
  rng = np.random.default_rng(0)
  traits = np.indices((7, 7, 7)).reshape(3, -1).T
  vectors = np.concatenate([rng.standard_normal((7, 8))[trait] for trait in traits.T], 1)
  vectors = vectors @ ortho_group.rvs(24, random_state=0) + 0.02 * rng.standard_normal((343, 24))
  earlier, mixed = traits.copy(), rng.permutation(343)[:170]
  earlier[mixed] = traits[rng.permutation(mixed)]
  np.testing.assert_array_equal(build_codes(vectors, 3, 7, earlier=earlier, progress=False), traits)


def test_every_digit_says_more_than_the_later_digits_of_a_tree():
  rng = np.random.default_rng(0)
  vectors = _unit(rng.standard_normal((1000, 32)) * np.geomspace(1, 0.1, 32))
  ours, tree = (build(vectors, 3, 10, progress=False) for build in (build_codes, build_tree))
  assert explained_alone(ours, vectors).min() > 2 * explained_alone(tree, vectors).min()


def test_newcomers_are_coded_nearly_as_well_as_members():
  rng = np.random.default_rng(0)
  vectors = _unit(rng.standard_normal((1100, 32)) * np.geomspace(1, 0.1, 32))
  old, new = vectors[:1000], vectors[1000:]
  room = placeholders(1000, 0.2, 12**3 - 1000, 0)
  codes = build_codes(np.concatenate([old, old[room]]), 3, 12, progress=False)[:1000]
  found = extend_codes(codes, old, 12, new)
  settled = found.copy()
  settle_newcomers(codes, old, 12, new, settled)
  _check_laws(np.concatenate([codes, settled]), 1100, 3, 12)
  members, before, after = (_error(*each, old, codes) for each in ((old, codes), (new, found), (new, settled)))
  assert after < 1.15 * members and after < 0.9 * before, (members, before, after)


def _error(vectors, codes, old, known):
  """Mean squared distance of vectors to what their digits say, by the mean vectors of the `old` with each value."""
  mean = old.mean(0)
  error = vectors - mean
  for digit, value in zip(codes.T, known.T):
    error = error - (np.stack([old[value == k].mean(0) for k in range(12)]) - mean)[digit]
  return np.square(error).sum(1).mean()


def test_newcomers_where_no_better_code_is_free_stay():
  vectors = _unit(np.random.default_rng(0).standard_normal((125, 8)))
  codes = build_codes(vectors[:124], 3, 5, progress=False)
  found = extend_codes(codes, vectors[:124], 5, vectors[124:])
  settled = found.copy()
  settle_newcomers(codes, vectors[:124], 5, vectors[124:], settled)
  np.testing.assert_array_equal(settled, found)


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
  again = build_codes(moved, 3, 8, earlier=earlier, progress=False)
  afresh = build_codes(moved, 3, 8, seed=1, progress=False)
  kept, by_chance = ((found == earlier).mean(0) for found in (again, afresh))
  assert (kept > 0.5).all() and (kept > 2 * by_chance).all(), (kept, by_chance)
  assert explained_alone(again, moved).min() > 0.95 * explained_alone(afresh, moved).min()


def test_more_codes_than_64_bits_count():
  with pytest.raises(ValueError, match=r'counted in 64 bits, and 10\*\*20 .*lower tokenizer\.l'):
    build_codes(np.ones((4, 2)), 20, 10, progress=False)
