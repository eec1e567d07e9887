"""BatchNorm over groups of images: each group as flax's BatchNorm has it, whatever the devices."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gif_jax.core.distributed.mesh import batch_sharding, make_mesh
from gif_jax.core.errors import ConfigError
from gif_jax.models.batch_norm import BatchNorm, group_of
from gif_jax.training.program import make_program
from gif_jax.training.sharding import check_divides

X = np.random.default_rng(0).normal(2, 3, (16, 3, 3, 5)).astype(np.float32)
WEIGHT = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
PARAMS = {'scale': jnp.linspace(0.5, 2, 5), 'bias': jnp.linspace(-1, 1, 5)}
STATS = {'mean': jnp.linspace(0, 1, 5), 'var': jnp.linspace(1, 3, 5)}


def _trained(norm, params, x, weight):
  """(value, gradients of params and x, running statistics after it) of a weighted sum of squares of the result."""

  def loss(params, x):
    y, mutated = norm({'params': params, 'batch_stats': STATS}, x)
    return jnp.sum(weight * y.astype(jnp.float32) ** 2), mutated['batch_stats']

  (value, stats), gradients = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, x)
  return value, gradients, stats


def _ours(group, dtype=jnp.float32):
  norm = BatchNorm(group, dtype)
  return lambda variables, x: norm.apply(variables, x, True, mutable=['batch_stats'])


def _flax(variables, x):
  return nn.BatchNorm(False, momentum=0.9, epsilon=1e-5).apply(variables, x, mutable=['batch_stats'])


@pytest.mark.slow
@pytest.mark.parametrize('group', [0, 16, 8, 4])
def test_every_group_is_normalised_as_a_batch_of_its_own(group):
  value, (of_params, of_x), stats = _trained(_ours(group), PARAMS, X, WEIGHT)
  size = group or 16
  parts = [_trained(_flax, PARAMS, X[i : i + size], WEIGHT[i : i + size]) for i in range(0, 16, size)]
  np.testing.assert_allclose(value, sum(part[0] for part in parts), rtol=1e-5)
  for name in PARAMS:
    np.testing.assert_allclose(of_params[name], sum(part[1][0][name] for part in parts), rtol=1e-4, atol=1e-3)
  np.testing.assert_allclose(of_x, np.concatenate([part[1][1] for part in parts]), rtol=1e-3, atol=1e-4)
  for name in STATS:
    np.testing.assert_allclose(stats[name], np.mean([part[2][name] for part in parts], axis=0), rtol=1e-5)


def test_running_statistics_are_used_where_nothing_is_trained():
  variables = {'params': PARAMS, 'batch_stats': STATS}
  expected = nn.BatchNorm(True, epsilon=1e-5).apply(variables, X)
  np.testing.assert_allclose(BatchNorm(4, jnp.float32).apply(variables, X, False), expected, rtol=1e-5, atol=1e-5)


def test_a_group_is_the_largest_divisor_up_to_what_is_asked_for():
  assert [group_of(512, 128), group_of(16, 128), group_of(192, 128), group_of(30, 7), group_of(48, 0)] == [
    128,
    16,
    96,
    6,
    48,
  ]


def test_a_batch_that_no_group_of_that_size_divides(tiny_config):
  c = tiny_config.copy_and_resolve_references()
  c.train.batch_size, c.model.batch_norm_group = 8 * 131, 100
  with pytest.raises(ConfigError, match=r'batch_norm_group=100: the 1048 images .* cut into groups of 8, no larger'):
    check_divides(c, 8, 1)


COLLECTIVES = re.compile(r' (all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)(?:-start)?\(')


@pytest.mark.slow
def test_groups_within_a_device_send_nothing(tiny_config, tiny_table):
  """Of a step on 8 devices no collective but those of gradients and metrics is left, however deep the network."""
  counts = {}
  for backbone, group in (('small', 2), ('tiny', 2), ('tiny', 0)):
    c = tiny_config.copy_and_resolve_references()
    c.model.backbone, c.model.batch_norm_group = backbone, group
    program = make_program(c, tiny_table, 2, make_mesh())
    text = program.train_step.lower(program.like, program.inputs).compile().as_text()
    counts[backbone, group] = len(COLLECTIVES.findall(text))
  assert counts['small', 2] <= 6 and counts['tiny', 2] <= 6 < counts['tiny', 0], counts


@pytest.mark.slow
@pytest.mark.parametrize('group', [0, 2, 8])
def test_the_number_of_devices_changes_nothing(group):
  results = []
  for devices in (1, 2, 8):
    split = batch_sharding(make_mesh(jax.devices()[:devices]))
    norm = jax.jit(lambda x, weight: _trained(_ours(group), PARAMS, x, weight), in_shardings=split)
    results.append(jax.device_get(norm(X, WEIGHT)))
  for other in results[1:]:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), results[0], other)
