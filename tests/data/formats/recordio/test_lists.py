"""Lists of names beside a .rec file: what is written, what others write, and what does not fit and is not used."""

import errno
import logging
import os
import pickle
import struct
import tracemalloc
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gif_jax.core.errors import DiskError
from gif_jax.core.lists import normal, table_text
from gif_jax.data.formats.recordio import RecordIO, RecordWriter, framing, lists, write_insightface
from gif_jax.data.formats.records import Names, Person
from tests.helpers.record_files import Called, Given, content, names_of, write

TEXT = st.text(st.characters(codec='utf-8', exclude_characters='/\0'), min_size=1, max_size=9)
NAME = TEXT | st.binary(min_size=1, max_size=5).filter(lambda name: not {0, 47} & set(name)).map(os.fsdecode)


@pytest.mark.slow
@settings(max_examples=int(os.environ.get('FUZZ', 40)), deadline=None, derandomize='FUZZ' not in os.environ)
@given(data=st.data())
def test_any_names_come_back(tmp_path_factory, data):
  who = data.draw(st.lists(NAME.filter(str.strip), min_size=1, max_size=5, unique_by=normal))
  people = [Person(name, data.draw(st.just('') | NAME.map('set:{}'.format))) for name in who]
  labels = [*range(len(who)), *data.draw(st.lists(st.integers(0, len(who) - 1), max_size=5))]
  names = data.draw(st.lists(st.just('') | NAME, min_size=len(labels), max_size=len(labels)))
  path = tmp_path_factory.mktemp('any') / 'a.rec'
  write_insightface(Called(people, names, labels), path)
  records = RecordIO(path)
  if any(person != (str(label), '') for label, person in enumerate(people)):
    assert records.people() == people
  assert names_of(records) == [names[i] for i in np.argsort(labels, kind='stable')]


def test_the_list_is_that_of_im2rec(tmp_path):
  people = [Person('anna', 'set:anna'), Person('ben', 'set:ben')]
  write_insightface(Called(people, ['ben/1 a.jpg', 'anna/x,y.jpg', 'ben/2.jpg'], [1, 0, 1]), tmp_path / 'train.rec')
  text = (tmp_path / 'train.lst').read_text()
  assert text == '1\t0\tanna/x,y.jpg\n2\t1\tben/1 a.jpg\n3\t1\tben/2.jpg\n'
  # As MXNet's im2rec.py reads it, and packs the record of each line.
  rows = [[item.strip() for item in line.strip().split('\t')] for line in text.splitlines()]
  read = [[int(row[0]), row[-1]] + [float(number) for number in row[1:-1]] for row in rows]
  assert read == [[1, 'anna/x,y.jpg', 0.0], [2, 'ben/1 a.jpg', 1.0], [3, 'ben/2.jpg', 1.0]]
  assert (tmp_path / 'train.rec.people.tsv').read_text() == 'anna\tset:anna\nben\tset:ben\n'
  number, second = struct.unpack('<QQ', (tmp_path / 'train.rec').read_bytes()[16:32])
  sums = [zlib.crc32((tmp_path / name).read_bytes()) for name in ('train.rec.people.tsv', 'train.lst')]
  assert (number, second) == (0, sums[0] + (sums[1] << 32))


def test_no_lists_where_there_is_nothing_to_say(tmp_path):
  for name in ('a.lst', 'a.rec.people.tsv'):
    (tmp_path / name).write_text('of a file that is replaced')
  write_insightface(Given([b'x', b'y'], [0, 1]), tmp_path / 'a.rec')
  assert sorted(os.listdir(tmp_path)) == ['a.idx', 'a.rec', 'property']
  assert names_of(RecordIO(tmp_path / 'a.rec')) == ['', '']


def test_a_writer_that_fails_leaves_no_lists(tmp_path):
  records = Called([Person('anna', '')], ['1.jpg', '2.jpg'], [0, 0])
  records.images = records.images[:1]
  with pytest.raises(IndexError):
    write_insightface(records, tmp_path / 'a.rec')
  assert not os.listdir(tmp_path)


def test_a_full_disk_is_said_of_the_rec(tmp_path, monkeypatch):
  """And not of the list that is in the making beside it."""

  def full(_):
    raise OSError(errno.ENOSPC, 'No space left on device')

  def entered(writer, enter=RecordWriter.__enter__):
    enter(writer)._rec = SimpleNamespace(write=full)
    return writer

  monkeypatch.setattr(RecordWriter, '__enter__', entered)
  with pytest.raises(DiskError, match=r'a\.rec cannot be written \(No space left'):
    write_insightface(Called([Person('anna', 'a:anna')], ['1.jpg'], [0]), tmp_path / 'a.rec')
  assert not os.listdir(tmp_path)


def test_lists_are_opened_when_a_name_is_asked_for_and_by_other_processes(tmp_path, monkeypatch):
  write_insightface(Called([Person('anna', 'a:anna')], ['1.jpg', '2.jpg'], [0, 0]), tmp_path / 'a.rec')
  records = RecordIO(tmp_path / 'a.rec', tmp_path / 'cache')
  with monkeypatch.context() as patch:
    patch.setattr(lists, '_read', None)
    assert content(records) and records.people()[0].name == 'anna'
  sent = pickle.loads(pickle.dumps(records))
  assert names_of(records) == names_of(sent) == ['1.jpg', '2.jpg'] and sent.people() == records.people()
  assert len(pickle.dumps(records)) < 1000


def said(caplog):
  return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize('name', ['a.lst', 'a.rec.people.tsv'])
def test_a_list_with_any_byte_changed_is_not_used(tmp_path, caplog, name):
  people = [Person('anna', 'set:anna'), Person('ben', 'set:ben')]
  write_insightface(Called(people, ['anna/1.jpg', 'ben/2.jpg'], [0, 1]), tmp_path / 'a.rec')
  whole = (tmp_path / name).read_bytes()
  for i in range(len(whole)):
    (tmp_path / name).write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
    caplog.clear()
    records = RecordIO(tmp_path / 'a.rec')
    assert (records.people() == people) == (name == 'a.lst') == (names_of(records) == ['', ''])
    assert content(records) == [b'image 0', b'image 1'] and len(records.people()) == 2
    (warning,) = said(caplog)
    assert warning.startswith(str(tmp_path / name)) and 'gives no names: copy it again, or move it elsewhere' in warning


@pytest.mark.parametrize('damage', [os.remove, lambda path: os.truncate(path, 5), lambda path: path.write_bytes(b'')])
@pytest.mark.parametrize('name', ['a.lst', 'a.rec.people.tsv'])
def test_a_list_cut_or_gone_is_missed(tmp_path, caplog, name, damage):
  write_insightface(Called([Person('anna', 'set:anna')], ['anna/1.jpg'], [0]), tmp_path / 'a.rec')
  damage(tmp_path / name)
  records = RecordIO(tmp_path / 'a.rec')
  found = records.people(), names_of(records)
  assert found == (([('anna', 'set:anna')], ['']) if name == 'a.lst' else ([('0', 'a:0')], ['anna/1.jpg']))
  assert len(said(caplog)) == 1 and name in caplog.text


def test_the_list_of_another_file_is_not_used(tmp_path, caplog):
  """All keys and labels fit: it is of the same folder, before a file was renamed."""
  for name, called in (('a', 'old.jpg'), ('b', 'new.jpg')):
    write_insightface(Called([Person('anna', 'set:anna')], [called], [0]), tmp_path / f'{name}.rec')
  os.replace(tmp_path / 'a.lst', tmp_path / 'b.lst')
  assert names_of(RecordIO(tmp_path / 'b.rec')) == [''] and 'b.lst' in caplog.text


def others(folder, listed, labels=(3, 3, 7)):
  """A .rec as im2rec makes it, ids 5, 6, 7, and a list beside it."""
  path = write(folder / 'a.rec', *((5 + i, label, bytes([i])) for i, label in enumerate(labels)))
  (folder / 'a.lst').write_bytes(listed if isinstance(listed, bytes) else listed.encode())
  return RecordIO(path)


GOOD = {
  'whole numbers': '5\t3\tx/1.jpg\n6\t3\tx 2.jpg\n7\t7\tü\\t\n',
  'as im2rec writes it': '5\t3.000000\tx/1.jpg\n6\t3.000000\tx 2.jpg\n7\t7.000000\tü\\t\n',
  'several labels': '5\t3\t0.5\t-1e-3\tx/1.jpg\n6\t3\t1\t2\tx 2.jpg\n7\t7\t1\tü\\t\n',
  'in another order': '7\t7\tü\\t\n5\t3\tx/1.jpg\n6\t3\tx 2.jpg\n',
  'of more images': '1\t0\tsome.jpg\n5\t3\tx/1.jpg\n6\t3\tx 2.jpg\n7\t7\tü\\t\n8\t9\tother.jpg\n',
  'CRLF': '5\t3\tx/1.jpg\r\n6\t3\tx 2.jpg\r\n7\t7\tü\\t\r\n',
  'BOM': '\ufeff5\t3\tx/1.jpg\n6\t3\tx 2.jpg\n7\t7\tü\\t\n',
  'no last line break': '5\t3\tx/1.jpg\n6\t3\tx 2.jpg\n7\t7\tü\\t',
}


@pytest.mark.parametrize('kind', GOOD)
def test_lists_as_others_write_them(tmp_path, kind, caplog):
  assert names_of(others(tmp_path, GOOD[kind])) == ['x/1.jpg', 'x 2.jpg', 'ü\\t'] and not said(caplog)


@pytest.mark.parametrize('block', [1, 7, 16, 40])
def test_lines_of_a_list_across_blocks(tmp_path, monkeypatch, block):
  monkeypatch.setattr(lists, '_BLOCK', block)
  for kind in ('whole numbers', 'several labels', 'BOM'):
    assert names_of(others(tmp_path, GOOD[kind])) == ['x/1.jpg', 'x 2.jpg', 'ü\\t']


FORM = 'is not KEY<TAB>LABEL<TAB>PATH'
BAD = {
  "InsightFace's": ('1\t/x/1.jpg\t3\n1\t/x/2.jpg\t3\n1\t/x/3.jpg\t7\n', f'line 1 {FORM}'),
  'without labels': ('5\tx/1.jpg\n6\tx 2.jpg\n7\ty\n', f'line 1 {FORM}'),
  'a line without a label': ('5\t3\tx/1.jpg\n6\tx 2.jpg\n7\t7\ty\n', f'line 2 {FORM}'),
  'an empty label': ('5\t3\tx/1.jpg\n6\t\tx 2.jpg\n7\t7\ty\n', f'line 2 {FORM}'),
  'a key that is none': ('5\t3\tx/1.jpg\nsix\t3\tx 2.jpg\n7\t7\ty\n', f'line 2 {FORM}'),
  'a key that is no whole number': ('5\t3\tx/1.jpg\n6.5\t3\tx 2.jpg\n7\t7\ty\n', f'line 2 {FORM}'),
  'a negative key': ('-5\t3\tx/1.jpg\n6\t3\tx 2.jpg\n7\t7\ty\n', f'line 1 {FORM}'),
  'a label that is no number': ('5\t3\tx/1.jpg\n6\t3-3\tx 2.jpg\n7\t7\ty\n', ''),
  'two numbers too many, two too few': ('5\t3-3\tx/1.jpg\n6\t3\tx 2.jpg\n7\te\ty\n', ''),
  'spaces': ('5 3 x/1.jpg\n6 3 x 2.jpg\n7 7 y\n', f'line 1 {FORM}'),
  'a blank line': ('5\t3\tx/1.jpg\n\n6\t3\tx 2.jpg\n7\t7\ty\n', f'line 2 {FORM}'),
  'empty': ('', 'is empty'),
  'UTF-16': ('5\t3\tx\n6\t3\ty\n7\t7\tz\n'.encode('utf-16'), f'line 1 {FORM}'),
  'binary': (bytes(range(256)) * 99, FORM),
  'one long line': (b'x' * 99999, FORM),
  'a key missing': ('5\t3\tx/1.jpg\n7\t7\ty\n', 'no line for the image with the id 6 (1 such images)'),
  'other keys': ('0\t3\tx/1.jpg\n1\t3\tx 2.jpg\n2\t7\ty\n', 'id 5 (3 such'),
  'a key twice': ('5\t3\tx/1.jpg\n6\t3\tx 2.jpg\n6\t3\tx 3.jpg\n7\t7\ty\n', 'two lines for one key'),
  'other labels': ('5\t3\tx/1.jpg\n6\t7\tx 2.jpg\n7\t7\ty\n', 'other labels for 1 images'),
  'a label that is NaN': ('5\tnan\tx/1.jpg\n6\t3\tx 2.jpg\n7\t7\ty\n', ''),
}


@pytest.mark.parametrize('kind', BAD)
def test_lists_that_do_not_fit_are_not_used(tmp_path, kind, caplog):
  listed, why = BAD[kind]
  records = others(tmp_path, listed)
  assert names_of(records) == ['', '', ''] and content(records) == [b'\0', b'\1', b'\2']
  (warning,) = said(caplog)
  assert warning.startswith(f'{tmp_path}/a.lst') and why in warning and 'gives no names' in warning


def test_long_lines_and_what_is_no_file(tmp_path, monkeypatch, caplog):
  monkeypatch.setattr(lists, '_LONGEST', 20)
  monkeypatch.setattr(lists, '_BLOCK', 1)
  assert names_of(others(tmp_path, '5\t3\t' + 'x' * 40 + '\n6\t3\ty\n7\t7\tz\n')) == [''] * 3
  (tmp_path / 'a.lst').unlink()
  for name in ('a.lst', 'a.rec.people.tsv'):
    os.mkfifo(tmp_path / name)  # which would be read for ever
  records = RecordIO(tmp_path / 'a.rec')
  assert names_of(records) == [''] * 3 and records.people()[0].name == '3' and len(said(caplog)) == 3


def test_images_that_have_one_id_are_not_told_apart(tmp_path, caplog):
  with RecordWriter(tmp_path / 'a.rec') as writer:
    for key in range(3):
      writer.write(key, framing.pack(b'x', 1, 0))
  (tmp_path / 'a.lst').write_text('0\t1\tx.jpg\n1\t1\ty.jpg\n2\t1\tz.jpg\n')
  assert names_of(RecordIO(tmp_path / 'a.rec')) == [''] * 3 and 'several of the .rec have one id' in caplog.text


def test_names_follow_the_ids_whatever_idx_says(tmp_path):
  """A file that was shuffled has new keys, and the ids of before; a damaged .idx has any."""
  names = [f'{i}.jpg' for i in range(9)]
  write_insightface(Called([Person('anna', 'set:anna')], names, [0] * 9), tmp_path / 'a.rec')
  lines = (tmp_path / 'a.idx').read_text().splitlines()
  places = np.random.default_rng(0).permutation([line.split('\t')[1] for line in lines])
  for idx in (None, *(''.join(f'{first + i}\t{place}\n' for i, place in enumerate(places)) for first in (0, 100))):
    (tmp_path / 'a.idx').unlink(missing_ok=True)
    if idx:
      (tmp_path / 'a.idx').write_text(idx)
    assert names_of(RecordIO(tmp_path / 'a.rec')) == names


def test_damaged_images_leave_the_names_of_the_others(tmp_path):
  people = [Person('anna', 'set:anna'), Person('ben', 'set:ben'), Person('eva', 'set:eva')]
  write_insightface(Called(people, ['a.jpg', 'b.jpg', 'e.jpg'], [0, 1, 2]), tmp_path / 'a.rec')
  rec = (tmp_path / 'a.rec').read_bytes()
  at = rec.index(b'image 1') - 32
  (tmp_path / 'a.rec').write_bytes(rec[:at] + bytes(8) + rec[at + 8 :])
  for idx in (True, False):
    records = RecordIO(tmp_path / 'a.rec', damaged='skip')
    assert records.people() == [people[0], people[2]] and names_of(records) == ['a.jpg', 'e.jpg']
    (tmp_path / 'a.idx').unlink(missing_ok=idx is False)


@pytest.mark.slow
def test_memory_for_names_is_no_objects(tmp_path):
  n = 100_000
  ids, labels = np.arange(n), np.zeros(n, np.float32)
  (tmp_path / 'a.lst').write_text(''.join(f'{i}\t0\tperson/{i:09}.jpg\n' for i in range(n)))
  tracemalloc.start()
  listed = lists.ListedNames(tmp_path / 'a.lst', ids, labels, 0)
  kept, most = tracemalloc.get_traced_memory()
  text = Names.of(listed[i] for i in range(n))
  assert tracemalloc.get_traced_memory()[0] - kept < 40 * n
  tracemalloc.stop()
  assert kept < 16 * n and most < 64e6 + 100 * n
  assert listed[77_777] == text[77_777] == 'person/000077777.jpg'


def _people_of(folder, text, *records):
  """Who the labels of a .rec without checksums are, as earlier versions wrote it, with this list beside it."""
  path = write(folder / 'a.rec', *(records or [(i, label, b'x') for i, label in enumerate((0, 1, 1, 2))]))
  (folder / 'a.rec.people.tsv').write_bytes(text if isinstance(text, bytes) else text.encode())
  return RecordIO(path, damaged='skip').people()


def test_people_of_earlier_versions_have_their_names(tmp_path):
  people = [Person('anna', 'lfw:anna'), Person('=ben', 'lfw:=ben+faces:1'), Person('17', 'lfw:17')]
  assert _people_of(tmp_path, table_text(people, '\t')) == people
  left = [(0, 0, b'x'), (1, -1, b'x'), (2, 2, b'x')]  # nobody is left of =ben
  assert _people_of(tmp_path, table_text(people, '\t'), *left) == [people[0], people[2]]


@pytest.mark.parametrize(
  'text',
  [
    'anna\tx:anna\nben\tx:ben\n',
    'anna\tx\nben\tx\neva\tx\nkim\tx\n',
    'anna\nben\neva\n',
    'a\tb\tc\n' * 3,
    '',
    'anna\tx\nanna\ty\neva\tz\n',
    'caf\u00e9\tx\ncafe\u0301\ty\neva\tz\n',
    'anna\tx\n\ty\neva\tz\n',
    b'\0' * 30,
    'anna\tx\nben\tx\neva\tx\n'.encode('utf-16')[:-1],
  ],
)
def test_people_that_do_not_fit_are_called_by_their_numbers(tmp_path, caplog, text):
  assert _people_of(tmp_path, text) == [('0', 'a:0'), ('1', 'a:1'), ('2', 'a:2')]
  (warning,) = said(caplog)
  assert warning.startswith(f'{tmp_path}/a.rec.people.tsv') and 'gives no names' in warning


def test_people_are_told_of_once(tmp_path, caplog):
  _people_of(tmp_path, 'anna\n')
  caplog.clear()
  records = RecordIO(tmp_path / 'a.rec')
  for _ in range(3):
    records.people()
  assert len(said(caplog)) == 1
