"""Codes: unique for any vectors, near where vectors are near, named alike under every parent."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from gif_jax.codes import kmeans, nodes, tree
from gif_jax.codes.align import learn_prototypes, match
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
  aligned=st.booleans(),
)
def test_codes_are_unique_and_nodes_within_capacity(l, v, fill, kind, aligned):
  m = max(1, round(fill * v**l))
  rng = np.random.default_rng(m)
  vectors = {
    'normal': rng.standard_normal((m, 4)),
    'duplicates': rng.standard_normal((m, 4))[rng.integers(0, 1 + m // 3, m)],
    'equal': np.ones((m, 4)),
    'zero': np.zeros((m, 4)),
  }[kind]
  tree = build_codes(vectors, l, v, align=aligned, progress=False)
  _check_laws(tree.codes, m, l, v)
  assert tree.explained.shape == (l,)
  assert np.all(np.diff(tree.explained) >= 0) and tree.explained[-1] == pytest.approx(1)


@settings(deadline=None, max_examples=30)
@given(l=st.integers(1, 4), v=st.integers(2, 6), fill=st.floats(0, 1), slack=st.sampled_from([0.0, 0.1, 0.5, 3.0]))
def test_slack_is_free_in_every_node(l, v, fill, slack):
  m = max(1, round(fill * v**l / (1 + slack)))
  vectors = np.random.default_rng(m).standard_normal((m, 4)) ** 3
  codes = build_codes(vectors, l, v, slack=slack, progress=False).codes
  _check_laws(codes, m, l, v)
  for j in range(1, l + 1):
    room = min(slack, v**l / m - 1)  # rounding may leave less than is asked for
    assert np.unique(codes[:, :j], axis=0, return_counts=True)[1].max() <= math.ceil(v ** (l - j) / (1 + room) + 1e-9)


def test_slack_that_a_given_size_does_not_allow_is_less():
  vectors = np.random.default_rng(0).standard_normal((125, 4))
  _check_laws(build_codes(vectors, 3, 5, slack=1.0, progress=False).codes, 125, 3, 5)


def test_a_full_tree_of_many_nodes():
  vectors = _unit(np.random.default_rng(0).standard_normal((4096, 16)))
  tree = build_codes(vectors, 4, 8, progress=False)
  _check_laws(tree.codes, 4096, 4, 8)


def test_explained_is_one_minus_within_over_total():
  vectors = _unit(np.random.default_rng(0).standard_normal((300, 8)))
  tree = build_codes(vectors, 3, 7, progress=False)
  total = ((vectors - vectors.mean(0)) ** 2).sum()
  for j in range(1, 4):
    _, node = np.unique(tree.codes[:, :j], axis=0, return_inverse=True)
    within = sum(((vectors[node == n] - vectors[node == n].mean(0)) ** 2).sum() for n in range(node.max() + 1))
    assert tree.explained[j - 1] == pytest.approx(1 - within / total, abs=1e-5)


def test_codes_are_a_function_of_the_seed():
  vectors = _unit(np.random.default_rng(0).standard_normal((200, 8)))
  first, again, other = (build_codes(vectors, 3, 6, seed=seed, progress=False).codes for seed in (1, 1, 2))
  assert np.array_equal(first, again)
  assert not np.array_equal(first, other)


def test_planted_clusters_share_prefixes():
  rng = np.random.default_rng(0)
  outer = 10 * rng.standard_normal((6, 1, 1, 16))
  inner = 2 * rng.standard_normal((6, 6, 1, 16))
  vectors = (outer + inner + 0.1 * rng.standard_normal((6, 6, 6, 16))).reshape(-1, 16)
  mixed = rng.permutation(216)
  codes = build_codes(vectors[mixed], 3, 6, progress=False).codes[np.argsort(mixed)]
  for j, members in ((1, 36), (2, 6)):
    prefixes = codes[:, :j].reshape(-1, members, j)
    assert np.all(prefixes == prefixes[:, :1])


def test_one_level_is_as_good_as_free_k_means():
  rng = np.random.default_rng(0)
  centres = rng.standard_normal((40, 32))
  vectors = _unit(centres[rng.integers(0, 40, 4000)] + rng.standard_normal((4000, 32)))
  explained = build_codes(vectors, 4, 8, progress=False).explained[0]  # capacity 512 of 4000 / 8 = 500: it binds
  inertia = KMeans(8, n_init=3, random_state=0).fit(vectors).inertia_
  total = ((vectors - vectors.mean(0)) ** 2).sum()
  assert (1 - explained) * total < 1.02 * inertia


def test_a_node_of_many_points_is_split_by_a_sample_of_them(monkeypatch):
  rng = np.random.default_rng(0)
  vectors = _unit(rng.standard_normal((40, 32))[rng.integers(0, 40, 6000)] + rng.standard_normal((6000, 32)))
  whole = build_codes(vectors, 4, 9, progress=False)
  monkeypatch.setattr(kmeans, 'MOST', 1500)
  sampled = build_codes(vectors, 4, 9, progress=False)
  _check_laws(sampled.codes, 6000, 4, 9)
  assert not np.array_equal(sampled.codes, whole.codes)
  assert 1 - sampled.explained[0] < 1.01 * (1 - whole.explained[0])


def test_a_full_tree_whose_nodes_are_sampled(monkeypatch):
  monkeypatch.setattr(kmeans, 'MOST', 50)
  for vectors in (np.ones((1000, 4)), np.random.default_rng(0).standard_normal((1000, 4))):
    _check_laws(build_codes(vectors, 3, 10, progress=False).codes, 1000, 3, 10)


def test_memory_mapped_half_precision_is_read_as_it_is(tmp_path, monkeypatch):
  vectors = _unit(np.random.default_rng(0).standard_normal((3000, 16))).astype(np.float16)
  np.save(tmp_path / 'vectors.npy', vectors)
  for rows in (nodes, kmeans, tree):  # slices of slices, as with millions
    monkeypatch.setattr(rows, 'ROWS', 700)
  for most in (kmeans, tree):
    monkeypatch.setattr(most, 'MOST', 1000)
  mapped = build_codes(np.load(tmp_path / 'vectors.npy', mmap_mode='r'), 4, 8, progress=False)
  np.testing.assert_array_equal(mapped.codes, build_codes(vectors.astype(np.float32), 4, 8, progress=False).codes)


def _consistency(vectors, codes, v):
  """Mean cosine between a second-level residual and the mean direction of its digit over all parents."""
  parents = np.unique(codes[:, 0])
  residual = np.stack([
    [vectors[(codes[:, 0] == a) & (codes[:, 1] == b)].mean(0) - vectors[codes[:, 0] == a].mean(0) for b in range(v)]
    for a in parents
  ])
  return float((_unit(residual) * _unit(_unit(residual).mean(0))).sum(-1).mean())


def test_alignment_names_directions_across_parents():
  rng = np.random.default_rng(0)
  v = 6
  outer = 10 * rng.standard_normal((v, 1, 1, 16))
  inner = 2 * rng.standard_normal((1, v, 1, 16))  # the same directions under every parent
  vectors = (outer + inner + 0.3 * rng.standard_normal((v, v, v, 16))).reshape(-1, 16).astype(np.float32)
  aligned, plain = (build_codes(vectors, 3, v, align=each, progress=False) for each in (True, False))
  assert _consistency(vectors, aligned.codes, v) > 0.95
  assert _consistency(vectors, plain.codes, v) < 0.6
  np.testing.assert_allclose(aligned.explained, plain.explained, atol=1e-6)  # other names, the same tree


def test_align_keeps_digits_distinct_under_a_parent():
  rng = np.random.default_rng(0)
  parent = np.repeat(np.arange(40), rng.integers(1, 6, 40))
  residual = rng.standard_normal((len(parent), 8)).astype(np.float32)
  residual[::7] = 0
  digit = match(residual, parent, learn_prototypes(residual, parent, 5, rng))
  assert digit.min() >= 0 and digit.max() < 5
  assert len(np.unique(parent * 5 + digit)) == len(parent)


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


def test_random_codes_errors():
  with pytest.raises(ValueError, match='give 8 codes for 9'):
    random_codes(9, 3, 2)
  with pytest.raises(ValueError, match=r'lower tokenizer\.l'):
    random_codes(9, 63, 2)


@settings(deadline=None, max_examples=40)
@given(l=st.integers(1, 4), v=st.integers(2, 6), fill=st.one_of(st.just(1.0), st.floats(0, 1)), equal=st.booleans())
def test_codes_made_after_earlier_ones_obey_the_same_laws(l, v, fill, equal):
  m = max(1, round(fill * v**l))
  vectors = np.ones((m, 4)) if equal else np.random.default_rng(m).standard_normal((m, 4))
  tree = build_codes(vectors, l, v, earlier=random_codes(m, l, v), progress=False)
  _check_laws(tree.codes, m, l, v)


def test_codes_that_are_settled_stay_as_they_are():
  vectors = _unit(np.random.default_rng(0).standard_normal((1000, 16)))
  codes = build_codes(vectors, 3, 10, iterations=30, progress=False).codes
  for _ in range(5):
    earlier, codes = codes, build_codes(vectors, 3, 10, iterations=30, earlier=codes, progress=False).codes
  np.testing.assert_array_equal(codes, earlier)


def test_digits_keep_their_meaning_while_vectors_move():
  rng = np.random.default_rng(0)
  vectors = _unit(rng.standard_normal((1000, 16)))
  moved = _unit(vectors + 0.1 * rng.standard_normal(vectors.shape))
  earlier = build_codes(vectors, 3, 10, progress=False)
  again = build_codes(moved, 3, 10, earlier=earlier.codes, progress=False)
  afresh = build_codes(moved, 3, 10, seed=1, progress=False)
  kept, by_chance = ((tree.codes == earlier.codes).mean(0) for tree in (again, afresh))
  assert (kept > 0.5).all() and (kept > 2 * by_chance).all(), (kept, by_chance)
  np.testing.assert_allclose(again.explained, afresh.explained, atol=0.03)


def test_a_digit_that_is_swapped_everywhere_is_swapped_back():
  """Names are the earlier ones, whatever they were: here digit 2 of a settled tree with its values permuted."""
  vectors = _unit(np.random.default_rng(0).standard_normal((512, 16)))
  codes = build_codes(vectors, 3, 8, iterations=30, progress=False).codes
  for _ in range(5):
    codes = build_codes(vectors, 3, 8, iterations=30, earlier=codes, progress=False).codes
  permuted = codes.copy()
  permuted[:, 1] = np.random.default_rng(1).permutation(8)[codes[:, 1]]
  found = build_codes(vectors, 3, 8, iterations=30, earlier=permuted, progress=False).codes
  assert (found == permuted).mean() > 0.9
