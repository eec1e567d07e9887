"""Newcomers: free codes near their vectors, and nobody else moves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gif_jax.codes.extend import extend_codes, placeholders
from gif_jax.codes.size import choose_size
from gif_jax.codes.tree import build_codes, random_codes


def _unit(x):
  return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.slow
@settings(deadline=None, max_examples=80, derandomize=True)
@given(
  l=st.integers(1, 4),
  v=st.integers(2, 6),
  fill=st.floats(0, 1),
  share=st.one_of(st.just(1.0), st.floats(0, 1)),
  kind=st.sampled_from(['normal', 'far away', 'equal', 'zero']),
  tree=st.booleans(),
)
def test_codes_are_unique_new_and_a_function_of_the_arguments(l, v, fill, share, kind, tree):
  m = max(1, round(fill * (v**l - 1)))
  k = round(share * (v**l - m))  # often all the codes that are free
  rng = np.random.default_rng(m)
  vectors, newcomers = rng.standard_normal((m, 4)).astype(np.float32), rng.standard_normal((k, 4)).astype(np.float32)
  if kind == 'far away':
    newcomers += 100
  elif kind != 'normal':
    vectors[:] = newcomers[:] = kind == 'equal'
  codes = build_codes(vectors, l, v, progress=False) if tree else random_codes(m, l, v)
  found = extend_codes(codes, vectors, v, newcomers)
  assert found.shape == (k, l) and found.dtype == np.uint8
  assert found.max(initial=0) < v
  assert len(np.unique(np.concatenate([codes, found]), axis=0)) == m + k
  np.testing.assert_array_equal(extend_codes(codes, vectors, v, newcomers), found)


@pytest.mark.parametrize(('l', 'v'), [(60, 20), (9, 256), (40, 2)])
def test_more_codes_than_a_computer_counts(l, v):
  rng = np.random.default_rng(0)
  vectors, newcomers = rng.standard_normal((30, 4)), rng.standard_normal((50, 4))
  codes = rng.integers(0, v, (30, l)).astype(np.uint8)
  found = extend_codes(codes, vectors, v, newcomers)
  assert len(np.unique(np.concatenate([codes, found]), axis=0)) == 80


@pytest.mark.parametrize(('m', 'l', 'v'), [(20, 2, 5), (100, 3, 5), (1000, 3, 11)])
def test_one_more_than_there_are_codes(m, l, v):
  vectors = np.random.default_rng(0).standard_normal((v**l + 1, 8)).astype(np.float32)
  codes = build_codes(vectors[:m], l, v, progress=False)
  assert len(extend_codes(codes, vectors[:m], v, vectors[m:-1])) == v**l - m
  with pytest.raises(ValueError, match=rf'{v**l - m} of .* free, {v**l - m + 1} are wanted.*trained again') as error:
    extend_codes(codes, vectors[:m], v, vectors[m:])
  slack = float(str(error.value).split('slack=')[1].split()[0])
  wide_l, wide_v = choose_size(m, slack=slack)
  assert wide_v**wide_l > v**l  # as many as are wanted
  codes = build_codes(vectors[:m], wide_l, wide_v, progress=False)
  assert len(extend_codes(codes, vectors[:m], wide_v, vectors[m:])) == v**l + 1 - m


@pytest.mark.parametrize(
  ('newcomers', 'names'),
  [(np.ones((3, 5)), r'\[k, 4\].*\(3, 5\)'), (np.array([[1, 0, 0, 0], [0, np.nan, 0, 0]]), 'newcomer 1 is not finite')],
)
def test_newcomers_that_do_not_fit(newcomers, names):
  codes = build_codes(np.eye(4), 2, 3, progress=False)
  with pytest.raises(ValueError, match=names):
    extend_codes(codes, np.eye(4), 3, newcomers)


def test_mapped_vectors_give_the_same_codes(tmp_path):
  vectors = _unit(np.random.default_rng(0).standard_normal((700, 16)))
  codes = build_codes(vectors[:500], 3, 9, progress=False)
  np.save(tmp_path / 'vectors.npy', vectors[:500].astype(np.float16))
  mapped = np.load(tmp_path / 'vectors.npy', mmap_mode='r')
  found = extend_codes(codes, mapped, 9, vectors[500:])
  np.testing.assert_array_equal(found, extend_codes(codes, np.array(mapped, np.float32), 9, vectors[500:]))


def _one_by_one(codes, vectors, v, newcomers):
  """The definition for people who do not compete, in float64 and without regard to capacity."""
  found = []
  for x in newcomers.astype(np.float64):
    code = ()
    for _ in range(codes.shape[1]):
      inside = (codes[:, : len(code)] == code).all(1)
      digit = codes[:, len(code)]
      children = [b for b in range(v) if (inside & (digit == b)).any()]
      centroids = np.stack([vectors[inside & (digit == b)].astype(np.float64).mean(0) for b in children])
      code += (children[np.square(centroids - x).sum(1).argmin()],)
    found.append(code)
  return np.array(found)


def test_the_nearest_centroid_where_there_is_room():
  """Every prefix of two digits is in use, so that nobody needs an estimate up to there."""
  rng = np.random.default_rng(0)
  vectors = _unit(rng.standard_normal((250, 8)))
  tail = np.concatenate([rng.permutation(25)[:10] for _ in range(25)])
  number = rng.permutation(np.repeat(np.arange(25), 10) * 25 + tail)
  codes = np.stack([number // 5**j % 5 for j in (3, 2, 1, 0)], 1).astype(np.uint8)
  newcomers = _unit(rng.standard_normal((20, 8)))
  found = extend_codes(codes, vectors, 5, newcomers)
  expected = _one_by_one(codes[:, :2], vectors, 5, newcomers)
  np.testing.assert_array_equal(found[:, :2], expected)


def _planted(people, rng):
  """[6, 6, people, 16]: the directions of the second digit are the same under every first digit, and so on."""
  outer, inner, own = (scale * rng.standard_normal((6, 16)) for scale in (10, 3, 1))
  noise = 0.05 * rng.standard_normal((6, 6, people, 16))
  return outer[:, None, None] + inner[None, :, None] + own[None, None, :people] + noise


def test_planted_clusters_take_in_their_newcomers():
  """Of each of 36 clusters one person comes later: into the cluster, at the digit whose direction is theirs."""
  rng = np.random.default_rng(0)
  people = _planted(6, rng).astype(np.float32)
  later = rng.integers(0, 6, (6, 6))
  is_new = np.arange(6) == later[:, :, None]
  order = rng.permutation(180)
  codes = build_codes(people[~is_new][order], 3, 6, progress=False)
  found = extend_codes(codes, people[~is_new][order], 6, people[is_new])
  codes = codes[np.argsort(order)].reshape(6, 6, 5, 3)
  np.testing.assert_array_equal(found.reshape(6, 6, 3)[..., :2], codes[:, :, 0, :2])


def test_a_child_without_identities_stands_where_its_digit_usually_lies():
  """Two free digits under a parent: whoever comes gets the one that means their direction elsewhere."""
  rng = np.random.default_rng(0)
  place = np.stack(np.meshgrid(np.arange(6), np.arange(6), indexing='ij'), -1).reshape(-1, 2)
  vectors = 10 * np.eye(16)[place[:, 0]] + np.eye(16)[6 + place[:, 1]] + 0.01 * rng.standard_normal((36, 16))
  new = np.isin(place[:, 0], [1, 4]) & np.isin(place[:, 1], [2, 5])
  found = extend_codes(place[~new].astype(np.uint8), vectors[~new], 6, vectors[new][::-1])
  np.testing.assert_array_equal(found, place[new][::-1])


def test_nobody_knows_a_value_that_nobody_has():
  """Digit 2 of the second level is used nowhere: it is still given out, once the others are full."""
  place = np.stack(np.meshgrid(np.arange(3), np.arange(2), indexing='ij'), -1).reshape(-1, 2).astype(np.uint8)
  found = extend_codes(place, np.eye(6), 3, np.eye(6)[[0, 2, 4]])
  np.testing.assert_array_equal(found, [[0, 2], [1, 2], [2, 2]])


@pytest.mark.slow
def test_newcomers_share_prefixes_with_their_nearest_as_members_do():
  """Where slack was kept for them: about as many first digits as the tree gives its own members, over 6 worlds."""
  likeness = np.stack([_shared_prefixes(seed) for seed in range(6)]).mean(0)
  among, shared = likeness
  assert (shared > 0.95 * among)[:2].all(), (shared, among)  # nobody shares all three


def _shared_prefixes(seed):
  """The share of members, and of newcomers, whose first 1, 2, 3 digits are those of the nearest member."""
  rng = np.random.default_rng(seed)
  centres = rng.standard_normal((60, 32))
  vectors = _unit(centres[rng.integers(0, 60, 3300)] + 0.7 * rng.standard_normal((3300, 32)))
  old, new = vectors[:3000], vectors[3000:]
  room = placeholders(3000, 0.3, 16**3 - 3000, 0)
  codes = build_codes(np.concatenate([old, old[room]]), 3, 16, progress=False)[:3000]
  found = extend_codes(codes, old, 16, new)
  likeness = old @ old.T
  np.fill_diagonal(likeness, -1)
  pairs = (codes, codes[likeness.argmax(1)]), (found, codes[(new @ old.T).argmax(1)])
  return [np.cumprod(own == other, axis=1).mean(0) for own, other in pairs]


def test_placeholders_are_different_people_while_there_are_enough():
  found = placeholders(100, 0.3, 1000, 0)
  assert len(found) == 30 == len(np.unique(found)) and found.max() < 100
  assert len(placeholders(100, 0.3, 20, 0)) == 20  # no more than are free
  assert np.bincount(placeholders(100, 2.5, 1000, 0)).tolist().count(3) == 50
  assert not len(placeholders(100, 0.0, 1000, 0))
