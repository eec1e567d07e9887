"""Losses against PyTorch and against values worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gif_jax.config import default
from gif_jax.training.objectives import losses
from tests.helpers import places

GOLDEN = dict(np.load(places.GOLDEN / 'torch_golden.npz'))


def _settings(margin_type, scale, margin, exact=False):
  settings = default().loss
  settings.margin_type, settings.scale, settings.margin, settings.exact_margin = margin_type, scale, margin, exact
  return settings


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'settings'),
  [
    ('cosface', _settings('cosface', 16.0, 0.35)),
    ('arcface', _settings('arcface', 32.0, 0.5)),
    ('arcface_exact', _settings('arcface', 32.0, 0.5, exact=True)),
  ],
)
def test_code_loss_and_its_gradient_equal_pytorch(name, settings):
  code = GOLDEN['code'].astype(np.int32)
  loss = losses.code_loss(GOLDEN['cosines'], code, settings)
  np.testing.assert_allclose(loss, GOLDEN[f'{name}/loss'], rtol=1e-5, atol=1e-5)
  gradient = jax.grad(lambda c: jnp.sum(losses.code_loss(c, code, settings)))(GOLDEN['cosines'])
  np.testing.assert_allclose(gradient, GOLDEN[f'{name}/gradient'], rtol=1e-4, atol=1e-4)


def test_regression_loss_and_its_gradient_equal_pytorch():
  np.testing.assert_allclose(losses.regression_loss(GOLDEN['z'], GOLDEN['h']), GOLDEN['regression/loss'], atol=1e-6)
  gradient = jax.grad(lambda z: jnp.sum(losses.regression_loss(z, GOLDEN['h'])))(GOLDEN['z'])
  np.testing.assert_allclose(gradient, GOLDEN['regression/gradient'], atol=1e-6)


@pytest.mark.slow
def test_code_loss_by_hand():
  # One digit of two values, cosines 1 and 0, target 0, margin .5, scale 2: logits 1 and 0.
  settings = _settings('cosface', 2.0, 0.5)
  loss = losses.code_loss(jnp.array([[[1.0, 0.0]]]), jnp.array([[0]]), settings)
  np.testing.assert_allclose(loss, [np.log(1 + np.exp(-1))], rtol=1e-6)


def test_regression_only_pulls():
  h = jnp.array([[1.0, 0.0]])
  gradient = jax.grad(lambda z: jnp.sum(losses.regression_loss(z, h)))
  for angle in (0.1, 1.0, 3.0):
    assert float(jnp.sum(gradient(jnp.array([[jnp.cos(angle), jnp.sin(angle)]])) * h)) < 0


@pytest.mark.parametrize('margin', [losses.arcface, losses.arcface_exact])
def test_arcface_gradient_is_finite_at_the_ends(margin):
  gradient = jax.vmap(jax.grad(lambda c: margin(c, 0.5)))(jnp.array([-1.0, 1.0, 1.0000001]))
  assert bool(jnp.all(jnp.isfinite(gradient)))


def test_margins_by_hand():
  c = jnp.cos(jnp.array([0.3, 1.2]))
  np.testing.assert_allclose(losses.cosface(c, 0.2), c - 0.2, rtol=1e-6)
  np.testing.assert_allclose(losses.arcface(c, 0.5), np.cos([0.8, 1.7]), atol=1e-6)
  np.testing.assert_allclose(losses.arcface_exact(c, 0.5), np.cos([0.8, 1.7]), atol=1e-6)
