"""Names of people and of their images' files: from a folder to RecordIO, the training format and back."""

import io
import json
import logging
import os
import zlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

from gif_jax.core.errors import ConfigError, DataError
from gif_jax.core.lists import write_rows
from gif_jax.data.convert import pack
from gif_jax.data.convert.convert import Settings, convert
from gif_jax.data.convert.merge import Merged
from gif_jax.data.convert.pack import fitted
from gif_jax.data.formats.open import open_records
from gif_jax.data.formats.packed import Packed, write_index
from gif_jax.data.formats.recordio import RecordIO
from gif_jax.data.formats.records import Names, Person, fingerprint
from gif_jax.data.sets.records import _label_space
from tests.helpers.pictures import SIZE, encode, picture
from tests.helpers.pictures import write as write_folder
from tests.helpers.portraits import prepare
from tests.helpers.record_files import content, names_of, write
from tests.helpers.tfds_examples import IMAGE, TEXT, encoded

ODD = (
  'de la  Cruz',
  'Jürgen Müß',
  '山田',
  'a, b',
  '=1+1',
  "'quoted'",
  '-x',
  '@y',
  '17',
  '"',
  'ab\tc',
  'new\nline',
  ' ',
  'c\rr',
  '\\t',
  'C:\\x',
  os.fsdecode(b'\xff\xfe'),
  '\ufeff',
  '#',
  '%41',
)


def run(where, output, **settings):
  return convert(Settings(str(where), output, **{'size': SIZE} | settings))


def odd_folder(root):
  """People with odd names and one image each, with another odd name."""
  for person, file in zip(ODD, ODD[::-1]):
    (root / person / 'more').mkdir(parents=True)
    (root / person / f'{file}.jpg').write_bytes(encode(picture(0)))
    (root / person / 'more' / f'{file}.PNG').write_bytes(encode(picture(1), 'PNG'))
  return root


@pytest.mark.filterwarnings('error')
def test_a_folder_there_and_back(tmp_path, caplog):
  faces = odd_folder(tmp_path / 'faces')
  for name in ('one', 'two'):
    (tmp_path / name).mkdir()
  outputs = [tmp_path / 'one' / 'train.rec', tmp_path / 'packed', tmp_path / 'two' / 'x.rec', tmp_path / 'again']
  photos = open_records(faces)
  assert len(photos) == 40 and f'{ODD[0]}/more/{ODD[-1]}.PNG' in names_of(photos)
  for where, output in zip([faces, *outputs], outputs):
    run(where, output)
    found = open_records(output)
    assert found.people() == photos.people() and names_of(found) == names_of(photos)
    np.testing.assert_array_equal(found.labels(), photos.labels())
    assert content(found) == content(photos)
  spaces = {_label_space(open_records(output), [], 0) for output in outputs}
  assert len(spaces) == 1  # so that a table is good for all of them
  assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_label_spaces_without_names_are_what_they_were(tmp_path):
  records = RecordIO(write(tmp_path / 'a.rec', *((i, label, b'x') for i, label in enumerate((4, 9, 9)))))
  numbers = [Person('4', ''), Person('9', '')]
  assert _label_space(records, [], 0) == f'records of 2 people, {fingerprint(numbers, np.array([0, 1, 1]))}'
  assert fingerprint(numbers, np.array([0, 1, 1])) == '1c67cfcdf69badff'


def packed(folder, names, labels=(0, 0, 1)):
  folder.mkdir(exist_ok=True)
  (folder / 'images.bin').write_bytes(b'abc')
  crcs = [zlib.crc32(image) for image in (b'a', b'b', b'c')]
  people = [Person('anna', 'x:anna'), Person('ben', 'x:ben')]
  write_index(folder, [0, 1, 2], [1, 1, 1], labels, crcs, people, size=0, origin='', names=names)
  return Packed(folder)


def test_names_in_the_training_format(tmp_path):
  names = ['anna/1.jpg', '', 'b\n\xfc']
  records = packed(tmp_path / 'set', Names.of(names))
  assert names_of(records) == names
  assert [records.where(i).split(', ')[1] for i in range(3)] == ['image 0 (anna/1.jpg)', 'image 1', 'image 2 (b\n\xfc)']
  (tmp_path / 'set' / 'images.bin').write_bytes(b'axc')
  with pytest.raises(DataError, match=r'images\.bin, image 0 \(anna/1\.jpg\) is damaged'):
    (tmp_path / 'set' / 'images.bin').write_bytes(b'xxc')
    Packed(tmp_path / 'set')[0]
  again = packed(tmp_path / 'set', None)
  assert names_of(again) == ['', '', ''] and again.where(0).endswith('image 0')
  assert not list((tmp_path / 'set').glob('name*'))


@pytest.mark.parametrize('file', ['names.npy', 'name_ends.npy'])
def test_damaged_names_are_named_and_in_nobodys_way(tmp_path, file):
  packed(tmp_path / 'set', Names.of(['anna/1.jpg', 'anna/2.jpg', 'ben/3.jpg']))
  whole = (tmp_path / 'set' / file).read_bytes()
  for damaged in (whole[:-1], whole[:130] + bytes([whole[130] ^ 1]) + whole[131:], b'', None):
    (tmp_path / 'set' / file).unlink()
    if damaged is not None:
      (tmp_path / 'set' / file).write_bytes(damaged)
    records = Packed(tmp_path / 'set')
    assert content(records) == [b'a', b'b', b'c'] and records.where(1).endswith('image 1')
    with pytest.raises(DataError, match=rf'set/{file} .*copy or convert the data again'):
      records.name(1)
    with pytest.raises(DataError, match=rf'set/{file} '):
      run(tmp_path / 'set', tmp_path / 'out')  # before any work is done
    assert not (tmp_path / '.out.draft').exists()
    (tmp_path / 'set' / file).write_bytes(whole)


def test_merged_inputs_and_images_left_out_keep_the_names_of_the_others(tmp_path):
  good = encode(picture(0))
  first = write_folder(tmp_path / 'first', {'anna': [good, b'x', good], 'ben': [b'x']})
  second = write_folder(tmp_path / 'second', {'anna': [good], 'kim': [good, good]})
  write_records = tmp_path / 'numbers' / 'train.rec'
  write_records.parent.mkdir()
  write(write_records, (0, 0, good))
  (tmp_path / 'without').write_text('kim\n')
  run(f'{first},{second},{write_records}', tmp_path / 'out', without=str(tmp_path / 'without'))
  records = Packed(tmp_path / 'out')
  assert names_of(records) == ['anna/00.jpg', 'anna/02.jpg', 'anna/00.jpg', '']
  assert [person.name for person in records.people()] == ['first/anna', 'second/anna', '0']
  merged = Merged({'first': open_records(first), 'second': open_records(second)})
  assert names_of(merged) == [
    'anna/00.jpg',
    'anna/01.jpg',
    'anna/02.jpg',
    'ben/00.jpg',
    'anna/00.jpg',
    'kim/00.jpg',
    'kim/01.jpg',
  ]


class Killed(Exception):
  pass


def test_names_are_whole_after_a_kill(tmp_path, monkeypatch):
  faces = odd_folder(tmp_path / 'faces')
  run(faces, tmp_path / 'whole')
  monkeypatch.setattr(pack, 'BLOCK', 3)

  def die(*_, **__):
    raise Killed

  for step in ('convert.pack.Packing._save', 'convert.pack.names_of', 'formats.packed.write_json'):
    with monkeypatch.context() as patch, pytest.raises(Killed):
      patch.setattr(f'gif_jax.data.{step}', die)
      run(faces, tmp_path / 'out')
  run(faces, tmp_path / 'out')
  assert {path.name: path.read_bytes() for path in (tmp_path / 'out').iterdir()} == {
    path.name: path.read_bytes() for path in (tmp_path / 'whole').iterdir()
  }


@pytest.mark.parametrize('step', ['writer.write_people', 'writer.write_names', 'writer.write_text'])
def test_a_rec_is_whole_after_a_kill(tmp_path, monkeypatch, step):
  faces = odd_folder(tmp_path / 'faces')
  (tmp_path / 'out').mkdir()

  def die(*_, **__):
    raise Killed

  with monkeypatch.context() as patch, pytest.raises(Killed):
    patch.setattr(f'gif_jax.data.formats.recordio.{step}', die)
    run(faces, tmp_path / 'out' / 'a.rec')
  for name in ('a.lst', 'a.rec.people.tsv', 'a.rec', 'a.idx'):
    (tmp_path / 'out' / f'.{name}.77.partial').write_bytes(b'half')
  (tmp_path / 'out' / 'a.lst').write_text('half')
  run(faces, tmp_path / 'out' / 'a.rec')
  assert sorted(os.listdir(tmp_path / 'out')) == ['a.idx', 'a.lst', 'a.rec', 'a.rec.people.tsv', 'property']
  assert names_of(RecordIO(tmp_path / 'out' / 'a.rec')) == names_of(open_records(faces))


@pytest.mark.parametrize('name', ['a.lst', 'a.rec.people.tsv'])
def test_lists_that_are_there_are_not_written_over(tmp_path, name):
  faces = odd_folder(tmp_path / 'faces')
  (tmp_path / name).write_text('mine')
  with pytest.raises(ConfigError, match=rf'{name} exists; remove it'):
    run(faces, tmp_path / 'a.rec')
  assert (tmp_path / name).read_text() == 'mine'


def test_folders_of_earlier_versions_have_no_names(tmp_path):
  packed(tmp_path / 'set', None)
  meta = json.loads((tmp_path / 'set' / 'meta.json').read_text())
  assert 'name_bytes' not in meta  # as every earlier version wrote it
  write_rows(tmp_path / 'set' / 'names.npy', [('of somebody else',)], '\t')
  assert names_of(Packed(tmp_path / 'set')) == ['', '', '']


def test_names_of_tfds(tmp_path):
  images = encoded(150)
  named = {f'ü/{i}.jpg': image for i, image in enumerate(images)}
  examples = [{'image': io.BytesIO(image), 'label': name[2], 'filename': name} for name, image in named.items()]
  path = prepare(tmp_path, {'image': IMAGE, 'label': TEXT, 'filename': tfds.features.Text()}, examples)
  run(f'tfds:{path}', tmp_path / 'out', size=16)
  enlarged = {name: fitted(image, 16) for name, image in named.items()}
  for records, expected in ((open_records(f'tfds:{path}'), named), (open_records(tmp_path / 'out'), enlarged)):
    assert {records.name(i): records[i] for i in range(150)} == expected
