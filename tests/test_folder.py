"""Photographs in folders: who is trained on, what is skipped, and a cure for everything that is wrong."""

import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from gif_jax import tokenize
from gif_jax.codes.table import TableError
from gif_jax.config import ConfigError
from gif_jax.data import listing, pipeline, survey
from gif_jax.data.folder import split
from gif_jax.data.images import DataError
from gif_jax.data.sources import open_faces
from gif_jax.training.loop import check_table
from tests import tiny
from tests.conftest import ROOT

SETS = ('train', 'held_out', 'validation', 'test')
SUFFIXES = ('png', 'jpg', 'pgm')


def write_people(root, faces, people, images=4):
  """Folders p00, p01 .. of as many rendered people, as PNG, JPEG and PGM."""
  size = faces.images
  for person in range(people):
    (root / f'p{person:02}').mkdir(parents=True)
    for i, image in enumerate(faces[person * size : person * size + images]):
      picture = Image.fromarray(image)
      suffix = SUFFIXES[(person + i) % 3]
      (picture.convert('L') if suffix == 'pgm' else picture).save(root / f'p{person:02}' / f'{i}.{suffix}')


def folder_config(root, people=(0, 4), **data):
  """The tiny run on a folder; people: for validation and for the figures."""
  config = tiny.get_config()
  config.data.source, config.data.path = 'folder', str(root)
  config.data.update(data)
  config.eval.validation_identities, config.eval.identities = people
  return config


@pytest.fixture(scope='session')
def photographs(tiny_faces, tmp_path_factory):
  """Twenty people with four photographs each. Tests that change a folder make their own."""
  root = tmp_path_factory.mktemp('photographs')
  write_people(root, tiny_faces.train, 20)
  return root


@pytest.fixture
def root(tiny_faces, tmp_path):
  """Five people with four photographs each, for tests to damage."""
  write_people(tmp_path / 'faces', tiny_faces.train, 5)
  return tmp_path / 'faces'


def _names(record, name):
  return [person['name'] for person in record[name]]


def _skipped(faces):
  return {skip['name']: skip['reason'] for skip in faces.people['skipped']}


# ---- Who is in which set


def test_labels_are_numbers_in_the_order_of_names(photographs):
  faces = open_faces(folder_config(photographs, people=(3, 4)), None)
  assert faces.m == 13 and len(faces.people['train']) == 13
  assert _names(faces.people, 'train') == sorted(_names(faces.people, 'train'))
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
  groups = [set(_names(faces.people, name)) for name in ('train', 'validation', 'test')]
  assert sum(map(len, groups)) == len(set.union(*groups)) == 20
  images = [image.tobytes() for name in SETS for image in getattr(faces, name)[:]]
  assert len(images) == len(set(images)) == 80


def test_faces_belong_to_the_person_of_their_label(photographs, tiny_faces):
  faces = open_faces(folder_config(photographs), None)
  names = _names(faces.people, 'train')
  rendered = tiny_faces.train[:].mean(3)  # grey, since PGM is; the nearest, since JPEG is not exact
  for image, label in zip(faces.train[:].mean(3), faces.train.labels()):
    nearest = np.square(rendered - image).mean((1, 2)).argmin()
    assert names[label] == f'p{tiny_faces.train.labels()[nearest]:02}'


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


def test_people_with_one_image_are_trained_on_and_never_evaluated_on():
  people = dict.fromkeys([f'n{i}' for i in range(8)], 1) | dict.fromkeys([f'o{i}' for i in range(10)], 2)
  found = _split(people)
  assert len(found.train) == 8 and all(name.startswith('n') for name in found.train)
  assert all(len(files) == 1 for files in found.train.values()) and not any(found.held_out.values())


def test_one_image_of_everybody_is_left_to_train_on():
  found = _split({'a': 1, 'b': 2, 'c': 3, 'd': 9}, test=0, validation=0)
  assert {name: (len(found.train[name]), len(found.held_out[name])) for name in 'abcd'} == {
    'a': (1, 0), 'b': (1, 1), 'c': (1, 2), 'd': (7, 2),
  }  # fmt: skip
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
  table = tokenize.make_table(config, faces, tmp_path / 'table')
  check_table(table, config, faces)
  (root / 'p00').rename(root / 'somebody else')
  with pytest.raises(TableError, match='made for "folder of 5 people'):
    check_table(table, config, open_faces(config, None))


# ---- Decoding once


def test_a_cache_holds_what_decoding_gives_and_is_used_again(photographs, tmp_path, monkeypatch):
  plain = open_faces(folder_config(photographs), None)
  config = folder_config(photographs, cache=True)
  cached = open_faces(config, tmp_path / 'cache')
  for name in SETS:
    np.testing.assert_array_equal(getattr(cached, name)[:], getattr(plain, name)[:])
    np.testing.assert_array_equal(getattr(cached, name).labels(), getattr(plain, name).labels())
  assert sorted(path.suffix for path in (tmp_path / 'cache').iterdir()) == ['.json', '.npy']
  monkeypatch.setattr(survey, 'read_image', None)
  again = open_faces(config.copy_and_resolve_references(), tmp_path / 'cache')
  np.testing.assert_array_equal(again.train[:], plain.train[:])
  assert again.people == cached.people
  config.data.seed = 1  # another split of the same pixels
  open_faces(config, tmp_path / 'cache')


@pytest.mark.parametrize('change', ['touch', 'rename', 'grow', 'size'])
def test_changed_files_are_decoded_again(root, tmp_path, change):
  config = folder_config(root, people=(0, 0), cache=True)
  open_faces(config, tmp_path / 'cache')
  path = root / 'p00' / '0.png'
  if change == 'touch':
    os.utime(path, (1, 1))
  elif change == 'rename':
    path.rename(root / 'p00' / '9.png')
  elif change == 'grow':
    path.write_bytes(path.read_bytes() + b'\0')
  else:
    config.data.size = 40
  open_faces(config, tmp_path / 'cache')
  assert len(list((tmp_path / 'cache').iterdir())) == 4


def test_nothing_is_stored_without_a_cache(photographs, tmp_path):
  open_faces(folder_config(photographs), tmp_path)
  open_faces(folder_config(photographs, cache=True), None)
  assert not list(tmp_path.iterdir())


def test_what_is_unreadable_is_remembered_with_the_pixels(root, tmp_path):
  (root / 'p01' / '0.jpg').write_bytes(b'')
  config = folder_config(root, people=(0, 0), cache=True)
  first, second = (open_faces(config, tmp_path / 'cache') for _ in range(2))
  assert first.people == second.people and 'p01/0.jpg' in _skipped(second)
  config.data.bad_images = 'error'
  with pytest.raises(DataError, match=r'p01/0\.jpg'):
    open_faces(config, tmp_path / 'cache')


def test_a_file_that_may_not_be_opened_is_tried_again(root, tmp_path, monkeypatch):
  path = root / 'p01' / '0.jpg'
  content = path.read_bytes()
  path.write_bytes(b'x' * len(content))
  os.utime(path, (1, 1))
  config = folder_config(root, people=(0, 0), cache=True)
  with monkeypatch.context() as patch:
    patch.setattr(os, 'access', lambda name, mode: name != path)
    open_faces(config, tmp_path / 'cache')
  path.write_bytes(content)
  os.utime(path, (1, 1))
  assert not open_faces(config, tmp_path / 'cache').people['skipped']


def test_many_images_are_decoded_by_processes_of_a_script(root, tmp_path):
  script = tmp_path / 'script.py'
  script.write_text(f"""
from pathlib import Path

from gif_jax.data import listing, survey

if __name__ == '__main__':
  survey._FEW = 0
  root = Path({str(root)!r})
  photos = [photo for own in listing.list_people(root).people.values() for photo in own]
  print(survey.survey(root, photos, 32, Path({str(tmp_path)!r})).pixels)
""")
  environment = os.environ | {'PYTHONPATH': str(ROOT)}
  done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  here = open_faces(folder_config(root, people=(0, 0), cache=True, held_out=0), tmp_path / 'here')
  np.testing.assert_array_equal(np.load(done.stdout.strip()), here.train[:])


def _batches(faces, table, **options):
  iterator = pipeline.batches(faces.train, table, batch_size=20, seed=3, **options)
  try:
    return [next(iterator) for _ in range(3)]
  finally:
    iterator.close()


@pytest.mark.parametrize('cache', [False, True])
def test_workers_and_cache_change_no_batch(root, tmp_path, cache):
  plain = open_faces(folder_config(root, people=(0, 0)), None)  # 15 images to train on, batches of 20
  table = tokenize.make_table(folder_config(root), plain, tmp_path / 'table')
  faces = open_faces(folder_config(root, people=(0, 0), cache=cache), tmp_path / 'cache')
  for a, b in zip(_batches(plain, table), _batches(faces, table, workers=2)):
    assert all(np.array_equal(a[name], b[name]) for name in a.keys() | b.keys())


def test_an_image_that_vanishes_during_a_run(root):
  faces = open_faces(folder_config(root, people=(0, 0)), None)
  (root / 'p00' / '0.png').unlink()
  (root / 'p00' / '1.jpg').unlink()
  with pytest.raises(DataError, match=r'p00/[01]\.\w+ could be read when the run began .* put it back'):
    faces.train[:]


def test_the_log_says_what_was_found(root, caplog):
  with caplog.at_level(logging.INFO):
    open_faces(folder_config(root, people=(0, 2)), None)
  assert '20 images of 5 people, 32x32 14 colour 8-bit, 6 grey 8-bit; scaled to 32x32' in caplog.text
  assert '3 people to train on (9 images, 3 held out), 0 for validation, 2 for the figures' in caplog.text
  Image.new('L', (92, 112)).save(root / 'p00' / 'portrait.tif')
  with caplog.at_level(logging.INFO):
    open_faces(folder_config(root, people=(0, 2)), None)
  assert '32x32 to 92x112' in caplog.text and 'padded to square' in caplog.text


# ---- Bad input


def test_bad_images_are_skipped_named_and_counted(root, caplog):
  (root / 'p01' / '0.jpg').write_bytes(b'')
  cut = root / 'p02' / '2.jpg'
  cut.write_bytes(cut.read_bytes()[:-100])
  (root / 'p03' / 'not.png').write_text('hello')
  (root / 'nobody').mkdir()
  (root / 'unreadable').mkdir()
  (root / 'unreadable' / '1.heic').write_bytes(b'ftypheic')
  for name in ('Thumbs.db', '.DS_Store', 'notes.txt', '._0.png'):
    (root / 'p00' / name).write_bytes(b'x')
  faces = open_faces(folder_config(root, people=(0, 0)), None)
  assert _skipped(faces) == {
    'nobody': 'no images in it',
    'p01/0.jpg': 'unreadable: cannot identify image file',
    'p02/2.jpg': _skipped(faces)['p02/2.jpg'],
    'p03/not.png': 'unreadable: cannot identify image file',
    'unreadable': 'no readable images in it',
    'unreadable/1.heic': 'unreadable: cannot identify image file',
  }
  assert 'truncated' in _skipped(faces)['p02/2.jpg']
  assert faces.people['not_images'] == 4
  assert faces.m == 5 and len(faces.train) + len(faces.held_out) == 18
  warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
  assert len(warnings) == 1 and '6 files or folders are skipped: nobody (no images in it); p01/0.jpg' in warnings[0]
  assert 'and 1 more, all in people.json' in warnings[0] and 'DS_Store' not in warnings[0]


@pytest.mark.parametrize('bad', ['p01/0.png', 'nobody'])
def test_bad_images_can_be_fatal(root, bad):
  if bad == 'nobody':
    (root / bad).mkdir()
  else:
    (root / bad).write_bytes(b'')
  with pytest.raises(DataError, match=rf'{bad}: .*bad_images=skip'):
    open_faces(folder_config(root, people=(0, 0), bad_images='error'), None)


@pytest.mark.parametrize('other', ['P01', 'p01\u0301', 'stra\u00dfe'])
def test_names_that_differ_only_in_case_or_accents(root, other):
  first = {'P01': 'p01', 'p01\u0301': 'P0\u0031\u0301', 'stra\u00dfe': 'STRASSE'}[other]
  for name in (first, other):
    (root / name).mkdir(exist_ok=True)
  with pytest.raises(DataError) as error:
    open_faces(folder_config(root), None)
  assert f'{root / first} ' in str(error.value) and f'{root / other} ' in str(error.value)
  assert 'one folder' in str(error.value)


def test_links_in_circles_are_skipped_and_other_links_are_followed(root, tmp_path):
  outside = tmp_path / 'outside'
  (outside / 'inner').mkdir(parents=True)
  Image.new('L', (8, 8), 50).save(outside / 'inner' / 'a.png')
  Image.new('L', (8, 8), 60).save(outside / 'b.png')
  Image.new('L', (8, 8), 70).save(tmp_path / 'single.png')
  links = {
    'linked': outside,  # a person elsewhere
    'p00/up': root / 'p00', 'p00/root': root, 'p00/above': tmp_path, 'p00/self.png': root / 'p00' / 'self.png',
    'p00/gone.png': tmp_path / 'nowhere.png', 'p00/single.png': tmp_path / 'single.png',
    'p00/twice.png': root / 'p00' / '0.png', 'p01/p02': root / 'p02', 'twin': root / 'p03', 'everything': tmp_path,
    'gone': tmp_path / 'nowhere', 'linked/inner/back': outside,
  }  # fmt: skip
  for name, target in links.items():
    (root / name).symlink_to(target)
  faces = open_faces(folder_config(root, people=(0, 0)), None)
  circle = 'a link to a folder that contains it'
  assert _skipped(faces) == {
    'p00/up': 'the same as p00', 'p00/root': circle, 'p00/above': circle, 'everything': circle,
    'p00/self.png': 'a link that leads nowhere', 'p00/gone.png': 'a link that leads nowhere',
    'gone': 'a link that leads nowhere', 'p00/twice.png': 'the same as p00/0.png',
    'p01/p02': 'a link into the folder of p02', 'twin': 'the same as p03', 'linked/inner/back': 'the same as linked',
  }  # fmt: skip
  images = {person['name']: person['images'] + person['held_out'] for person in faces.people['train']}
  assert images == {'linked': 2, 'p00': 5, 'p01': 4, 'p02': 4, 'p03': 4, 'p04': 4}


def test_images_in_nested_folders_are_the_persons(root):
  deep = root / 'p00' / '2019' / 'summer'
  deep.mkdir(parents=True)
  Image.new('L', (8, 8)).save(deep / 'a.png')
  listed = listing.list_people(root)
  names = [photo.name for photo in listed.people['p00']]
  assert names == ['p00/0.png', 'p00/1.jpg', 'p00/2.pgm', 'p00/2019/summer/a.png', 'p00/3.png']


def test_images_without_sub_folders(tmp_path):
  with pytest.raises(DataError, match='nothing but no sub-folders; make one sub-folder per person'):
    open_faces(folder_config(tmp_path), None)
  for name in ('b.png', 'a.png'):
    Image.new('L', (8, 8)).save(tmp_path / name)
  with pytest.raises(DataError, match=r'2 images, the first a\.png, but no sub-folders; make one sub-folder'):
    open_faces(folder_config(tmp_path), None)


def test_sub_folders_without_images(tmp_path):
  (tmp_path / 'somebody').mkdir()
  with pytest.raises(DataError, match='no image in any of the 1 sub-folders; is config'):
    open_faces(folder_config(tmp_path), None)


def test_images_beside_sub_folders_are_skipped(root, caplog):
  Image.new('L', (8, 8)).save(root / 'group.png')
  (root / 'readme.txt').write_text('x')
  faces = open_faces(folder_config(root, people=(0, 0)), None)
  assert list(_skipped(faces)) == ['group.png'] and faces.people['not_images'] == 1
  assert "group.png (lies beside the people's folders" in caplog.text


def test_too_few_people_are_left(root):
  with pytest.raises(DataError, match=r'5 people, 5 of them .* 4 are wanted for config\.eval\.identities, 0 for'):
    open_faces(folder_config(root, people=(0, 4)), None)
  assert open_faces(folder_config(root, people=(0, 3)), None).m == 2


def test_too_few_images_for_verification_pairs(root):
  for path in root.glob('*/[23].*'):
    path.unlink()
  with pytest.raises(ConfigError, match=r'config\.eval\.identities=3 with 6 images .* raise config\.eval\.identities'):
    open_faces(folder_config(root, people=(0, 3)), None)


def test_a_folder_that_cannot_be_listed(root, monkeypatch):
  listed = os.scandir

  def scandir(path):
    if os.path.basename(path) == 'p03':
      raise PermissionError(13, 'Permission denied', str(path))
    return listed(path)

  monkeypatch.setattr(os, 'scandir', scandir)
  with pytest.raises(DataError, match=r'p03 cannot be listed \(Permission denied\); allow reading it'):
    open_faces(folder_config(root), None)


@pytest.mark.parametrize('path', ['', 'setup.cfg'])
def test_a_path_that_is_no_folder(path):
  with pytest.raises(ConfigError, match=rf"config.data.path='{path}' is no folder"):
    open_faces(folder_config(path), None)


@pytest.mark.skipif(sys.platform != 'linux', reason='other systems have no names that are not Unicode')
def test_names_need_not_be_unicode(root, tmp_path):
  os.rename(os.fsencode(root / 'p00'), os.fsencode(root) + b'/p\xff')
  faces = open_faces(folder_config(root, people=(0, 0), cache=True), tmp_path / 'cache')
  assert 'p\udcff' in _names(faces.people, 'train')
  assert len(json.dumps(faces.people)) > 0 and len(faces.train[:]) == 15


# ---- Tables of few people


@pytest.mark.parametrize('people', [2, 3, 5, 20])
@pytest.mark.parametrize('images', [1, 4])
def test_few_people_make_a_table(photographs, tmp_path, people, images):
  for person in sorted(photographs.iterdir())[:people]:
    (tmp_path / 'faces' / person.name).mkdir(parents=True)
    for path in sorted(person.iterdir())[:images]:
      (tmp_path / 'faces' / person.name / path.name).write_bytes(path.read_bytes())
  config = folder_config(tmp_path / 'faces', people=(0, 0))
  config.model.d = 64  # above the rank of the mean features
  table = tokenize.make_table(config, open_faces(config, None), tmp_path / 'table')
  assert table.m == people and len(np.unique(np.asarray(table.codes), axis=0)) == people
  assert np.isfinite(np.asarray(table.vectors, np.float32)).all()


def test_vectors_of_another_number_of_people(root, tmp_path):
  np.save(tmp_path / 'vectors.npy', np.random.default_rng(0).normal(size=(7, 24)).astype(np.float32))
  config = folder_config(root, people=(0, 0))
  config.tokenizer.vectors = str(tmp_path / 'vectors.npy')
  with pytest.raises(ConfigError, match=r'holds 7 vectors, but there are 5 people to train on'):
    tokenize.make_table(config, open_faces(config, None), tmp_path / 'table')


# ---- The commands


def test_a_run_to_its_end(command, photographs, tmp_path):
  arguments = ['--config=tests/tiny.py', '--config.data.source=folder', f'--config.data.path={photographs}']
  more = ['--config.eval.validation_identities=4', '--config.eval.every_steps=6', '--config.data.cache=True']
  more += ['--config.eval.identities=4', '--config.tokenizer.v=20']  # v: the program of other tests, compiled already
  done = command('main', *arguments, *more, f'--workdir={tmp_path}')
  assert done.returncode == 0, done.stdout
  people = json.loads((tmp_path / 'people.json').read_text())
  assert [len(people[name]) for name in ('train', 'validation', 'test')] == [12, 4, 4] and people['skipped'] == []
  summary = json.loads((tmp_path / 'summary.json').read_text())
  assert 0 <= summary['decode_top1'] <= 1 and 0 <= summary['verification_accuracy'] <= 1
  assert summary['verification_pairs'] == 40
  assert '80 images of 20 people' in done.stdout and 'people.json' in done.stdout


def test_a_run_on_few_people_without_verification(command, root, tmp_path):
  for person in ('p03', 'p04'):
    for path in (root / person).iterdir():
      path.unlink()
  arguments = ['--config=tests/tiny.py', '--config.data.source=folder', f'--config.data.path={root}']
  more = ['--config.eval.validation_identities=0', '--config.eval.identities=0', '--config.tokenizer.v=20']
  workdir = tmp_path / 'run'  # nine images to train on, batches of sixteen
  done = command('main', *arguments, *more, f'--workdir={workdir}')
  assert done.returncode == 0, done.stdout
  summary = json.loads((workdir / 'summary.json').read_text())
  assert 'decode_top1' in summary and not any('verification' in name or 'tar' in name for name in summary)
  assert not (workdir / 'roc.png').exists() and not (workdir / 'eval.npz').exists()
  assert 'roc.png' not in done.stdout


def test_a_workdir_among_the_photographs(command, root):
  arguments = ['--config=tests/tiny.py', '--config.data.source=folder', f'--config.data.path={root}']
  done = command('main', *arguments, f'--workdir={root / "run"}')
  assert done.returncode == 1 and 'lies inside config.data.path' in done.stdout and 'Traceback' not in done.stdout
  assert not (root / 'run').exists()


@pytest.mark.parametrize('module', ['main', 'tokenize'])
def test_a_data_error_is_one_line(command, tmp_path, module):
  where = f'--workdir={tmp_path / "run"}' if module == 'main' else f'--output={tmp_path / "table"}'
  (tmp_path / 'empty').mkdir()
  arguments = ['--config=tests/tiny.py', '--config.data.source=folder', f'--config.data.path={tmp_path / "empty"}']
  done = command(module, *arguments, where)
  assert done.returncode == 1 and 'one sub-folder per person' in done.stdout
  assert done.stdout.splitlines()[-1].startswith('DataError: ') and 'Traceback' not in done.stdout
