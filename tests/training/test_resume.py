"""A run that was killed ends like one that was not: the same bits, whatever the number of workers."""

import json
import random
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from gif_jax.codes import tokenizer
from gif_jax.codes.identities import Identities
from gif_jax.codes.table import CodeTable, TableError
from gif_jax.core.storage import checksums
from gif_jax.data.sets.open import open_faces
from gif_jax.identification.nearest import nearest
from gif_jax.models.checkpoint.reader import CheckpointError
from gif_jax.models.trained import open_backbone
from gif_jax.training import sharding
from gif_jax.training.program import open_trained
from tests.helpers import short

# The forms of the method as flags. `joint` is re-tokenised within its 12 steps.
FORMS = {
  'fixed': (),
  'joint': ('--config.joint.enabled=True', '--config.joint.retokenize_every_steps=4'),
  # Sampled anew in every step, with momentum of rows and running norms.
  'partial_fc': (
    '--config.softmax.enabled=True',
    '--config.softmax.sample_rate=0.3',
    '--config.softmax.margin_type=adaface',
  ),
}


@pytest.fixture(scope='module')
def finished(command, tmp_path_factory):
  """form -> the working directory, summary and rows of a run that nothing interrupted."""
  runs = {}
  for form, flags in FORMS.items():
    workdir = tmp_path_factory.mktemp(form)
    done = command('train', '--config=tests/helpers/tiny.py', f'--workdir={workdir}', *flags)
    assert done.returncode == 0, done.stdout
    rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    runs[form] = workdir, json.loads((workdir / 'summary.json').read_text()), rows
  return runs


def _newest_step(workdir):
  folder = workdir / 'checkpoints'
  steps = [int(path.name) for path in folder.iterdir() if path.name.isdigit()] if folder.exists() else []
  return max(steps, default=0)


@pytest.mark.slow
@pytest.mark.parametrize(('form', 'workers'), [('fixed', 0), ('fixed', 2), ('joint', 0), ('partial_fc', 0)])
def test_killed_run_ends_with_the_same_state(command, finished, tmp_path, form, workers):
  arguments = ('train', '--config=tests/helpers/tiny.py', f'--workdir={tmp_path}', '--config.checkpoint.every_steps=1')
  arguments += FORMS[form]
  running = command(*arguments, f'--config.data.workers={workers}', popen=True)
  target = random.randint(2, 6)
  while running.poll() is None and _newest_step(tmp_path) < target:
    time.sleep(0.01)
  running.kill()
  running.communicate()
  assert not (tmp_path / 'summary.json').exists(), 'the run ended before it could be killed'

  done = command(*arguments, f'--config.data.workers={2 - workers}')
  assert done.returncode == 0, done.stdout
  assert 'leaked' not in done.stdout
  workdir, summary, rows = finished[form]
  resumed = json.loads((tmp_path / 'summary.json').read_text())
  assert resumed['resumed_from_step'] >= target
  assert resumed['state_sha256'] == summary['state_sha256']
  assert resumed['verification_accuracy'] == summary['verification_accuracy']
  final = json.loads((tmp_path / 'metrics.jsonl').read_text().splitlines()[-1])
  assert final['step'] == rows[-1]['step']
  for name in ('trained_table', 'next_table') if form == 'joint' else ():
    assert CodeTable.open(tmp_path / name).fingerprint == CodeTable.open(workdir / name).fingerprint


@pytest.mark.slow
def test_sigterm_saves_and_ends_well(command, tmp_path):
  flags = short.flags(checkpoint__every_steps=1, train__steps=100_000, data__workers=1)
  arguments = ('train', '--config=tests/helpers/tiny.py', f'--workdir={tmp_path}', *flags)
  running = command(*arguments, popen=True)
  while running.poll() is None and _newest_step(tmp_path) < 3:
    time.sleep(0.01)
  running.send_signal(signal.SIGTERM)
  output, _ = running.communicate(timeout=60)
  assert running.returncode == 0, output
  assert 'the same command continues from there' in output
  steps = [json.loads(line)['step'] for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  assert steps == sorted(set(steps))
  assert _newest_step(tmp_path) == steps[-1]


@pytest.mark.slow
def test_running_again_after_the_end_changes_nothing(command, tmp_path, finished):
  arguments = ('train', '--config=tests/helpers/tiny.py', f'--workdir={tmp_path}', *short.flags(train__steps=4))
  assert command(*arguments).returncode == 0
  first = json.loads((tmp_path / 'summary.json').read_text())
  rows = (tmp_path / 'metrics.jsonl').read_text()
  assert command(*arguments).returncode == 0
  again = json.loads((tmp_path / 'summary.json').read_text())
  assert again['resumed_from_step'] == 4 and again['images_per_second'] is None
  assert again['state_sha256'] == first['state_sha256']
  assert (tmp_path / 'metrics.jsonl').read_text() == rows


@pytest.mark.slow
def test_killed_tokenisation_makes_the_same_table(command, tiny_config, tmp_path):
  config = tiny_config.copy_and_resolve_references()
  config.data.identities, config.data.images, config.eval.batch_size = 150, 10, 8
  flags = ('--config.data.identities=150', '--config.data.images=10', '--config.eval.batch_size=8')
  arguments = ('tokenize', '--config=tests/helpers/tiny.py', f'--output={tmp_path / "table"}', *flags)
  draft = tmp_path / '.table.draft'
  running = command(*arguments, devices=8, popen=True)
  while running.poll() is None and not (draft / 'moments-0.npz').exists():
    time.sleep(0.01)
  running.kill()
  running.communicate()
  assert not (tmp_path / 'table').exists(), 'the command ended before it could be killed'
  with np.load(draft / 'moments-0.npz') as saved:
    position = json.loads(str(saved['note']))['done']
  assert 0 < position < 1500

  done = command(*arguments, devices=8)
  assert done.returncode == 0, done.stdout
  assert f'moments-0.npz: continuing from {position}' in done.stdout
  assert not draft.exists()
  never_killed = tokenizer.make_table(config, open_faces(config, None), tmp_path / 'uninterrupted')
  assert CodeTable.open(tmp_path / 'table').fingerprint == never_killed.fingerprint


@pytest.mark.slow
def test_seeds_matter(command, tmp_path, finished):
  done = command('train', '--config=tests/helpers/tiny.py', f'--workdir={tmp_path}', '--config.train.seed=1')
  assert done.returncode == 0, done.stdout
  assert json.loads((tmp_path / 'summary.json').read_text())['state_sha256'] != finished['fixed'][1]['state_sha256']


@pytest.mark.slow
def test_a_joint_run_leaves_tables_to_use_and_to_start_from(command, finished, tmp_path):
  workdir, summary, rows = finished['joint']
  start, trained, following = (CodeTable.open(workdir / name) for name in ('table', 'trained_table', 'next_table'))
  for table in (trained, following):
    table.verify()
    assert (table.m, table.l, table.v, table.d) == (start.m, start.l, start.v, start.d)
    assert table.meta['label_space'] == start.meta['label_space']
  np.testing.assert_array_equal(trained.vectors, following.vectors)
  assert np.abs(trained.vectors - start.vectors).max() > 0.01
  assert 0 <= summary['vector_top1'] <= 1 and rows[-1]['in_batch_loss'] < rows[0]['in_batch_loss']
  flags = [f'--config.tokenizer.table={workdir / "next_table"}', '--config.train.steps=2', *FORMS['joint']]
  done = command('train', '--config=tests/helpers/tiny.py', f'--workdir={tmp_path}', *flags)
  assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_another_form_does_not_continue_a_checkpoint(command, finished):
  pairs = {('fixed', 'joint'): 'joint', ('joint', 'fixed'): 'joint', ('partial_fc', 'fixed'): 'softmax'}
  for (form, other), name in pairs.items():
    arguments = ('train', '--config=tests/helpers/tiny.py', f'--workdir={finished[form][0]}', *FORMS[other])
    for accept, error in (((), 'ConfigError'), (('--accept_changes',), 'CheckpointError')):
      done = command(*arguments, *accept)
      assert done.returncode == 1 and f'{error}: ' in done.stdout and 'Traceback' not in done.stdout, done.stdout
      assert f'config.{name}.enabled' in done.stdout


@pytest.mark.slow
def test_a_finished_baseline_can_be_opened_for_use(finished, tiny_config, tiny_faces):
  workdir, summary, _ = finished['partial_fc']
  config = tiny_config.copy_and_resolve_references()
  config.softmax.enabled = True
  trained = open_trained(config, workdir, Identities(tiny_faces.m, tiny_faces.label_space))
  assert trained.codes is None and trained.vectors.shape == (tiny_faces.m, config.model.d)
  embedding = trained.predict(tiny_faces.held_out[:])['embedding']
  right = nearest(embedding, trained.vectors, 1)[:, 0] == tiny_faces.held_out.labels()
  assert right.mean() == summary['centre_top1'] and 'vector_top1' not in summary


@pytest.mark.slow
@pytest.mark.parametrize('form', ['fixed', 'joint'])
def test_a_finished_run_can_be_opened_for_use(finished, tiny_config, tiny_faces, form):
  workdir, summary, _ = finished[form]
  config = tiny_config.copy_and_resolve_references()
  config.joint.enabled = form == 'joint'
  trained = open_trained(config, workdir, CodeTable.open(workdir / 'table'))
  learnt = CodeTable.open(workdir / ('trained_table' if form == 'joint' else 'table'))
  assert trained.step == summary['steps']
  np.testing.assert_array_equal(trained.codes, learnt.codes)
  np.testing.assert_allclose(trained.vectors, learnt.vectors, atol=1e-3)
  embedding = trained.predict(tiny_faces.test[:])['embedding']
  embedding = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
  np.testing.assert_allclose(embedding, np.load(workdir / 'eval.npz')['embedding'], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('form', FORMS)
def test_a_finished_run_encodes_for_the_tokeniser(finished, tiny_faces, form):
  workdir, summary, _ = finished[form]
  encoder = open_backbone(workdir)
  assert encoder.name.startswith(f'backbone tiny, d=16, at 32 pixels, step {summary["steps"]}, weights ')
  images, wanted = tiny_faces.test[:], np.load(workdir / 'eval.npz')['embedding']
  np.testing.assert_allclose(encoder.encode(images), wanted, atol=1e-4)
  rows = sharding.batch_sharding(sharding.make_mesh())
  features = encoder.encode(jax.device_put(images, rows))
  assert features.sharding.is_equivalent_to(rows, 2)
  np.testing.assert_allclose(features, wanted, atol=1e-4)


@pytest.mark.slow
def test_an_encoder_takes_crops_of_another_size(finished, tiny_faces):
  encoder = open_backbone(finished['joint'][0])
  images = tiny_faces.test[:]
  small = np.asarray(encoder.encode(images))
  larger = np.asarray(encoder.encode(images.repeat(2, 1).repeat(2, 2)))
  np.testing.assert_allclose(np.linalg.norm(larger, axis=1), 1, atol=1e-5)
  assert np.sum(small * larger, axis=1).min() > 0.9  # the same pictures, a little softer


@pytest.mark.slow
def test_a_table_made_by_a_run_knows_its_weights_and_not_its_folder(finished, tiny_config, tiny_faces, tmp_path):
  workdir, _, _ = finished['fixed']
  config = tiny_config.copy_and_resolve_references()
  config.tokenizer.encoder, config.tokenizer.encoder_path = 'backbone', str(workdir)
  config.model.d = 8  # neither the network's nor its table's
  table = tokenizer.ensure_table(config, tiny_faces, tmp_path)
  assert table.meta['encoder'] == open_backbone(workdir).name and table.d == 8
  moved = shutil.copytree(workdir, tmp_path / 'moved')
  config.tokenizer.encoder_path = str(moved)
  assert tokenizer.ensure_table(config, tiny_faces, tmp_path).fingerprint == table.fingerprint
  shutil.rmtree(moved / 'checkpoints' / '12')
  with pytest.raises(TableError, match='was made with encoder_path'):
    tokenizer.ensure_table(config, tiny_faces, tmp_path)
  shutil.rmtree(moved)
  with pytest.raises(tokenizer.TokenizeError, match=r'moved/checkpoints holds no checkpoint: name the --workdir'):
    tokenizer.ensure_table(config, tiny_faces, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('damage', ['state', 'origin'])
@pytest.mark.parametrize('summed', [True, False])  # earlier versions wrote no checksums
def test_an_encoder_from_a_damaged_checkpoint(finished, tmp_path, caplog, damage, summed):
  checkpoint = shutil.copytree(finished['fixed'][0] / 'checkpoints' / '12', tmp_path / 'checkpoints' / '12')
  if not summed:
    (checkpoint / checksums.SUMS).unlink()
  if damage == 'state':
    shutil.rmtree(checkpoint / damage)
  else:
    broken = checkpoint / damage / 'metadata'
    broken.write_bytes(broken.read_bytes()[:-9])
  wanted = rf'{tmp_path}/checkpoints: none of 1 checkpoints is whole: copy it again'
  if damage == 'state' and not summed:  # shows itself when it is read
    wanted = r'checkpoints/12 cannot be read .*: copy it again'
  with pytest.raises(CheckpointError, match=wanted):
    open_backbone(tmp_path)
  if damage != 'state' or summed:
    assert f'{checkpoint} is damaged (' in caplog.text


@pytest.mark.slow
def test_an_encoder_of_another_version(finished, tmp_path):
  checkpoint = shutil.copytree(finished['fixed'][0] / 'checkpoints' / '12', tmp_path / 'checkpoints' / '12')
  origin = checkpoint / 'origin' / 'metadata'
  for old, new in (('"tiny"', '"r18"'), ('"r18"', '"unknown"')):
    origin.write_text(origin.read_text().replace(old, new))
    checksums.write_sums(checkpoint)
    with pytest.raises(CheckpointError, match='another network than this version makes'):
      open_backbone(tmp_path)


def test_opening_a_run_that_has_saved_nothing(tiny_config, tiny_table, tmp_path):
  with pytest.raises(CheckpointError, match='holds no checkpoint yet'):
    open_trained(tiny_config, tmp_path, tiny_table)
