"""Nearest neighbours of people in blocks, beside all cosines at once."""

import numpy as np
import pytest

from gif_jax.audit import similar_people


@pytest.fixture
def small_blocks(monkeypatch):
  monkeypatch.setattr(similar_people, '_ROWS', 16)
  monkeypatch.setattr(similar_people, '_COLUMNS', 24)


def vectors(n, seed=0):
  return similar_people.centred(np.random.default_rng(seed).standard_normal((n, 8)).astype(np.float32), np.zeros(8))


def reference(cosine, k, floor):
  pairs = []
  for i, row in enumerate(cosine):
    best = np.argsort(-row, kind='stable')[:k]
    pairs += [(-row[j], i, j) for j in best if row[j] >= floor]
  return sorted(pairs)


@pytest.mark.parametrize('k', [1, 3])
@pytest.mark.parametrize('n', [1, 17, 100])
def test_everybody_with_those_who_follow(small_blocks, n, k):
  rows = vectors(n)
  row, column, cosine = similar_people.nearest(rows, k=k, floor=0.3, progress='')
  wanted = reference(np.where(np.triu(np.ones((n, n), bool), 1), rows @ rows.T, -2), k, 0.3)
  assert [*zip(row.tolist(), column.tolist())] == [pair[1:] for pair in wanted]
  np.testing.assert_allclose(cosine, [-pair[0] for pair in wanted], atol=1e-6)


def test_against_others(small_blocks):
  rows, columns = vectors(40), vectors(60, seed=1)
  row, column, _ = similar_people.nearest(rows, columns, k=2, floor=0.0, progress='')
  assert [*zip(row.tolist(), column.tolist())] == [pair[1:] for pair in reference(rows @ columns.T, 2, 0.0)]


def test_centred_vectors_have_unit_length_and_the_mean_none():
  x = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32) + 10
  x[4] = mean = x[:4].mean(0)
  unit = similar_people.centred(x.copy(), mean)
  np.testing.assert_allclose(np.linalg.norm(unit[:4], axis=1), 1, rtol=1e-6)
  assert not unit[4].any()
