"""The commands as a user runs them: what they write, and an error with a cure for everything that can be wrong."""

import json
import shutil

import jax
import numpy as np
import pytest

from gif_jax.codes.table import CodeTable
from tests.helpers import short


@pytest.fixture(scope='module')
def finished(command, tmp_path_factory):
  """A tiny run to its end."""
  workdir = tmp_path_factory.mktemp('finished')
  flags = ('--config.eval.every_steps=6', '--config.log.profile_steps=1')
  done = command('train', '--config=tests/helpers/tiny.py', f'--workdir={workdir}', *flags)
  assert done.returncode == 0, done.stdout
  return workdir, done.stdout


@pytest.mark.slow
def test_a_run_writes_what_others_rely_on(finished):
  workdir, output = finished
  summary = json.loads((workdir / 'summary.json').read_text())
  verification = ['verification_accuracy', 'pixel_verification_accuracy', 'tar@far=1e-1', 'tar@far=1e-2']
  for name in [*verification, 'decode_top1', 'decode_top5']:
    assert 0 <= summary[name] <= 1, name
  assert len(summary['digit_accuracy']) == CodeTable.open(workdir / 'table').l
  assert summary['verification_pairs'] == 40 and 'tar@far=1e-3' not in summary  # of 240 impostor pairs
  assert summary['images_per_second'] > 0 and summary['resumed_from_step'] == 0
  assert len(summary['state_sha256']) == 64
  evaluated = np.load(workdir / 'eval.npz')
  assert evaluated['embedding'].shape == (24, 16) and evaluated['identity'].shape == (24,)
  np.testing.assert_allclose(np.linalg.norm(evaluated['embedding'], axis=1), 1, atol=1e-5)
  for name in ('roc.png', 'training.png', 'training_faces.png'):
    assert (workdir / name).read_bytes().startswith(b'\x89PNG')
  assert 'verification accuracy' in output and 'training' in output


@pytest.mark.slow
def test_a_run_says_what_a_step_costs_and_traces_it(finished):
  workdir, output = finished
  assert 'a training image is' in output and 'compiled in' in output and 'a step needs' in output
  (trace,) = (workdir / 'profile').rglob('*.xplane.pb')
  planes = jax.profiler.ProfileData.from_file(str(trace)).planes
  names = [event.name for plane in planes for line in plane.lines for event in line.events]
  assert names.count('train') == 1 and any('fusion' in name for name in names)
  rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  assert all(row['utilisation'] > 0 and row['model_tflops_per_second'] > 0 for row in rows)


@pytest.mark.slow
def test_a_run_logs_every_window_and_keeps_the_newest_and_best_checkpoints(finished):
  workdir, _ = finished
  rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  assert [row['step'] for row in rows] == [2, 3, 4, 6, 8, 9, 10, 12]
  assert {'loss', 'code_loss', 'regression_loss', 'digit_accuracy', 'learning_rate', 'data_stall'} <= rows[0].keys()
  name = 'validation/verification_accuracy'
  validated = {row['step']: row[name] for row in rows if name in row}
  assert validated.keys() == {6, 12}
  kept = {int(path.name) for path in (workdir / 'checkpoints').iterdir() if path.name.isdigit()}
  assert {9, 12} <= kept <= {6, 9, 12}
  best = max(validated, key=lambda step: (validated[step], step))
  assert best in kept


@pytest.mark.slow
def test_tensorboard_events_hold_the_same_numbers(finished):
  from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

  workdir, _ = finished
  events = EventAccumulator(str(workdir / 'tensorboard')).Reload()
  rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  logged = [(event.step, pytest.approx(event.value)) for event in events.Scalars('loss')]
  assert logged == [(row['step'], row['loss']) for row in rows]


@pytest.mark.slow
def test_tokenize_writes_a_table_from_ready_vectors(command, tmp_path):
  np.save(tmp_path / 'vectors.npy', np.random.default_rng(0).normal(size=(300, 24)).astype(np.float32))
  done = command(
    'tokenize',
    '--config=tests/helpers/tiny.py',
    f'--output={tmp_path / "table"}',
    f'--config.tokenizer.vectors={tmp_path / "vectors.npy"}',
    '--config.tokenizer.v=7',
    '--config.tokenizer.l=3',
  )
  assert done.returncode == 0, done.stdout
  codes, vectors = np.load(tmp_path / 'table' / 'codes.npy'), np.load(tmp_path / 'table' / 'vectors.npy')
  assert codes.shape == (300, 3) and codes.dtype == np.uint8 and codes.max() == 6
  assert len(np.unique(codes, axis=0)) == 300
  assert vectors.shape == (300, 16) and vectors.dtype == np.float16
  CodeTable.open(tmp_path / 'table').verify()


@pytest.mark.slow
def test_kinds_of_codes_are_other_tables(command, tmp_path):
  for kind in ('product', 'tree', 'random'):
    arguments = ['--config=tests/helpers/tiny.py', f'--output={tmp_path / kind}', f'--config.tokenizer.codes={kind}']
    done = command('tokenize', *arguments)
    assert done.returncode == 0, done.stdout
  first, *others = (CodeTable.open(tmp_path / kind) for kind in ('product', 'tree', 'random'))
  for other in others:
    np.testing.assert_array_equal(first.vectors, other.vectors)
    assert not np.array_equal(first.codes, other.codes)


def _fails(command, arguments, *expected, module='train', **options):
  done = command(module, *arguments, **options)
  assert done.returncode not in (0, -6, -9, -11), done.stdout
  for text in expected:
    assert text in done.stdout, done.stdout
  return done.stdout


def test_misspelt_key(command, tmp_path):
  arguments = ['--config=tests/helpers/tiny.py', f'--workdir={tmp_path}', '--config.train.stepps=3']
  output = _fails(command, arguments, 'config.train.stepps is no setting. Did you mean config.train.steps?')
  assert 'Traceback' not in output


def test_stray_argument(command, tmp_path):
  output = _fails(
    command, ['--config=tests/helpers/tiny.py', f'--workdir={tmp_path}', 'train'], "unexpected argument 'train'"
  )
  assert 'Traceback' not in output


def test_missing_config_file(command, tmp_path):
  output = _fails(command, ['--config=configs/nowhere.py', f'--workdir={tmp_path}'], 'configs/nowhere.py')
  assert 'Traceback' not in output


@pytest.mark.slow
@pytest.mark.parametrize(
  ('flag', 'expected'),
  [
    ('data.source=webface', ['data.source', 'synthetic']),
    ('data.path=/nowhere/faces', ['data.path=/nowhere/faces', 'does not exist']),
    ('data.path=configs', ['data.path=configs', 'synthetic']),
    ('tokenizer.vectors=nowhere.npy', ['tokenizer.vectors', 'nowhere.npy']),
    ('tokenizer.table=nowhere', ['nowhere', 'gif_jax tokenize']),
    ('tokenizer.encoder=clip', ['config.tokenizer.encoder_path', 'config.json']),
    ('train.steps=0', ['train.steps', 'train.epochs']),
    ('train.batch_size=0', ['train.batch_size']),
    ('data.size=20', ['data.size=20', 'from 32 to 224']),
    ('eval.images=2', ['eval.identities=6', '10 genuine', 'eval.images']),
    ('eval.identities=1', ['eval.identities=1', 'at least 2']),
    ('data.source=folder', ['data.path', 'folder']),
    ('tokenizer.l=1', ['tokenizer.l']),
  ],
)
def test_settings_that_cannot_work(command, tmp_path, flag, expected):
  more = ['--config.tokenizer.v=5'] if flag == 'tokenizer.l=1' else []
  output = _fails(
    command, ['--config=tests/helpers/tiny.py', f'--workdir={tmp_path}', f'--config.{flag}', *more], *expected
  )
  assert 'Traceback' not in output


@pytest.mark.slow
def test_workdir_that_cannot_be_written_to(command, tmp_path):
  (tmp_path / 'file').write_text('')
  for workdir in (tmp_path / 'file' / 'run', '/proc/run'):
    output = _fails(
      command, ['--config=tests/helpers/tiny.py', f'--workdir={workdir}'], f'--workdir={workdir} cannot be'
    )
    assert 'Traceback' not in output and len(output.splitlines()) == 1


@pytest.mark.slow
def test_batch_that_devices_cannot_share(command, tmp_path):
  arguments = ['--config=tests/helpers/tiny.py', f'--workdir={tmp_path}', '--config.train.batch_size=12']
  output = _fails(command, arguments, 'train.batch_size=12', 'multiple of 8', devices=8)
  assert 'Traceback' not in output


@pytest.mark.slow
@pytest.mark.parametrize('damage', ['codes.npy', 'vectors.npy', 'meta.json'])
def test_unreadable_table(command, finished, tmp_path, damage):
  table = shutil.copytree(finished[0] / 'table', tmp_path / 'table')
  path = table / damage
  path.write_bytes(path.read_bytes()[:-10])
  arguments = ['--config=tests/helpers/tiny.py', f'--workdir={tmp_path / "run"}', f'--config.tokenizer.table={table}']
  output = _fails(command, arguments, str(path), 'gif_jax tokenize')
  assert 'Traceback' not in output


@pytest.mark.slow
@pytest.mark.parametrize(
  ('flag', 'expected'),
  [
    ('data.identities=21', ['m=20', '21']),
    ('data.seed=1', ['seed 0', 'seed 1']),
    ('model.d=32', ['d=16', 'model.d=32']),
  ],
)
def test_table_made_for_something_else(command, finished, tmp_path, flag, expected):
  arguments = [
    '--config=tests/helpers/tiny.py',
    f'--workdir={tmp_path}',
    f'--config.tokenizer.table={finished[0] / "table"}',
  ]
  output = _fails(command, [*arguments, f'--config.{flag}'], *expected, 'gif_jax tokenize')
  assert 'Traceback' not in output


@pytest.mark.slow
def test_workdir_with_a_table_made_with_other_settings(command, finished):
  arguments = ['--config=tests/helpers/tiny.py', f'--workdir={finished[0]}', '--config.tokenizer.seed=5']
  output = _fails(command, arguments, 'config.tokenizer.seed=5 (was 0)', '--workdir', '--accept_changes')
  assert 'Traceback' not in output
  output = _fails(command, [*arguments, '--accept_changes'], 'TableError', 'seed=0', '--workdir')
  assert 'Traceback' not in output


@pytest.mark.slow
def test_checkpoint_trained_with_another_table(command, finished, tmp_path):
  made = command(
    'tokenize', '--config=tests/helpers/tiny.py', f'--output={tmp_path / "table"}', '--config.tokenizer.codes=random'
  )
  assert made.returncode == 0, made.stdout
  arguments = [
    '--config=tests/helpers/tiny.py',
    f'--workdir={finished[0]}',
    f'--config.tokenizer.table={tmp_path / "table"}',
  ]
  output = _fails(command, arguments, 'CheckpointError', 'table=', '--workdir')
  assert 'Traceback' not in output


@pytest.mark.slow
@pytest.mark.parametrize(
  ('flag', 'expected'), [('model.projection=9', 'config.model'), ('optim.name=adamw', 'config.optim.name')]
)
def test_checkpoint_of_another_network_or_optimiser(command, finished, flag, expected):
  arguments = ['--config=tests/helpers/tiny.py', f'--workdir={finished[0]}', f'--config.{flag}']
  output = _fails(command, arguments, 'ConfigError', f'config.{flag.split("=")[0]}=', '--workdir', '--accept_changes')
  assert 'Traceback' not in output
  output = _fails(command, [*arguments, '--accept_changes'], 'CheckpointError', expected, '--workdir')
  assert 'Traceback' not in output


@pytest.mark.slow
def test_non_finite_loss_stops_and_keeps_the_last_good_checkpoint(command, tmp_path):
  good = ['--config=tests/helpers/tiny.py', f'--workdir={tmp_path}', *short.flags(train__steps=3)]
  assert command('train', *good).returncode == 0
  arguments = [*good, '--config.train.steps=12', '--config.optim.lr=1e38', '--config.optim.clip=0']
  assert 'Traceback' not in _fails(command, arguments, 'ConfigError', 'config.optim.lr=1e+38 (was 0.1)')
  output = _fails(command, [*arguments, '--accept_changes'], 'NonFiniteLossError', 'step', 'config.optim.lr')
  assert 'Traceback' not in output
  kept = [path.name for path in (tmp_path / 'checkpoints').iterdir()]
  assert '3' in kept
  done = command('train', *good, '--accept_changes')
  assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_homogenisation_that_does_not_fall(command, tmp_path):
  arguments = [
    '--config=tests/helpers/tiny.py',
    f'--output={tmp_path / "table"}',
    '--config.tokenizer.homogenize_lr=1e20',
  ]
  output = _fails(command, arguments, 'homogenize_lr', module='tokenize')
  assert 'Traceback' not in output
  assert not (tmp_path / 'table').exists()


def test_tokenize_with_weights_that_are_not_there(command, tmp_path):
  flags = ['--config.tokenizer.encoder=clip', f'--config.tokenizer.encoder_path={tmp_path}']
  arguments = ['--config=tests/helpers/tiny.py', f'--output={tmp_path / "table"}', *flags]
  output = _fails(command, arguments, str(tmp_path / 'config.json'), 'Hugging Face', module='tokenize')
  assert 'Traceback' not in output and not (tmp_path / 'table').exists()


@pytest.mark.slow
def test_tokenize_does_not_overwrite(command, finished):
  arguments = ['--config=tests/helpers/tiny.py', f'--output={finished[0] / "table"}']
  output = _fails(command, arguments, 'exists', module='tokenize')
  assert 'Traceback' not in output
