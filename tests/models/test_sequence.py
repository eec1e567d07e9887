"""The sequence decoder: PyTorch's numbers, no look ahead, and a search that is as good as scoring every code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gif_jax.config import default
from gif_jax.identification.beam_search import build_index, decode, decode_sequence
from gif_jax.models import gif
from gif_jax.models.heads import SequenceDecoder
from gif_jax.training.cost.flops import training_flops
from gif_jax.training.objectives.fixed import sequence_loss
from gif_jax.training.train_step import make_read_digit
from tests.helpers import places
from tests.helpers.codes import problems, random_codes

GOLDEN = dict(np.load(places.GOLDEN / 'sequence_golden.npz'))


def _from_torch(kind=''):
  """PyTorch's weights under our names; with kind '/gradient' their gradients."""
  net = {name.removesuffix(kind): GOLDEN[f'net/{name}{kind}'] for name in WEIGHTS}
  gates = {name: np.split(net[f'cell.{name}'], 3) for name in ('weight_ih', 'weight_hh', 'bias_ih', 'bias_hh')}
  cell = {}
  for i, gate in enumerate('rzn'):  # reset, update, new
    bias, further = gates['bias_ih'][i], gates['bias_hh'][i]
    cell[f'i{gate}'] = {'kernel': gates['weight_ih'][i].T, 'bias': bias}
    cell[f'h{gate}'] = {'kernel': gates['weight_hh'][i].T}
    if gate == 'n':
      cell['hn']['bias'] = further
    elif not kind:  # two biases that are only added up: we have one, with the gradient that each of the two has
      cell[f'i{gate}']['bias'] = bias + further
  return {
    'start': {'kernel': net['start.weight'].T, 'bias': net['start.bias']},
    'query': {'kernel': net['query.weight'].T},
    'digits': np.concatenate([net['begin'][None], net['digits.0'], net['digits.1']]),
    'cell': cell,
    'centres': np.stack([net[f'centres.{j}'].T for j in range(3)]),
  }


WEIGHTS = [name[4:] for name in GOLDEN if name.startswith('net/') and not name.endswith('/gradient')]


def _loss_settings(**changes):
  found = default().loss
  found.update({'scale': 16.0, 'margin': 0.35} | changes)
  return found


@pytest.mark.slow
def test_cosines_loss_and_gradients_equal_pytorch():
  decoder, code, loss = SequenceDecoder(l=3, v=7, width=5), GOLDEN['code'], _loss_settings(digits=0.0)

  def forward(params, z):
    cosines = decoder.apply({'params': params}, z, code)
    return sequence_loss(cosines, code, loss)[0], cosines

  (found, cosines), gradients = jax.jit(jax.value_and_grad(forward, (0, 1), has_aux=True))(_from_torch(), GOLDEN['z'])
  np.testing.assert_allclose(cosines, GOLDEN['cosines'], atol=1e-5)
  np.testing.assert_allclose(found, GOLDEN['loss'].mean(), rtol=1e-5)
  wanted = _from_torch('/gradient'), GOLDEN['z/gradient']
  jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5), gradients, wanted)


@pytest.mark.slow
def test_the_loss_and_its_metrics_by_hand():
  cosines = jnp.array([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]])
  code = jnp.array([[0, 1], [1, 0]])
  loss, metrics = sequence_loss(cosines, code, _loss_settings(scale=2.0, margin=0.0, digits=7.0, sequence=0.5))
  right, wrong = np.log(1 + np.exp(-2)), np.log(1 + np.exp(2))
  np.testing.assert_allclose(metrics['sequence_loss'], (3 * right + wrong) / 2, rtol=1e-6)
  np.testing.assert_allclose(loss, 0.5 * metrics['sequence_loss'], rtol=1e-6)
  np.testing.assert_array_equal(metrics['sequence_accuracy'], [1, 0.5])


def _decoder(l=3, v=4, width=6, d=8, seed=0):
  """A decoder with weights so large that digits depend on their prefixes, embeddings, and a code for each."""
  decoder, key = SequenceDecoder(l, v, width), jax.random.key(seed)
  z = jax.random.normal(key, (5, d))
  z = z / jnp.linalg.norm(z, axis=1, keepdims=True)
  params = jax.tree.map(lambda x: 2 * x, decoder.init(key, z)['params'])
  return decoder, params, z, jax.random.randint(key, (5, l), 0, v)


@pytest.mark.slow
def test_a_digit_depends_on_the_digits_before_it_and_on_no_others():
  decoder, params, z, code = _decoder()
  read = jax.jit(lambda code: decoder.apply({'params': params}, z, code))
  before = read(code)
  for j in range(3):
    after = read(code.at[:, j].set((code[:, j] + 1) % 4))
    np.testing.assert_array_equal(after[:, : j + 1], before[:, : j + 1])
    assert np.all(np.abs(after - before)[:, j + 1 :].max(-1) > 1e-3)
  assert np.abs(before).max() <= 1 + 1e-6


@pytest.mark.slow
def test_without_a_code_it_is_told_what_it_reads():
  decoder, params, z, _ = _decoder()
  free = decoder.apply({'params': params}, z)
  told = decoder.apply({'params': params}, z, np.argmax(free, -1))
  np.testing.assert_allclose(free, told, atol=1e-6)


def test_its_size_does_not_depend_on_the_number_of_identities():
  d, l, v, p = 8, 3, 4, 6
  params = _decoder(l, v, p, d)[1]
  weights = d * p + (1 + (l - 1) * v) * p + 6 * p**2 + p**2 + l * p * v
  assert sum(x.size for x in jax.tree.leaves(params)) == weights + p + 4 * p


@pytest.mark.slow
def test_its_arithmetic_is_counted():
  model = default().model
  model.backbone, model.d = 'small', 64
  alone = training_flops(gif.build(model, 3, 10), 112)
  model.sequence = p = 32
  step = 3 * (6 * p**2 + p**2 + p * 10) + 2 * 10 * p  # GRU, query and centres of each digit, embeddings of all but one
  assert training_flops(gif.build(model, 3, 10), 112) - alone == 6 * (64 * p + step)


def _of_prefix(tables, state, before, j):
  """Log-probabilities looked up by example and prefix. tables[j]: [B, v**j, v]; state: int32 [n, 2], of both."""
  example, prefix = state[:, 0], state[:, 1]
  prefix = prefix * tables[0].shape[2] + before if j else prefix
  return jnp.stack([example, prefix], axis=1), tables[j][example, prefix]


def _exhaustive(codes, tables, k):
  """The oracle: all m codes by the chain rule, digits added in order in float32."""
  v, order = tables[0].shape[2], np.lexsort(codes.T[::-1])
  scores, prefix = np.zeros((len(tables[0]), len(codes)), np.float32), np.zeros(len(codes), np.int64)
  for j, table in enumerate(tables):
    scores = scores + table[:, prefix, codes[order, j]]
    prefix = prefix * v + codes[order, j]
  best = np.argsort(-scores, axis=1, kind='stable')[:, :k]
  pad = ((0, 0), (0, k - best.shape[1]))
  score = np.pad(np.take_along_axis(scores, best, axis=1), pad, constant_values=-np.inf)
  return np.pad(order[best], pad, constant_values=-1), score


def _random_tables(rng, kind, n, l, v):
  draw = {
    'real': lambda shape: rng.normal(size=shape),
    'ties': lambda shape: rng.integers(-2, 1, shape),
    'signed zeros': lambda shape: rng.choice([-0.0, 0.0, -1.0], shape),
    'impossible': lambda shape: rng.choice([-np.inf, -1.0, -2.0], shape),
  }[kind]
  return [draw((n, v**j, v)).astype(np.float32) for j in range(l)]


def _states(n):
  return np.stack([np.arange(n), np.zeros(n, int)], axis=1).astype(np.int32)


@pytest.mark.slow
@settings(max_examples=16, deadline=None, derandomize=True)
@given(problems(), st.sampled_from(['real', 'ties', 'signed zeros', 'impossible']))
def test_full_beam_is_exhaustive_search_by_the_chain_rule(problem, kind):
  m, l, v, seed = problem
  rng = np.random.default_rng(seed)
  codes, tables = random_codes(rng, m, l, v), _random_tables(rng, kind, 3, l, v)
  index = build_index(codes, v)
  beam = max(len(table) for table in index.children)
  identity, score = decode_sequence(index, _of_prefix, tables, _states(3), beam, 7)
  expected_identity, expected_score = _exhaustive(codes, tables, 7)
  np.testing.assert_array_equal(identity, expected_identity)
  np.testing.assert_array_equal(score, expected_score)


@pytest.mark.slow
@pytest.mark.parametrize('beam', [1, 3, 20])
def test_digits_that_ignore_their_prefix_are_decoded_as_those_of_the_heads(beam):
  rng = np.random.default_rng(0)
  codes, log_probs = random_codes(rng, 200, 3, 7), rng.normal(size=(4, 3, 7)).astype(np.float32)
  tables = [np.repeat(log_probs[:, j, None], 7**j, axis=1) for j in range(3)]
  index = build_index(codes, 7)
  found = decode_sequence(index, _of_prefix, tables, _states(4), beam, 9)
  jax.tree.map(np.testing.assert_array_equal, found, decode(index, log_probs, beam, 9))


@pytest.mark.parametrize('beam', [1, 2, 20])
def test_narrow_beam_gives_valid_identities_with_their_scores_best_first(beam):
  rng = np.random.default_rng(1)
  codes, tables = random_codes(rng, 300, 4, 5), _random_tables(rng, 'real', 8, 4, 5)
  found = decode_sequence(build_index(codes, 5), _of_prefix, tables, _states(8), beam, 10)
  everybody, scores = _exhaustive(codes, tables, 300)
  for names, values, order, wanted in zip(*map(np.asarray, found), everybody, scores):
    there = names >= 0
    assert there[0] and (np.diff(there.astype(int)) <= 0).all() and len(set(names[there])) == there.sum()
    assert (values[~there] == -np.inf).all() and (np.diff(values[there]) <= 0).all()
    np.testing.assert_array_equal(values[there], wanted[np.argsort(order)][names[there]])


def test_inputs_that_cannot_be_searched():
  index = build_index(np.array([[0, 1], [1, 0]], np.uint8), 3)
  tables = _random_tables(np.random.default_rng(0), 'real', 1, 2, 4)
  with pytest.raises(ValueError, match='takes 3 values of a digit, got 4: use the table of the run'):
    decode_sequence(index, _of_prefix, tables, _states(1), 2, 1)
  with pytest.raises(ValueError, match='at least 1'):
    decode_sequence(index, _of_prefix, tables, _states(1), 0, 1)


def _sigmoid(x):
  return 1 / (1 + np.exp(-x))


def _log_probs_of_all(params, z, codes, scale):
  """Chain rule for one embedding and all codes in float64, by equations of the GRU: [m]."""
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  dense = lambda x, p: x @ p['kernel'] + p.get('bias', 0)  # noqa: E731
  cell, state, total = params['cell'], np.tile(dense(np.asarray(z), params['start']), (len(codes), 1)), 0
  for j in range(codes.shape[1]):
    x = params['digits'][1 + (j - 1) * 4 + codes[:, j - 1] if j else np.zeros(len(codes), int)]
    r, u = (_sigmoid(dense(x, cell[f'i{gate}']) + dense(state, cell[f'h{gate}'])) for gate in 'rz')
    state = (1 - u) * np.tanh(dense(x, cell['in']) + r * dense(state, cell['hn'])) + u * state
    query, centres = state @ params['query']['kernel'], params['centres'][j]
    cosines = query @ centres / np.linalg.norm(query, axis=1)[:, None] / np.linalg.norm(centres, axis=0)
    logits = scale * cosines
    total = total + (logits - np.log(np.exp(logits).sum(1, keepdims=True)))[np.arange(len(codes)), codes[:, j]]
  return total


@pytest.mark.slow
def test_a_full_beam_finds_what_scoring_every_code_finds():
  decoder, params, z, _ = _decoder()
  codes = random_codes(np.random.default_rng(0), 40, 3, 4)
  read_digit = make_read_digit(gif.GIF(None, None, decoder), scale=8.0)
  first = decoder.apply({'params': params}, z, method='first')
  variables = {'params': {'sequence': params}}
  identity, score = decode_sequence(build_index(codes, 4), read_digit, variables, first, beam=16, k=40)
  for example, (names, values) in enumerate(zip(identity, score)):
    wanted = _log_probs_of_all(params, z[example], codes, 8.0)
    np.testing.assert_array_equal(names, np.argsort(-wanted))
    np.testing.assert_allclose(values, np.sort(wanted)[::-1], rtol=1e-4)
