"""An .idx that is damaged, of another file or missing: what the .rec holds is read, and one warning says so."""

import os
import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gif_jax.core.errors import DataError
from gif_jax.data.formats.recordio import RecordIO, index, names, write_insightface
from tests.helpers.record_files import Given, content

IMAGES = [f'image {i}'.encode() for i in range(20)]


@pytest.fixture(scope='module')
def valid(tmp_path_factory):
  """A .rec of 20 images of three people, its .idx, and what it opens as."""
  path = tmp_path_factory.mktemp('valid') / 'train.rec'
  write_insightface(Given(IMAGES, [i % 3 for i in range(20)]), path)
  return path.read_bytes(), path.with_suffix('.idx').read_bytes(), RecordIO(path)


def laid(folder, rec, idx):
  """A .rec and an .idx with these bytes; without .idx where that is None."""
  folder.mkdir(exist_ok=True)
  (folder / 'train.idx').unlink(missing_ok=True)
  (folder / 'train.rec').write_bytes(rec)
  if idx is not None:
    (folder / 'train.idx').write_bytes(idx)
  return folder


def pairs(idx):
  return [tuple(map(int, line.split())) for line in idx.splitlines()]


def text(rows):
  return ''.join(f'{key}\t{place}\n' for key, place in rows).encode()


def shuffled(idx):
  keys, places = zip(*pairs(idx))
  return text(zip(keys, np.random.default_rng(0).permutation(places).tolist()))


def another(idx):
  return text((key, 44 * key) for key, _ in pairs(idx) * 2)


BAD = {
  'cut within a line': (lambda idx: idx[: idx.index(b'\n12\t') + 4], 'line 13 is not KEY<TAB>PLACE (1 such lines)'),
  'cut within a number': (lambda idx: idx[: idx.index(b'\n12\t') + 6], 'no whole record is (1 of 13)'),
  'cut at the end of a line': (lambda idx: text(pairs(idx)[:12]), 'names no record in'),
  'empty': (lambda idx: b'', 'train.idx is empty'),
  'blank': (lambda idx: b'\n \n\n', 'train.idx is empty'),
  'missing': (lambda idx: None, 'train.idx is missing'),
  'floats': (lambda idx: re.sub(rb'(\d+)\n', rb'\1.0\n', idx), 'line 1 is not KEY<TAB>PLACE (24 such lines)'),
  'UTF-16': (lambda idx: idx.decode().encode('utf-16'), 'line 1 is not KEY<TAB>PLACE'),
  'a mark within': (lambda idx: b'\n' + b'\xef\xbb\xbf' + idx, 'line 2 is not KEY<TAB>PLACE (1 such lines)'),
  'off by one': (lambda idx: text((key, place + 1) for key, place in pairs(idx)), 'no whole record is (24 of 24)'),
  'off by a record': (lambda idx: text(zip(range(23), [place for _, place in pairs(idx)][1:])), 'in 40 bytes'),
  'lines missing': (lambda idx: text(pairs(idx)[::3]), 'names no record in'),
  'another file': (another, 'no whole record is'),
  'beyond the end': (lambda idx: text((key, place + 10**6) for key, place in pairs(idx)), 'is (24 of 24)'),
  'one beyond the end': (lambda idx: text([*pairs(idx)[:9], (9, 10**18 - 1), *pairs(idx)[10:]]), 'is (1 of 24)'),
  'a place twice': (lambda idx: text([*pairs(idx)[:9], (9, pairs(idx)[8][1]), *pairs(idx)[10:]]), 'names no record in'),
  'binary': (lambda idx: bytes(range(256)) * 9, 'is not KEY<TAB>PLACE'),
  'one long line': (lambda idx: b'7' * 9999, 'is not KEY<TAB>PLACE'),
  'shuffled between keys': (shuffled, '.idx gives 24 records the keys of others'),
  'two swapped': (
    lambda idx: text([*pairs(idx)[:5], (6, pairs(idx)[5][1]), (5, pairs(idx)[6][1]), *pairs(idx)[7:]]),
    '.idx gives 2 records the keys of others',
  ),
  'a key twice': (lambda idx: idx.replace(b'\n8\t', b'\n7\t'), '.idx gives 1 records the keys of others'),
}


@pytest.mark.parametrize('damaged', ['error', 'skip'])
@pytest.mark.parametrize('kind', BAD)
def test_everything_is_read_whatever_idx_says_and_one_warning_says_so(tmp_path, valid, caplog, kind, damaged):
  rec, idx, whole = valid
  damage, why = BAD[kind]
  folder = laid(tmp_path / 'set', rec, damage(idx))
  for _ in range(2):  # the second time from the cache
    caplog.clear()
    records = RecordIO(folder, tmp_path / 'cache', damaged=damaged)
    assert content(records) == content(whole) and not records.skipped
    np.testing.assert_array_equal(records.labels(), whole.labels())
    assert [records.where(i).split(', ')[1] for i in range(20)] == [f'key {i}' for i in range(1, 21)]
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f'{folder}/train.rec: ') and why in said
    assert records.report._replace(idx='', keys_other=0, places_twice=0) == whole.report


GOOD = {
  'as it is': lambda idx: idx,
  'no last line break': lambda idx: idx[:-1],
  'CRLF': lambda idx: idx.replace(b'\n', b'\r\n'),
  'BOM': lambda idx: b'\xef\xbb\xbf' + idx,
  'BOM, CRLF': lambda idx: b'\xef\xbb\xbf' + idx.replace(b'\n', b'\r\n'),
  'spaces': lambda idx: idx.replace(b'\t', b'  '),
  'blank lines': lambda idx: idx.replace(b'\n', b'\n\n'),
  'backwards': lambda idx: text(pairs(idx)[::-1]),
  'other keys': lambda idx: text((k + 9, p) for k, p in pairs(idx)),
}


@pytest.mark.parametrize('kind', GOOD)
def test_a_good_idx_spares_the_search(tmp_path, valid, monkeypatch, kind):
  rec, idx, whole = valid
  monkeypatch.setattr(index, 'scan', None)
  records = RecordIO(laid(tmp_path / 'set', rec, GOOD[kind](idx)))
  assert content(records) == content(whole) and records.report.idx == ''
  assert records.where(4).endswith('key 14' if kind == 'other keys' else 'key 5')


@pytest.mark.parametrize('kind', ['as it is', 'BOM, CRLF', 'blank lines'])
def test_lines_of_idx_across_blocks(tmp_path, valid, monkeypatch, kind):
  rec, idx, whole = valid
  for block in range(1, 40):
    monkeypatch.setattr(names, '_BLOCK', block)
    assert content(RecordIO(laid(tmp_path / 'set', rec, GOOD[kind](idx)))) == content(whole)


@pytest.mark.slow
def test_an_idx_cut_anywhere(tmp_path, valid):
  rec, idx, whole = valid
  for cut in range(len(idx)):
    assert content(RecordIO(laid(tmp_path / 'set', rec, idx[:cut]))) == content(whole)


@pytest.mark.parametrize('kind', ['folder', 'pipe', 'forbidden', 'a link that leads nowhere'])
def test_an_idx_that_cannot_be_read_is_none(tmp_path, valid, caplog, monkeypatch, kind):
  rec, _, whole = valid
  path = laid(tmp_path / 'set', rec, None) / 'train.idx'
  make = {'folder': path.mkdir, 'pipe': lambda: os.mkfifo(path), 'forbidden': lambda: path.write_bytes(b'1\t0\n')}
  make.get(kind, lambda: path.symlink_to('nowhere'))()
  if kind == 'forbidden':
    monkeypatch.setattr(names, '_read', lambda *_: (_ for _ in ()).throw(PermissionError(13, 'Permission denied')))
  assert content(RecordIO(path.parent)) == content(whole)
  why = {'forbidden': 'cannot be read (Permission denied)', 'a link that leads nowhere': 'is missing'}
  assert f'train.idx {why.get(kind, "is no file")}: ' in caplog.text


def test_damage_of_the_rec_stays_an_error_whatever_idx_says(tmp_path, valid):
  rec, idx, whole = valid
  place = pairs(idx)[7][1]
  damaged = rec[:place] + bytes(8) + rec[place + 8 :]
  left = content(whole)[:6] + content(whole)[7:]
  kinds = ('missing', 'cut at the end of a line', 'lines missing', 'off by one', 'another file', 'one beyond the end')
  for kind in (None, *kinds):
    name = f'bytes {place} to' if kind else 'key 7'
    folder = laid(tmp_path / 'set', damaged, BAD[kind][0](idx) if kind else idx)
    with pytest.raises(DataError, match=rf'train\.rec, {name}'):
      RecordIO(folder)
    records = RecordIO(folder, damaged='skip')
    assert content(records) == left and len(records.skipped) == 1 and name in records.skipped[0].name


def test_records_that_a_damaged_one_hides_are_found(tmp_path, valid):
  """A length that reaches into the next record, which .idx does not name: .idx alone would show no gap."""
  rec, idx, whole = valid
  rows = pairs(idx)
  place = rows[7][1]
  longer = rec[: place + 4] + (1000).to_bytes(4, 'little') + rec[place + 8 :]
  records = RecordIO(laid(tmp_path / 'set', longer, text(rows[:8] + rows[9:])), damaged='skip')
  assert content(records) == content(whole)[:6] + content(whole)[7:]


@pytest.mark.parametrize(
  'line',
  [
    b' ' * 300_000 + b'x',
    b'1' + b' \t' * 150_000 + b'x',
    b'1 2' + b' ' * 300_000 + b'x',
    b'1' * 300_000,
    b'\t1' * 150_000,
  ],
)
def test_no_line_takes_long(line):
  start = time.perf_counter()
  assert names._parse(line)[1] == [1]
  assert time.perf_counter() - start < 1


@pytest.mark.slow
@settings(max_examples=int(os.environ.get('FUZZ', 100)), deadline=None, derandomize='FUZZ' not in os.environ)
@given(data=st.data())
def test_any_damage_of_idx_is_harmless(tmp_path_factory, valid, data):
  """Lines lost, changed, given twice or put in anywhere, but for places beyond the end, which a cut .rec has too."""
  rec, idx, whole = valid
  pair = st.tuples(st.integers(0, 40), st.integers(0, len(rec) - 8)).map(lambda pair: b'%d\t%d\n' % pair)
  lines = st.lists(st.sampled_from(idx.splitlines(keepends=True)) | pair | st.binary(max_size=9), max_size=60)
  folder = laid(tmp_path_factory.getbasetemp() / 'any', rec, b''.join(data.draw(lines)))
  try:
    assert content(RecordIO(folder)) == content(whole)
  except DataError as error:
    assert 'its place is beyond the end' in str(error)
