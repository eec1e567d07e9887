"""Partial FC: whom a step compares with is exactly what was promised, and every choice is equally likely."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gif_jax.training.objectives import partial_fc


def _draws(count, label, start=0, **sizes):
  """`choose` for so many keys: int32 [count, places]."""
  label = jnp.asarray(label, jnp.int32)
  sizes = {'nobody': 10_000, 'places': max(sizes['wanted'], min(sizes['rows'], len(label)))} | sizes
  choose = jax.jit(jax.vmap(lambda key: partial_fc.choose(key, label, jnp.int32(start), **sizes)))
  return np.asarray(choose(jax.random.split(jax.random.key(0), count)))


@pytest.mark.slow
@pytest.mark.parametrize(
  ('rows', 'start', 'm', 'wanted', 'label'),
  [
    (50, 0, 50, 15, [3, 7, 3, 49, 0]),  # some of the batch, one of them twice
    (50, 100, 400, 15, [3, 7, 3, 149, 100, 150]),  # a device in the middle
    (50, 100, 130, 15, [3, 129, 129]),  # the last identities, then padding
    (50, 100, 104, 15, [3, 101]),  # fewer identities than wanted
    (50, 100, 90, 15, [3, 89]),  # a device of padding alone
    (50, 0, 50, 3, [4, 9, 4, 2, 8, 31]),  # more of the batch than wanted
    (50, 0, 50, 50, [4, 9]),  # everybody
    (9, 0, 9, 2, [5] * 20),
    (9, 0, 9, 2, list(range(9)) * 2),
  ],
)
def test_who_is_chosen(rows, start, m, wanted, label):
  here = np.arange(start, max(start, min(m, start + rows)))
  own = np.intersect1d(label, here)
  promised = min(len(here), max(wanted, len(own)))
  for chosen in _draws(20, label, start, rows=rows, m=m, wanted=wanted):
    assert np.all(np.diff(chosen) > 0)
    people = chosen[chosen < 10_000]
    assert len(people) == promised  # no repeats: they ascend
    assert np.isin(people, here).all()
    assert np.isin(own, people).all()


@pytest.mark.parametrize('wanted', [1, 7, 20])
def test_the_number_is_exact_where_chances_are_equal(monkeypatch, wanted):
  monkeypatch.setattr(jax.random, 'bits', lambda key, shape, dtype: jnp.full(shape, 12, dtype))
  chosen = _draws(1, [5], rows=20, m=20, wanted=wanted)[0]
  assert len(chosen) == wanted and 5 in chosen and (chosen < 20).all()


def _chi_square(counts):
  expected = counts.sum() / len(counts)
  return np.sum((counts - expected) ** 2) / expected


@pytest.mark.slow
def test_every_set_is_equally_likely():
  draws = _draws(6000, [4, 4], rows=7, m=7, wanted=3)
  counts = {others: 0 for others in itertools.combinations([0, 1, 2, 3, 5, 6], 2)}
  for chosen in draws:
    counts[tuple(int(person) for person in chosen if person != 4)] += 1
  assert _chi_square(np.array(list(counts.values()))) < 36.1  # 14 degrees of freedom, one in a thousand


@pytest.mark.slow
def test_everybody_is_chosen_equally_often():
  draws = _draws(4000, [100], rows=300, m=200, wanted=60)
  counts = np.delete(np.bincount(draws.ravel(), minlength=200), 100)
  assert len(counts) == 199 and counts.sum() == 4000 * 59
  # Without replacement counts vary less, by 1 - 59 / 199; 198 degrees of freedom, one in a thousand.
  assert _chi_square(counts) / (1 - 59 / 199) < 266


@pytest.mark.parametrize('k', [1, 2, 30, 99, 100])
def test_kth_largest(k):
  rng = np.random.default_rng(0)
  for top in (4, 1 << 20, (1 << 30) + 1):
    values = rng.integers(0, top, 100).astype(np.int32)
    assert partial_fc._kth_largest(jnp.asarray(values), jnp.int32(k)) == np.sort(values)[-k]


def test_rows_go_back_where_they_came_from():
  rows, place = jnp.arange(40.0).reshape(10, 4), jnp.array([0, 4, 9, 10, 999])
  taken = partial_fc.take(rows, place)
  np.testing.assert_array_equal(taken, [*rows[jnp.array([0, 4, 9])], np.zeros(4), np.zeros(4)])
  np.testing.assert_array_equal(partial_fc.put(rows, place, taken), rows)
  moved = partial_fc.put(rows, place, 1 + taken) - rows
  np.testing.assert_array_equal(moved, np.repeat(np.isin(np.arange(10), place)[:, None], 4, axis=1))
