"""Laws of the routes to an identity: wide enough they are brute force, ties included, and nobody is out of reach."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gif_jax.codes.tree import random_codes
from gif_jax.identification import rerank, vector_tree
from gif_jax.identification.beam_search import build_index, decode
from gif_jax.identification.nearest import nearest


def _unit(rows):
  return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _search(found, z, vectors, beam, k):
  candidates = np.asarray(vector_tree.candidates(found, z, beam))
  return np.asarray(rerank.best(candidates, rerank.cosines(z, candidates, vectors), k))


@st.composite
def problems(draw):
  """(m, l, v, seed) with room for m codes."""
  l, v = draw(st.integers(1, 4)), draw(st.integers(2, 5))
  return draw(st.integers(1, min(v**l, 60))), l, v, draw(st.integers(0, 2**32 - 1))


@pytest.mark.slow
@settings(max_examples=8, deadline=None, derandomize=True)
@given(problems(), st.sampled_from(['real', 'ties']))
def test_a_full_beam_is_the_nearest_vector(problem, kind):
  m, l, v, seed = problem
  rng = np.random.default_rng(seed)
  # Sixteen signs make a row of length 4, so that all sums of unit vectors are exact and ties are ties.
  h = rng.normal(size=(m, 16)) if kind == 'real' else rng.choice([-1.0, 1.0], (m, 16))[rng.integers(m, size=m)]
  z = rng.normal(size=(3, 16)) if kind == 'real' else rng.choice([-1.0, 1.0], (3, 16))
  planted = vector_tree.plant(random_codes(m, l, v, seed), h, v)
  beam = max(len(table) for table in planted.index.children)
  candidates = np.asarray(vector_tree.candidates(planted, z.astype(np.float32), beam))
  for found in candidates:
    assert sorted(found[found >= 0]) == list(range(m))  # everybody is reached, once
  np.testing.assert_array_equal(_search(planted, z.astype(np.float32), h, beam, 7), nearest(z, h, 7))


def test_centres_are_the_unit_means_of_what_is_below():
  rng = np.random.default_rng(0)
  codes, h = random_codes(40, 3, 4, 0), rng.normal(size=(40, 5)).astype(np.float16)
  planted = vector_tree.plant(codes, h, 4)
  for j, centres in enumerate(planted.centres, 1):
    prefixes = np.unique(codes[:, :j], axis=0)
    below = [(codes[:, :j] == prefix).all(1) for prefix in prefixes]
    means = [_unit(h[rows].astype(np.float64)).mean(0) for rows in below]
    np.testing.assert_allclose(centres, _unit(np.array(means)), atol=1e-5)


@pytest.mark.parametrize('block', [1, 7])
def test_vectors_may_be_read_in_any_blocks(block, monkeypatch):
  codes, h = random_codes(50, 3, 4, 1), np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)
  whole = vector_tree.plant(codes, h, 4)
  monkeypatch.setattr(vector_tree, '_BLOCK', block)
  for centres, again in zip(whole.centres, vector_tree.plant(codes, h, 4).centres):
    np.testing.assert_allclose(again, centres, atol=1e-6)


def _oracle(planted, codes, z, beam, v):
  """Beam search written out for one embedding: the set of identities below the beam."""
  l = codes.shape[1]
  levels = [np.unique(codes[:, :j], axis=0) for j in range(l)]
  start = max(j for j in range(l) if len(levels[j]) <= beam * v)
  alive = levels[start]
  for j in range(start, l):
    if j:
      centres = dict(zip(map(bytes, levels[j]), np.asarray(planted.centres[j - 1])))
      alive = sorted(alive, key=lambda node: -(centres[bytes(node)] @ z))[:beam]
    if j + 1 < l:
      alive = [child for child in levels[j + 1] if bytes(child[:j]) in set(map(bytes, alive))]
  return {y for y, code in enumerate(codes) if bytes(code[: l - 1]) in set(map(bytes, alive))}


@pytest.mark.parametrize('beam', [1, 2, 5])
@pytest.mark.parametrize('held', [2**24, 100])
def test_a_narrow_beam_searches_as_written_out(beam, held, monkeypatch):
  monkeypatch.setattr(rerank, 'held', lambda: held)
  vector_tree.candidates.clear_cache()  # which keeps what was compiled with another size
  rng = np.random.default_rng(0)
  codes, h, z = random_codes(120, 4, 4, 3), rng.normal(size=(120, 9)), rng.normal(size=(8, 9)).astype(np.float32)
  planted = vector_tree.plant(codes, h, 4)
  for example, found in zip(z, np.asarray(vector_tree.candidates(planted, z, beam))):
    assert set(found[found >= 0]) == _oracle(planted, codes, example, beam, 4)
    assert len(found[found >= 0]) == len(set(found[found >= 0])) and len(found) <= beam * 4


def test_a_tree_that_is_grown_finds_people_with_a_narrow_beam():
  rng = np.random.default_rng(0)
  h = _unit(np.repeat(rng.normal(size=(50, 24)), 40, axis=0) + 0.6 * rng.normal(size=(2000, 24))).astype(np.float32)
  z = h[::4] + 0.05 * rng.normal(size=(500, 24)).astype(np.float32)
  grown = vector_tree.grow(h)
  assert max(map(len, grown.centres)) < 1000
  found = _search(grown, z, h, 10, 5)
  assert (found[:, 0] == nearest(z, h, 1)[:, 0]).mean() > 0.98
  assert (found >= 0).all()


@pytest.mark.slow
def test_one_person_and_few_people():
  z = np.eye(3, dtype=np.float32)
  assert _search(vector_tree.grow(z[:1]), z, z[:1], 1, 2).tolist() == [[0, -1]] * 3
  assert _search(vector_tree.grow(z), z, z, 1, 1).ravel().tolist() == [0, 1, 2]


def test_a_beam_below_one_is_refused():
  with pytest.raises(ValueError, match='at least 1'):
    vector_tree.candidates(vector_tree.grow(np.eye(3, dtype=np.float32)), np.eye(3, dtype=np.float32), 0)


@pytest.mark.slow
def test_reranked_codes_of_a_full_beam_are_the_nearest_vectors():
  rng = np.random.default_rng(0)
  codes, h, z = random_codes(90, 3, 5, 0), rng.normal(size=(90, 8)).astype(np.float16), rng.normal(size=(20, 8))
  log_probs = np.log(rng.dirichlet(np.ones(5), (20, 3))).astype(np.float32)
  candidates, score = map(np.asarray, decode(build_index(codes, 5), log_probs, beam=90, k=90))
  found = rerank.best(candidates, rerank.cosines(z, candidates, h), 5)
  np.testing.assert_array_equal(found, nearest(z, h, 5))
  np.testing.assert_allclose(rerank.code_scores(log_probs, candidates, codes), score, rtol=1e-5)
  np.testing.assert_array_equal(rerank.best(candidates, score, 9), candidates[:, :9])


def test_cosines_do_not_depend_on_blocks_or_lengths(monkeypatch):
  rng = np.random.default_rng(0)
  h, z = rng.normal(size=(30, 8)), rng.normal(size=(11, 8))
  candidates = rng.integers(-1, 30, (11, 6))
  expected = np.where(candidates < 0, 0, np.take_along_axis(_unit(z) @ _unit(h).T, np.maximum(candidates, 0), 1))
  np.testing.assert_allclose(rerank.cosines(z, candidates, h), expected, rtol=1e-5, atol=1e-6)
  monkeypatch.setattr(rerank, 'held', lambda: 100)
  np.testing.assert_allclose(rerank.cosines(3 * z, candidates, 5 * h), expected, rtol=1e-5, atol=1e-6)


def test_lists_are_put_together_without_repeats():
  one, other = np.array([[3, -1, 5], [1, 2, 0]]), np.array([[5, 3], [7, -1]])
  found = rerank.together(one, other)
  assert [sorted(row[row >= 0]) for row in found] == [[3, 5], [0, 1, 2, 7]]
  assert found.shape == (2, 4) and one.tolist() == [[3, -1, 5], [1, 2, 0]]


def test_the_best_of_ties_has_the_smaller_label_and_free_places_come_last():
  candidates = np.array([[9, 4, -1, 7]])
  assert rerank.best(candidates, np.array([[1.0, 1.0, np.inf, 1.0]]), 3).tolist() == [[4, 7, 9]]
  assert rerank.best(candidates, np.array([[-np.inf, 0.0, 9.0, -1.0]]), 6).tolist() == [[4, 7, 9, -1, -1, -1]]


def test_the_weight_that_is_chosen_names_most_people():
  # Digits mislead by 1; the right person's cosine is .1 larger: any weight above 10 is right, 0 to 8 are wrong.
  candidates, label = np.tile([0, 1], (6, 1)), np.ones(6, int)
  log_p, cosine = np.tile([0.0, -1.0], (6, 1)), np.tile([0.5, 0.6], (6, 1))
  chosen = rerank.choose_weight(candidates, log_p, cosine, label)
  assert chosen == max(rerank.WEIGHTS)
  assert rerank.choose_weight(candidates, -log_p, -cosine, label) < 16
