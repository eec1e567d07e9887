"""Codes: unique for any vectors, near where vectors are near, named alike under every parent."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from gif_jax.codes import kmeans, tree
from gif_jax.codes.quality.measure import measure
from gif_jax.codes.tree import build_codes, random_codes


def _unit(x):
  return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def _check_laws(codes, m, l, v):
  assert codes.shape == (m, l) and codes.dtype == np.uint8
  assert codes.max() < v
  for j in range(1, l + 1):
    _, size = np.unique(codes[:, :j], axis=0, return_counts=True)
    assert size.max() <= v ** (l - j)


@settings(deadline=None, max_examples=60)
@given(
  l=st.integers(1, 4),
  v=st.integers(2, 6),
  fill=st.one_of(st.just(1.0), st.floats(0, 1)),
  kind=st.sampled_from(['normal', 'duplicates', 'equal', 'zero']),
)
def test_codes_are_unique_and_nodes_within_capacity(l, v, fill, kind):
  m = max(1, round(fill * v**l))
  rng = np.random.default_rng(m)
  vectors = {
    'normal': rng.standard_normal((m, 4)),
    'duplicates': rng.standard_normal((m, 4))[rng.integers(0, 1 + m // 3, m)],
    'equal': np.ones((m, 4)),
    'zero': np.zeros((m, 4)),
  }[kind]
  _check_laws(build_codes(vectors, l, v, progress=False), m, l, v)


def test_a_full_tree_of_many_nodes():
  vectors = _unit(np.random.default_rng(0).standard_normal((4096, 16)))
  _check_laws(build_codes(vectors, 4, 8, progress=False), 4096, 4, 8)


def _explained(vectors, codes):
  """Share of the variance that the first digit explains."""
  return measure(codes, vectors, sample=10, progress=False).explained[0]


def test_planted_clusters_share_prefixes():
  rng = np.random.default_rng(0)
  outer = 10 * rng.standard_normal((6, 1, 1, 16))
  inner = 2 * rng.standard_normal((6, 6, 1, 16))
  vectors = (outer + inner + 0.1 * rng.standard_normal((6, 6, 6, 16))).reshape(-1, 16)
  mixed = rng.permutation(216)
  codes = build_codes(vectors[mixed], 3, 6, progress=False)[np.argsort(mixed)]
  for j, members in ((1, 36), (2, 6)):
    prefixes = codes[:, :j].reshape(-1, members, j)
    assert np.all(prefixes == prefixes[:, :1])


def test_one_level_is_as_good_as_free_k_means():
  rng = np.random.default_rng(0)
  centres = rng.standard_normal((40, 32))
  vectors = _unit(centres[rng.integers(0, 40, 4000)] + rng.standard_normal((4000, 32)))
  explained = _explained(vectors, build_codes(vectors, 4, 8, progress=False))  # capacity 512 of 4000 / 8: it binds
  inertia = KMeans(8, n_init=3, random_state=0).fit(vectors).inertia_
  total = ((vectors - vectors.mean(0)) ** 2).sum()
  assert (1 - explained) * total < 1.02 * inertia


def test_a_node_of_many_points_is_split_by_a_sample_of_them(monkeypatch):
  rng = np.random.default_rng(0)
  vectors = _unit(rng.standard_normal((40, 32))[rng.integers(0, 40, 6000)] + rng.standard_normal((6000, 32)))
  whole = build_codes(vectors, 4, 9, progress=False)
  monkeypatch.setattr(kmeans, 'MOST', 1500)
  sampled = build_codes(vectors, 4, 9, progress=False)
  _check_laws(sampled, 6000, 4, 9)
  assert not np.array_equal(sampled, whole)
  assert 1 - _explained(vectors, sampled) < 1.01 * (1 - _explained(vectors, whole))


def test_a_full_tree_whose_nodes_are_sampled(monkeypatch):
  monkeypatch.setattr(kmeans, 'MOST', 50)
  for vectors in (np.ones((1000, 4)), np.random.default_rng(0).standard_normal((1000, 4))):
    _check_laws(build_codes(vectors, 3, 10, progress=False), 1000, 3, 10)


def test_memory_mapped_half_precision_is_read_as_it_is(tmp_path, monkeypatch):
  vectors = _unit(np.random.default_rng(0).standard_normal((3000, 16))).astype(np.float16)
  np.save(tmp_path / 'vectors.npy', vectors)
  for rows in (kmeans, tree):  # slices of slices, as with millions
    monkeypatch.setattr(rows, 'ROWS', 700)
  for most in (kmeans, tree):
    monkeypatch.setattr(most, 'MOST', 1000)
  mapped = build_codes(np.load(tmp_path / 'vectors.npy', mmap_mode='r'), 4, 8, progress=False)
  np.testing.assert_array_equal(mapped, build_codes(vectors.astype(np.float32), 4, 8, progress=False))


@pytest.mark.parametrize(('m', 'l', 'v'), [(1, 1, 2), (125, 3, 5), (100, 3, 5), (1000, 31, 4), (3, 62, 2)])
def test_random_codes(m, l, v):
  codes = random_codes(m, l, v, seed=1)
  _check_laws(codes, m, l, v)
  assert np.array_equal(codes, random_codes(m, l, v, seed=1))
  assert m < 4 or not np.array_equal(codes, random_codes(m, l, v, seed=2))


def test_random_codes_spread_over_all_digits():
  codes = random_codes(5000, 4, 10, seed=0)
  counts = np.stack([np.bincount(digit, minlength=10) for digit in codes.T])
  assert counts.min() > 400 and counts.max() < 600


def test_random_codes_errors():
  with pytest.raises(ValueError, match='give 8 codes for 9'):
    random_codes(9, 3, 2)
  with pytest.raises(ValueError, match=r'lower tokenizer\.l'):
    random_codes(9, 63, 2)
