"""Laws of what a step may do besides: parts of a batch, blocks computed again, moving averages, parameters split."""

import jax
import numpy as np
import pytest

from gif_jax.models.devices import make_mesh
from gif_jax.training import sharding
from gif_jax.training.program import make_program
from gif_jax.training.softmax import Identities

FORMS = {
  'fixed': {},
  'joint': {'joint.enabled': True},
  'softmax': {'softmax.enabled': True, 'softmax.margin_type': 'cosface', 'softmax.scale': 16.0},
  'partial_fc': {'softmax.enabled': True, 'softmax.sample_rate': 0.3, 'softmax.scale': 16.0},
}


def _config(tiny_config, changes):
  """The tiny run without what amplifies rounding: see test_training.py."""
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
  state, found = program.init(), []
  for _ in range(steps):
    state, metrics = program.train_step(state, sharding.put_batch(batch, mesh))
    found.append(jax.device_get(metrics))
  return found, state, program


def _same(found, wanted, rtol=1e-5):
  assert found[0].keys() == wanted[0].keys()
  for step, expected in zip(found, wanted):
    for name in expected:
      np.testing.assert_allclose(step[name], expected[name], rtol=1e-3 if name == 'grad_norm' else rtol, err_msg=name)


@pytest.mark.parametrize('form', FORMS)
def test_parts_of_a_batch_make_one_step_of_it(tiny_config, tiny_faces, tiny_table, form):
  """Where every part has the same images, BatchNorm sees in each what it sees in the whole."""
  config = _config(tiny_config, FORMS[form])
  batch = _batch(config, tiny_table, tiny_faces, np.repeat(np.arange(0, 32, 4), 2))
  whole, one, _ = _steps(config, tiny_table, batch, 4)
  config.train.accumulate = 2
  parts, two, _ = _steps(config, tiny_table, batch, 4)
  _same(parts, whole)
  for left, right in zip(jax.tree.leaves(one.batch_stats), jax.tree.leaves(two.batch_stats)):
    np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)
  for left, right in zip(jax.tree.leaves(one.params), jax.tree.leaves(two.params)):
    np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)
