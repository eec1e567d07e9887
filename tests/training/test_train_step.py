"""Laws of the training step: one device equals eight, nothing depends on m, schedules and masks do what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart, quickstart_published
from gif_jax.codes import tree
from gif_jax.codes.table import CodeTable
from gif_jax.config import default
from gif_jax.core.distributed.mesh import make_mesh
from gif_jax.training import input_pipeline, optim, sharding
from gif_jax.training.program import make_program


def _run(config, table, faces, devices, steps):
  """Losses and gradient norms of the first steps on `devices` devices."""
  mesh = make_mesh(jax.devices()[:devices])
  program = make_program(config, table, steps, mesh)
  state, rows = program.init(), []
  iterator = input_pipeline.batches(faces.train, table, batch_size=config.train.batch_size, seed=0)
  for _ in range(steps):
    state, metrics, _ = program.train_step(state, sharding.put_batch(next(iterator), mesh))
    rows.append([float(metrics['loss']), float(metrics['grad_norm'])])
  iterator.close()
  return np.array(rows).T


@pytest.mark.slow
def test_one_device_equals_eight(tiny_config, tiny_faces, tiny_table):
  # A PReLU has a kink: an activation within rounding of 0 gets another slope on another number of devices, which moves
  # the gradient by up to 1e-3. A large learning rate multiplies that from step to step; a small one leaves the loss,
  # which falls by percents, equal to 1e-5. Without clipping, so that the scale of the gradient matters too.
  config = tiny_config.copy_and_resolve_references()
  config.optim.lr, config.optim.warmup, config.optim.clip = 1e-3, 0.0, 0.0
  alone, alone_norm = _run(config, tiny_table, tiny_faces, 1, 5)
  spread, spread_norm = _run(config, tiny_table, tiny_faces, 8, 5)
  np.testing.assert_allclose(alone, spread, rtol=1e-5)
  np.testing.assert_allclose(alone_norm, spread_norm, rtol=1e-3)
  assert np.abs(np.diff(alone)).max() > 0.01 * alone[0]


def _lowered(config, m, path):
  """The text of the train step as the loop makes it, with a table of m identities at l = 5, v = 16."""
  config.data.identities = m
  vectors = np.zeros((m, config.model.d), np.float16)
  vectors[:, 0] = 1
  codes = tree.random_codes(m, 5, 16, 0)
  table = CodeTable.write(path, codes, vectors, v=16, encoder='', seed=0, label_space='', settings={})
  mesh = make_mesh()
  program = make_program(config, table, 10, mesh)
  code, code_vector = table.rows(np.arange(16) * (m // 16))
  images = np.zeros((16, config.data.size, config.data.size, 3), np.uint8)
  batch = sharding.put_batch({'image': images, 'code': code, 'code_vector': code_vector}, mesh)
  return program.train_step.lower(program.like, batch).as_text()


@pytest.mark.slow
@pytest.mark.parametrize('experiment', [quickstart, quickstart_published], ids=['fixed', 'published'])
def test_the_train_step_is_the_same_program_for_any_number_of_identities(experiment, tmp_path):
  config = experiment.get_config()
  config.model.d = 16  # the table of a million people on disk would be half a gigabyte with the config's 256
  small, large = _lowered(config, 1_000, tmp_path / 'small'), _lowered(config, 1_000_000, tmp_path / 'large')
  assert small == large
  assert 'dot_general' in small


@pytest.mark.slow
def test_losses_fall_on_a_batch_seen_again_and_again(tiny_config, tiny_faces, tiny_table):
  mesh = make_mesh(jax.devices()[:1])
  program = make_program(tiny_config, tiny_table, 40, mesh)
  iterator = input_pipeline.batches(tiny_faces.train, tiny_table, batch_size=16, seed=0)
  batch = sharding.put_batch(next(iterator), mesh)
  iterator.close()
  state, rows = program.init(), []
  for _ in range(40):
    state, metrics, _ = program.train_step(state, batch)
    rows.append(jax.device_get(metrics))
  assert rows[-1]['code_loss'] < 0.3 * rows[0]['code_loss']
  assert rows[-1]['regression_loss'] < 0.5 * rows[0]['regression_loss']
  assert rows[-1]['digit_accuracy'].min() > 0.9


@pytest.mark.parametrize('name', ['cosine', 'polynomial'])
def test_schedule(name):
  settings = default().optim
  settings.schedule, settings.warmup = name, 0.1
  rate = optim.schedule(settings, 100, 0.4)
  values = np.array([float(rate(step)) for step in range(101)])
  np.testing.assert_allclose(values[:10], 0.04 * np.arange(1, 11), rtol=1e-5)
  np.testing.assert_allclose(values[100], 0, atol=1e-7)
  assert np.all(np.diff(values[10:]) < 0)
  middle = {'cosine': 0.2, 'polynomial': 0.2}[name]
  np.testing.assert_allclose(values[55], middle, rtol=1e-5)


def test_schedule_without_warmup_starts_at_the_top():
  settings = default().optim
  settings.warmup = 0.0
  assert float(optim.schedule(settings, 10, settings.lr)(0)) == pytest.approx(settings.lr)


def test_weight_decay_spares_vectors():
  mask = optim.decayed({'kernel': jnp.zeros((3, 3, 2, 2)), 'bias': jnp.zeros(2), 'centres': jnp.zeros((2, 3, 4))})
  assert mask == {'kernel': True, 'bias': False, 'centres': True}


@pytest.mark.parametrize('name', ['sgd', 'adamw'])
def test_optimisers_by_hand(name):
  settings = default().optim
  settings.name, settings.warmup, settings.lr, settings.weight_decay, settings.clip = name, 0.0, 0.1, 0.01, 1.0
  tx = optim.optimiser(settings, 10**9)
  params = {'w': jnp.full((2, 2), 2.0), 'b': jnp.full(2, 2.0)}
  gradients = {'w': jnp.full((2, 2), 3.0), 'b': jnp.full(2, 4.0)}
  updates, _ = tx.update(gradients, tx.init(params), params)
  norm = np.sqrt(4 * 9 + 2 * 16)
  # AdamW's first step is lr * sign(gradient); both add the decay to matrices alone.
  w, b = (3 / norm, 4 / norm) if name == 'sgd' else (1, 1)
  np.testing.assert_allclose(updates['w'], -0.1 * (w + 0.02), rtol=1e-4)
  np.testing.assert_allclose(updates['b'], -0.1 * b, rtol=1e-4)
