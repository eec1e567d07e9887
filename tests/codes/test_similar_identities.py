"""Who is most like whom: exact among the candidates, near to the truth, the same however it is asked for."""

import pickle

import numpy as np
import pytest

from gif_jax.codes import product, tree
from gif_jax.codes.similar_identities import Alike


@pytest.fixture(scope='module')
def people():
  """1000 vectors in 24 dimensions, float16, and product codes of them."""
  vectors = np.random.default_rng(0).normal(size=(1000, 24))
  vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
  return product.build_codes(vectors.astype(np.float32), 3, 10, progress=False), vectors


def _cosines(vectors):
  exact = vectors.astype(np.float64)
  found = exact @ exact.T
  np.fill_diagonal(found, -np.inf)
  return found


def test_everybody_is_a_candidate_where_the_reach_is_far(people):
  codes, vectors = (part[:60] for part in people)
  near = Alike(codes, vectors, 7, 59).of(np.arange(60))
  np.testing.assert_array_equal(near, np.argsort(-_cosines(vectors), axis=1, kind='stable')[:, :7])


def test_those_who_share_all_digits_but_one_are_candidates(people):
  codes, vectors = people
  near, cosine = Alike(codes, vectors, 1, 9).of(np.arange(1000)), _cosines(vectors)
  shared = (codes[:, None] == codes).sum(-1)
  best = np.where(shared == 2, cosine, -np.inf).max(1)
  assert np.all(cosine[np.arange(1000), near[:, 0]] >= best)


@pytest.mark.parametrize('make', [product.build_codes, tree.build_codes])
def test_like_codes_find_like_people(people, make):
  _, vectors = people
  cosine, chance = _cosines(vectors), tree.random_codes(1000, 3, 10, 0)
  found = []
  for codes in (chance, make(vectors.astype(np.float32), 3, 10, progress=False)):
    near = Alike(codes, vectors, 6, 9).of(np.arange(1000))
    assert near.dtype == np.int32 and near.shape == (1000, 6)
    assert all(len({y, *row}) == 7 for y, row in enumerate(near.tolist()))
    found.append(np.take_along_axis(cosine, near, axis=1).mean())
  assert found[1] > found[0] + 0.1 and found[0] > 0.1


def test_an_answer_does_not_depend_on_what_was_asked_before_or_on_the_order_of_sums(people):
  codes, vectors = people
  whole = Alike(codes, vectors, 6, 9)
  expected = whole.of(np.arange(1000))
  turned = Alike(codes, np.ascontiguousarray(vectors[:, ::-1]), 6, 9)
  asked = np.array([5, 999, 5, 0])
  for alike in (turned, whole, pickle.loads(pickle.dumps(whole))):
    np.testing.assert_array_equal(alike.of(asked), expected[asked])
  np.testing.assert_array_equal(turned.of(np.arange(1000)), expected)
