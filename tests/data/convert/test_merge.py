"""Inputs put together: labels and names, people who are declared one, lists of people."""

import os
import unicodedata
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gif_jax.core.errors import DataError
from gif_jax.core.lists import write_rows
from gif_jax.data.convert.convert import Settings, convert
from gif_jax.data.convert.merge import Merged, input_name, named, open_inputs
from gif_jax.data.formats.packed import Packed, write_index
from gif_jax.data.formats.records import Person
from tests.helpers.pictures import SIZE, encode, picture, write

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


ODD_NAMES = {'a': ['anna', 'Zo\u00eb', '7', '007', 'b:c', ' kim'], 'b': ['eva', 'kim'], 'a:b': ['d']}
TABLE = [
  ['same', 'similarity', 'first', 'second'],
  ['1', '0.5', 'a:anna', 'b:eva'],
  ['', '0.5', 'a:7', 'a:007'],
  ['0', '0.4', 'a:7', 'b:eva'],
  ['yes', '0.4', 'a:Zo\u00eb', 'b:kim'],
]


def _table(delimiter=',', end='\n', change=lambda row: row):
  return ''.join(delimiter.join(change(row)) + end for row in TABLE)


TABLES = {
  'commas': _table(),
  'semicolons': _table(';'),
  'tabs': _table('\t'),
  'CRLF': _table(end='\r\n'),
  'semicolons, decimal commas': _table(';').replace('0.', '0,'),
  'UTF-16, tabs': _table('\t').encode('utf-16'),
  'mark': '\ufeff' + _table(';'),
  'decomposed': _table().replace('\u00eb', 'e\u0308'),
  'blank columns': _table(end=',,\n'),
  'blank columns, some': _table().replace('eva\n', 'eva,, \n'),
  'blank lines': _table(end='\n\n,,,\n'),
  'blanks around': _table(change=lambda row: [f' {cell}\t' for cell in row]),
  'quotes': _table(change=lambda row: [f'"{cell}"' for cell in row]),
  'no end': _table()[:-1],
  'header in capitals': _table().replace('same', 'SAME').replace('first', 'First'),
  'slashes': _table().replace('eva', 'eva/').replace('a:anna', './a:anna'),
} | {
  f'{yes}, {no}': _table().replace('\n1,', f'\n{yes},').replace('\n0,', f'\n{no},')
  for yes, no in (('1.0', '0.0'), ('TRUE', 'FALSE'), ('True', 'False'), ('true', 'false'), ('YES', 'No'), ('1.', '0.0'))
}


@pytest.mark.parametrize('form', TABLES)
def test_tables_of_people_who_are_one_whoever_saved_them(tmp_path, form):
  text = TABLES[form]
  (tmp_path / 'same.csv').write_bytes(text if isinstance(text, bytes) else text.encode())
  records = Merged({source: Listed(source, names) for source, names in ODD_NAMES.items()}, tmp_path / 'same.csv')
  assert records.labels().tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 6]


def test_names_with_colons(tmp_path):
  """a:b:c is c of a:b and b:c of a; what only one of them can be is known, by its blanks too."""
  records = _same(tmp_path, HEADER + '1,,a:b:c,a:b:d\n1,,a: kim,b:kim\n', **ODD_NAMES)
  assert records.labels().tolist() == [0, 1, 2, 3, 4, 5, 6, 5, 4]
  for row in ('1,,a:b:c,b:eva', ',,b:eva,a:b:c'):
    with pytest.raises(DataError, match=r"(first|second): 'a:b:c' may be .*'b:c' of the input 'a' or 'c' of the input"):
      _same(tmp_path, f'{HEADER}{row}\n', **ODD_NAMES | {'a:b': ['c']})
  assert len(_same(tmp_path, f'{HEADER}1,,b:eva,b:kim\n', **ODD_NAMES | {'a:b': ['c']}).people()) == 8


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    (HEADER + '1,.9,a:anna,b:eva\n1,.9,a:anna,b:nobody\n', r"same\.csv, line 3: second: no person .* 'b:nobody'"),
    (HEADER + '0,.9,anna,b:eva\n', "first: no person is called 'anna'; there is 'a:anna'; names are INPUT:NAME"),
    (HEADER + ',.9,a:Anna,b:eva\n', "line 2: first: .* 'a:Anna'; there is 'a:anna'"),
    (HEADER + '1,.9,a:anna,b:\udceb\n', 'line 2: second: .*not in UTF-8: save it as that'),
    (HEADER + 'maybe,.9,a:anna,b:eva\n', "line 2: same is 'maybe', wanted 1 .one person., 0, or nothing"),
    (HEADER + '2,.9,a:anna,b:eva\n', "line 2: same is '2'"),
    (HEADER + '1,a:anna,b:eva\n', "line 2: first: no person is called 'b:eva'|second: no person is called ''"),
    (HEADER + '1,.9,,b:eva\n', "line 2: first: no person is called ''; names are"),
    (HEADER + '1\n', "line 2: first: no person is called ''"),
    (HEADER + '1;.9;a:anna;b:eva\n', "line 2: same is '1;.9;a:anna;b:eva'"),
    (HEADER + '1,.9,a:smith, anna,b:eva\n', "line 2: 'b:eva' stands in a fifth cell, wanted 4; .* in quotes"),
    (HEADER + '1,.9,a:anna,b:eva\n\nno,,b:eva,a:anna\n', 'line 4: same is no, but the two are one person by other'),
    (HEADER + '0,.9,a:anna,a:anna\n', 'line 2: same is no, but'),
    ('first,second\n', "line 1: the header is 'first,second', wanted 'same,"),
    ('same;similarity;second;first\n', "line 1: the header is 'same;similarity;second;first', wanted 'same,"),
    ('1,.9,a:anna,b:eva\n', "line 1: the header is '1,.9,a:anna,b:eva', wanted"),
    ('', 'line 1: the header is'),
    ('\n \n', 'line 1: the header is'),
  ],
)
def test_lists_that_cannot_be_used(tmp_path, text, message):
  with pytest.raises(DataError, match=message):
    _same(tmp_path, text, a=['anna'], b=['eva'])


def test_who_are_apart_by_one_line_and_one_by_others(tmp_path):
  rows = '1,,a:anna,b:eva\n0,,a:anna,b:kim\n1,,b:kim,b:eva\n'
  with pytest.raises(DataError, match=r'same\.csv, line 3: same is no, but the two are one person by other lines'):
    _same(tmp_path, HEADER + rows, a=['anna'], b=['eva', 'kim'])


def test_names_that_differ_in_blanks_are_told_apart(tmp_path):
  """As similar_people.csv and people.tsv have them: what is written exactly is meant."""
  names = ['kim', 'kim ', ' kim', 'eva']
  write_rows(tmp_path / 'same.csv', [['same', 'similarity', 'first', 'second'], ['1', '', 'a:kim ', 'a:eva']], ',')
  records = Merged({'a': Listed('a', names)}, tmp_path / 'same.csv')
  assert records.labels().tolist() == [0, 1, 2, 1]
  write_rows(tmp_path / 'names', [['kim '], [' kim']], '\t')
  assert named(tmp_path / 'names', records).tolist() == [False, True, True]


def test_a_list_that_says_nothing_is_said(tmp_path, caplog):
  _same(tmp_path, HEADER + '1,,a:anna,b:eva\n', a=['anna'], b=['eva'])
  assert not caplog.records
  _same(tmp_path, HEADER + ',,a:anna,b:eva\n', a=['anna'], b=['eva'])
  assert 'same.csv puts nobody together: write 1' in caplog.text


def test_lists_of_names(tmp_path):
  records = _same(tmp_path, HEADER + '1,,a:ben,b:eva\n', a=['anna', 'ben'], b=['anna', 'eva', 'kim'])
  (tmp_path / 'names').write_text('b/anna\n\neva\tb:eva\n')
  assert named(tmp_path / 'names', records).tolist() == [False, True, True, False]
  (tmp_path / 'names').write_text('kim\nanna\n')
  with pytest.raises(DataError, match=r"names, line 2: no person is called 'anna'; there is 'a/anna'; .*INPUT/NAME"):
    named(tmp_path / 'names', records)
  with pytest.raises(DataError, match='nowhere cannot be read'):
    named(tmp_path / 'nowhere', records)


WHO = ['Zo\u00eb', '7', '007', '-5', 'de la  cruz', 'a\tb', 'x/y', '# 1', ' kim', 'kim', 'anna']
NAME_LISTS = {
  'plain': 'anna\nZo\u00eb\n',
  'CRLF': 'anna\r\nZo\u00eb\r\n',
  'mark': '\ufeffanna\nZo\u00eb\n',
  'UTF-16': 'anna\nZo\u00eb\n'.encode('utf-16'),
  'decomposed': 'anna\nZoe\u0308\n',
  'twice': 'anna\nZo\u00eb\nanna\n',
  'blanks': ' anna \n\tZo\u00eb\t \n',
  'ls -d */': 'anna/\nZo\u00eb/\n',
  'find -type d': './anna\n./Zo\u00eb\n',
  'Windows': '.\\anna\\\nZo\u00eb\\\n',
  'people.tsv': 'anna\ta:anna\nZo\u00eb\ta:Zo\u00eb\n',
  'empty lines': '\n\nanna\n \t\nZo\u00eb\n\n',
  'no end': 'anna\nZo\u00eb',
  'quotes': '"anna"\n"Zo\u00eb"\n',
}


@pytest.mark.parametrize('form', NAME_LISTS)
@pytest.mark.parametrize('disk', ['NFC', 'NFD'])
def test_lists_of_names_whoever_wrote_them(tmp_path, form, disk):
  records = merged(a=[unicodedata.normalize(disk, name) for name in WHO])
  text = NAME_LISTS[form]
  (tmp_path / 'names').write_bytes(text if isinstance(text, bytes) else text.encode())
  assert np.flatnonzero(named(tmp_path / 'names', records)).tolist() == [0, 10]


@given(
  st.sets(st.integers(0, len(WHO) - 1), min_size=1),
  st.sampled_from(['', '/', ' ', '\t', '/ ']),
  st.sampled_from(['', './', ' ']),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_names_are_found_as_they_are_written(tmp_path_factory, chosen, after, before):
  """Names that look like numbers, and two that differ in a blank alone, which are told apart where it stands."""
  chosen -= {8, 9} if before or after else set()
  place = tmp_path_factory.mktemp('names') / 'list'
  write_rows(place, [[f'{before}{WHO[i]}{after}'] for i in chosen] or [['anna']], '\t')
  assert set(np.flatnonzero(named(place, merged(a=WHO))).tolist()) == (chosen or {10})


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('name\nanna\n', "line 1: no person is called 'name'"),
    ('# those of 2021\nanna\n', "line 1: no person is called '# those of 2021'"),
    ('anna\nANNA\n', "line 2: no person is called 'ANNA'; there is 'anna'"),
    ('anna\nde_la_cruz\n', "line 2: .*; there is 'de la  cruz'"),
    ('anna,7\n', "line 1: no person is called 'anna,7'; there is 'anna'"),
    ('anna\n7.0\n', "line 2: no person is called '7.0'"),
    ('anna\n07\n', "line 2: no person is called '07'"),
    ('anna\nzoe\n', "line 2: .* 'zoe'; there is 'Zo\u00eb'"),
    ('Zo\udceb\n', 'line 1: .*the list is not in UTF-8: save it as that'),
    ('kim/\n', "line 1: 'kim/' may be ' kim' or 'kim': rename one of them"),
    ('"anna\nkim\n', 'line 2: no person is called'),
  ],
)
def test_lists_of_names_that_cannot_be_used(tmp_path, text, message):
  (tmp_path / 'names').write_text(text, 'utf-8', 'surrogateescape')
  with pytest.raises(DataError, match=f'{tmp_path}/names.*{message}'):
    named(tmp_path / 'names', merged(a=WHO))


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
  write_index(
    old,
    np.cumsum([0, *lengths[:-1]]),
    lengths,
    [1, 0, 1, 2],
    crcs,
    [Person('anna', 'lfw:7'), Person('ann', 'lfw:8'), Person('kim', 'lfw:9')],
    size=SIZE,
    origin='',
  )
  (tmp_path / 'same.csv').write_text(HEADER + '1,.9,faces:anna,old:ann\n')
  (tmp_path / 'without').write_text('kim\n')
  convert(
    Settings(
      f'{faces},{old}', tmp_path / 'out', size=SIZE, same=str(tmp_path / 'same.csv'), without=str(tmp_path / 'without')
    )
  )
  packed = Packed(tmp_path / 'out')
  assert packed.people() == [('faces/anna', 'faces:anna+lfw:8'), ('ben', 'faces:ben'), ('old/anna', 'lfw:7')]
  assert packed.labels().tolist() == [0, 0, 0, 1, 0, 2, 0]
  assert [packed[i] for i in range(4, 7)] == images[:3]
