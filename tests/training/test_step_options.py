"""Laws of what a step may do besides: parts of a batch, blocks computed again, moving averages, parameters split."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from gif_jax.codes.identities import Identities
from gif_jax.core.distributed.mesh import make_mesh
from gif_jax.models import gif
from gif_jax.models.heads import CodeHeads, SequenceDecoder
from gif_jax.models.trained import open_network
from gif_jax.training import sharding
from gif_jax.training.program import make_predictor, make_program, open_checkpoints

FORMS = {
  'fixed': {},
  'joint': {'joint.enabled': True, 'joint.rows': 'device', 'joint.scale': 8.0},
  'softmax': {'softmax.enabled': True, 'softmax.margin_type': 'cosface', 'softmax.scale': 16.0},
  'partial_fc': {'softmax.enabled': True, 'softmax.sample_rate': 0.3, 'softmax.scale': 16.0},
}


def _config(tiny_config, changes):
  """The tiny run without what amplifies rounding: see test_train_step.py."""
  config = tiny_config.copy_and_resolve_references()
  config.update_from_flattened_dict({'optim.lr': 1e-4, 'optim.warmup': 0.0, 'optim.clip': 0.0} | changes)
  return config


def _batch(config, table, faces, rows):
  """Images with what any objective reads of them."""
  label = faces.train.labels(rows)
  code, code_vector = table.rows(label)
  known = {'label': label.astype(np.int32)}
  if not (config.joint.enabled or config.softmax.enabled):
    known = {'code': code, 'code_vector': code_vector}
  return {'image': faces.train[rows]} | known


def _steps(config, table, batch, devices=8, steps=3):
  """Metrics of steps on one batch, and the state after them."""
  mesh = make_mesh(jax.devices()[:devices], config.train.fsdp)
  program = make_program(config, Identities(table.m, '') if config.softmax.enabled else table, 10, mesh)
  state, history = program.init(), []
  for _ in range(steps):
    state, metrics, _ = program.train_step(state, sharding.put_batch(batch, mesh))
    history.append(jax.device_get(metrics))
  return history, state, program


def _same(history, wanted, rtol=1e-5):
  assert history[0].keys() == wanted[0].keys()
  for step, expected in zip(history, wanted):
    for name in expected:
      np.testing.assert_allclose(step[name], expected[name], rtol=1e-3 if name == 'grad_norm' else rtol, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize('form', FORMS)
def test_parts_of_a_batch_make_one_step_of_it(tiny_config, tiny_faces, tiny_table, form):
  """Where every part has the same images, BatchNorm sees in each what it sees in all of them."""
  config = _config(tiny_config, FORMS[form] | {'train.ema': 0.5})
  batch = _batch(config, tiny_table, tiny_faces, np.repeat(np.arange(0, 32, 4), 2))
  at_once, one, _ = _steps(config, tiny_table, batch)
  config.train.accumulate = 2
  parts, two, _ = _steps(config, tiny_table, batch)
  _same(parts, at_once)
  for left, right in zip(jax.tree.leaves(one.batch_stats), jax.tree.leaves(two.batch_stats)):
    np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)
  for left, right in zip(jax.tree.leaves(one.params), jax.tree.leaves(two.params)):
    np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


def _compiled(config, table, devices=8):
  """The compiled step, per device."""
  mesh = make_mesh(jax.devices()[:devices], config.train.fsdp)
  program = make_program(config, Identities(table.m, '') if config.softmax.enabled else table, 10, mesh)
  b, size, place = config.train.batch_size, config.data.size, sharding.batch_sharding(mesh)
  shapes = {'image': ((b, size, size, 3), np.uint8), 'code': ((b, table.l), np.int32), 'label': ((b,), np.int32)}
  shapes |= {'code_vector': ((b, config.model.d), np.float32)}
  wanted = ('image', 'label') if config.joint.enabled or config.softmax.enabled else ('image', 'code', 'code_vector')
  batch = {name: jax.ShapeDtypeStruct(*shapes[name], sharding=place) for name in wanted}
  return program.train_step.lower(program.like, batch).compile().memory_analysis()


@pytest.mark.slow
def test_parts_take_the_memory_of_a_part(tiny_config, tiny_table):
  config = _config(tiny_config, {'train.batch_size': 256})
  at_once = _compiled(config, tiny_table, 1).temp_size_in_bytes
  config.train.accumulate = 4
  assert _compiled(config, tiny_table, 1).temp_size_in_bytes < 0.5 * at_once


def _kept_for_the_backward_pass(config):
  """Bytes of activations that the forward pass over 8 crops of 112 pixels hands to the backward pass."""
  model = gif.build(config.model, 3, 10)
  images = np.zeros((8, 112, 112, 3), np.uint8)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images))
  batch_stats = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes['batch_stats'])

  def forward(params):
    return model.apply({'params': params, 'batch_stats': batch_stats}, images, True, mutable=['batch_stats'])[0][0]

  backward = jax.eval_shape(lambda params: jax.vjp(forward, params)[1], shapes['params'])
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(backward) if x.ndim == 4 and len(x) == 8)


@pytest.mark.slow
@pytest.mark.parametrize('backbone', ['small', 'r50'])
def test_blocks_computed_again_keep_less_for_the_backward_pass(tiny_config, backbone):
  plain, remat = (
    _kept_for_the_backward_pass(_config(tiny_config, {'model.backbone': backbone, 'model.remat': remat}))
    for remat in (False, True)
  )
  assert 0 < remat < 0.5 * plain


@pytest.mark.slow
def test_blocks_computed_again_change_nothing_else(tiny_config, tiny_faces, tiny_table):
  config = _config(tiny_config, {})
  batch = _batch(config, tiny_table, tiny_faces, np.arange(16))
  wanted, kept, _ = _steps(config, tiny_table, batch, 2)
  config.model.remat = True
  history, again, _ = _steps(config, tiny_table, batch, 2)
  _same(history, wanted)
  assert jax.tree.structure(again) == jax.tree.structure(kept)


@pytest.mark.slow
@pytest.mark.parametrize('form', ['fixed', 'joint', 'partial_fc'])
def test_split_parameters_train_as_copies_do(tiny_config, tiny_faces, tiny_table, form):
  config = _config(tiny_config, FORMS[form] | {'train.ema': 0.5})
  batch = _batch(config, tiny_table, tiny_faces, np.arange(16))
  wanted, copied, copying = _steps(config, tiny_table, batch)
  config.train.fsdp = 4
  history, split, splitting = _steps(config, tiny_table, batch)
  _same(history, wanted)
  kernel = ['backbone', 'stage1_block1', 'conv2', 'kernel']
  for tree in (split.params, split.ema['params'], split.opt_state[2][0].trace):
    for key in kernel:
      tree = tree[key]
    assert tree.addressable_shards[0].data.size == tree.size // 4
  images = tiny_faces.test[:8]
  predictors = make_predictor(splitting, split), make_predictor(copying, copied)
  left, right = (predict(images)['embedding'] for predict in predictors)
  np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_split_parameters_take_a_share_of_the_memory(tiny_config, tiny_table):
  config = _config(tiny_config, {'model.d': 512, 'data.size': 64})
  copies = _compiled(config, tiny_table)
  config.train.fsdp = 8
  split = _compiled(config, tiny_table)
  assert split.argument_size_in_bytes < 0.2 * copies.argument_size_in_bytes
  assert split.temp_size_in_bytes < 1.1 * copies.temp_size_in_bytes


@pytest.mark.slow
def test_the_moving_average_follows_the_weights_and_is_what_predicts(tiny_config, tiny_faces, tiny_table, tmp_path):
  config = _config(tiny_config, {'train.ema': 0.9, 'optim.lr': 0.1})
  batch = _batch(config, tiny_table, tiny_faces, np.arange(16))
  mesh = make_mesh()
  program = make_program(config, tiny_table, 10, mesh)
  state = program.init()
  wanted = jax.device_get({'params': state.params, 'batch_stats': state.batch_stats})
  for step in range(3):
    state, *_ = program.train_step(state, sharding.put_batch(batch, mesh))
    decay = min(0.9, (1 + step) / (10 + step))
    now = jax.device_get({'params': state.params, 'batch_stats': state.batch_stats})
    wanted = jax.tree.map(lambda old, new, decay=decay: decay * old + (1 - decay) * new, wanted, now)
  for left, right in zip(jax.tree.leaves(state.ema), jax.tree.leaves(wanted)):
    np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)
  images = tiny_faces.test[:8]
  embedding = make_predictor(program, state)(images)['embedding']
  np.testing.assert_allclose(embedding, program.predict(wanted, images)['embedding'], rtol=1e-4, atol=1e-4)
  assert np.abs(embedding - program.predict(now, images)['embedding']).max() > 1e-3
  checkpoints = open_checkpoints(config, tmp_path, tiny_table)
  checkpoints.save(3, state)
  checkpoints.close()
  opened = open_network(tmp_path).encoder().encode(images)['embedding']
  np.testing.assert_allclose(opened, embedding, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(('until', 'reached'), [(0.2, [True, True, False, False]), (0.0, [True] * 4)])
def test_digits_shape_the_embedding_up_to_their_last_step(tiny_config, tiny_faces, tiny_table, until, reached):
  """Nothing but digits trains here, so that a backbone they do not reach stays as it is, to the bit."""
  alone = {'loss.gamma': 0.0, 'optim.lr': 0.1, 'optim.weight_decay': 0.0, 'optim.momentum': 0.0, 'model.sequence': 16}
  config, mesh = _config(tiny_config, alone | {'loss.digits_until': until}), make_mesh(jax.devices()[:1])
  batch = sharding.put_batch(_batch(config, tiny_table, tiny_faces, np.arange(16)), mesh)
  program = make_program(config, tiny_table, 10, mesh)  # of 10 steps the first has all of them, the second half
  state, moved = program.init(), []
  for _ in reached:
    before = jax.device_get(state.params)
    state, *_ = program.train_step(state, batch)
    moved.append({part: _differ(before[part], state.params[part]) for part in before})
  assert [parts['backbone'] for parts in moved] == reached
  assert all(parts['heads'] and parts['sequence'] for parts in moved)  # they learn on


def _differ(one, other):
  return any(np.any(x != y) for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other)))


class _Pixels(nn.Module):
  @nn.compact
  def __call__(self, pixels, train):
    return nn.Dense(8)(pixels.reshape(len(pixels), -1))


@pytest.mark.slow
def test_the_share_of_the_digits_gradient_that_reaches_the_features():
  model = gif.GIF(_Pixels(), CodeHeads(2, 10, 8), SequenceDecoder(2, 10, 16))
  images, code = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3), np.array([[1, 2], [4, 5]])
  params = jax.jit(model.init)(jax.random.key(0), images)['params']

  @jax.jit
  @jax.value_and_grad
  def of_digits(params, reach):
    out = model.apply({'params': params}, images, code=code, reach=reach)
    return (out.cosines**2).sum() + (out.sequence**2).sum()

  (value, full), (same, part) = (of_digits(params, reach) for reach in (1.0, 0.25))
  assert value == same
  for readers in ('heads', 'sequence'):
    jax.tree.map(np.testing.assert_array_equal, full[readers], part[readers])
  full, part = jax.tree.leaves(full['backbone']), jax.tree.leaves(part['backbone'])
  assert all(np.allclose(0.25 * x, y, rtol=1e-5) and np.any(x) for x, y in zip(full, part, strict=True))
