"""People added to a table, as a user does it: the rows of before, a network that goes on, and what can go wrong."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from gif_jax.codes import tokenizer
from gif_jax.codes.table import CodeTable, TableError
from gif_jax.codes.tokenizer import check_table
from gif_jax.core.errors import ConfigError, DataError
from gif_jax.core.storage.arrays import TRAILER
from gif_jax.data.sets.open import everyone, open_faces
from gif_jax.data.sets.synthetic import joined_space
from gif_jax.evaluation.registry import open_targets
from gif_jax.identification.beam_search import build_index, decode
from gif_jax.models.checkpoint.reader import CheckpointError
from gif_jax.models.encoders import pixels
from gif_jax.models.extraction.identity_moments import identity_moments
from gif_jax.training.program import open_trained
from tests.helpers.photographs import folder_config, names, write_people
from tests.helpers.places import GOLDEN
from tests.helpers.record_files import six_people

RUN = (
  'train',
  '--config=tests/helpers/tiny.py',
  '--config.tokenizer.slack=0.25',
  '--config.eval.identities=0',
  '--config.eval.validation_identities=0',
  '--config.data.held_out=0',
)
JOINT = '--config.joint.enabled=True'


def _newcomers(config, k=3, first=20, **data):
  config = everyone(config)
  config.data.identities, config.data.first_identity = k, first
  config.data.update(data)
  return config, open_faces(config, None)


@pytest.fixture(scope='module')
def roomy(tiny_config, tiny_faces, tmp_path_factory):
  """A table of the tiny run's 20 people with 5 free codes."""
  config = tiny_config.copy_and_resolve_references()
  config.tokenizer.slack = 0.25
  return tokenizer.make_table(config, tiny_faces, tmp_path_factory.mktemp('roomy') / 'table')


@pytest.fixture(scope='module')
def extended(tiny_config, roomy, tmp_path_factory):
  """Its people and 3 more."""
  return tokenizer.extend_table(*_newcomers(tiny_config), roomy, tmp_path_factory.mktemp('extended') / 'table')


def _rows(path, name, m):
  """The bytes of the first m rows of an array of a table."""
  return np.load(path / f'{name}.npy')[:m].tobytes()


def _check_extended(table, old, k):
  table.verify()
  assert (table.m, table.l, table.v, table.d) == (old.m + k, old.l, old.v, old.d)
  assert table.extends == [*old.extends, old.fingerprint] and table.fingerprint not in table.extends
  for name in ('codes', 'vectors'):
    assert _rows(table.path, name, old.m) == _rows(old.path, name, old.m)
  for key in ('encoder', 'seed', 'settings', 'explained', 'homogenisation'):
    assert table.meta[key] == old.meta[key]


def test_the_old_rows_and_what_they_were_made_with_stay(extended, roomy):
  assert roomy.extends == []
  _check_extended(extended, roomy, 3)
  np.testing.assert_array_equal(extended.transform.components, roomy.transform.components)
  assert extended.meta['label_space'] == 'synthetic faces, seed 0, 23 identities'


def test_newcomers_go_through_the_transform_of_the_table(extended, tiny_config, roomy):
  _, faces = _newcomers(tiny_config)
  labels = faces.train.labels()
  means = identity_moments(pixels, faces.train, labels, 3, 16, within=False, progress='').means
  h = roomy.transform.apply(means)
  h /= np.linalg.norm(h, axis=1, keepdims=True)
  np.testing.assert_allclose(extended.vectors[20:], h, atol=1e-3)


def test_one_at_a_time_and_again_and_again(tiny_config, roomy, tmp_path):
  table = roomy
  for i in range(3):
    old, table = table, tokenizer.extend_table(*_newcomers(tiny_config, 1, 20 + i), table, tmp_path / f'table{i}')
    _check_extended(table, old, 1)
  assert len(table.extends) == 3 and table.meta['label_space'] == 'synthetic faces, seed 0, 23 identities'


def test_vectors_from_a_file(tiny_config, roomy, tmp_path):
  np.save(tmp_path / 'new.npy', np.random.default_rng(0).standard_normal((2, 659)).astype(np.float32))
  config = tiny_config.copy_and_resolve_references()
  config.tokenizer.vectors = str(tmp_path / 'new.npy')
  table = tokenizer.extend_table(config, None, roomy, tmp_path / 'table')
  _check_extended(table, roomy, 2)
  assert table.meta['label_space'] == 'synthetic faces, seed 0, 20 identities + people unknown'
  np.save(tmp_path / 'new.npy', np.ones((2, 24)))
  with pytest.raises(tokenizer.TokenizeError, match=r'size 24 .*size 659.*encoder'):
    tokenizer.extend_table(config, None, roomy, tmp_path / 'other')


def test_a_table_without_a_transform_takes_vectors_of_its_size(tmp_path, tiny_config):
  eye = np.eye(8, dtype=np.float32)
  codes = np.stack([np.arange(8) // 4, np.arange(8) % 4], 1)
  old = CodeTable.write(tmp_path / 'old', codes, eye, v=4, encoder='a.npy', seed=0, label_space='', settings={})
  np.save(tmp_path / 'new.npy', 5 * eye[:2] + eye[2:4])
  config = tiny_config.copy_and_resolve_references()
  config.tokenizer.vectors = str(tmp_path / 'new.npy')
  table = tokenizer.extend_table(config, None, old, tmp_path / 'new')
  _check_extended(table, old, 2)
  assert table.transform is None and table.meta['label_space'] == ''
  np.testing.assert_allclose(np.linalg.norm(table.rows(np.arange(10))[1], axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
  ('change', 'error', 'names'),
  [
    ({'first': 0, 'k': 20}, ConfigError, 'share people.*first_identity=20'),
    ({'first': 19}, ConfigError, 'share people.*first_identity=20'),
    ({'k': 40, 'images': 1}, tokenizer.TokenizeError, 'are free, 40 are wanted.*slack=2 '),
    ({'encoder': 'clip'}, tokenizer.TokenizeError, 'encoder "pixels".*"clip ViT .*tokenizer.vectors'),
  ],
)
def test_newcomers_that_a_table_cannot_take(tiny_config, roomy, tmp_path, change, error, names):
  encoder = change.pop('encoder', 'pixels')
  config, faces = _newcomers(tiny_config, **change)
  config.tokenizer.encoder, config.tokenizer.encoder_path = encoder, str(GOLDEN / encoder)
  with pytest.raises(error, match=names):
    tokenizer.extend_table(config, faces, roomy, tmp_path / 'table')
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ('space', 'more', 'both'),
  [
    ('', '', ''),
    (
      'synthetic faces, seed 3, 5 identities',
      'synthetic faces, seed 3, 2 identities from 5',
      'synthetic faces, seed 3, 7 identities',
    ),
    (
      'synthetic faces, seed 3, 5 identities from 9',
      'synthetic faces, seed 3, 2 identities from 14',
      'synthetic faces, seed 3, 7 identities from 9',
    ),
    ('synthetic faces, seed 3, 5 identities', 'synthetic faces, seed 3, 2 identities from 6', None),
    ('synthetic faces, seed 3, 5 identities', 'synthetic faces, seed 4, 2 identities', None),
    ('folder of 5 people, abc', 'folder of 2 people, def', None),
    ('', 'folder of 2 people, def', 'people unknown + folder of 2 people, def'),
  ],
)
def test_a_label_space_names_the_old_and_the_new(space, more, both):
  assert joined_space(space, more) == (f'{space} + {more}' if both is None else both)


def test_a_failing_extension_leaves_nothing(roomy, tmp_path):
  vectors = np.array(roomy.vectors[:1], np.float32)
  with pytest.raises(TableError, match='share a code'):
    roomy.extend(tmp_path / 'table', np.array(roomy.codes[:1]), vectors, '')
  with pytest.raises(TableError, match='not 1: normalise'):
    roomy.extend(tmp_path / 'table', np.array(roomy.codes[:1]), 2 * vectors, '')
  assert not list(tmp_path.iterdir())
  with pytest.raises(TableError, match='table exists: delete it'):
    roomy.extend(roomy.path, np.array(roomy.codes[:1]), vectors, '')


def test_a_damaged_table_is_not_extended(roomy, tmp_path):
  old = CodeTable.open(shutil.copytree(roomy.path, tmp_path / 'old'))
  contents = bytearray((old.path / 'vectors.npy').read_bytes())
  contents[-1 - TRAILER] ^= 1
  (old.path / 'vectors.npy').write_bytes(contents)
  with pytest.raises(TableError, match=r'vectors(.npy)? does not match its checksum'):
    old.extend(tmp_path / 'new', np.array([[4, 4]], np.uint8), np.array(old.vectors[:1]), '')
  assert [path.name for path in tmp_path.iterdir()] == ['old']


def test_training_wants_everybody_that_an_extended_table_holds(extended, tiny_config, tiny_faces):
  with pytest.raises(TableError, match=r'm=23 identities, the data 20. Give the people .* then the newcomers'):
    check_table(extended, tiny_config, tiny_faces)
  config, faces = _newcomers(tiny_config, 23, 0)
  check_table(extended, config, faces)
  config, faces = _newcomers(tiny_config, 23, 1)
  with pytest.raises(TableError, match='the data is "synthetic faces, seed 0, 23 identities from 1"'):
    check_table(extended, config, faces)


def test_a_newcomer_is_named_by_its_code(extended):
  log_probs = jnp.log(0.01 + 0.9 * (extended.codes[:, :, None] == np.arange(extended.v)))
  identity, _ = decode(build_index(extended.codes, extended.v), log_probs, beam=5, k=1)
  np.testing.assert_array_equal(identity[:, 0], np.arange(23))


@pytest.mark.slow
def test_a_run_goes_on_with_the_extended_table(command, tiny_config, tmp_path):
  """The heads are as large as before, so the same checkpoints serve, for training on and for use."""
  workdir = tmp_path / 'run'
  done = command(*RUN, f'--workdir={workdir}', '--config.train.steps=3')
  assert done.returncode == 0, done.stdout
  made = command(
    'tokenize',
    '--config=tests/helpers/tiny.py',
    f'--extend={workdir / "table"}',
    f'--output={tmp_path / "table"}',
    '--config.data.identities=3',
    '--config.data.first_identity=20',
  )
  assert made.returncode == 0 and 'm=23' in made.stdout, made.stdout
  old, table = CodeTable.open(workdir / 'table'), CodeTable.open(tmp_path / 'table')
  _check_extended(table, old, 3)

  before, opened = (open_trained(tiny_config, workdir, each) for each in (old, table))
  np.testing.assert_array_equal(opened.codes, table.codes)
  images = open_faces(tiny_config, None).test[:8]
  for name in ('embedding', 'log_probs'):
    np.testing.assert_array_equal(opened.predict(images)[name], before.predict(images)[name])

  flags = ('--config.train.steps=6', f'--config.tokenizer.table={table.path}')
  done = command(*RUN, f'--workdir={workdir}', *flags, '--config.data.identities=23')
  assert done.returncode == 1 and 'other settings: config.data.identities=23 (was 20). Give' in done.stdout, done.stdout
  done = command(*RUN, f'--workdir={workdir}', *flags, '--config.data.identities=23', '--accept_changes')
  assert done.returncode == 0 and 'continuing from step 3' in done.stdout, done.stdout
  with pytest.raises(CheckpointError, match='table='):  # it has seen the newcomers
    open_trained(tiny_config, workdir, old)


@pytest.mark.slow
def test_a_joint_run_starts_anew_from_its_trained_table(command, tiny_config, tmp_path):
  """Checkpoints hold a row per person, so they stay with their table. The network encodes newcomers."""
  workdir = tmp_path / 'run'
  done = command(*RUN, f'--workdir={workdir}', '--config.train.steps=2', JOINT)
  assert done.returncode == 0, done.stdout
  config = tiny_config.copy_and_resolve_references()
  config.joint.enabled = True
  more = tokenizer.extend_table(*_newcomers(config), CodeTable.open(workdir / 'table'), tmp_path / 'more')
  with pytest.raises(CheckpointError, match=r'that table.s people alone.*trained_table.*another --workdir'):
    open_trained(config, workdir, more)

  trained = CodeTable.open(workdir / 'trained_table')
  with pytest.raises(tokenizer.TokenizeError, match=r'"backbone tiny, .*the config has "pixels"'):
    tokenizer.extend_table(*_newcomers(config), trained, tmp_path / 'no')
  config, faces = _newcomers(config)
  config.tokenizer.encoder, config.tokenizer.encoder_path = 'backbone', str(workdir)
  table = tokenizer.extend_table(config, faces, trained, tmp_path / 'table')
  _check_extended(table, trained, 3)
  check_table(table, config, _newcomers(config, 23, 0)[1])


@pytest.fixture
def newcomers(tiny_faces, tmp_path):
  """Photographs of two people whose names sort before, between and after others."""
  write_people(tmp_path / 'new', tiny_faces.train, 10)
  for person in range(8):
    shutil.rmtree(tmp_path / 'new' / f'p{person:02}')
  (tmp_path / 'new' / 'p08').rename(tmp_path / 'new' / 'a first')
  return tmp_path / 'new'


@pytest.mark.slow
def test_photographs_of_newcomers_come_after_all_others(root, newcomers, tmp_path):
  config = folder_config(root, people=(0, 2))
  config.tokenizer.slack = 1.0
  faces = open_faces(config, None)
  later = everyone(folder_config(newcomers))
  old = tokenizer.make_table(config, faces, tmp_path / 'old')
  table = tokenizer.extend_table(later, open_faces(later, None), old, tmp_path / 'table')
  _check_extended(table, old, 2)

  config.data.newcomers = str(newcomers)
  both = open_faces(config, None)
  check_table(table, config, both)
  assert names(both, 'train') == [*names(faces, 'train'), 'a first', 'p09']
  assert [person['label'] for person in both.people['train']] == [0, 1, 2, 3, 4]
  np.testing.assert_array_equal(both.train.labels(), np.repeat(np.arange(5), 3))
  np.testing.assert_array_equal(both.held_out.labels(), np.arange(5))
  np.testing.assert_array_equal(both.train[:9], faces.train[:])
  np.testing.assert_array_equal(both.train[np.array([14, 0, 9])][1:], both.train[:][[0, 9]])
  np.testing.assert_array_equal(both.test[:], faces.test[:])

  shutil.copytree(newcomers, root, dirs_exist_ok=True)  # sorted among the others, they would change labels
  for alone in (folder_config(root, people=(0, 2)), folder_config(root, people=(0, 0), newcomers='')):
    with pytest.raises(TableError, match='then the newcomers'):
      check_table(table, alone, open_faces(alone, None))
  with pytest.raises(DataError, match=r'is in data.path and in data.newcomers'):
    open_faces(config, None)


def _folder_of(photographs, names, folder):
  for name in names:
    shutil.copytree(photographs / name, folder / name)
  return str(folder)


def test_somebody_kept_apart_may_become_a_newcomer(photographs, tmp_path, caplog):
  caplog.set_level('INFO')
  config = folder_config(photographs, people=(4, 5))
  before = open_faces(config, None)
  kept = {role: names(before, role) for role in ('validation', 'test')}
  new = [kept['test'][1], kept['validation'][0], kept['test'][4]]
  config.data.newcomers = _folder_of(photographs, new, tmp_path / 'new')
  after = open_faces(config, None)
  assert names(after, 'train') == after.names() == [*names(before, 'train'), *sorted(new)]
  assert after.m == 14 and len(after.train) == 14 * 3 and len(after.held_out) == 14
  for role, left in (('validation', [1, 2, 3]), ('test', [0, 2, 3])):
    assert names(after, role) == [kept[role][i] for i in left]
    images, faces = getattr(before, role), getattr(after, role)
    rows = np.flatnonzero(np.isin(images.labels(), left))
    np.testing.assert_array_equal(faces[:], images[rows])
    np.testing.assert_array_equal(faces.labels(), np.repeat(np.arange(3), 4))
    index = np.array([5, 0])
    np.testing.assert_array_equal(faces[index], images[rows[index]])
    np.testing.assert_array_equal(faces.labels(index), [1, 0])
  (part, more) = after.named
  assert [person.name for person in part.people(part.kept)] == names(after, 'validation') + names(after, 'test')
  assert not len(more.kept)
  said = [record.getMessage() for record in caplog.records if 'kept apart are newcomers' in record.getMessage()]
  assert said == [
    '3 people who were kept apart are newcomers: trained on, and no longer evaluated on: '
    f'{kept["validation"][0]}, {kept["test"][1]}, {kept["test"][4]}'
  ]


def test_newcomers_who_are_trained_on_already_or_all_that_are_evaluated_on(photographs, tmp_path):
  config = folder_config(photographs, people=(2, 3))
  faces = open_faces(config, None)
  train, validation, test = (names(faces, role) for role in ('train', 'validation', 'test'))
  for number, (new, wanted) in enumerate(
    [
      ([train[3], test[0]], rf'{train[3]} is in data\.path and in data\.newcomers \(1 such'),
      (test, r'0 of the 3 people of config\.eval\.identities are no newcomers, .* out of config\.data\.newcomers'),
      (test[:2], r'1 of the 3 people of config\.eval\.identities are no newcomers'),
      (validation[:1], r'1 of the 2 people of config\.eval\.validation_identities are no newcomers'),
    ]
  ):
    config.data.newcomers = _folder_of(photographs, new, tmp_path / str(number))
    with pytest.raises(DataError, match=wanted):
      open_faces(config, None)
  first = _folder_of(photographs, test[:1], tmp_path / 'first')
  config.eval.pairs = 20
  config.data.newcomers = f'{first},{first}'  # by then trained on
  with pytest.raises(DataError, match=rf'{test[0]} is in data\.path and in data\.newcomers'):
    open_faces(config, None)


def test_benchmarks_are_measured_with_newcomers_too(root, newcomers, tiny_faces, tmp_path):
  six_people(tmp_path / 'six.bin', tiny_faces.test)
  config = folder_config(root, people=(0, 2), newcomers=str(newcomers))
  config.eval.targets = str(tmp_path / 'six.bin')
  assert open_targets(config).keys() == {'six'} and len(open_faces(config, None).named) == 2


@pytest.mark.slow
def test_a_run_that_takes_in_somebody_it_kept_apart(command, photographs, tmp_path):
  """From the run that keeps people apart to the one that names them: tokenize --extend, training, identification."""
  workdir, config = tmp_path / 'run', folder_config(photographs, people=(0, 4))
  flags = [
    '--config=tests/helpers/tiny.py',
    '--config.data.source=folder',
    f'--config.data.path={photographs}',
    '--config.eval.validation_identities=0',
    '--config.eval.identities=4',
    '--config.tokenizer.slack=0.2',
    '--config.train.steps=1',
    f'--workdir={workdir}',
    '--config.tokenizer.v=20',
  ]
  done = command('train', *flags)
  assert done.returncode == 0, done.stdout
  kept = [line.split('\t')[0] for line in (workdir / 'kept_people.txt').read_text().splitlines()]
  new = _folder_of(photographs, kept[1:3], tmp_path / 'new')
  made = command(
    'tokenize',
    '--config=tests/helpers/tiny.py',
    '--config.data.source=folder',
    f'--config.data.path={new}',
    f'--extend={workdir / "table"}',
    f'--output={tmp_path / "table"}',
  )
  assert made.returncode == 0 and 'm=18' in made.stdout, made.stdout
  more = [*flags, f'--config.tokenizer.table={tmp_path / "table"}', f'--config.data.newcomers={new}']
  done = command('train', *more, '--config.train.steps=2', '--accept_changes')
  assert done.returncode == 0 and 'continuing from step 1' in done.stdout, done.stdout
  assert f'2 people who were kept apart are newcomers: trained on, and no longer evaluated on: {kept[1]}' in done.stdout
  people = json.loads((workdir / 'people.json').read_text())
  assert [person['name'] for person in people['train'][16:]] == sorted(kept[1:3])
  assert [person['name'] for person in people['test']] == [kept[0], kept[3]]
  lines = {name: (workdir / name).read_text().splitlines() for name in ('trained_people.txt', 'kept_people.txt')}
  assert [line.split('\t')[0] for line in lines['kept_people.txt']] == [kept[0], kept[3]]
  assert [line.split('\t')[0] for line in lines['trained_people.txt']][16:] == sorted(kept[1:3])
  assert len(np.load(workdir / 'eval.npz')['identity']) == 2 * 4
  assert 0 <= json.loads((workdir / 'summary.json').read_text())['decode_top1'] <= 1

  # The rows of the table are those of the pictures that training gives these labels, and their codes name them.
  table, config.data.newcomers = CodeTable.open(tmp_path / 'table'), new
  after = open_faces(config, None)
  means = identity_moments(pixels, after.train, after.train.labels(), 18, 16, within=False, progress='').means
  h = table.transform.apply(means[16:])
  np.testing.assert_allclose(table.vectors[16:], h / np.linalg.norm(h, axis=1, keepdims=True), atol=1e-3)
  log_probs = jnp.log(0.01 + 0.9 * (table.codes[16:, :, None] == np.arange(table.v)))
  identity, _ = decode(build_index(table.codes, table.v), log_probs, beam=5, k=1)
  np.testing.assert_array_equal(identity[:, 0], [16, 17])


@pytest.mark.parametrize(
  ('source', 'newcomers', 'names'),
  [('synthetic', 'configs', 'raise data.identities'), ('folder', 'nowhere', 'data.newcomers=nowhere does not exist')],
)
def test_newcomers_that_are_not_there(root, source, newcomers, names):
  path = str(root) if source == 'folder' else ''
  config = folder_config(root, people=(0, 0), newcomers=newcomers, source=source, path=path)
  with pytest.raises(ConfigError, match=names):
    open_faces(config, None)


def test_one_person_makes_no_table(tiny_config, tmp_path):
  with pytest.raises(tokenizer.TokenizeError, match=r'one person.*--extend'):
    tokenizer.make_table(*_newcomers(tiny_config, 1), tmp_path / 'table')
