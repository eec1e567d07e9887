"""Photographs in folders: who is trained on and who is kept apart, and runs to their end."""

import json

import numpy as np
import pytest

from gif_jax.codes import tokenizer
from gif_jax.codes.table import TableError
from gif_jax.codes.tokenizer import check_table
from gif_jax.core.errors import ConfigError
from gif_jax.data.sets.folder import split
from gif_jax.data.sets.open import open_faces
from tests.helpers.photographs import folder_config, names

SETS = ('train', 'held_out', 'validation', 'test')


def test_labels_are_numbers_in_the_order_of_names(photographs):
  faces = open_faces(folder_config(photographs, people=(3, 4)), None)
  assert faces.m == 13 and len(faces.people['train']) == 13
  assert names(faces, 'train') == sorted(names(faces, 'train'))
  assert [person['label'] for person in faces.people['train']] == list(range(13))
  np.testing.assert_array_equal(faces.train.labels(), np.repeat(np.arange(13), 3))
  np.testing.assert_array_equal(faces.held_out.labels(), np.arange(13))
  np.testing.assert_array_equal(faces.test.labels(), np.repeat(np.arange(4), 4))
  np.testing.assert_array_equal(faces.train.labels(np.array([5, 0])), [1, 0])
  assert faces.train.labels().dtype == np.int64
  images = faces.train[np.array([4, 1])]
  assert images.dtype == np.uint8 and images.shape == (2, 32, 32, 3)
  np.testing.assert_array_equal(images, faces.train[:5][[4, 1]])


def test_sets_are_disjoint_and_complete(photographs):
  faces = open_faces(folder_config(photographs, people=(3, 4)), None)
  groups = [set(names(faces, name)) for name in ('train', 'validation', 'test')]
  assert sum(map(len, groups)) == len(set.union(*groups)) == 20
  images = [image.tobytes() for name in SETS for image in getattr(faces, name)[:]]
  assert len(images) == len(set(images)) == 80


def test_faces_belong_to_the_person_of_their_label(photographs, tiny_faces):
  faces = open_faces(folder_config(photographs), None)
  known = names(faces, 'train')
  rendered = tiny_faces.train[:].mean(3)  # grey, since PGM is; the nearest, since JPEG is not exact
  for image, label in zip(faces.train[:].mean(3), faces.train.labels()):
    nearest = np.square(rendered - image).mean((1, 2)).argmin()
    assert known[label] == f'p{tiny_faces.train.labels()[nearest]:02}'


def _split(people, **options):
  options = {'seed': 0, 'test': 5, 'validation': 5, 'images': 3, 'held_out': 2} | options
  return split({name: [f'{name}/{i}' for i in range(n)] for name, n in people.items()}, **options)


def test_a_new_person_moves_only_those_next_to_the_cut():
  people = dict.fromkeys([f'n{i}' for i in range(40)], 5)
  before = _split(people)
  for name in ('a', 'm', 'z', 'q'):
    after = _split(people | {name: 5})
    assert len(before.test.keys() - after.test.keys()) <= 1
    assert len(before.train.keys() - after.train.keys()) == 0
    assert len((before.validation.keys() | before.test.keys()) - (after.validation.keys() | after.test.keys())) <= 1
    for kept in before.train.keys() & after.train.keys():
      assert before.train[kept] == after.train[kept] and before.held_out[kept] == after.held_out[kept]


def test_a_split_is_a_function_of_seed_and_names():
  people = dict.fromkeys([f'n{i}' for i in range(40)], 5)
  assert _split(people) == _split(people)
  assert _split(people).test.keys() != _split(people, seed=1).test.keys()
  assert sorted(_split(people).test) == ['n14', 'n26', 'n30', 'n35', 'n37']  # on every machine and Python
  for seed in range(8):  # composed and decomposed, as two systems spell one name
    first, second = (_split(people | {name: 5}, test=20, seed=seed) for name in ('J\u00fcrgen', 'Ju\u0308rgen'))
    assert ('J\u00fcrgen' in first.test) == ('Ju\u0308rgen' in second.test)


def test_names_need_not_be_unicode():
  assert 'p\udcff' in _split({'p\udcff': 3, 'q': 3}, test=0, validation=0).train


def test_people_with_one_image_are_trained_on_and_never_evaluated_on():
  people = dict.fromkeys([f'n{i}' for i in range(8)], 1) | dict.fromkeys([f'o{i}' for i in range(10)], 2)
  found = _split(people)
  assert len(found.train) == 8 and all(name.startswith('n') for name in found.train)
  assert all(len(files) == 1 for files in found.train.values()) and not any(found.held_out.values())


def test_one_image_of_everybody_is_left_to_train_on():
  found = _split({'a': 1, 'b': 2, 'c': 3, 'd': 9}, test=0, validation=0)
  assert {name: (len(found.train[name]), len(found.held_out[name])) for name in 'abcd'} == {
    'a': (1, 0),
    'b': (1, 1),
    'c': (1, 2),
    'd': (7, 2),
  }
  assert all(not set(found.train[name]) & set(found.held_out[name]) for name in 'abcd')


def test_no_more_images_than_asked_for_of_people_evaluated_on():
  found = _split(dict.fromkeys('abcdefghijklmn', 7))
  assert {len(files) for files in (found.test | found.validation).values()} == {3}


def test_label_spaces_name_the_people_trained_on(root, tmp_path):
  def space(**data):
    return open_faces(folder_config(root, people=(0, 2), **data), None).label_space

  first = space()
  assert 'folder' in first and space(held_out=0) == first and space(seed=3) != first
  (root / 'p00').rename(root / 'p00 renamed')
  assert space() != first


def test_a_table_made_for_other_people_is_refused(root, tmp_path):
  config = folder_config(root, people=(0, 0))
  faces = open_faces(config, None)
  table = tokenizer.make_table(config, faces, tmp_path / 'table')
  check_table(table, config, faces)
  (root / 'p00').rename(root / 'somebody else')
  with pytest.raises(TableError, match='made for "folder of 5 people'):
    check_table(table, config, open_faces(config, None))


@pytest.mark.parametrize('people', [2, 3, 5, 20])
@pytest.mark.parametrize('images', [1, 4])
def test_few_people_make_a_table(photographs, tmp_path, people, images):
  for person in sorted(photographs.iterdir())[:people]:
    (tmp_path / 'faces' / person.name).mkdir(parents=True)
    for path in sorted(person.iterdir())[:images]:
      (tmp_path / 'faces' / person.name / path.name).write_bytes(path.read_bytes())
  config = folder_config(tmp_path / 'faces', people=(0, 0))
  config.model.d = 64  # above the rank of the mean features
  table = tokenizer.make_table(config, open_faces(config, None), tmp_path / 'table')
  assert table.m == people and len(np.unique(np.asarray(table.codes), axis=0)) == people
  assert np.isfinite(np.asarray(table.vectors, np.float32)).all()


def test_copies_of_one_photograph_are_named_as_the_trouble(root, tmp_path):
  for person in root.iterdir():
    first, *others = sorted(person.iterdir())
    for path in others:
      path.unlink()
      (person / f'copy of {path.stem}{first.suffix}').write_bytes(first.read_bytes())
  config = folder_config(root, people=(0, 0))
  with pytest.raises(tokenizer.TokenizeError, match=r'same features.*tokenizer\.whiten=False'):
    tokenizer.make_table(config, open_faces(config, None), tmp_path / 'table')
  config.tokenizer.whiten = False
  assert tokenizer.make_table(config, open_faces(config, None), tmp_path / 'table').m == 5


def test_vectors_of_another_number_of_people(root, tmp_path):
  np.save(tmp_path / 'vectors.npy', np.random.default_rng(0).normal(size=(7, 24)).astype(np.float32))
  config = folder_config(root, people=(0, 0))
  config.tokenizer.vectors = str(tmp_path / 'vectors.npy')
  with pytest.raises(ConfigError, match=r'holds 7 vectors, but there are 5 people to train on'):
    tokenizer.make_table(config, open_faces(config, None), tmp_path / 'table')


@pytest.mark.slow
def test_a_run_to_its_end(command, photographs, tmp_path):
  arguments = ['--config=tests/helpers/tiny.py', '--config.data.source=folder', f'--config.data.path={photographs}']
  more = ['--config.eval.validation_identities=4', '--config.eval.every_steps=6', '--config.data.cache=True']
  more += ['--config.eval.identities=4', '--config.tokenizer.v=20']  # v: the program of other tests, compiled already
  done = command('train', *arguments, *more, f'--workdir={tmp_path}')
  assert done.returncode == 0, done.stdout
  people = json.loads((tmp_path / 'people.json').read_text())
  assert [len(people[name]) for name in ('train', 'validation', 'test')] == [12, 4, 4] and people['skipped'] == []
  summary = json.loads((tmp_path / 'summary.json').read_text())
  assert 0 <= summary['decode_top1'] <= 1 and 0 <= summary['verification_accuracy'] <= 1
  assert summary['verification_pairs'] == 40
  assert '80 images of 20 people' in done.stdout and 'people.json' in done.stdout


@pytest.mark.slow
def test_a_run_on_few_people_without_verification_and_never_on_others(command, root, tmp_path):
  for person in ('p03', 'p04'):
    for path in (root / person).iterdir():
      path.unlink()
  arguments = ['--config=tests/helpers/tiny.py', '--config.data.source=folder', f'--config.data.path={root}']
  more = ['--config.eval.validation_identities=0', '--config.eval.identities=0', '--config.tokenizer.v=20']
  workdir = tmp_path / 'run'  # nine images to train on, batches of sixteen
  done = command('train', *arguments, *more, f'--workdir={workdir}')
  assert done.returncode == 0, done.stdout
  summary = json.loads((workdir / 'summary.json').read_text())
  assert 'decode_top1' in summary and not any('verification' in name or 'tar' in name for name in summary)
  assert not (workdir / 'roc.png').exists() and not (workdir / 'eval.npz').exists()
  assert 'roc.png' not in done.stdout
  people = (workdir / 'people.json').read_text()
  (root / 'p00').rename(root / 'somebody else')
  done = command('train', *arguments, *more, f'--workdir={workdir}')
  assert done.returncode == 1 and 'TableError' in done.stdout and 'Traceback' not in done.stdout
  assert (workdir / 'people.json').read_text() == people


def test_a_workdir_among_the_photographs(command, root):
  arguments = ['--config=tests/helpers/tiny.py', '--config.data.source=folder', f'--config.data.path={root}']
  done = command('train', *arguments, f'--workdir={root / "run"}')
  assert done.returncode == 1 and 'lies inside config.data.path' in done.stdout and 'Traceback' not in done.stdout
  assert not (root / 'run').exists()


@pytest.mark.parametrize('module', ['train', 'tokenize'])
def test_a_data_error_is_one_line(command, tmp_path, module):
  where = f'--workdir={tmp_path / "run"}' if module == 'train' else f'--output={tmp_path / "table"}'
  (tmp_path / 'empty').mkdir()
  arguments = [
    '--config=tests/helpers/tiny.py',
    '--config.data.source=folder',
    f'--config.data.path={tmp_path / "empty"}',
  ]
  done = command(module, *arguments, where)
  assert done.returncode == 1 and 'one sub-folder per person' in done.stdout
  assert done.stdout.splitlines()[-1].startswith('DataError: ') and 'Traceback' not in done.stdout
