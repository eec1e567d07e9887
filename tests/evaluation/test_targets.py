"""Verification sets named by eval.targets: read, measured while a run trains and at its end."""

import json

import numpy as np
import pytest

from gif_jax.core.errors import ConfigError, DataError
from gif_jax.evaluation.in_training import RunEvaluator
from gif_jax.evaluation.registry import open_targets
from gif_jax.evaluation.unseen import pixel_embedding
from gif_jax.models.extraction.extract import extract
from gif_jax.training.run import run
from tests.helpers import tiny
from tests.helpers.record_files import packed_faces, six_people


@pytest.fixture
def data(tiny_faces, tmp_path):
  """A data set with a verification set beside its records: 6 people, 4 genuine pairs of each, as many impostors."""
  packed = packed_faces(tmp_path / 'data', tiny_faces.train)
  six_people(tmp_path / 'data' / 'six.bin', tiny_faces.test)
  config = tiny.get_config()
  config.data.source, config.data.path = 'records', str(packed.path)
  config.eval.targets = 'six'
  config.eval.identities = config.eval.validation_identities = 0
  return config


def test_names_are_files_beside_the_records_and_paths_are_paths(data):
  path = f'{data.data.path}/six.bin'
  by_name = open_targets(data)
  data.eval.targets = path
  by_path = open_targets(data)
  assert by_name.keys() == by_path.keys() == {'six'}
  np.testing.assert_array_equal(by_name['six'].images[:], by_path['six'].images[:])
  assert by_name['six'].same.tolist() == [True, False] * 24 and len(by_name['six'].images) == 96


def _predicted(z):
  return {'embedding': z, 'norm': np.linalg.norm(z, axis=1), 'log_probs': np.zeros((len(z), 1, 2), np.float32)}


def _measured(predict, target, config, faces):
  nobody = faces.test[:0]
  nobody = faces._replace(validation=nobody, test=nobody, held_out=nobody)
  final = RunEvaluator(config.eval, nobody, {'six': target}).finish(predict, None, np.zeros((0, 1)))
  return final.metrics['targets']['six']


def test_metrics_against_scores_worked_out_pair_by_pair(data, tiny_faces):
  """Ten folds that all choose the same threshold: the accuracy is that of one threshold over all pairs."""
  target = open_targets(data)['six']
  embedding = extract(pixel_embedding, target.images, 16, progress='')

  def predict(images):
    z = pixel_embedding(np.asarray(images))
    return _predicted(z)

  found = _measured(predict, target, data, tiny_faces)
  assert next(iter(found)) == 'accuracy'
  cosine = (embedding[::2] * embedding[1::2]).sum(1)
  best = max(np.mean((cosine > threshold) == target.same) for threshold in np.linspace(-1, 1, 2001))
  assert abs(found['accuracy'] - best) < 0.15 and found['accuracy'] <= best + 1e-9
  assert found['std'] >= 0


def test_perfect_and_useless_embeddings(data, tiny_faces):
  target = open_targets(data)['six']
  order = iter(np.repeat(target.same, 2))

  def predict(images):
    # The two images of a genuine pair are equal, those of an impostor pair opposite.
    signs = [1 if next(order, True) else (-1) ** i for i in range(len(images))]
    z = np.array(signs, np.float32)[:, None]
    return _predicted(z)

  found = _measured(predict, target, data, tiny_faces)
  assert (found['accuracy'], found['std']) == (1, 0)

  def constant(images):
    return _predicted(np.ones((len(images), 2), np.float32))

  # Half of the pairs, less what is lost where a fold holds more of one kind than the others, which chose the threshold.
  assert _measured(constant, target, data, tiny_faces)['accuracy'] <= 0.5


def test_targets_that_are_not_there(data, tmp_path):
  data.eval.targets = 'six,lfw'
  with pytest.raises(ConfigError, match=r'config\.eval\.targets=six,lfw: .*lfw\.bin nor lfw exists'):
    open_targets(data)
  data.eval.targets = f'six,{tmp_path}/data/six.bin'
  with pytest.raises(ConfigError, match='two benchmarks are called six'):
    open_targets(data)
  data.eval.targets = 'six,lfw'
  (tmp_path / 'data' / 'lfw.bin').write_bytes(b'')
  with pytest.raises(DataError, match=r'lfw\.bin'):
    open_targets(data)


@pytest.mark.slow
def test_a_run_measures_targets_on_the_way_and_at_the_end(data, tmp_path):
  data.train.steps, data.eval.every_steps = 4, 2
  summary = run(data, tmp_path / 'run')
  assert 0 <= summary['targets']['six']['accuracy'] <= 1
  rows = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
  assert [row['step'] for row in rows if 'targets/six' in row] == [2, 4]
  assert rows[-1]['targets/six'] == pytest.approx(summary['targets']['six']['accuracy'])
