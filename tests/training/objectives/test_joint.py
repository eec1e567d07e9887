"""`joint`: trained code vectors. A step moves its batch's rows and no others, as dense training would."""

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gif_jax.codes import product, tree
from gif_jax.codes.homogenise import gaussian_potential
from gif_jax.codes.table import CodeTable
from gif_jax.core.distributed.mesh import make_mesh
from gif_jax.models.checkpoint.manager import Checkpoints
from gif_jax.training import input_pipeline, joint_tables, sharding
from gif_jax.training.objectives import joint, losses
from gif_jax.training.program import make_program


@pytest.fixture
def joint_config(tiny_config):
  config = tiny_config.copy_and_resolve_references()
  config.joint.enabled, config.joint.rows = True, 'device'
  return config


def _unit(rows):
  return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _vectors(n, d, seed=0):
  return _unit(np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32))


def _table(path, m, d=16, l=3, v=10):
  codes = tree.random_codes(m, l, v)
  return CodeTable.write(path, codes, _vectors(m, d), v=v, encoder='', seed=0, label_space='', settings={})


def _mesh(devices):
  return make_mesh(jax.devices()[:devices])


def _columns(label):
  """Of every example the first one of the same identity; and which examples are the first of theirs."""
  first = joint.first_of_same(jnp.asarray(label))
  return first, first == jnp.arange(len(label))


LABEL = np.array([3, 7, 3, 0, 19, 7, 7, 12], np.int32)


@pytest.mark.slow
@pytest.mark.parametrize('embeddings', [0.0, 1.0, 2.5])
def test_in_batch_loss_against_a_softmax_over_the_distinct_identities(joint_config, embeddings):
  settings = joint_config.joint
  settings.embeddings = embeddings
  z, h = _vectors(8, 16, 1), _vectors(20, 16, 2)
  loss = losses.in_batch_loss(z, h[LABEL], *_columns(LABEL), settings)
  people, column = np.unique(LABEL, return_inverse=True)
  cosine = z.astype(np.float64) @ h[people].astype(np.float64).T
  cosine[np.arange(8), column] -= settings.margin
  logits = settings.scale * cosine
  between = settings.scale * z.astype(np.float64) @ z.astype(np.float64).T
  between = np.where(LABEL[:, None] == LABEL[None, :], 0, np.exp(between)).sum(1)  # faces of others in the batch
  wanted = np.log(np.exp(logits).sum(1) + embeddings * between) - logits[np.arange(8), column]
  np.testing.assert_allclose(loss, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('embeddings', [0.0, 1.0])
def test_one_identity_alone_in_a_batch_costs_nothing(joint_config, embeddings):
  joint_config.joint.embeddings = embeddings
  z = _vectors(4, 16)
  loss = losses.in_batch_loss(z, jnp.tile(z[:1], (4, 1)), *_columns(np.zeros(4, np.int32)), joint_config.joint)
  np.testing.assert_allclose(loss, 0, atol=1e-6)


@pytest.mark.slow
def test_batch_uniformity_is_the_gaussian_potential_of_the_distinct_vectors():
  h = _vectors(20, 16)
  uniformity = losses.batch_uniformity(h[LABEL], _columns(LABEL)[1])
  np.testing.assert_allclose(uniformity, gaussian_potential(jnp.asarray(h[np.unique(LABEL)])), rtol=1e-5)


@pytest.mark.parametrize('devices', [1, 3, 8])
@pytest.mark.parametrize('m', [20, 24, 1000])
def test_rows_are_read_from_whatever_device_they_are_on(tmp_path, m, devices):
  table, mesh = _table(tmp_path / 'table', m), _mesh(devices)
  placed = joint.init_rows(table, mesh)
  assert all(len(shard.data) == -(-m // devices) for shard in placed.vectors.addressable_shards)
  label = np.random.default_rng(0).integers(0, m, 8).astype(np.int32)
  label[:2] = m - 1
  rows = jax.jit(lambda placed, label: joint.gather_rows(placed, label, mesh))(placed, label)
  np.testing.assert_array_equal(rows.codes, table.codes[label])
  np.testing.assert_array_equal(rows.vectors, table.rows(label)[1])


@pytest.mark.slow
def test_a_random_start_is_the_same_on_any_devices_and_reads_no_vectors(joint_config, tmp_path):
  joint_config.joint.start = 'random'
  table = _table(tmp_path / 'table', 20)
  placed = [joint.Joint(joint_config, table, None, _mesh(devices)).init()['joint'].on_host() for devices in (1, 3, 8)]
  for rows in placed:
    np.testing.assert_array_equal(rows.vectors, placed[0].vectors)
    np.testing.assert_array_equal(rows.codes, table.codes)
  np.testing.assert_allclose(np.linalg.norm(placed[0].vectors, axis=1), 1, rtol=1e-6)
  assert np.abs(placed[0].vectors @ table.vectors.T).max() < 0.95 and len(np.unique(placed[0].vectors[:, 0])) == 20
  joint_config.train.seed = 1
  other = joint.Joint(joint_config, table, None, _mesh(1)).init()['joint']
  assert np.abs(other.vectors - placed[0].vectors).max() > 0.1


@pytest.mark.parametrize('devices', [1, 8])
def test_rows_are_written_where_they_belong_and_nowhere_else(tmp_path, devices):
  table, mesh = _table(tmp_path / 'table', 20), _mesh(devices)
  placed = joint.init_rows(table, mesh)
  before = placed.on_host()
  label, rows = np.array([19, -1, 3, -1], np.int32), np.arange(64, dtype=np.float32).reshape(4, 16)
  after = jax.jit(lambda p: joint.scatter_rows(p, label, rows, mesh))(placed).on_host()
  wanted = before.vectors.copy()
  wanted[[19, 3]] = rows[[0, 2]]
  np.testing.assert_array_equal(after.vectors, wanted)
  np.testing.assert_array_equal(after.codes, before.codes)


@pytest.mark.slow
@pytest.mark.parametrize('negatives', [0, 6])
def test_a_step_moves_the_rows_as_dense_training_would(joint_config, tmp_path, negatives):
  """Against automatic differentiation through a lookup in the full table, with identities that occur twice."""
  table, mesh = _table(tmp_path / 'table', 20), _mesh(8)
  settings = joint_config.joint
  settings.negatives = negatives
  z, placed = _vectors(8, 16, 5), joint.init_rows(table, mesh)
  h = jnp.asarray(placed.on_host().vectors)

  def dense(h):
    h = h / jnp.linalg.norm(h, axis=1, keepdims=True)
    people, column = jnp.asarray(touched), np.searchsorted(touched, LABEL)
    logits = losses.margin_logits(z @ h[people].T, column, settings.margin, settings.scale, losses.cosface)
    softmax = jnp.mean(jax.nn.logsumexp(logits, 1) - logits[jnp.arange(8), column])
    return softmax + jnp.mean(losses.regression_loss(z, h[LABEL]))

  joint_config.loss.digits = 0.0  # the digits' losses do not move code vectors
  objective = joint.Joint(joint_config, table, lambda step: 0.1, mesh)

  @jax.jit
  def sparse(placed):
    state = SimpleNamespace(joint=placed, step=0)
    rows, batch, context = objective.gather(state, {'label': jnp.asarray(LABEL)})
    cosines = jnp.zeros((8, table.l, table.v))
    gradient = jax.grad(lambda rows: objective.loss(rows, z, cosines, batch, context)[0])(rows)
    return objective.update(state, rows, gradient, context, {})[0]['joint']

  touched = np.unique([*LABEL, *objective.others(0).tolist()])
  assert (len(touched) > len(np.unique(LABEL))) == (negatives > 0)
  for _ in range(3):
    h = jnp.asarray(_unit(np.asarray(h) - 0.1 * np.asarray(jax.grad(dense)(h))))
    placed = sparse(placed)
  after = placed.on_host()
  np.testing.assert_allclose(after.vectors, h, atol=1e-5)
  others = np.setdiff1d(np.arange(20), touched)
  np.testing.assert_array_equal(after.vectors[others], joint.init_rows(table, mesh).on_host().vectors[others])
  assert np.abs(after.vectors[touched] - table.vectors[touched]).max() > 0.01


def test_negatives_are_drawn_anew_for_every_step_from_all(joint_config, tmp_path):
  joint_config.joint.negatives = 500
  objective = joint.Joint(joint_config, _table(tmp_path / 'table', 20), None, _mesh(1))
  first, second = objective.others(0), objective.others(1)
  np.testing.assert_array_equal(first, objective.others(0))
  assert (first != second).any()
  assert set(first.tolist()) == set(second.tolist()) == set(range(20))


def _trained(config, table, faces, devices, steps):
  """Losses of the first steps on `devices` devices, and the final state."""
  mesh = _mesh(devices)
  program = make_program(config, table, steps, mesh)
  state, values = program.init(), []
  iterator = input_pipeline.batches(faces.train, table, batch_size=config.train.batch_size, seed=0, labels=True)
  for _ in range(steps):
    state, metrics, _ = program.train_step(state, sharding.put_batch(next(iterator), mesh))
    values.append(float(metrics['loss']))
  iterator.close()
  return np.array(values), state


@pytest.mark.slow
def test_one_device_equals_eight(joint_config, tiny_faces, tiny_table):
  # A rate that does not amplify the kinks of PReLU, as in test_train_step; smaller, as this loss is ten times as large.
  # (At 1e-3 losses part by 6e-4 in five steps where a kink is met, and by 2e-7 where all slopes are 1.)
  joint_config.optim.lr, joint_config.optim.warmup, joint_config.optim.clip = 1e-4, 0.0, 0.0
  joint_config.joint.uniformity, joint_config.joint.negatives, joint_config.joint.embeddings = 0.5, 9, 2.0
  alone, one = _trained(joint_config, tiny_table, tiny_faces, 1, 5)
  spread, eight = _trained(joint_config, tiny_table, tiny_faces, 8, 5)
  np.testing.assert_allclose(alone, spread, rtol=1e-5)
  one, eight = one.joint.on_host(), eight.joint.on_host()
  np.testing.assert_allclose(one.vectors, eight.vectors, atol=1e-5)
  assert np.abs(one.vectors - tiny_table.vectors).max() > 1e-2


def _step_text(config, m, path, devices):
  table, mesh = _table(path, m, l=5, v=16), _mesh(devices)
  program = make_program(config, table, 10, mesh)
  images = np.zeros((16, config.data.size, config.data.size, 3), np.uint8)
  batch = sharding.put_batch({'image': images, 'label': np.arange(16, dtype=np.int32)}, mesh)
  return program.train_step.lower(program.like, batch)


@pytest.mark.slow
@pytest.mark.parametrize('negatives', [0, 9])
def test_the_step_of_more_identities_differs_in_the_size_of_their_rows_alone(joint_config, tmp_path, negatives):
  joint_config.joint.negatives = negatives
  small = _step_text(joint_config, 8_000, tmp_path / 'small', 8)
  large = _step_text(joint_config, 800_000, tmp_path / 'large', 8)
  assert small.as_text() != large.as_text()
  same = [re.sub(r'\b(800000|100000)(?=x|>|\b)', lambda n: n[0][:-2], large.as_text()), small.as_text()]
  assert same[0] == same[1]
  small, large = (step.compile().memory_analysis().temp_size_in_bytes for step in (small, large))
  # The remainder by m, of which a number is drawn, is fused in another way for another m: an aligned block of 64 bytes.
  assert abs(small - large) <= (64 if negatives else 0)


@pytest.mark.slow
def test_a_checkpoint_of_eight_devices_continues_on_three(joint_config, tiny_faces, tiny_table, tmp_path):
  joint_config.train.batch_size = 24
  _, state = _trained(joint_config, tiny_table, tiny_faces, 8, 2)
  saved = Checkpoints(tmp_path, 1, {})
  saved.save(2, state)
  saved.close()
  program = make_program(joint_config, tiny_table, 2, _mesh(3))
  again = Checkpoints(tmp_path, 1, {})
  restored = again.restore(program.like)
  again.close()
  assert len(restored.joint.vectors) == 21 and len(state.joint.vectors) == 24
  jax.tree.map(np.testing.assert_array_equal, restored.joint.on_host(), state.joint.on_host())


@pytest.mark.slow
def test_the_trained_table_holds_the_state(joint_config, tiny_faces, tiny_table, tmp_path):
  _, state = _trained(joint_config, tiny_table, tiny_faces, 8, 3)
  for _ in range(2):  # a run that is given again writes it again
    rows, path = state.joint.on_host(), tmp_path / 'trained_table'
    written = joint_tables.write_table(state.joint.vectors, rows.codes, tiny_table, path, 'backbone tiny')
  written.verify()
  np.testing.assert_allclose(written.vectors, state.joint.on_host().vectors, atol=1e-3)
  np.testing.assert_array_equal(written.codes, tiny_table.codes)
  assert written.fingerprint != tiny_table.fingerprint
  assert [path.name for path in tmp_path.iterdir()] == ['trained_table']


def test_new_codes_keep_the_meaning_of_digits(joint_config, tiny_table, tmp_path):
  table = _table(tmp_path / 'table', 1000)
  clustered = table.rows(np.arange(1000))[1]
  codes = product.build_codes(clustered, 3, 10, progress=False)
  placed = joint.init_rows(table, _mesh(8)).replace(codes=jnp.asarray(codes))
  kept = (joint_tables.new_codes(placed, table.v, joint_config.tokenizer, tmp_path) == codes).mean(0)
  assert (kept > 0.6).all(), kept  # one in ten by chance
