"""Data sets prepared by tfds: bytes, labels and names as they went in, and errors that say the cure."""

import io
import json
import os
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds

from gif_jax.core.errors import DataError
from gif_jax.data.formats import tfds as tfds_records
from gif_jax.data.formats.open import open_records
from gif_jax.data.formats.records import Person
from tests.helpers.portraits import prepare
from tests.helpers.tfds_examples import IMAGE, TEXT, encoded, examples


def check(records, labels):
  """Every image has the name it went in with; tfds shuffles what it writes."""
  assert len(records) == len(labels)
  people = records.people()
  found = sorted((records[i], people[label].name) for i, label in enumerate(records.labels()))
  assert found == sorted(zip(encoded(len(labels)), labels))
  assert records.labels().dtype == np.int64 and set(records.labels()) == set(range(len(people)))


@pytest.fixture(scope='module')
def named(tmp_path_factory):
  names = [f'Anna_{i % 40:02}' for i in range(150)]
  return prepare(tmp_path_factory.mktemp('tfds'), {'image': IMAGE, 'label': TEXT}, examples(names)), names


def test_texts_are_names(named):
  path, names = named
  records = open_records(f'tfds:{path}')
  check(records, names)
  assert records.size == 8
  assert records.people()[3] == Person('Anna_03', 'portraits:Anna_03')
  assert records.where(5) == f'{path} (train), record 5'


@pytest.mark.parametrize('what', ['labels', 'names'])
@pytest.mark.parametrize('damage', ['cut', 'empty', 'flipped'])
def test_labels_are_kept_and_read_again_where_they_are_damaged(named, tmp_path, monkeypatch, caplog, what, damage):
  path, names = named
  check(open_records(f'tfds:{path}', tmp_path), names)
  kept = {file: file.read_bytes() for file in tmp_path.iterdir()}
  assert len(kept) == 2
  with monkeypatch.context() as patch:
    patch.setattr(tfds_records.TfdsRecords, '_each_label', None)
    check(open_records(f'tfds:{path}', tmp_path), names)
  (file,) = tmp_path.glob(f'*-{what}.npy')
  flipped = kept[file][:200] + bytes([kept[file][200] ^ 1]) + kept[file][201:]
  file.write_bytes({'cut': kept[file][:-41], 'empty': b'', 'flipped': flipped}[damage])
  caplog.clear()
  check(open_records(f'tfds:{path}', tmp_path), names)
  assert f'{file} ' in caplog.text and 'labels are read again' in caplog.text
  assert {file: file.read_bytes() for file in tmp_path.iterdir()} == kept


def test_any_order_and_any_worker_reads_the_same(named):
  records = open_records(f'tfds:{named[0]}')
  inorder = [records[i] for i in range(len(records))]
  order = np.random.default_rng(1).permutation(len(records))
  there = pickle.loads(pickle.dumps(records))
  assert len(pickle.dumps(records)) < 5000
  assert [records[i] for i in order] == [inorder[i] for i in order] == [there[int(i)] for i in order]


def test_splits(named):
  path, _ = named
  assert len(open_records(f'tfds:{path}:test')) == 2
  assert len(open_records(f'tfds:{path}:train[:50%]')) == 75
  assert len(open_records(f'tfds:{path}:train+test')) == 152
  with pytest.raises(DataError, match=r"split 'validation' cannot be opened.*'train', 'test'"):
    open_records(f'tfds:{path}:validation')


def test_class_labels_that_occur_are_numbered_in_their_order(tmp_path):
  kind = tfds.features.ClassLabel(names=['zoe', 'ben', 'nobody', 'carl'])
  names = ['carl', 'zoe', 'ben', 'zoe', 'carl']
  path = prepare(
    tmp_path,
    {'picture': IMAGE, 'label': kind},
    [{'picture': example['image'], 'label': example['label']} for example in examples(names)],
  )
  records = open_records(f'tfds:{path}')
  check(records, names)
  assert [person.name for person in records.people()] == ['zoe', 'ben', 'carl']


def test_integers_are_their_own_names(tmp_path):
  path = prepare(tmp_path, {'image': IMAGE, 'class': np.int64}, examples([10, 9, 10, 1000], 'class'))
  records = open_records(f'tfds:{path}')
  check(records, ['10', '9', '10', '1000'])
  assert [person.name for person in records.people()] == ['9', '10', '1000']


def test_labels_are_read_once(named, tmp_path, monkeypatch):
  first = open_records(f'tfds:{named[0]}', tmp_path)
  assert [path.suffix for path in tmp_path.iterdir()] == ['.npy'] * 2
  monkeypatch.setattr(tfds_records.TfdsRecords, '_each_label', None)
  again = open_records(f'tfds:{named[0]}', tmp_path)
  np.testing.assert_array_equal(again.labels(), first.labels())
  assert again.people() == first.people()


def test_records_without_a_label_are_an_error_or_left_out(tmp_path):
  kind = tfds.features.ClassLabel(names=['a', 'b'])
  path = prepare(tmp_path, {'image': IMAGE, 'label': kind}, examples([0, -1, 1, 0]))
  with pytest.raises(DataError, match=r'record \d cannot be read or has no label \(1 such'):
    open_records(f'tfds:{path}')
  records = open_records(f'tfds:{path}', damaged='skip')
  kept = [image for i, image in enumerate(encoded(4)) if i != 1]
  assert sorted(records[i] for i in range(3)) == sorted(kept)
  assert [skipped.name.split(',')[0] for skipped in records.skipped] == [f'{path} (train)']


def test_a_damaged_record_costs_itself_alone(named, tmp_path):
  path, names = named
  there = tmp_path / 'portraits' / '1.0.0'
  there.mkdir(parents=True)
  for file in path.iterdir():
    (there / file.name).write_bytes(file.read_bytes())
  shard = next(there.glob('*train*array_record*'))
  whole = open_records(f'tfds:{there}')
  images = [whole[i] for i in range(len(whole))]
  damaged = bytearray(shard.read_bytes())
  place = damaged.index(images[70][-80:-40])  # noise: zstd leaves it as it is
  damaged[place] ^= 0xFF
  shard.write_bytes(damaged)
  records = open_records(f'tfds:{there}', damaged='skip')
  assert len(records) == len(names) - 1
  assert [skipped.name for skipped in records.skipped] == [f'{there} (train), record 70']
  assert [records[i] for i in range(len(records))] == images[:70] + images[71:]
  whole = pickle.loads(pickle.dumps(whole))  # opened again
  assert [whole[i] for i in range(70)] == images[:70]
  with pytest.raises(DataError, match=r'record 70 cannot be read \(Corrupted'):
    whole[70]
  assert [whole[i] for i in range(71, 150)] == images[71:]


@pytest.mark.parametrize(
  'features, message',
  [
    ({'image': IMAGE, 'left': TEXT, 'right': TEXT}, 'wanted one ClassLabel.*left: Text, right: Text'),
    ({'one': IMAGE, 'two': IMAGE, 'label': TEXT}, 'wanted one Image.*one: Image, two: Image'),
    ({'image': IMAGE}, 'wanted one ClassLabel'),
  ],
)
def test_unclear_features_are_listed(tmp_path, features, message):
  fill = {'image': encoded(1)[0], 'one': encoded(1)[0], 'two': encoded(1)[0]}
  example = {name: io.BytesIO(fill[name]) if name in fill else 'x' for name in features}
  path = prepare(tmp_path, features, [example] * 3)
  with pytest.raises(DataError, match=message):
    open_records(f'tfds:{path}')


def test_of_several_features_the_one_named_label_is_taken(tmp_path):
  features = {'image': IMAGE, 'age': np.int64, 'label': TEXT, 'name': TEXT}
  rows = [example | {'age': 1, 'name': 'x'} for example in examples(['a', 'b', 'a'])]
  check(open_records(f'tfds:{prepare(tmp_path, features, rows)}'), ['a', 'b', 'a'])


def test_what_is_not_prepared_says_how_to(tmp_path, monkeypatch):
  with pytest.raises(DataError, match=r'no such data set.*dataset_info.json'):
    open_records(f'tfds:{tmp_path}')
  with pytest.raises(DataError, match=r'no such data set .*nobody_has_this not found.*name the folder'):
    open_records('tfds:nobody_has_this')
  monkeypatch.setattr(tfds.core.constants, 'DATA_DIR', str(tmp_path))
  with pytest.raises(DataError, match=r"lfw is not prepared.*tfds.builder\('lfw'.*file_format='array_record'"):
    open_records('tfds:lfw')


def test_tfrecord_is_refused(named, tmp_path):
  there = tmp_path / 'portraits' / '1.0.0'
  there.mkdir(parents=True)
  for name in ('dataset_info.json', 'features.json'):
    info = json.loads((named[0] / name).read_text())
    info |= {'fileFormat': 'tfrecord'} if 'fileFormat' in info else {}
    (there / name).write_text(json.dumps(info))
  with pytest.raises(DataError, match=r'prepared as tfrecord .* cannot be read without TensorFlow; prepare it'):
    open_records(f'tfds:{there}')


@pytest.mark.parametrize('package', ['tensorflow_datasets', 'array_record'])
def test_missing_packages_are_named(named, monkeypatch, package):
  monkeypatch.setitem(sys.modules, package, None)
  with pytest.raises(DataError, match=rf"{package}.*pip install -e '\.\[tfds\]'"):
    open_records(f'tfds:{named[0]}')


def test_lfw(tmp_path, monkeypatch):
  """tfds's own builder of LFW, given a folder as if downloaded, and the listing that it takes from TensorFlow."""
  from tensorflow_datasets.datasets.lfw import lfw_dataset_builder as lfw

  names, images = ['Al_Gore', 'Al_Gore', 'Zoe_Ball'], encoded(3, side=250)
  for i, (name, image) in enumerate(zip(names, images)):
    (tmp_path / 'raw' / 'lfw' / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / 'raw' / 'lfw' / name / f'{name}_{i:04}.png').write_bytes(image)
  gfile = SimpleNamespace(listdir=os.listdir, isdir=os.path.isdir)
  monkeypatch.setattr(lfw, 'tf', SimpleNamespace(io=SimpleNamespace(gfile=gfile)))
  monkeypatch.setattr(tfds.download.DownloadManager, 'download_and_extract', lambda *_: tmp_path / 'raw')
  monkeypatch.setattr(tfds.core.constants, 'DATA_DIR', str(tmp_path))
  tfds.builder('lfw', file_format='array_record').download_and_prepare()
  records = open_records('tfds:lfw:train')
  assert records.size == 250
  found = {(records[i], records.people()[label].name) for i, label in enumerate(records.labels())}
  assert found == set(zip(images, names))
