"""The baselines in the full training step: devices, checkpoints, and what users may get wrong."""

import jax
import numpy as np
import pytest

from gif_jax import config
from gif_jax.codes.identities import Identities
from gif_jax.core.distributed.mesh import make_mesh
from gif_jax.models.checkpoint.manager import Checkpoints
from gif_jax.training import input_pipeline, sharding
from gif_jax.training.program import make_program
from gif_jax.validation import validate

PEOPLE = Identities(20, 'tiny')


def _config(tiny_config, **changes):
  c = tiny_config.copy_and_resolve_references()
  c.softmax.enabled, c.softmax.scale, c.train.batch_size = True, 16.0, 24
  # A rate that does not amplify the kinks of PReLU: see test_train_step.
  c.optim.lr, c.optim.warmup, c.optim.clip = 1e-4, 0.0, 0.0
  c.update_from_flattened_dict({key.replace('__', '.'): value for key, value in changes.items()})
  validate(c)
  return c


def _run(c, devices):
  """The program on so many devices, and a function (state, batches) -> losses and the state after them."""
  mesh = make_mesh(jax.devices()[:devices])
  program = make_program(c, PEOPLE, 10, mesh)

  def run(state, batches):
    values = []
    for batch in batches:
      state, metrics, _ = program.train_step(state, sharding.put_batch(batch, mesh))
      values.append(float(metrics['loss']))
    return np.array(values), state

  return program, run


@pytest.fixture(scope='module')
def batches(tiny_faces):
  """Four batches of 24, some people several times in each."""
  source = input_pipeline.batches(tiny_faces.train, PEOPLE, batch_size=24, seed=0, labels=True)
  taken = [next(source) for _ in range(4)]
  source.close()
  return taken


@pytest.mark.slow
def test_one_device_equals_eight(tiny_config, batches):
  c = _config(tiny_config, softmax__margin_type='adaface')
  (program, run), (spread_program, spread_run) = _run(c, 1), _run(c, 8)
  alone, one = run(program.init(), batches)
  spread, eight = spread_run(spread_program.init(), batches)
  np.testing.assert_allclose(alone, spread, rtol=1e-5)
  np.testing.assert_allclose(one.softmax.on_host(), eight.softmax.on_host(), atol=1e-6)
  np.testing.assert_allclose(one.softmax.norms, eight.softmax.norms, rtol=1e-5)


@pytest.mark.slow
def test_a_checkpoint_of_eight_devices_continues_on_three(tiny_config, batches, tmp_path):
  c = _config(tiny_config, optim__name='adamw')
  (program, run), (other, run_other) = _run(c, 8), _run(c, 3)
  _, state = run(program.init(), batches[:2])
  saved = Checkpoints(tmp_path, 1, {})
  saved.save(2, state)
  saved.close()
  before = jax.tree.map(np.asarray, state.softmax)
  losses, _ = run(state, batches[2:])

  again = Checkpoints(tmp_path, 1, {})
  restored = again.restore(other.like)
  again.close()
  assert len(restored.softmax.centres) == 21 and len(before.centres) == 24
  for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(restored.softmax), strict=True):
    np.testing.assert_array_equal(*(np.asarray(x)[:20] if x.ndim else x for x in (old, new)))
  continued, _ = run_other(restored, batches[2:])
  np.testing.assert_allclose(continued, losses, rtol=1e-5)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'softmax.enabled': False}, r'config\.softmax\.scale=16.0 is of a softmax: set config\.softmax\.enabled=True'),
    ({'joint.enabled': True}, r'config\.joint\.enabled=True and config\.softmax\.enabled are two ways'),
    ({'softmax.sample_rate': 0.0}, r'config\.softmax\.sample_rate=0\.0 is too small; give more than 0'),
    ({'softmax.sample_rate': 1.5}, r'config\.softmax\.sample_rate=1\.5 is too large; give at most 1'),
    ({'softmax.scale': 0.0}, r'config\.softmax\.scale=0\.0 is too small; give more than 0'),
    ({'softmax.combined': (1.0, 0.5)}, r'config\.softmax\.combined=\(1\.0, 0\.5\) must be 3 numbers'),
    ({'softmax.combined': (1.0, 0.0, 0.4)}, r"config\.softmax\.margin_type='arcface' does not read .*'combined'"),
    ({'tokenizer.table': 'codes'}, r"config\.tokenizer\.table='codes' is for codes, which a softmax does not have"),
    ({'tokenizer.vectors': 'a.npy'}, r"config\.tokenizer\.vectors='a\.npy' is for codes"),
    ({'train.accumulate': 24}, r'config\.train\.batch_size=24 in .*=24 parts is one image .* at least 48'),
  ],
)
def test_what_cannot_work_is_said_with_the_cure(tiny_config, changes, message):
  c = _config(tiny_config)
  c.update_from_flattened_dict(changes)
  with pytest.raises(config.ConfigError, match=message):
    validate(c)
