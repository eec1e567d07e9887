"""Training the sequence decoder: the same on any devices and in parts, and metrics of what it has learnt."""

import json

import jax
import numpy as np
import pytest

from gif_jax.codes import tokenizer
from gif_jax.codes.table import CodeTable
from gif_jax.core.distributed.mesh import make_mesh
from gif_jax.core.errors import ConfigError
from gif_jax.identification.beam_search import build_index
from gif_jax.identification.metrics import rank_rates
from gif_jax.models.checkpoint.reader import CheckpointError
from gif_jax.models.trained import open_backbone
from gif_jax.training import sharding
from gif_jax.training.program import make_predictor, make_program, make_search, open_checkpoints, open_trained
from gif_jax.validation import validate

CODE = {'tokenizer.l': 2, 'tokenizer.v': 5, 'model.sequence': 16}  # codes of more than one digit, densely used


@pytest.fixture
def config(tiny_config):
  settings = tiny_config.copy_and_resolve_references()
  settings.update_from_flattened_dict(CODE)
  return settings


@pytest.fixture(scope='module')
def table(tiny_config, tiny_faces, tmp_path_factory):
  settings = tiny_config.copy_and_resolve_references()
  settings.update_from_flattened_dict(CODE)
  return tokenizer.make_table(settings, tiny_faces, tmp_path_factory.mktemp('sequence') / 'table')


def _batch(config, table, faces, rows):
  label = faces.train.labels(rows)
  code, code_vector = table.rows(label)
  known = {'label': label.astype(np.int32)} if config.joint.enabled else {'code': code, 'code_vector': code_vector}
  return {'image': faces.train[rows]} | known


def _trained(config, table, batch, devices, steps):
  mesh = make_mesh(jax.devices()[:devices], config.train.fsdp)
  program = make_program(config, table, steps, mesh)
  state, history = program.init(), []
  batch = sharding.put_batch(batch, mesh)
  for _ in range(steps):
    state, metrics, _ = program.train_step(state, batch)
    history.append(jax.device_get(metrics))
  return history, state, program


@pytest.mark.slow
@pytest.mark.parametrize('joint', [False, True], ids=['fixed', 'joint'])
def test_devices_parts_and_splitting_change_nothing(config, table, tiny_faces, joint):
  """Every part has the same images, so that BatchNorm sees in each what it sees in all of them; small steps, as kinks
  of PReLU would be amplified: see test_train_step.py."""
  config.joint.enabled, config.joint.rows = joint, 'device'
  config.update_from_flattened_dict({'optim.lr': 1e-4, 'optim.warmup': 0.0, 'optim.clip': 0.0, 'model.sequence': 128})
  batch = _batch(config, table, tiny_faces, np.repeat(np.arange(0, 32, 4), 2))
  wanted, one, program = _trained(config, table, batch, 1, 3)
  start = program.init().params['sequence']
  config.train.accumulate, config.train.fsdp = 2, 4
  history, eight, _ = _trained(config, table, batch, 8, 3)
  for step, expected in zip(history, wanted):
    assert step.keys() == expected.keys() and step['sequence_accuracy'].shape == (2,)
    for name in expected:
      # A loss is a difference of logits of up to 32, whose last bit is 4e-6: atol is for `joint`'s, which is below 1.
      rtol = 1e-3 if name == 'grad_norm' else 1e-5
      np.testing.assert_allclose(step[name], expected[name], rtol=rtol, atol=1e-5, err_msg=name)
  kernel = eight.params['sequence']['cell']['hn']['kernel']
  assert kernel.addressable_shards[0].data.size == kernel.size // 4
  weights = jax.device_get((start, one.params['sequence'], eight.params['sequence']))
  for before, left, right in zip(*map(jax.tree.leaves, weights)):
    assert np.abs(left - right).max() < 0.02 * np.abs(left - before).max()


@pytest.mark.slow
def test_it_learns_whom_it_sees_again_and_again(config, table, tiny_faces):
  rows = np.arange(0, 64, 4)  # sixteen people
  history, state, program = _trained(config, table, _batch(config, table, tiny_faces, rows), 8, 40)
  assert history[-1]['sequence_loss'] < 0.3 * history[0]['sequence_loss']
  assert history[-1]['sequence_accuracy'].min() > 0.9
  first = make_predictor(program, state)(tiny_faces.train[rows])['first_state']
  index = build_index(table.codes, table.v)
  identity, _ = make_search(program, state)(index, first, 5, 1)
  assert rank_rates(identity, tiny_faces.train.labels(rows), [1])[1] > 0.5  # by chance .05; it never saw mirror images


@pytest.mark.slow
def test_all_else_begins_as_it_does_without_it(config, table):
  mesh = make_mesh(jax.devices()[:1])
  with_it = make_program(config, table, 1, mesh).init().params
  config.model.sequence = 0
  without = make_program(config, table, 1, mesh).init().params
  assert set(with_it) - set(without) == {'sequence'}
  jax.tree.map(np.testing.assert_array_equal, {part: with_it[part] for part in without}, without)


def _step(config, path, m):
  config.data.identities = m
  vectors = np.zeros((m, config.model.d), np.float16)
  vectors[:, 0] = 1
  codes = np.stack(np.unravel_index(np.arange(m), (20,) * 4), axis=1).astype(np.uint8)
  table = CodeTable.write(path, codes, vectors, v=20, encoder='', seed=0, label_space='', settings={})
  program = make_program(config, table, 10, make_mesh(jax.devices()[:1]))
  code, code_vector = table.rows(np.arange(16))
  batch = {'image': np.zeros((16, 32, 32, 3), np.uint8), 'code': code, 'code_vector': code_vector}
  return program.train_step.lower(program.like, batch).as_text()


@pytest.mark.slow
def test_the_train_step_is_the_same_program_for_any_number_of_identities(config, tmp_path):
  assert _step(config, tmp_path / 'small', 1_000) == _step(config, tmp_path / 'large', 100_000)


def test_a_checkpoint_of_before_there_was_a_choice_opens(config, table, tmp_path):
  config.model.sequence = 0
  origin = open_checkpoints(config, tmp_path, table).origin
  assert not {'sequence', 'remat', 'batch_norm_group'} & origin['config.model'].keys()
  assert origin['noted'] == {'config.model.batch_norm_group': config.model.batch_norm_group}
  config.model.sequence = 16
  assert open_checkpoints(config, tmp_path, table).origin['config.model'].items() >= {'sequence': 16}.items()


@pytest.mark.parametrize(('key', 'value'), [('model.sequence', -1), ('loss.sequence', -0.5)])
def test_an_impossible_value_is_named(config, key, value):
  config.update_from_flattened_dict({key: value})
  with pytest.raises(ConfigError, match=rf'config\.{key}={value} is too small; give at least 0'):
    validate(config)


def test_a_softmax_has_no_digits_to_read(config):
  config.softmax.enabled = True
  with pytest.raises(ConfigError, match=r'config\.model\.sequence=16 reads codes, .*: set it to 0'):
    validate(config)


@pytest.mark.slow
def test_a_run_measures_it_and_can_be_opened(command, config, tiny_faces, tmp_path):
  flags = [f'--config.{key}={value}' for key, value in (CODE | {'joint.enabled': True}).items()]
  done = command(
    'train', '--config=tests/helpers/tiny.py', f'--workdir={tmp_path}', *flags, '--config.train.ema=0.5', devices=2
  )
  assert done.returncode == 0, done.stdout
  assert 'sequence decoder 0.00 M' in done.stdout and 'closed set, decoded in order, top 1' in done.stdout
  summary = json.loads((tmp_path / 'summary.json').read_text())
  rows = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  assert rows[-1]['sequence_loss'] < rows[0]['sequence_loss'] and len(rows[0]['sequence_accuracy']) == 2
  config.joint.enabled, config.train.ema = True, 0.5
  trained = open_trained(config, tmp_path, CodeTable.open(tmp_path / 'table'))
  first = trained.predict(tiny_faces.held_out[:])['first_state']
  candidates, _ = trained.search(build_index(np.asarray(trained.codes), 5), first, config.eval.beam, 5)
  rates = rank_rates(candidates, tiny_faces.held_out.labels())
  assert rates == {rank: summary[f'sequence_top{rank}'] for rank in (1, 5)}
  assert open_backbone(tmp_path).name.startswith('backbone tiny, d=16')
  config.model.sequence = 0
  with pytest.raises(CheckpointError, match=r'was trained with config\.model'):
    open_trained(config, tmp_path, CodeTable.open(tmp_path / 'table'))
