"""The baselines: margin softmaxes over all identities and over a share of them, beside PyTorch and dense arithmetic."""

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gif_jax.config import default
from gif_jax.core.distributed.mesh import make_mesh
from gif_jax.training import optim
from gif_jax.training.objectives.softmax import Softmax
from gif_jax.training.state import SoftmaxTable
from tests.helpers import places

GOLDEN = dict(np.load(places.GOLDEN / 'margins_golden.npz'))
M, D = GOLDEN['centres'].shape
B = len(GOLDEN['label'])
CASES = {
  'arcface': {'margin_type': 'arcface', 'margin': 0.5, 'scale': 32.0},
  'arcface_exact': {'margin_type': 'arcface', 'margin': 0.5, 'scale': 32.0, 'exact_margin': True},
  'cosface': {'margin_type': 'cosface', 'margin': 0.4, 'scale': 64.0},
  'combined': {'margin_type': 'combined', 'combined': (1.2, 0.3, 0.1), 'scale': 16.0},
  'combined_exact': {'margin_type': 'combined', 'combined': (1.2, 0.3, 0.1), 'scale': 16.0, 'exact_margin': True},
  'adaface': {'margin_type': 'adaface', 'margin': 0.4, 'scale': 64.0},
  'adaface_later': {'margin_type': 'adaface', 'margin': 0.4, 'scale': 64.0},
  'arcface_filtered': {'margin_type': 'arcface', 'margin': 0.5, 'scale': 32.0, 'interclass_filtering_threshold': 0.3},
  'cosface_filtered': {'margin_type': 'cosface', 'margin': 0.4, 'scale': 64.0, 'interclass_filtering_threshold': 0.3},
}


def _config(settings=CASES['arcface'], *, d=D, batch=B, rate=1.0, **optimiser):
  config = default()
  config.model.d, config.model.dtype, config.train.batch_size = d, 'float32', batch
  config.softmax.update(settings | {'enabled': True, 'sample_rate': rate})
  config.optim.update({'warmup': 0.0} | optimiser)
  return config


def _objective(config, devices, m=M, fsdp=1):
  return Softmax(config, m, 10, make_mesh(jax.devices()[:devices], fsdp))


def _padded(objective, centres):
  """Centres of all identities with what fills the devices up; nothing may depend on it."""
  return jnp.full((objective.share * objective.mesh.size, centres.shape[1]), 7.0).at[: len(centres)].set(centres)


def _loss_and_gradients(objective, norms):
  """Loss and metrics of the golden batch, and gradients of rows and features."""
  batch = {'label': jnp.asarray(GOLDEN['label'], jnp.int32)}

  def loss(rows, features):
    return objective.loss(rows, features, None, batch, (None, jnp.asarray(norms)))

  gradients = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
  (value, metrics), of_both = gradients(_padded(objective, GOLDEN['centres']), jnp.asarray(GOLDEN['features']))
  return value, metrics, *of_both


@pytest.mark.slow
@pytest.mark.parametrize('devices', [1, 3, 8])
@pytest.mark.parametrize('name', CASES)
def test_margins_and_their_gradients_equal_pytorch(name, devices):
  objective = _objective(_config(CASES[name]), devices)
  norms = GOLDEN.get(f'{name}/norms_before', (20.0, 100.0))
  loss, metrics, of_rows, of_features = _loss_and_gradients(objective, norms)
  wanted = {part: GOLDEN[f'{name}/{part}'] for part in ('of_centres', 'of_features')}
  np.testing.assert_allclose(loss, GOLDEN[f'{name}/loss'].mean(), rtol=1e-5)
  np.testing.assert_allclose(of_features, wanted['of_features'], atol=1e-5 * np.abs(wanted['of_features']).max())
  np.testing.assert_allclose(of_rows[:M], wanted['of_centres'], atol=1e-5 * np.abs(wanted['of_centres']).max())
  np.testing.assert_array_equal(of_rows[M:], 0)
  if 'adaface' in name:
    np.testing.assert_allclose([metrics['norm_mean'], metrics['norm_std']], GOLDEN[f'{name}/norms'], rtol=1e-5)


def _state(objective, norms=(20.0, 100.0), step=0):
  """A state whose rows and momentum are all different, not those of a start."""
  rng = np.random.default_rng(0)
  table = objective.init()['softmax']
  noise = jax.tree.map(lambda x: jnp.asarray(rng.random(x.shape), x.dtype) if x.ndim == 2 else x, table)
  return SimpleNamespace(softmax=noise.replace(norms=jnp.asarray(norms)), step=jnp.int32(step))


def _stepper(objective):
  """(state, features, label) -> who was compared with, the loss, and the state after a step on these rows."""

  @jax.jit
  def step(table, number, features, label):
    rows, batch, context = objective.gather(SimpleNamespace(softmax=table, step=number), {'label': label})
    gradient = jax.value_and_grad(lambda rows: objective.loss(rows, features, None, batch, context), has_aux=True)
    (loss, metrics), of_rows = gradient(rows)
    after, _ = objective.update(SimpleNamespace(softmax=table), rows, of_rows, context, metrics)
    return context[0], loss, after['softmax']

  def run(state, features, label):
    ids, loss, table = step(state.softmax, state.step, jnp.asarray(features), jnp.asarray(label, jnp.int32))
    return ids, loss, SimpleNamespace(softmax=table, step=state.step + 1)

  return run


def _dense(centres, people, features, label, scale=64.0, margin=0.4):
  """CosFace over some people alone, in float64: the loss, and its gradient of all centres."""
  features, centres = features.astype(np.float64), centres.astype(np.float64)
  z = features / np.linalg.norm(features, axis=1, keepdims=True)
  length = np.linalg.norm(centres[people], axis=1, keepdims=True)
  w = centres[people] / length
  hot = people == label[:, None]
  logits = scale * (z @ w.T - margin * hot)
  share = np.exp(logits - logits.max(1, keepdims=True))
  share /= share.sum(1, keepdims=True)
  of_unit = (scale / len(label) * (share - hot)).T @ z
  gradient = np.zeros_like(centres)
  gradient[people] = (of_unit - (of_unit * w).sum(1, keepdims=True) * w) / length
  return -np.log(share[hot]).mean(), gradient.astype(np.float32)


def _on_host(tree, m=M):
  return jax.tree.map(lambda x: np.asarray(x)[:m] if x.ndim == 2 else np.asarray(x), tree)


@pytest.mark.slow
@pytest.mark.parametrize('devices', [1, 3, 8])
def test_a_sample_of_everybody_is_the_full_softmax(devices):
  full, sampled = (_objective(_config(), devices) for _ in range(2))
  sampled.everybody = False
  state = _state(full)
  _, _, wanted = _stepper(full)(state, GOLDEN['features'], GOLDEN['label'])
  ids, _, after = _stepper(sampled)(state, GOLDEN['features'], GOLDEN['label'])
  assert full.everybody and set(range(M)) <= set(np.asarray(ids).tolist())
  for left, right in zip(jax.tree.leaves(_on_host(after.softmax)), jax.tree.leaves(_on_host(wanted.softmax))):
    np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


def _check_sample(objective, people, label):
  """Of every device all of the batch's identities, and as many of its others as was promised."""
  devices = objective.mesh.size
  own = np.bincount(np.unique(label) // objective.share, minlength=devices)
  here = np.clip(M - np.arange(devices) * objective.share, 0, objective.share)
  wanted = np.minimum(np.maximum(objective.wanted, own), here)
  np.testing.assert_array_equal(np.bincount(people // objective.share, minlength=devices), wanted)
  assert len(set(people)) == len(people) and set(label) <= set(people)


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'devices'), [('sgd', 1), ('sgd', 3), ('sgd', 8), ('adamw', 3)])
def test_partial_fc_is_dense_training_with_the_people_it_samples(name, devices):
  """Beside a softmax over them alone and an optimiser of all rows; rows of others do not change by a bit."""
  config = _config(CASES['cosface'], rate=0.3, name=name, lr=0.1, weight_decay=0.1)
  objective = _objective(config, devices)
  state, tx, step = _state(objective), optim.optimiser(config.optim, 10, clip=False), _stepper(objective)
  for first in (0, 6, 3):
    label, features = np.repeat(GOLDEN['label'][first : first + 6], 4), GOLDEN['features']
    ids, loss, after = step(state, features, label)
    people = np.asarray(ids)[np.asarray(ids) < M]
    _check_sample(objective, people, label)
    before, updated = _on_host(state.softmax), _on_host(after.softmax)
    wanted, gradient = _dense(before.centres, people, features, label)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    updates, opt_state = tx.update(gradient, before.opt_state, before.centres)
    dense = SoftmaxTable(optax.apply_updates(before.centres, updates), opt_state, before.norms, M)
    others = np.setdiff1d(np.arange(M), people)
    for old, new, right in zip(*map(jax.tree.leaves, (before, updated, dense))):
      if old.ndim == 2:
        np.testing.assert_array_equal(new[others], old[others])
        np.testing.assert_allclose(new[people], np.asarray(right)[people], rtol=1e-4, atol=1e-5)
        assert (new[people] != old[people]).any(axis=1).all()
    state = after


@pytest.mark.slow
def test_rows_are_split_alike_where_devices_share_parameters():
  config = _config(CASES['cosface'], rate=0.3)
  steps = []
  for fsdp in (1, 4):
    objective = _objective(config, 8, fsdp=fsdp)
    ids, loss, after = _stepper(objective)(_state(objective), GOLDEN['features'], GOLDEN['label'])
    steps.append((np.asarray(ids), float(loss), _on_host(after.softmax.centres)))
  for left, right in zip(*steps):
    np.testing.assert_allclose(left, right, rtol=1e-6)


@pytest.mark.slow
def test_a_sample_is_a_function_of_seed_step_and_device():
  def drawn(step, seed=0):
    config = _config(rate=0.3)
    config.train.seed = seed
    objective = _objective(config, 8, m=800)
    return np.asarray(jax.jit(objective._sample)(jnp.zeros(B, jnp.int32), step)).reshape(8, -1)

  first = drawn(3)
  np.testing.assert_array_equal(drawn(3), first)
  places = [set((row[row < 800] % 100).tolist()) for row in first]
  assert all(a != b for i, a in enumerate(places) for b in places[:i])  # no two devices draw alike
  assert (drawn(4) != first).any() and (drawn(3, seed=1) != first).any()


def test_the_start_does_not_depend_on_devices():
  tables = [_objective(_config(), devices).init()['softmax'] for devices in (1, 3, 8)]
  assert {len(table.centres) for table in tables} == {37, 39, 40}
  for table in tables[1:]:
    np.testing.assert_array_equal(table.on_host(), tables[0].on_host())
  assert tables[0].on_host().std() == pytest.approx(0.01, rel=0.1)


def _lowered(m, rate, devices=1, dtype='float32', d=64, batch=16):
  """A step of the objective as a program whose state is donated."""
  config = _config(d=d, batch=batch, rate=rate)
  config.model.dtype = dtype
  objective = _objective(config, devices, m)

  def step(table, features, label):
    rows, batch, context = objective.gather(SimpleNamespace(softmax=table, step=0), {'label': label})
    gradients = jax.grad(lambda *trained: objective.loss(*trained, None, batch, context), (0, 1), has_aux=True)
    (of_rows, of_features), metrics = gradients(rows, features)
    return objective.update(SimpleNamespace(softmax=table), rows, of_rows, context, metrics)[0]['softmax'], of_features

  shapes = jax.ShapeDtypeStruct((batch, d), jnp.float32), jax.ShapeDtypeStruct((batch,), jnp.int32)
  return jax.jit(step, donate_argnums=0).lower(objective.abstract()['softmax'], *shapes)


@pytest.mark.slow
@pytest.mark.parametrize(('rate', 'copies'), [(1.0, 1), (0.3, 4)])
def test_rows_are_updated_in_place(rate, copies):
  """Beside the state a step needs their gradient and the logits; of a sample also its rows, as they are and moved."""
  small, large = (_lowered(m, rate).compile().memory_analysis() for m in (20_000, 40_000))
  assert large.alias_size_in_bytes >= 2 * 4 * 64 * 40_000
  more = (large.temp_size_in_bytes - small.temp_size_in_bytes) / 20_000
  assert more <= rate * 4 * (copies * 64 + 16) + 24  # bytes an identity, for d = 64 and B = 16


@pytest.mark.parametrize('rate', [1.0, 0.3])
def test_products_are_of_the_networks_type_backwards_too(rate):
  text = _lowered(1000, rate, dtype='bfloat16').as_text()
  products = re.findall(r'dot_general .*?: \((.*?)\) -> (\S+)', text)
  assert len(products) == 3
  for operands, result in products:
    assert operands.count('bf16') == 2 and result.endswith('f32>')
