"""Finished runs measured once more: the long tail by thirds, routes beside brute force."""

import json
import sys

import jax
import numpy as np
import pytest

from benchmarks.accuracy import tail
from benchmarks.evaluation import routes
from benchmarks.finished import open_run
from gif_jax.core.distributed.mesh import make_mesh
from gif_jax.core.errors import ConfigError, DataError
from gif_jax.core.storage.files import read_json, write_json
from gif_jax.evaluation.closed_set import closed_set_metrics
from gif_jax.training import run_record
from gif_jax.training.program import make_predictor, make_program, open_checkpoints


@pytest.fixture(scope='module')
def runs(tiny_config, tiny_faces, tiny_table, tmp_path_factory):
  """Folder joint_0 with a checkpoint and a config.json that says what was run; and the figures of its summary."""
  config = tiny_config.copy_and_resolve_references()
  config.joint.enabled, config.joint.rows = True, 'device'
  config.eval.beam, config.tokenizer.table = 50, str(tiny_table.path)
  workdir = tmp_path_factory.mktemp('runs') / 'joint_0'
  workdir.mkdir()
  program = make_program(config, tiny_table, 1, make_mesh(jax.local_devices()))
  state = program.init()
  with open_checkpoints(config, workdir, tiny_table) as checkpoints:
    checkpoints.save(2, state)
  predict = make_predictor(program, state)
  summary = closed_set_metrics(predict, tiny_faces.held_out, tiny_table, tiny_table.vectors, config.eval)
  write_json(workdir / 'config.json', run_record.nested(config), checksum=True)  # as training does
  return workdir, summary


@pytest.mark.slow
def test_the_long_tail_of_a_run(runs, tiny_faces, tmp_path, monkeypatch, capsys):
  workdir, summary = runs
  call = ['tail', str(workdir), f'--output={tmp_path / "tail"}', f'--cache={tmp_path}']
  monkeypatch.setattr(sys, 'argv', call)
  tail.main()
  rows = json.loads((tmp_path / 'tail.json').read_text())
  assert list(rows) == ['joint'] and list(rows['joint'][0]) == ['many', 'medium', 'few', 'all']
  (metrics,) = rows['joint']
  assert metrics['all']['top1'] == summary['vector_top1'] and metrics['few']['images'] == [4, 4]
  assert metrics['all']['min'] == min(metrics[third]['min'] for third in tail.GROUPS)
  assert '| joint |' in (tmp_path / 'tail.md').read_text() and '| joint |' in capsys.readouterr().out
  assert (tmp_path / 'tail.png').stat().st_size > 1000


@pytest.mark.slow
def test_routes_of_a_run_end_where_its_summary_says(runs, tmp_path, monkeypatch):
  monkeypatch.setattr(routes, 'BEAMS', (20,))  # as many as there are people: every search sees them all
  workdir, summary = runs
  problem = routes.problem_of_run(str(workdir), tmp_path, means=False)
  assert problem.name == 'joint 0, m = 20'
  rows = routes.measure(problem)
  assert rows[0]['route'] == 'brute force' and rows[0]['top1'] == summary['vector_top1']
  assert rows[-1]['route'].startswith('fused') and rows[-1]['top1'] == summary['fused_top1']
  assert len(rows) == 7 and all(row['recall'] == 1 for row in rows[:-1])
  routes.plot(rows, tmp_path / 'routes.png')
  assert routes.table_of(rows).count('\n| ') == len(rows) + 2
  means = routes.problem_of_run(str(workdir), tmp_path, means=True)
  assert means.codes is None and means.h.shape == problem.h.shape and means.name.endswith('mean embeddings')


@pytest.mark.slow
def test_a_config_file_may_stand_for_what_a_run_did_not_record(runs, tmp_path):
  workdir, _ = runs
  with pytest.raises(ConfigError, match=r'config\.json: no such file; give the config .*@configs/FILE\.py'):
    open_run(str(tmp_path), tmp_path)
  with pytest.raises(ConfigError, match=r'missing\.py: no such file'):
    open_run(f'{workdir}@missing.py', tmp_path)
  other = tmp_path / 'other_1'
  other.mkdir()
  (other / 'config.json').write_text('{"nothing": {"like": 1}}')
  with pytest.raises(ConfigError, match='settings that this version does not know'):
    open_run(str(other), tmp_path)
  file = tmp_path / 'mine.py'
  recorded = read_json(workdir / 'config.json', DataError, '')
  file.write_text(f'from ml_collections import ConfigDict\ndef get_config():\n  return ConfigDict({recorded!r})\n')
  run = open_run(f'{workdir}@{file}', tmp_path)
  assert (run.row, run.seed, run.table.m) == ('joint', '0', 20)


def test_thirds_are_by_images_then_by_label():
  groups = tail.thirds(np.array([3, 9, 1, 9, 2, 4]))
  assert {name: labels.tolist() for name, labels in groups.items()} == {
    'many': [1, 3],
    'medium': [5, 0],
    'few': [4, 2],
    'all': [0, 1, 2, 3, 4, 5],
  }


@pytest.mark.parametrize('rows', [1024, 7])
def test_distances_are_those_of_all_pairs(rows, monkeypatch):
  monkeypatch.setattr(tail, 'ROWS', rows)
  h = np.random.default_rng(0).normal(size=(30, 5))
  unit = h / np.linalg.norm(h, axis=1, keepdims=True)
  pairs = 1 - (unit @ unit.T)[np.triu_indices(30, 1)]
  np.testing.assert_allclose(tail.distances(h), (pairs.min(), pairs.mean()), atol=1e-5)
  assert np.isnan(tail.distances(h[:1])).all()


@pytest.mark.slow
def test_made_up_problems_are_clustered_unit_vectors_with_queries_near_them(monkeypatch):
  monkeypatch.setattr(routes, 'BEAMS', (1, 4))
  problem = routes.make_problem(400, 32, 50, 0.3)
  np.testing.assert_allclose(np.linalg.norm(problem.h, axis=1), 1, atol=1e-5)
  cosine = problem.z @ problem.h.T
  assert (cosine.argmax(1) == problem.label).mean() > 0.9
  rows = routes.measure(problem)
  assert all(row['work'] <= 1 and row['recall'] <= 1 for row in rows if row['beam'] == 1)
  recall = [row['recall'] for row in rows if row['route'] == 'one tree']
  assert recall[-1] > recall[0]


def test_the_table_of_tails_gives_the_spread_over_seeds():
  one = {group: {'images': (1, 2), 'top1': 0.5, 'min': 0.1, 'mean': 1.0} for group in tail.GROUPS}
  other = {group: metrics | {'top1': 0.7} for group, metrics in one.items()}
  text = tail.tables_of({'ArcFace': [one, other], 'joint': [one]})
  assert '| ArcFace | 60.0 ± 14.1 |' in text and '| joint | 50.0 |' in text and 'few (1-2 images)' in text
