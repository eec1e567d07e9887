"""The accuracy benchmark: equal budgets, runs that resume and are not run twice, metrics and verdicts by the letter."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.accuracy import __main__ as accuracy
from benchmarks.accuracy import report, workers
from benchmarks.accuracy import rows as accuracy_rows
from benchmarks.accuracy import run as accuracy_run
from benchmarks.accuracy import verdict as verdicts
from gif_jax import config
from gif_jax.core.errors import ConfigError
from gif_jax.training import train
from tests.helpers import tiny

BUDGET = {'train.steps': 3, 'eval.every_steps': 1}
SOFTMAX = {'softmax.enabled': True, 'softmax.scale': 16.0}


@pytest.fixture
def rows(monkeypatch):
  """Tiny rows in place of the real ones, one of which fails."""
  tiny_rows = {
    'fixed': (tiny, {}),
    'joint': (tiny, {'joint.enabled': True}),
    'ArcFace': (tiny, SOFTMAX),
    'lost': (tiny, {'tokenizer.table': '/nowhere/table'}),
  }
  parts = {'thousand': accuracy_rows.Part(BUDGET, ('joint', 'lost'), seeds=(0,))}
  for module in (accuracy_rows, report, accuracy):
    monkeypatch.setattr(module, 'ROWS', tiny_rows)
    monkeypatch.setattr(module, 'PARTS', parts)
  return tiny_rows


def _interrupted(monkeypatch, run, cache):
  """A run that is told to stop after its second step."""
  add, steps = train.Window.add, []

  def counted(window, metrics):
    add(window, metrics)
    steps.append(metrics)
    if len(steps) == 2:
      os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    patch.setattr(train.Window, 'add', counted)
    assert accuracy_run.run(run.config, run.folder, cache) is None


@pytest.mark.slow
def test_an_interrupted_run_continues_and_a_failed_one_stops_no_other(rows, monkeypatch, tmp_path, capsys):
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  joint, _ = accuracy_rows.runs_of('thousand', tmp_path)
  _interrupted(monkeypatch, joint, tmp_path / 'cache')
  assert not (joint.folder / 'summary.json').exists()

  with pytest.raises(SystemExit, match=r'FAILED: lost, seed 0: exit 1: .*nowhere/table.*lost_0/log'):
    accuracy.main(['thousand', f'--output={tmp_path}'])
  summary = json.loads((joint.folder / 'summary.json').read_text())
  assert (summary['resumed_from_step'], summary['steps']) == (2, 3)
  cost = json.loads((joint.folder / 'cost.json').read_text())
  assert cost['cpu_seconds'] > 0 and cost['peak_resident_bytes'] > 1e7
  assert cost['network_bytes'] > 0 and cost['identity_bytes'] == 0 and cost['step_temporaries_bytes'] > 0
  table = capsys.readouterr().out
  assert '| joint |' in table and 'lost' not in table.split('## Verdict')[0]
  for name in ('thousand.md', 'thousand.json', 'thousand_tar.png', 'thousand_validation.png', 'against_m.md'):
    assert (tmp_path / name).stat().st_size > 0

  # Finished runs are not run again, nor any with other settings in their place.
  monkeypatch.setattr(workers.Workers, '_start', lambda *_: pytest.fail('a finished run was started'))
  accuracy.main(['thousand', f'--output={tmp_path}', '--rows', 'joint'])
  assert capsys.readouterr().out == table
  with pytest.raises(SystemExit, match=r'joint_0 is of config\.train\.steps=3, asked for is 9.*remove that folder'):
    accuracy.main(['thousand', f'--output={tmp_path}', '--rows', 'joint', '--steps=9'])


def _run(folder, name='a'):
  return accuracy_rows.Run(name, 0, config.default(), folder / f'{name}_0')


class _Stopped:
  """A progress bar at whose first finished run somebody presses Ctrl-C."""

  def update(self):
    raise KeyboardInterrupt


def test_an_interruption_ends_the_runs_that_are_going_each_on_its_cores(tmp_path, monkeypatch):
  started, pinned = [], []
  monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {0, 1, 2})
  monkeypatch.setattr(os, 'sched_setaffinity', lambda _, cores: pinned.append(cores))

  def start(self, run, cores):
    code = 'import time; time.sleep(60)' if run.row == 'slow' else ''
    started.append(subprocess.Popen([sys.executable, '-c', code]))
    return started[-1]

  monkeypatch.setattr(workers.Workers, '_start', start)
  monkeypatch.setattr(workers, 'last_words', lambda run: '')
  with pytest.raises(KeyboardInterrupt):
    workers.Workers(2, tmp_path, 0)([_run(tmp_path, 'slow'), _run(tmp_path, 'quick')], _Stopped())
  assert started[0].returncode == -signal.SIGTERM
  assert sorted(pinned) == [[0, 2], [1]]


def test_an_output_is_for_one_command_at_a_time(tmp_path):
  with workers.locked(tmp_path), pytest.raises(SystemExit, match='in use by another'), workers.locked(tmp_path):
    pass
  with workers.locked(tmp_path):
    pass


def test_a_setting_that_came_later_counts_as_its_default(tmp_path):
  run, file = _run(tmp_path), tmp_path / 'a_0' / 'config.json'
  recorded = accuracy_rows.plain(run.config)
  del recorded['train']['ema']
  file.parent.mkdir()
  file.write_text(json.dumps(recorded))
  accuracy_run.check_same(run.config, run.folder)
  run.config.train.ema = 0.9
  with pytest.raises(ConfigError, match=r'config\.train\.ema=None, asked for is 0\.9'):
    accuracy_run.check_same(run.config, run.folder)


def test_a_run_that_does_not_say_of_what_it_is_is_refused(tmp_path):
  (tmp_path / 'a_0').mkdir()
  (tmp_path / 'a_0' / 'summary.json').write_text('{}')
  with pytest.raises(ConfigError, match=r'no config\.json'):
    accuracy_run.check_same(config.default(), tmp_path / 'a_0')


def _missing(part, row):
  """Settings of a row that this version does not have."""
  keys = accuracy_rows.ROWS[row][1] | accuracy_rows.PARTS[part].changes
  return [key for key in keys if key not in accuracy_rows.flat(accuracy_rows.plain(config.default()))]


@pytest.mark.parametrize('part', accuracy_rows.PARTS)
def test_every_row_can_be_trained_or_names_the_setting_it_lacks(part, tmp_path):
  for row in accuracy_rows.PARTS[part].rows:
    if missing := _missing(part, row):
      with pytest.raises(ConfigError, match=rf'config\.({"|".join(missing)}) of the row .* is no setting'):
        accuracy_rows.runs_of(part, tmp_path, [row])
    else:
      assert accuracy_rows.runs_of(part, tmp_path, [row])


def test_seeds_come_first_and_folders_are_apart(tmp_path):
  runs = accuracy_rows.runs_of('thousand', tmp_path, ['fixed', 'joint'], [0, 1])
  assert [(run.row, run.seed) for run in runs] == [('fixed', 0), ('joint', 0), ('fixed', 1), ('joint', 1)]
  assert [run.config.train.seed for run in runs] == [run.config.tokenizer.seed for run in runs] == [0, 0, 1, 1]
  trials = (accuracy_rows.trials_of('tuning', method) for method in accuracy_rows.MAIN)
  names = [*accuracy_rows.ROWS, *(name for own in trials for name in own)]
  assert len({accuracy_rows.slug(name) for name in names}) == len(names)
  assert accuracy_rows.slug('joint, random codes') == 'joint_random_codes'


@pytest.mark.parametrize('part', accuracy_rows.TRIALS)
def test_all_methods_are_tuned_alike(part, tmp_path):
  runs = accuracy_rows.runs_of(part, tmp_path)
  counts = {row: len(accuracy_rows.runs_of(part, tmp_path, [row])) for row in accuracy_rows.MAIN}
  assert len(set(counts.values())) == 1 and sum(counts.values()) == len(runs) >= 3 * len(counts)
  assert {run.seed for run in runs} == {0}
  assert all(run.config.eval.identities == 0 for run in runs)  # the people who are reported on are not looked at


def test_unequal_trials_are_refused():
  trial = {'optim.lr': 0.1}
  for unequal in ({'a': [trial], 'b': []}, {'a': [trial, trial], 'b': [trial, {'optim.lr': 0.2}]}):
    with pytest.raises(ValueError, match='as many different trials'):
      accuracy_rows.check_trials(unequal)
  with pytest.raises(ValueError, match='the same keys'):
    accuracy_rows.check_trials({'a': [trial, {'loss.margin': 0.1}]})


def test_no_row_has_a_budget_of_its_own(rows, tmp_path):
  rows['longer'] = (tiny, {'train.batch_size': 32})
  with pytest.raises(ConfigError, match=r'config\.train\.batch_size is 16 for fixed, seed 0, 32 for longer, seed 0'):
    accuracy_rows.runs_of('thousand', tmp_path, ['fixed', 'longer'])


def _metrics(seed, validation, tar, softmax=False, **more):
  return {
    'seed': seed,
    'softmax': softmax,
    verdicts.CHOICE: validation,
    'verification_accuracy': 0.9,
    'tar@far=1e-3': tar,
  } | more


ROWS = {
  'fixed': [_metrics(seed, 0.4, 0.99) for seed in (0, 1)],
  'joint': [
    _metrics(0, 0.7, 0.75, decode_top1=0.2, tree_top1=0.8, vector_top1=0.9),
    _metrics(1, 0.7, 0.85, decode_top1=0.3, tree_top1=0.8, vector_top1=0.9),
  ],
  'joint without digits': [_metrics(0, 0.6, 0.7, vector_top1=0.8)],
  'ArcFace': [_metrics(1, 0.8, 0.74, True, centre_top1=0.85), _metrics(0, 0.8, 0.7, True, centre_top1=0.85)],
  'Partial FC 0.1': [_metrics(0, 0.8, 0.9, True, centre_top1=0.7)],
}


def test_the_best_row_is_chosen_on_validation_people_and_does_not_grow_with_m():
  assert verdicts.best_row(ROWS) == 'joint'
  assert verdicts.best_row({'ArcFace': ROWS['ArcFace']}) is None
  assert verdicts.best_route(ROWS['joint'], verdicts.LOG_COST) == 'tree'
  assert verdicts.best_route(ROWS['joint'], verdicts.ROUTES) == 'vector'


def test_differences_are_paired_by_seed():
  np.testing.assert_allclose(verdicts.paired(ROWS['joint'], ROWS['ArcFace'], 'tar@far=1e-3'), [0.05, 0.11])
  np.testing.assert_allclose(verdicts.paired(ROWS['joint'], ROWS['Partial FC 0.1'], 'tar@far=1e-3'), [-0.15])
  assert len(verdicts.paired(ROWS['joint'], [], 'tar@far=1e-3')) == 0


@pytest.mark.parametrize(
  ('differences', 'expected'),
  [
    ([0.05, 0.11], ('+8.0 ± 4.2', 'ahead')),
    ([0.01, 0.11], ('+6.0 ± 7.1', 'not below, ahead not shown')),
    ([0.05], ('+5.0 (1 seed)', 'not below, ahead not shown')),
    ([-0.15], ('-15.0 (1 seed)', 'missed')),
    ([-0.02, 0.01], ('-0.5 ± 2.1', 'missed')),
    ([], ('', 'not measured')),
  ],
)
def test_what_is_said_of_differences(differences, expected):
  assert verdicts.judged(np.array(differences)) == expected


def test_the_verdict_says_where_it_missed_and_what_digits_add():
  text = verdicts.verdict(ROWS)
  assert '**joint**' in text
  against_arcface, against_pfc, digits = text.split(' less ')[1:]
  assert '| TAR@FAR=1e-3 | 80.0 | 72.0 | +8.0 ± 4.2 | ahead |' in against_arcface
  assert '(tree against centre) | 80.0 | 85.0 | -5.0 ± 0.0 | missed |' in against_arcface
  assert '(vector against centre) | 90.0 | 85.0 | +5.0 ± 0.0 | ahead |' in against_arcface
  assert '| TAR@FAR=1e-3 | 80.0 | 90.0 | -15.0 (1 seed) | missed |' in against_pfc
  assert 'joint without digits' in digits and '+5.0 (1 seed)' in digits
  assert 'not measured' in verdicts.verdict({'joint': ROWS['joint']})
  assert 'No row' in verdicts.verdict({'ArcFace': ROWS['ArcFace']})


def test_a_table_has_means_and_spreads_and_says_where_seeds_are_missing():
  runs = {
    'joint': [{'a': 0.5, 'vector_top1': 0.1, 'speed': 10}, {'a': 0.7, 'vector_top1': 0.3, 'speed': None}],
    'ArcFace': [{'a': 0.25, 'centre_top1': 0.5}],
  }
  columns = {'a': 'a', 'nearest': 'vector_top1', 'images/s': ('speed', 1), 'nobody': 'fused_top1'}
  assert report.table_of(runs, columns).splitlines() == [
    '| form | a | nearest | images/s |',
    '| --- | --- | --- | --- |',
    '| joint | 60.0 ± 14.1 | 20.0 ± 14.1 | 10.0 (1 of 2) |',
    '| ArcFace (1 seed) | 25.0 | 50.0 |  |',
  ]


def _finished(output, part, row, seed, changes=(), curve=(), **summary):
  """A finished run on disk, made by hand."""
  experiment, own = accuracy_rows.ROWS[row] if row in accuracy_rows.ROWS else accuracy_rows.ROWS[row.split(' ')[0]]
  settings = experiment.get_config()
  settings.update_from_flattened_dict(own | {'train.seed': seed} | dict(changes))
  folder = output / part / f'{accuracy_rows.slug(row)}_{seed}'
  folder.mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps(accuracy_rows.plain(settings)))
  (folder / 'summary.json').write_text(json.dumps({'steps': 9, 'images_per_second': 5.0} | summary))
  lines = [{'step': step, 'validation/verification_accuracy': 0.5, verdicts.CHOICE: tar} for step, tar in curve]
  (folder / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))


@pytest.mark.slow
def test_a_report_is_of_what_is_on_disk(tmp_path):
  for part, people in {'thousand': 1000, 'ten_thousand': 10_000}.items():
    for seed in (0, 1):
      m = {'data.identities': people}
      _finished(tmp_path, part, 'joint', seed, m, [(1, 0.1), (2, 0.4)], **{'tar@far=1e-3': 0.4, 'vector_top1': 0.9})
      _finished(tmp_path, part, 'ArcFace', seed, m, [(1, 0.2), (2, 0.6)], **{'tar@far=1e-3': 0.5, 'centre_top1': 0.8})
  text = report.write(tmp_path, list(accuracy_rows.PARTS))
  assert text.index('# thousand') < text.index('# ten_thousand') and '-10.0 ± 0.0 | missed' in text
  metrics = json.loads((tmp_path / 'thousand.json').read_text())['joint'][1]
  assert (metrics['seed'], metrics['curve'][0][verdicts.CHOICE], metrics[verdicts.CHOICE]) == (1, 0.1, 0.4)
  against = (tmp_path / 'against_m.md').read_text()
  assert '## m = 1000\n' in against and '## Verdict, m = 10000\n' in against
  assert '| joint | 40.0 ± 0.0 | 90.0 ± 0.0 |' in against
  assert 'holds no finished run of tail' in report.write(tmp_path, ['tail'])


def test_runs_that_cannot_be_compared_are_refused(tmp_path):
  _finished(tmp_path, 'thousand', 'joint', 0)
  _finished(tmp_path, 'thousand', 'joint', 1, {'joint.lr': 9.0})
  with pytest.raises(ConfigError, match=r'joint_1 has config\.joint\.lr=9\.0, joint_0 .*: not two seeds of one row'):
    report.read(tmp_path, 'thousand')
  _finished(tmp_path, 'tail', 'joint', 0)
  _finished(tmp_path, 'tail', 'ArcFace', 0, {'data.images': 15})
  with pytest.raises(ConfigError, match=r'config\.data\.images is 15 for ArcFace_0, 14 for joint_0'):
    report.read(tmp_path, 'tail')


def test_the_tuning_report_has_all_trials_and_marks_the_best(tmp_path):
  best, other, *_ = accuracy_rows.trials_of('tuning', 'joint')
  _finished(tmp_path, 'tuning', best, 0, accuracy_rows.TRIALS['tuning']['joint'][0], [(1, 0.9), (2, 0.7)])
  _finished(tmp_path, 'tuning', other, 0, accuracy_rows.TRIALS['tuning']['joint'][1], [(1, 0.1), (2, 0.6)])
  text = report.write(tmp_path, ['tuning'])
  assert f'| **{best}** (best) | 50.0 | 70.0 |' in text and f'| {other} | 50.0 | 60.0 |' in text
  assert 'Not the same number of trials: ArcFace 0' in text and 'joint 2' in text
