"""The scaling benchmark draws what it says: end to end with tiny sizes, and what its rows stand on."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks.scaling import __main__ as scaling
from benchmarks.scaling import formula
from benchmarks.scaling import report as scaling_report
from benchmarks.scaling import row as scaling_row
from benchmarks.scaling import run as scaling_run
from gif_jax.codes import size
from gif_jax.codes.table import CodeTable
from gif_jax.core.distributed.mesh import batch_sharding, make_mesh
from gif_jax.training.objectives import joint
from tests.helpers.places import ROOT

TINY = {'batch': 8, 'd': 16, 'rate': 0.3, 'negatives': 0, 'backbone': 'small', 'dtype': 'float32', 'turn': 0.001}


def _scaling(output, *arguments):
  call = [sys.executable, '-m', 'benchmarks.scaling', f'--output={output}', '--torch=', '--batch=8', '--d=16']
  call += ['--scopes', 'classifier', '--rounds=3', '--turn=.001', '--memory_gb=.1', *arguments]
  environment = os.environ | {'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'}
  run = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True)
  assert run.returncode == 0, run.stderr
  return json.loads((output / 'scaling.json').read_text()), run.stdout


@pytest.mark.slow
def test_figure_of_tiny_sizes_and_its_continuation(tmp_path):
  results, report = _scaling(tmp_path, '--m', '50', '500', '2000000', '--forms', 'softmax')
  rows = {row['m']: row for row in results['rows']}
  assert [len(rows[m].get('turns', [])) for m in (50, 500, 2_000_000)] == [3, 3, 0]
  for m in (50, 500):
    assert rows[m]['memory']['source'] == 'compiled'
    assert rows[m]['memory']['state'] == pytest.approx(8 * 16 * m, abs=32)  # beside the rows: steps, running norms
  beyond = rows[2_000_000]['memory']
  assert beyond['source'] == 'formula' and beyond['total'] > results['machine']['limit']
  slope = (rows[500]['memory']['temporaries'] - rows[50]['memory']['temporaries']) / 450
  assert beyond['state'] == pytest.approx(8 * 16 * 2e6, rel=1e-3)
  assert beyond['temporaries'] == pytest.approx(slope * 2e6, rel=1e-2)
  assert 'does not fit' in report and 'formula' in report and 'not measured here: arcface_torch' in report

  again, report = _scaling(tmp_path, '--m', '50', '2000000', '--forms', 'softmax', 'fixed')
  kept = {(row['form'], row['m']): row for row in again['rows']}
  assert all(kept['softmax', m] == rows[m] for m in (50, 500)), 'finished rows are not run again'
  assert kept['fixed', 2_000_000]['simulated'] and len(kept['fixed', 2_000_000]['reference']) == 3
  assert 'turns' not in kept['softmax', 2_000_000]
  assert report == (tmp_path / 'report.md').read_text() + '\n'
  assert (tmp_path / 'scaling.png').read_bytes().startswith(b'\x89PNG')
  assert sorted(path.name for path in tmp_path.iterdir()) == ['report.md', 'scaling.json', 'scaling.png']


def test_other_settings_are_refused(tmp_path, monkeypatch):
  (tmp_path / 'scaling.json').write_text(json.dumps({'settings': {}, 'rows': []}))
  monkeypatch.setattr(scaling_run, 'prepare', lambda *_: {'platform': 'cpu', 'memory': None, 'recipe': {}})
  monkeypatch.setattr(sys, 'argv', ['scaling', f'--output={tmp_path}', '--torch='])
  with pytest.raises(SystemExit, match='choose another --output'):
    scaling.main()


@pytest.mark.slow
def test_a_row_that_crashes_says_why(tmp_path, monkeypatch):
  monkeypatch.chdir(ROOT)
  process = scaling_run.Row('classifier', 'fixed', 50, TINY | {'tables': str(tmp_path), 'compiler': ''})
  with pytest.raises(RuntimeError, match=r'exit 1: .*50: no such table'):
    process.ask('memory')
  process.close()


def _results(rows):
  machine = {'platform': 'gpu', 'devices': 1, 'limit': 1e9}
  return {'settings': {'d': 512, 'rate': 0.3, 'batch': 256}, 'machine': machine, 'rows': rows}


def test_formula_continues_a_law_and_tells_how_far_it_is_off():
  def row(m, temporaries):
    memory = {'state': 8 * 512 * m + 20, 'temporaries': temporaries, 'source': 'compiled'}
    memory['total'] = memory['state'] + temporaries + 1000
    return {'scope': 'whole', 'form': 'pfc', 'm': m, 'memory': memory}

  results = _results([row(m, 7000 * m + 5e6) for m in (10_000, 100_000)])
  asked = formula.predict(results, 'whole', 'pfc', 10**8)
  assert asked['state'] == 8 * 512 * 10**8 + 20
  assert asked['temporaries'] == pytest.approx(7000 * 10**8 + 5e6)
  assert asked['total'] == pytest.approx(asked['state'] + asked['temporaries'] + 1000)
  assert formula.predict(results, 'whole', 'pfc', 100_000) is None
  results['rows'].append(row(1_000_000, 7100e6))
  *_, share = formula.deviations(results)[0]
  total = results['rows'][-1]['memory']['total']
  assert share == pytest.approx((7005e6 - 7100e6) / total)


def test_aims_are_computed_from_rows():
  def row(form, m, seconds, scope='classifier', total=1e6, **more):
    return {
      'scope': scope,
      'form': form,
      'm': m,
      'turns': [[9.0, seconds]] * 3,
      'memory': {'total': total, 'source': 'compiled'},
      **more,
    }

  rows = [row('fixed', 10**6, 0.002, reference=[[9.0, 0.001]] * 3, reference_m=10**4)]
  rows += [row('softmax', 10**6, 3.0), row('pfc', 10**6, 1.0)]
  rows += [row('fixed', 10**5, 0.1, 'whole', 100.0), row('fixed', 10**8, 0.1, 'whole', 101.0)]
  flat, faster, memory = scaling_report.aims(_results(rows))
  assert flat.endswith('1.44 times (1.15 x digits) its time at 1e4; found: 2.00 times')
  assert faster.endswith('found: 1500, 500') and memory.endswith('found: 1.00 %')
  assert all('not measured' in line for line in scaling_report.aims(_results([])))


def test_simulated_rows_are_those_of_a_real_table(tmp_path):
  scaling_row.write_table(700, 16, tmp_path / '700')
  table, simulated = CodeTable.open(tmp_path / '700'), scaling_row.Simulated(700, 16)
  table.verify()
  labels = np.array([0, 699, 3, 3])
  for real, made in zip(table.rows(labels), simulated.rows(labels)):
    assert real.dtype == made.dtype
    np.testing.assert_allclose(made, real, atol=1e-3)


def test_simulated_codes_are_unique():
  codes = scaling_row.codes_of(np.arange(100_000), 100_000)
  assert len(np.unique(codes, axis=0)) == len(codes) and codes.max() < size.choose_size(100_000)[1]


@pytest.mark.slow
@pytest.mark.parametrize('form', ['fixed', 'joint_device', 'pfc', 'softmax'])
def test_classifier_alone_learns_and_has_a_gradient_for_embeddings(form, tmp_path):
  scaling_row.write_table(60, 16, tmp_path / '60')
  subject = scaling_row.Subject(TINY | {'scope': 'classifier', 'form': form, 'm': 60, 'tables': str(tmp_path)})
  memory = subject.memory()
  assert memory['state'] > 0 and memory['total'] > memory['state']
  subject.begin()
  first = float(subject.metrics['loss'])
  for _ in range(20):
    subject._run(1)  # one at a time: eight devices of two cores cannot wait for each other in a queue
  assert np.isfinite(subject.metrics['loss']) and float(subject.metrics['loss']) < first
  assert subject.metrics['gradient'].shape == (8, 16) and np.abs(subject.metrics['gradient']).max() > 0


@pytest.mark.slow
def test_every_step_reads_and_writes_the_rows_of_others(tmp_path):
  scaling_row.write_table(60, 16, tmp_path / '60')
  subject = scaling_row.Subject(TINY | {'scope': 'classifier', 'form': 'joint', 'm': 60, 'tables': str(tmp_path)})
  assert subject.memory()['rows_in_file']
  subject.begin()
  before = np.array(subject.feed.vectors.own)
  for _ in range(20):
    subject._run(1)
  assert np.isfinite(subject.metrics['loss']) and np.isfinite(subject.metrics['gradient']).all()
  subject.feed.whole(subject.state)
  assert (np.abs(subject.feed.vectors.own - before).max(1) > 0).mean() > 0.5
  subject.end()
  assert not list(tmp_path.glob('*/rows'))


def test_rows_drawn_on_the_device_are_unit_vectors_and_digits():
  mesh = make_mesh()
  like = joint.abstract_rows(scaling_row.Simulated(1001, 16), mesh)
  like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=batch_sharding(mesh)), like)
  drawn = scaling_row.drawn(like, 9)
  for array, expected in zip(jax.tree.leaves(drawn), jax.tree.leaves(like)):
    assert (array.shape, array.dtype, array.sharding) == (expected.shape, expected.dtype, expected.sharding)
  np.testing.assert_allclose(np.linalg.norm(drawn.vectors, axis=1), 1, rtol=1e-5)
  assert np.unique(drawn.codes).tolist() == list(range(9))
