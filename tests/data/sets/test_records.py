"""Records: who is trained on, who is kept for evaluation, and runs on them."""

import hashlib
import json

import numpy as np
import pytest

from gif_jax.core.errors import ConfigError, DataError
from gif_jax.data.formats.recordio import write_insightface
from gif_jax.data.sets import records as roles_module
from gif_jax.data.sets.open import open_faces
from gif_jax.data.sets.records import Rest, first_images, roles
from gif_jax.training.run import run
from tests.helpers import tiny
from tests.helpers.pictures import encode
from tests.helpers.record_files import packed_faces, write_records


@pytest.fixture(scope='module')
def packed(tiny_faces, tmp_path_factory):
  return packed_faces(tmp_path_factory.mktemp('packed') / 'set', tiny_faces.train)


def _config(packed, test=3, validation=2, **data):
  config = tiny.get_config()
  config.data.source, config.data.path = 'records', str(packed.path)
  config.data.update(data)
  config.eval.identities, config.eval.validation_identities = test, validation
  return config


def _digests(faces):
  return [hashlib.sha256(image).hexdigest() for image in faces[:]]


@pytest.mark.parametrize('apart', [[], [0], [9], [0, 1, 2], [3, 5, 8, 9], list(range(10))])
def test_the_rest_is_what_is_not_apart(apart):
  rest = Rest(10, np.array(apart, np.int64))
  expected = np.setdiff1d(np.arange(10), apart)
  assert len(rest) == len(expected)
  np.testing.assert_array_equal(rest[:], expected)
  np.testing.assert_array_equal(rest[1:4], expected[1:4])
  order = np.random.default_rng(0).permutation(len(expected))
  np.testing.assert_array_equal(rest[order], expected[order])


def test_every_image_has_one_role(packed):
  faces = open_faces(_config(packed), None)
  assert faces.m == 15
  sets = [faces.train, faces.held_out, faces.validation, faces.test]
  assert [len(chosen) for chosen in sets] == [45, 15, 8, 12]
  everything = sorted(digest for chosen in sets for digest in _digests(chosen))
  assert everything == sorted(_digests(open_faces(_config(packed, 0, 0, held_out=0), None).train))


def test_labels_are_renumbered_without_gaps_and_belong_to_the_images(packed):
  faces = open_faces(_config(packed), None)
  whole = open_faces(_config(packed, 0, 0, held_out=0), None)
  who = dict(zip(_digests(whole.train), whole.train.labels().tolist()))
  names = [int(person['name']) for person in faces.people['train']]
  assert names == sorted(names) and len(names) == 15
  for chosen in (faces.train, faces.held_out):
    assert sorted(set(chosen.labels())) == list(range(15))
    for digest, label in zip(_digests(chosen), chosen.labels()):
      assert who[digest] == names[label]
  for role in ('validation', 'test'):
    chosen, people = getattr(faces, role), [int(person['name']) for person in faces.people[role]]
    assert [who[digest] for digest in _digests(chosen)] == [people[label] for label in chosen.labels()]


def test_index_by_slice_and_by_array_agree(packed):
  train = open_faces(_config(packed), None).train
  index = np.array([3, 40, 7])
  np.testing.assert_array_equal(train[index], train[:][index])
  np.testing.assert_array_equal(train.labels(index), train.labels()[index])
  np.testing.assert_array_equal(train.labels(slice(5, 9)), train.labels()[5:9])


def test_everybody_keeps_an_image_to_be_trained_on(tiny_faces, tmp_path):
  images = [encode(image) for image in tiny_faces.train[:7]]
  labels = [0, 1, 1, 2, 2, 2, 2]  # one, two and four images
  config = _config(write_records(tmp_path / 'few', images, labels), 0, 0, held_out=3)
  faces = open_faces(config, None)
  assert np.bincount(faces.train.labels()).tolist() == [1, 1, 1]
  assert np.bincount(faces.held_out.labels()).tolist() == [0, 1, 3]


def test_eval_images_bounds_the_images_of_a_person(packed):
  config = _config(packed, test=4, validation=0)
  config.eval.images = 3
  assert len(open_faces(config, None).test) == 12


def test_people_are_drawn_by_seed_and_label_alone():
  labels = np.repeat(np.arange(50), 3)
  test, validation = roles(labels, seed=1, test=6, validation=4)
  assert len(set(test) | set(validation)) == 10
  fewer, _ = roles(labels, seed=1, test=3, validation=4)
  assert set(fewer) <= set(test)
  shuffled = np.random.default_rng(0).permutation(labels)
  np.testing.assert_array_equal(roles(shuffled, seed=1, test=6, validation=4)[0], test)
  assert not np.array_equal(roles(labels, seed=2, test=6, validation=4)[0], test)


def test_people_with_one_image_are_trained_on():
  labels = np.array([0, 1, 1, 2, 3, 3, 4])
  test, validation = roles(labels, seed=0, test=1, validation=1)
  assert set(test) | set(validation) == {1, 3}
  with pytest.raises(ValueError, match='5 people, 2 of them with two images or more, are too few: 2 are wanted'):
    roles(labels, seed=0, test=2, validation=1)


def test_first_images_are_as_many_as_asked_for_and_depend_on_the_seed():
  labels = np.random.default_rng(0).integers(0, 20, 300)
  most = np.arange(20)
  chosen = first_images(labels, most, 5)
  np.testing.assert_array_equal(
    np.bincount(labels[chosen], minlength=20), np.minimum(most, np.bincount(labels, minlength=20))
  )
  assert not np.array_equal(chosen, first_images(labels, most, 6))


def test_the_label_space_names_the_people_who_are_trained_on(packed):
  spaces = {
    open_faces(_config(packed, test, validation, **data), None).label_space
    for test, validation, data in ((3, 2, {}), (0, 0, {}), (3, 2, {'seed': 1}))
  }
  assert len(spaces) == 3
  assert open_faces(_config(packed, held_out=0), None).label_space in spaces  # further images, the same people


def test_newcomers_of_another_set(packed, tiny_faces, tmp_path):
  more = packed_faces(tmp_path / 'more', tiny_faces.test, origin='more')
  faces = open_faces(_config(packed, newcomers=str(more.path)), None)
  assert faces.m == 15 + 6 and len(faces.train) == 45 + 18
  assert [person['origin'] for person in faces.people['train'][15:]] == [f'more:{i}' for i in range(6)]
  np.testing.assert_array_equal(np.unique(faces.train.labels()), np.arange(21))
  again = packed_faces(tmp_path / 'again', tiny_faces.test)
  with pytest.raises(DataError, match=r'is in data\.path and in data\.newcomers'):
    open_faces(_config(packed, newcomers=str(again.path)), None)
  with pytest.raises(ConfigError, match=r'config\.data\.newcomers=.*nowhere does not exist'):
    open_faces(_config(packed, newcomers=str(tmp_path / 'nowhere')), None)


@pytest.mark.parametrize('named', [100, 3])
def test_somebody_kept_apart_becomes_a_newcomer(packed, tmp_path, monkeypatch, named):
  """Also where people are too many for people.json to name those who are trained on."""
  monkeypatch.setattr(roles_module, '_NAMED', named)
  before = open_faces(_config(packed, test=4), None)
  test = [int(person['name']) for person in before.people['test']]
  chosen = np.flatnonzero(packed.labels() == test[2])
  images, origin = [packed[i] for i in chosen.tolist()], f'test:{test[2]}'
  more = write_records(tmp_path / 'more', images, [0] * len(images), names=[str(test[2])])
  assert more.people()[0].origin == origin
  config = _config(packed, test=4, newcomers=str(more.path))
  after = open_faces(config, None)
  assert [int(person['name']) for person in after.people['test']] == [*test[:2], test[3]]
  assert after.m == before.m + 1 and after.names()[-1] == str(test[2])
  assert set(_digests(after.train)) | set(_digests(after.held_out)) > {
    hashlib.sha256(image).hexdigest() for image in before.test[:][before.test.labels() == 2]
  }
  config.data.newcomers = f'{more.path},{more.path}'
  with pytest.raises(DataError, match=rf'{test[2]} is in data\.path and in data\.newcomers \(1 such people\)'):
    open_faces(config, None)


def test_no_path_and_no_data(tmp_path):
  config = tiny.get_config()
  config.data.source = 'records'
  with pytest.raises(ConfigError, match=r'config\.data\.path is empty'):
    open_faces(config, None)
  config.data.path = str(tmp_path / 'file')
  with pytest.raises(ConfigError, match='file does not exist'):
    open_faces(config, None)
  (tmp_path / 'file').touch()
  with pytest.raises(DataError, match=r'file is no data set: give a folder'):
    open_faces(config, None)


def test_photographs_have_a_source_of_their_own(root):
  config = tiny.get_config()
  config.data.source, config.data.path = 'records', str(root)
  with pytest.raises(ConfigError, match=r"set data\.source='folder'"):
    open_faces(config, None)


@pytest.fixture(scope='module')
def insightface(packed, tmp_path_factory):
  """The same people as InsightFace has them: train.rec, train.idx, property."""
  folder = tmp_path_factory.mktemp('insightface')
  write_insightface(packed, folder / 'train.rec')
  return folder


def test_recordio_is_trained_on_as_what_was_made_of_it(packed, insightface, tmp_path):
  ours = open_faces(_config(packed), None)
  config = _config(packed)
  config.data.path = str(insightface)
  theirs = open_faces(config, tmp_path / 'cache')
  assert theirs.label_space == ours.label_space
  for name in ('train', 'held_out', 'validation', 'test'):
    mine, other = getattr(ours, name), getattr(theirs, name)
    np.testing.assert_array_equal(mine[:], other[:])
    np.testing.assert_array_equal(mine.labels(), other.labels())


@pytest.mark.slow
def test_a_run_on_recordio(insightface, packed, tmp_path):
  config = _config(packed)
  config.data.path = str(insightface)
  config.train.steps = 3
  assert run(config, tmp_path / 'run')['steps'] == 3
  config.data.path = str(packed.path)  # converted since: the table and the checkpoint stay good
  config.train.steps = 5
  with pytest.raises(ConfigError, match=r'other settings: config\.data\.path=\S+ \(was \S+\)\. .*--accept_changes'):
    run(config, tmp_path / 'run')
  assert run(config, tmp_path / 'run', accept=True)['resumed_from_step'] == 3


@pytest.mark.slow
def test_a_run(packed, tmp_path):
  config = _config(packed, test=4, validation=4)
  config.train.steps, config.eval.every_steps = 6, 3
  config.data.workers = 2
  summary = run(config, tmp_path / 'run')
  assert summary['steps'] == 6 and 0 <= summary['verification_accuracy'] <= 1
  people = json.loads((tmp_path / 'run' / 'people.json').read_text())
  assert [person['images'] + person['held_out'] for person in people['train']] == [4] * 12
