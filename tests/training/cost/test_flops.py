"""FLOPs counted by hand and as published; what rows of the log say of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from gif_jax.config import default
from gif_jax.models import gif
from gif_jax.training.cost.flops import matrix_peak, multiply_adds, training_flops
from gif_jax.training.metrics import Window, describe


def _forward_gmac(backbone, l=4, v=64):
  settings = default().model
  settings.backbone = backbone
  return training_flops(gif.build(settings, l, v), 112) / 6e9


def _shape(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


# GMAC at 112x112 that arcface_torch and others give for networks without heads, batch normalisation and PReLU counted.
@pytest.mark.slow
@pytest.mark.parametrize(('backbone', 'published'), [('r18', 2.62), ('r50', 6.33), ('r100', 12.12)])
def test_backbones_have_the_published_size(backbone, published):
  assert _forward_gmac(backbone) == pytest.approx(published, rel=0.006)


def test_a_small_network_counted_by_hand():
  stem = 28 * 28 * 32 * (4 * 4 * 3)  # patches of 4 pixels
  first = 2 * 28 * 28 * 32 * (9 * 32)
  second = 28 * 28 * 64 * (9 * 32) + 14 * 14 * 64 * (9 * 64) + 14 * 14 * 64 * 32  # two convolutions and the shortcut
  third = 14 * 14 * 128 * (9 * 64) + 7 * 7 * 128 * (9 * 128) + 7 * 7 * 128 * 64
  embedding = 7 * 7 * 128 * 512
  heads = 3 * (512 * 128 + 128 * 20)
  assert _forward_gmac('small', l=3, v=20) * 1e9 == stem + first + second + third + embedding + heads


def test_heads_cost_what_their_size_says_whatever_m_is():
  # l and v alone decide, never m; a digit more costs its projection and centres.
  more = _forward_gmac('small', l=5, v=64) - _forward_gmac('small', l=4, v=64)
  assert round(more * 1e9) == 512 * 128 + 128 * 64


@pytest.mark.parametrize(
  ('function', 'shapes', 'expected'),
  [
    (lambda x, w: jax.jit(jnp.dot)(x, w) + 1, [(2, 3), (3, 5)], 30),
    (lambda x, w: jnp.einsum('bij,bjk->bik', x, w), [(4, 2, 3), (4, 3, 5)], 120),
    (lambda x, w: jax.checkpoint(lambda x: jnp.tanh(x @ w))(x), [(2, 3), (3, 3)], 18),
    (lambda x, w: jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0], [(2, 3), (7, 3, 3)], 7 * 18),
    (lambda x, w: jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: x), [(2, 3), (3, 3)], 18),
    (nn.Conv(8, (3, 3), feature_group_count=4).apply, [], 5 * 5 * 8 * 9),  # a channel of each of four groups
  ],
  ids=['jit', 'batch', 'remat', 'scan', 'cond', 'grouped'],
)
def test_products_are_found_wherever_they_are(function, shapes, expected):
  arguments = [_shape(*shape) for shape in shapes]
  if not shapes:
    arguments = [{'params': {'kernel': _shape(3, 3, 1, 8), 'bias': _shape(8)}}, _shape(1, 5, 5, 4)]
  assert multiply_adds(function, *arguments) == expected


def test_forward_is_a_third_of_forward_and_backward():
  """What a gradient really computes, for a network whose first layer needs no gradient of images."""
  x, w = _shape(4, 6), [_shape(6, 6)] * 3

  def loss(w, x):
    for layer in w:
      x = jnp.tanh(x @ layer)
    return jnp.sum(x)

  assert multiply_adds(jax.grad(loss, argnums=(0, 1)), w, x) == 3 * multiply_adds(loss, w, x)


def test_the_peak_is_of_all_devices_together():
  peak = matrix_peak(tuple(jax.devices()[:2]), 'float32', seconds=0.01)
  assert peak == matrix_peak(tuple(jax.devices()[:2]), 'float32', seconds=0.01)  # measured once in a process
  assert 1e8 < peak < 1e17


def test_rows_say_flops_and_utilisation():
  window = Window(16, flops=10**9, peak=4e9)
  window.restart()
  for _ in range(3):
    window.add({'loss': np.float32(1.5)})
  row = window.flush(3, 0.1)
  assert row['model_tflops_per_second'] == pytest.approx(row['images_per_second'] * 1e-3)
  assert row['utilisation'] == pytest.approx(row['images_per_second'] / 4)
  assert describe(row | {'utilisation': 0.4}).endswith('TFLOP/s (40.0% used), loss 1.500, waiting for data 0%')
