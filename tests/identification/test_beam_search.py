"""Laws of the decoder: a full beam is exact, every answer is a valid code, ties go to the smaller code."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gif_jax.identification.beam_search import build_index, decode
from tests.helpers.codes import problems, random_codes


def exhaustive(codes, log_probs, k):
  """The oracle: scores all m codes, adding digits in order in float32."""
  order = np.lexsort(codes.T[::-1])
  scores = np.zeros((len(log_probs), len(codes)), np.float32)
  for j in range(codes.shape[1]):
    scores = scores + log_probs[:, j, codes[order, j]]
  best = np.argsort(-scores, axis=1, kind='stable')[:, :k]
  identity, score = order[best], np.take_along_axis(scores, best, axis=1)
  pad = ((0, 0), (0, k - best.shape[1]))
  return np.pad(identity, pad, constant_values=-1), np.pad(score, pad, constant_values=-np.inf)


@pytest.mark.slow
@settings(max_examples=24, deadline=None, derandomize=True)
@given(problems(), st.sampled_from(['real', 'ties', 'signed zeros', 'impossible']))
def test_full_beam_is_exhaustive_search(problem, kind):
  m, l, v, seed = problem
  rng = np.random.default_rng(seed)
  codes = random_codes(rng, m, l, v)
  log_probs = {
    'real': rng.normal(size=(3, l, v)),
    'ties': rng.integers(-2, 1, (3, l, v)),
    'signed zeros': rng.choice([-0.0, 0.0, -1.0], (3, l, v)),
    'impossible': rng.choice([-np.inf, -1.0, -2.0], (3, l, v)),
  }[kind].astype(np.float32)
  index = build_index(codes, v)
  identity, score = decode(index, log_probs, beam=max(len(table) for table in index.children), k=7)
  expected_identity, expected_score = exhaustive(codes, log_probs, 7)
  np.testing.assert_array_equal(identity, expected_identity)
  np.testing.assert_array_equal(score, expected_score)
  assert identity.dtype == np.int32 and score.dtype == np.float32


@pytest.mark.slow
@settings(max_examples=12, deadline=None, derandomize=True)
@given(problems(), st.integers(1, 4))
def test_one_hot_probabilities_invert_the_codes(problem, beam):
  m, l, v, seed = problem
  codes = random_codes(np.random.default_rng(seed), m, l, v)
  log_probs = np.where(codes[:, :, None] == np.arange(v), 0, -np.inf).astype(np.float32)
  identity, score = decode(build_index(codes, v), log_probs, beam=beam, k=1)
  np.testing.assert_array_equal(identity[:, 0], np.arange(m))
  np.testing.assert_array_equal(score[:, 0], 0)


@pytest.mark.slow
@pytest.mark.parametrize('beam', [1, 2, 20])
def test_narrow_beam_gives_valid_identities_with_their_scores_best_first(beam):
  rng = np.random.default_rng(0)
  codes = random_codes(rng, 500, 4, 8)
  log_probs = np.log(rng.dirichlet(np.ones(8), (16, 4))).astype(np.float32)
  identity, score = map(np.asarray, decode(build_index(codes, 8), log_probs, beam=beam, k=10))
  for example, (names, values) in enumerate(zip(identity, score)):
    found = names >= 0
    assert found[0] and (np.diff(found.astype(int)) <= 0).all() and len(set(names[found])) == found.sum()
    assert (values[~found] == -np.inf).all() and (np.diff(values[found]) <= 0).all()
    digits = log_probs[example, np.arange(4), codes[names[found]]]
    np.testing.assert_allclose(values[found], digits.sum(1), rtol=1e-5)


def test_beam_of_twenty_finds_the_best_of_many_codes():
  rng = np.random.default_rng(1)
  codes = random_codes(rng, 5000, 4, 10)
  log_probs = np.log(rng.dirichlet(np.full(10, 0.5), (64, 4))).astype(np.float32)
  identity, _ = decode(build_index(codes, 10), log_probs, beam=20, k=1)
  np.testing.assert_array_equal(identity, exhaustive(codes, log_probs, 1)[0])


def test_fewer_identities_than_asked_for_are_padded():
  identity, score = decode(build_index(np.array([[1, 0], [0, 2]], np.uint8), 3), np.zeros((1, 2, 3)), beam=9, k=4)
  assert identity.tolist() == [[1, 0, -1, -1]]
  assert score.tolist() == [[0, 0, -np.inf, -np.inf]]


def test_tables_of_a_small_trie():
  index = build_index(np.array([[2, 1], [0, 1], [2, 0]], np.uint8), 3)
  assert [table.tolist() for table in index.children] == [[[0, -1, 1]], [[-1, 0, -1], [1, 2, -1]]]
  assert index.identity.tolist() == [1, 2, 0]
  assert len(jax.tree.leaves(index)) == 3


@pytest.mark.parametrize(
  ('codes', 'message'),
  [([[0, 1], [1, 1], [0, 1]], 'identities 0 and 2 share'), ([[0, 3]], r'0\.\.2, found 0\.\.3'), ([], 'non-empty')],
)
def test_codes_that_cannot_be_indexed(codes, message):
  with pytest.raises(ValueError, match=message):
    build_index(np.array(codes, np.uint8), 3)


def test_inputs_that_do_not_fit_the_index():
  index = build_index(np.array([[0, 1], [1, 0]], np.uint8), 3)
  with pytest.raises(ValueError, match='use the table of the run'):
    decode(index, np.zeros((1, 3, 3), np.float32), beam=2, k=1)
  with pytest.raises(ValueError, match='at least 1'):
    decode(index, np.zeros((1, 2, 3), np.float32), beam=0, k=1)
