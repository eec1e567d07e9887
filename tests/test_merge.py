"""Inputs put together: labels and names, people who are declared one, lists of people."""

import os
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gif_jax.core.errors import DataError
from gif_jax.data.convert import Settings, convert
from gif_jax.data.merge import Merged, input_name, named, open_inputs
from gif_jax.data.records import Packed, Person, write_index
from tests.pictures import SIZE, encode, picture, write

HEADER = 'same,similarity,first,second\n'


class Listed:
  """Records of people by name, an image each per label, whose bytes say where they are from."""

  size, skipped = 0, ()

  def __init__(self, source, names, labels=None):
    self.source, self.names = source, names
    self.own = np.arange(len(names)) if labels is None else np.array(labels)

  def __len__(self):
    return len(self.own)

  def __getitem__(self, index):
    return f'{self.source} {index}'.encode()

  def labels(self):
    return self.own

  def people(self):
    return [Person(name, f'{self.source}:{name}') for name in self.names]

  def where(self, index):
    return f'{self.source}, image {index}'


def merged(**inputs):
  return Merged({source: Listed(source, names) for source, names in inputs.items()})


def named_people(records):
  return [person.name for person in records.people()]


def test_labels_of_the_second_count_on_and_those_of_the_first_stay():
  first, second = Listed('a', ['anna', 'ben'], [1, 0, 1]), Listed('b', ['eva', 'kim'], [0, 0, 1])
  records = Merged({'a': first, 'b': second})
  assert records.labels().tolist() == [1, 0, 1, 2, 2, 3] and records.labels().dtype == np.int64
  assert records.people() == first.people() + second.people()
  assert [records[i] for i in range(len(records))] == [first[i] for i in range(3)] + [second[i] for i in range(3)]
  assert [records.where(i) for i in (2, 3)] == ['a, image 2', 'b, image 0']


def test_equal_names_are_different_people():
  records = merged(a=['anna', 'ben'], b=['anna', 'eva'])
  assert records.people() == [('a/anna', 'a:anna'), ('ben', 'a:ben'), ('b/anna', 'b:anna'), ('eva', 'b:eva')]


def test_names_are_unique_whatever_they_are():
  records = merged(a=['anna', 'b/anna', 'caf\u00e9'], b=['anna', 'cafe\u0301'], c=['a/anna', 'b/b/anna'])
  assert len(set(named_people(records))) == 7 and named_people(records)[2] == 'a/caf\u00e9'


def test_the_size_is_that_of_all():
  one, two, three = Listed('a', ['x']), Listed('b', ['y']), Listed('c', ['z'])
  one.size = two.size = 112
  assert Merged({'a': one, 'b': two}).size == 112
  assert Merged({'a': one, 'b': two, 'c': three}).size == 0


def _same(tmp_path, text, **inputs):
  (tmp_path / 'same.csv').write_text(text, 'utf-8', 'surrogateescape')
  return Merged({source: Listed(source, names) for source, names in inputs.items()}, tmp_path / 'same.csv')


def test_people_declared_one_are_one_through_others(tmp_path):
  rows = '1,.9,c:kim,b:anna\n,.8,a:ben,b:eva\nyes,.7,a:anna,c:kim\n0,.6,a:anna,a:ben\n'
  records = _same(tmp_path, HEADER + rows, a=['anna', 'ben'], b=['anna', 'eva'], c=['zoe', 'kim'])
  assert records.labels().tolist() == [0, 1, 0, 2, 3, 0]
  assert records.people() == [('anna', 'a:anna+b:anna+c:kim'), ('ben', 'a:ben'), ('eva', 'b:eva'), ('zoe', 'c:zoe')]


def test_a_third_of_the_same_name_is_told_apart(tmp_path):
  records = _same(tmp_path, HEADER + '1,,a:anna,b:anna\n', a=['anna'], b=['anna'], c=['anna'])
  assert records.people() == [('a/anna', 'a:anna+b:anna'), ('c/anna', 'c:anna')]


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=12))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_labels_are_the_classes_of_the_relation(tmp_path_factory, pairs):
  names = [str(k) for k in range(6)]
  text = HEADER + ''.join(f'1,,{"ab"[i // 6]}:{i % 6},{"ab"[j // 6]}:{j % 6}\n' for i, j in pairs)
  labels = _same(tmp_path_factory.mktemp('same'), text, a=names, b=names).labels()
  groups = {k: {k} for k in range(12)}  # merged one pair at a time
  for i, j in pairs:
    union = groups[i] | groups[j]
    groups |= dict.fromkeys(union, union)
  firsts = sorted({min(group) for group in groups.values()})
  assert labels.tolist() == [firsts.index(min(groups[k])) for k in range(12)]


@pytest.mark.parametrize('bom', ['', '\ufeff'])
def test_lists_as_spreadsheets_save_them(tmp_path, bom):
  odd = os.fsdecode(b'\xff')
  text = f'{bom}{HEADER}1,0.5,"a:ab, ""c""",b:caf\u00e9\n1,0.5,a:{odd},b:x\n\n'.replace('\n', '\r\n')
  records = _same(tmp_path, text, a=['ab, "c"', odd], b=['cafe\u0301', 'x'])
  assert records.labels().tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    (HEADER + '1,.9,a:anna,b:eva\n1,.9,a:anna,b:nobody\n', r"same\.csv, line 3: nobody is 'b:nobody'"),
    (HEADER + '0,.9,anna,b:eva\n', r"line 2: nobody is 'anna'; write the last part of an --input"),
    (HEADER + 'maybe,.9,a:anna,b:eva\n', 'line 2: .* with 1 or 0 first'),
    (HEADER + '1,a:anna,b:eva\n', 'line 2: .*SAME,SIMILARITY'),
    ('first,second\n', "line 1: the header is 'first,second', wanted 'same,"),
    ('', 'line 1: the header'),
  ],
)
def test_lists_that_cannot_be_used(tmp_path, text, message):
  with pytest.raises(DataError, match=message):
    _same(tmp_path, text, a=['anna'], b=['eva'])


def test_lists_of_names(tmp_path):
  records = _same(tmp_path, HEADER + '1,,a:ben,b:eva\n', a=['anna', 'ben'], b=['anna', 'eva', 'kim'])
  (tmp_path / 'names').write_text('b/anna\n\neva\tb:eva\n')
  assert named(tmp_path / 'names', records).tolist() == [False, True, True, False]
  (tmp_path / 'names').write_text('kim\nanna\n')
  with pytest.raises(DataError, match=r"names, line 2: nobody is called 'anna'.*INPUT/NAME"):
    named(tmp_path / 'names', records)
  with pytest.raises(DataError, match='nowhere cannot be read'):
    named(tmp_path / 'nowhere', records)


def test_inputs_of_one_name(tmp_path):
  for folder in ('x', 'y'):
    write(tmp_path / folder / 'faces', {'anna': [encode(picture(0))]})
  with pytest.raises(DataError, match=r"two inputs are called 'faces'.*rename a folder"):
    open_inputs([str(tmp_path / 'x' / 'faces'), str(tmp_path / 'y' / 'faces')], None, 'skip')
  assert input_name('x/faces/') == 'faces' and input_name(str(tmp_path / '.')) == tmp_path.name
  assert input_name('.') != ''


def test_a_folder_and_a_packed_set_are_put_together(tmp_path):
  faces = write(tmp_path / 'faces', {'anna': [encode(picture(i)) for i in range(3)], 'ben': [encode(picture(3))]})
  old = tmp_path / 'old'
  old.mkdir()
  images = [encode(picture(i), 'PNG') for i in range(4, 8)]
  (old / 'images.bin').write_bytes(b''.join(images))
  lengths, crcs = [len(image) for image in images], [zlib.crc32(image) for image in images]
  write_index(old, np.cumsum([0, *lengths[:-1]]), lengths, [1, 0, 1, 2], crcs, [
    Person('anna', 'lfw:7'), Person('ann', 'lfw:8'), Person('kim', 'lfw:9')], size=SIZE, origin='')  # fmt: skip
  (tmp_path / 'same.csv').write_text(HEADER + '1,.9,faces:anna,old:ann\n')
  (tmp_path / 'without').write_text('kim\n')
  convert(Settings(f'{faces},{old}', tmp_path / 'out', size=SIZE, same=str(tmp_path / 'same.csv'),
                   without=str(tmp_path / 'without')))  # fmt: skip
  packed = Packed(tmp_path / 'out')
  assert packed.people() == [('faces/anna', 'faces:anna+lfw:8'), ('ben', 'faces:ben'), ('old/anna', 'lfw:7')]
  assert packed.labels().tolist() == [0, 0, 0, 1, 0, 2, 0]
  assert [packed[i] for i in range(4, 7)] == images[:3]
