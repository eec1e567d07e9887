"""Networks: parameter counts of the literature, and the outputs and gradients of PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gif_jax.config import default
from gif_jax.models import gif
from gif_jax.models.heads import CodeHeads
from gif_jax.models.iresnet import IResNet, Spec
from tests.helpers import places

GOLDEN = dict(np.load(places.GOLDEN / 'torch_golden.npz'))


def _conv(w):
  return w.transpose(2, 3, 1, 0)


def _norm(name):
  return {'scale': GOLDEN[f'{name}.weight'], 'bias': GOLDEN[f'{name}.bias']}, {
    'mean': GOLDEN[f'{name}.running_mean'],
    'var': GOLDEN[f'{name}.running_var'],
  }


def _from_torch():
  """The golden PyTorch weights under our names: params and batch_stats."""
  params, stats = {}, {}

  def norm(ours, theirs, scope=''):
    p, s = _norm(f'net/{theirs}')
    target, running = (params, stats) if not scope else (params.setdefault(scope, {}), stats.setdefault(scope, {}))
    target[ours], running[ours] = p, s

  params['stem_conv'] = {'kernel': _conv(GOLDEN['net/conv1.weight'])}
  params['stem_prelu'] = {'slope': GOLDEN['net/prelu.weight']}
  norm('stem_bn', 'bn1')
  for i, scope in enumerate(['stage1_block1', 'stage2_block1', 'stage2_block2']):
    block = params.setdefault(scope, {})
    for conv in ('conv1', 'conv2'):
      block[conv] = {'kernel': _conv(GOLDEN[f'net/layers.{i}.{conv}.weight'])}
    block['prelu'] = {'slope': GOLDEN[f'net/layers.{i}.prelu.weight']}
    for bn in ('bn1', 'bn2', 'bn3'):
      norm(bn, f'layers.{i}.{bn}', scope)
    if f'net/layers.{i}.shortcut.0.weight' in GOLDEN:
      block['shortcut_conv'] = {'kernel': _conv(GOLDEN[f'net/layers.{i}.shortcut.0.weight'])}
      norm('shortcut_bn', f'layers.{i}.shortcut.1', scope)
  norm('bn', 'bn2')
  # PyTorch flattens channel, row, column; we flatten row, column, channel.
  kernel = GOLDEN['net/fc.weight'].reshape(8, 6, 4, 4).transpose(2, 3, 1, 0).reshape(-1, 8)
  params['embedding'] = {'kernel': kernel, 'bias': GOLDEN['net/fc.bias']}
  norm('embedding_bn', 'features')
  del params['embedding_bn']['scale']
  return {'params': params, 'batch_stats': stats}


@pytest.fixture(scope='module')
def golden_net():
  return IResNet(Spec((1, 2), widths=(4, 6), strides=(2, 2)), d=8), _from_torch()


@pytest.mark.slow
def test_iresnet_equals_pytorch(golden_net):
  net, variables = golden_net
  x = GOLDEN['input'].transpose(0, 2, 3, 1)
  np.testing.assert_allclose(net.apply(variables, x, False), GOLDEN['eval_output'], atol=1e-4, rtol=1e-4)
  out, _ = net.apply(variables, x, True, mutable=['batch_stats'])
  np.testing.assert_allclose(out, GOLDEN['train_output'], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_iresnet_gradients_equal_pytorch(golden_net):
  net, variables = golden_net
  x = GOLDEN['input'].transpose(0, 2, 3, 1)

  def loss(params):
    out, _ = net.apply({**variables, 'params': params}, x, True, mutable=['batch_stats'])
    return jnp.sum(out * jnp.linspace(-1, 1, 40).reshape(5, 8) ** 3)

  gradient = jax.grad(loss)(variables['params'])
  scale = np.abs(GOLDEN['stem_gradient']).max()
  np.testing.assert_allclose(gradient['stem_conv']['kernel'] / scale, _conv(GOLDEN['stem_gradient']) / scale, atol=1e-4)
  scale = np.abs(GOLDEN['slope_gradient']).max()
  np.testing.assert_allclose(
    gradient['stage2_block1']['prelu']['slope'] / scale, GOLDEN['slope_gradient'] / scale, atol=1e-4
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'millions'), [('r18', 24.02), ('r34', 34.14), ('r50', 43.59), ('r100', 65.16), ('r200', 118.83)]
)
def test_parameter_counts_are_those_of_the_literature(name, millions):
  settings = default().model
  settings.backbone = name
  model = gif.build(settings, l=3, v=10)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 112, 112, 3), jnp.uint8)))
  count = sum(x.size for x in jax.tree.leaves(shapes['params']['backbone']))
  assert round(count / 1e6, 2) == pytest.approx(millions, abs=0.011)


@pytest.mark.slow
def test_heads_give_cosines_that_ignore_the_length_of_z():
  heads = CodeHeads(l=3, v=10, projection=8)
  z = jax.random.normal(jax.random.key(1), (4, 16))
  variables = heads.init(jax.random.key(0), z)
  cosines = heads.apply(variables, z)
  assert cosines.shape == (4, 3, 10)
  assert float(jnp.abs(cosines).max()) <= 1 + 1e-6
  np.testing.assert_allclose(cosines, heads.apply(variables, 7 * z), atol=1e-5)
  projection, centres = (np.asarray(variables['params'][name], np.float64) for name in ('projection', 'centres'))
  digit = np.asarray(z, np.float64) @ projection[:, 1]
  by_hand = digit @ centres[1] / np.linalg.norm(digit, axis=1)[:, None] / np.linalg.norm(centres[1], axis=0)
  np.testing.assert_allclose(cosines[:, 1], by_hand, atol=1e-5)


@pytest.mark.slow
def test_features_and_cosines_are_float32_also_in_bfloat16():
  settings = default().model
  settings.backbone, settings.d = 'small', 32
  model = gif.build(settings, l=2, v=5)
  images = jax.ShapeDtypeStruct((2, 32, 32, 3), np.uint8)
  variables = jax.eval_shape(model.init, jax.random.key(0), images)
  features, cosines, _ = jax.eval_shape(model.apply, variables, images)
  assert features.dtype == cosines.dtype == jnp.float32
  assert features.shape == (2, 32) and cosines.shape == (2, 2, 5)
