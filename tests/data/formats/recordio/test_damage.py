"""Damaged .rec and .idx files: records or a DataError, never anything else. FUZZ=EXAMPLES fuzzes for longer."""

import os
import struct
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gif_jax.core.errors import DataError
from gif_jax.data.formats.recordio import RecordIO, RecordWriter, framing, write_insightface
from tests.helpers.record_files import Given, content, write

MAGIC = struct.pack('<I', framing.MAGIC)
FUZZ = settings(
  max_examples=int(os.environ.get('FUZZ', 100)),
  deadline=None,
  derandomize='FUZZ' not in os.environ,
  database=None,
  suppress_health_check=list(HealthCheck),
)
IMAGES = [b'abc', MAGIC, b'x' + MAGIC, b'abcd' + MAGIC + MAGIC + b'ef', b'defghijk', b'l', MAGIC + b'm']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('records')


@pytest.fixture(scope='module')
def valid(folder):
  """The bytes of a .rec and its .idx with IMAGES of three people, and where its records begin."""
  write_insightface(Given(IMAGES, [i % 3 for i in range(len(IMAGES))]), folder / 'valid.rec')
  rec, idx = ((folder / f'valid.{name}').read_bytes() for name in ('rec', 'idx'))
  return rec, idx, [int(line.split()[1]) for line in idx.splitlines()] + [len(rec)]


def opened(folder, rec, idx, damaged='skip'):
  """What a .rec with these bytes opens as, without .idx where that is None; or the DataError."""
  path = folder / 'train.rec'
  path.write_bytes(rec)
  path.with_suffix('.idx').unlink(missing_ok=True)
  if idx is not None:
    path.with_suffix('.idx').write_bytes(idx)
  try:
    return RecordIO(path, damaged=damaged)
  except DataError as error:
    return error


def check(folder, rec, idx):
  """Opens the files in every way; what opens is whole. Returns the images by the place of their record."""
  records = opened(folder, rec, idx)
  strict = opened(folder, rec, idx, 'error')
  if isinstance(records, DataError):
    assert isinstance(strict, DataError) and 'train.' in str(records)
    return []
  images, labels = content(records), records.labels()
  assert all(isinstance(image, bytes) and image for image in images)
  assert len(labels) == len(images) and set(labels.tolist()) == set(range(len(records.people())))
  assert all(records.where(i) for i in range(len(images))) and isinstance(records.report.sentences(), list)
  if isinstance(strict, DataError):
    assert records.skipped
  else:
    assert not records.skipped and content(strict) == images
  return images


@pytest.mark.slow
def test_a_file_cut_anywhere_gives_the_records_before_the_cut(folder, valid):
  rec, idx, places = valid
  order = [IMAGES[i] for i in np.argsort([i % 3 for i in range(len(IMAGES))], kind='stable')]
  for cut in range(0, len(rec), 3):  # every remainder by 4
    whole = sum(end - _padding(rec, begin) <= cut for begin, end in pairwise(places[1 : len(IMAGES) + 2]))
    for names in (idx, None):
      assert check(folder, rec[:cut], names) == order[:whole], cut
    assert isinstance(opened(folder, rec[:cut], idx, 'error'), DataError)


def _padding(rec, begin):
  """Bytes of zeros after the record at `begin`."""
  while True:
    _, word = framing.HEAD.unpack_from(rec, begin)
    length = word & framing.LENGTH
    if word >> framing.SHIFT in (framing.SINGLE, framing.LAST):
      return -length % 4
    begin += framing.HEAD.size + framing.padded(length)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda rec: b'', r'train\.rec, key 0: its place is beyond the end of the file .* python -m gif_jax convert'),
    (lambda rec: b'\0' + rec[1:], r'train\.rec, key 0: no record begins there \(wrong magic\)'),
    (lambda rec: rec[:-20], r'train\.rec, key 10: it is cut off'),
    (lambda rec: rec + rec[:40], None),
  ],
)
def test_messages_name_file_key_and_cure(folder, valid, change, message):
  rec, idx, _ = valid
  found = opened(folder, change(rec), idx, 'error')
  if message:
    assert isinstance(found, DataError)
    with pytest.raises(DataError, match=message):
      raise found
  else:
    assert 'train.idx names no record in 40 bytes of train.rec' in found.report.sentences()[0]


@pytest.mark.parametrize('line', [b'7', b'x\t8', b'7\t-8', b'7\t1.5', b'7\t8\t9', b'7\t' + b'9' * 19, b'\xff\0\t1'])
def test_lines_of_idx_that_cannot_be_read(folder, valid, line):
  rec, idx, _ = valid
  for damaged in ('error', 'skip'):
    records = opened(folder, rec, idx + line, damaged)
    assert not records.skipped and len(records) == len(IMAGES)
    assert 'train.idx, line 12 is not KEY<TAB>PLACE (1 such lines)' in records.report.sentences()[0]
  records = opened(folder, rec[:-20], idx + line)  # what damage of the .rec is called is known from .idx alone
  assert [skipped.name for skipped in records.skipped] == ['train.idx, line 12', 'train.rec, key 10']


@pytest.mark.parametrize('place', [b'8', b'1', b'372 '])
def test_places_where_no_record_is(folder, valid, place):
  rec, idx, _ = valid
  for damaged in ('error', 'skip'):
    records = opened(folder, rec, idx + b'7\t' + place, damaged)
    assert not records.skipped and len(records) == len(IMAGES) and len(records.report.sentences()) == 1


def test_a_place_beyond_the_end_is_of_a_file_cut_off(folder, valid):
  rec, idx, _ = valid
  line = b'17\t' + b'9' * 18
  assert 'train.rec, key 17: its place is beyond' in str(opened(folder, rec, idx + line, 'error'))
  assert len(opened(folder, rec, idx + line).skipped) == 1


def test_files_without_anything(folder):
  for rec, idx in ((b'', b''), (b'', None), (bytes(64), b''), (bytes(64), None), (MAGIC, None), (b'', b'0\t0\n')):
    for damaged in ('error', 'skip'):
      assert isinstance(opened(folder, rec, idx, damaged), DataError)
  assert 'holds no image' in str(opened(folder, b'', b'', 'error'))


def test_files_that_are_not_there(tmp_path):
  for path in (tmp_path, tmp_path / 'a.rec'):
    with pytest.raises(DataError, match=r'is not there'):
      RecordIO(path, tmp_path / 'cache', damaged='skip')
  (tmp_path / 'b.rec').write_bytes(b'')
  (tmp_path / 'b.idx').mkdir()
  with pytest.raises(DataError, match=r'b\.rec holds no image'):
    RecordIO(tmp_path / 'b.rec')


@pytest.mark.parametrize(
  ('payload', 'why'),
  [
    (b'', 'too short'),
    (bytes(23), 'too short'),
    (bytes(24), 'there is no image'),
    (framing.pack(b'', [1.0], 0), 'there is no image'),
    (framing.HEADER.pack(3, 0, 0, 0) + bytes(8), 'labels are cut off'),
    (framing.HEADER.pack(0xFFFFFFFF, 0, 0, 0) + bytes(8), 'labels are cut off'),
    (framing.HEADER.pack(2, 0, 0, 0) + MAGIC, 'labels are cut off'),
  ],
)
def test_payloads_that_are_no_images(folder, payload, why):
  with RecordWriter(folder / 'train.rec') as writer:
    for key, content_of in enumerate((framing.pack(b'a', 0, 0), payload, framing.pack(b'b', 0, 0))):
      writer.write(key, content_of)
  records = RecordIO(folder / 'train.rec', damaged='skip')
  assert content(records) == [b'a', b'b'] and len(records.skipped) == 1 and why in records.skipped[0].reason


@pytest.mark.slow
def test_parts_that_together_are_longer_than_a_record_can_be(folder):
  half = framing.LENGTH // 2 & ~3
  write(folder / 'train.rec', (0, 0, b'a'))
  with (folder / 'train.rec').open('r+b') as file:  # mostly a hole, which takes no room
    begin = file.seek(0, os.SEEK_END)
    file.write(framing.HEAD.pack(framing.MAGIC, framing.FIRST << framing.SHIFT | half))
    file.seek(half, os.SEEK_CUR)
    file.write(framing.HEAD.pack(framing.MAGIC, framing.LAST << framing.SHIFT | half))
    file.truncate(file.tell() + half)
  with (folder / 'train.idx').open('a') as file:
    file.write(f'1\t{begin}\n')
  records = RecordIO(folder / 'train.rec', damaged='skip')
  (folder / 'train.rec').unlink()
  assert len(records) == 1 and records.skipped[0].reason == 'it is cut off or a part of it is missing'


def test_the_scan_names_what_it_passes_over(folder, valid):
  rec, _, places = valid
  gap = rec[: places[3]] + bytes(20) + rec[places[3] : places[4] + 4]
  records = opened(folder, gap, None)
  assert len(records) == 3
  assert (f'train.rec, bytes {places[3]} to {places[3] + 20}', 'no record is there') in records.skipped
  assert f'train.rec, bytes {places[4] + 20} to {places[4] + 24}' == records.skipped[-1].name


def test_very_many_damaged_records_are_counted(folder):
  path = write(folder / 'train.rec', (0, 0, b'a'))
  with path.with_suffix('.idx').open('a') as file:
    file.writelines(f'{key}\t{4 * key}\n' for key in range(100, 5100))
  records = RecordIO(path, damaged='skip')
  assert len(records.skipped) == 1001 and records.skipped[-1].reason.startswith('4000 more: its place is beyond')
  assert sum(records.report.damaged.values()) == 5000


@pytest.mark.slow
@FUZZ
@given(rec=st.binary(max_size=300), idx=st.none() | st.binary(max_size=60))
def test_any_bytes(folder, rec, idx):
  check(folder, rec, idx)


CFLAGS = [struct.pack('<I', cflag << framing.SHIFT) for cflag in range(8)]
PIECES = st.sampled_from([MAGIC, b'\x04\0\0\0', b'\xff\xff\xff\xff', *CFLAGS])


@pytest.mark.slow
@FUZZ
@given(st.lists(PIECES | st.binary(min_size=4, max_size=4), max_size=60), st.lists(st.integers(0, 60), max_size=8))
def test_any_heads(folder, words, places):
  rec = b''.join(words)
  check(folder, rec, None)
  check(folder, rec, ''.join(f'{key}\t{4 * place}\n' for key, place in enumerate(places)).encode())


HOW = st.sampled_from(['flip', 'cut', 'insert', 'end'])
CHANGES = st.lists(st.tuples(HOW, st.floats(0, 1), PIECES | st.binary(max_size=9)), max_size=4)


def changed(content_of, changes):
  """Bytes with other bytes over them, lost, put in, or with the end lost."""
  for how, where, piece in changes:
    at = int(where * len(content_of))
    before, after = content_of[:at], content_of[at:]
    rest = {'flip': piece + after[len(piece) :], 'cut': after[len(piece) :], 'insert': piece + after, 'end': b''}
    content_of = before + rest[how]
  return content_of


@pytest.mark.slow
@FUZZ
@given(CHANGES, CHANGES)
def test_any_change_of_a_valid_file(folder, valid, rec_changes, idx_changes):
  rec, idx, _ = valid
  tracemalloc.start()
  try:
    for names in (changed(idx, idx_changes), None):
      check(folder, changed(rec, rec_changes), names)
    assert tracemalloc.get_traced_memory()[1] < 1 << 25
  finally:
    tracemalloc.stop()


@pytest.mark.slow
@FUZZ
@given(which=st.integers(1, len(IMAGES)), where=st.floats(0, 1), piece=PIECES | st.binary(max_size=9))
def test_damage_stays_within_its_record(folder, valid, which, where, piece):
  rec, idx, places = valid
  begin, end = places[which : which + 2]
  at = begin + int(where * (end - begin))
  damaged = (rec[:at] + piece)[:end]
  damaged += rec[len(damaged) :]
  others = content(opened(folder, rec, idx))
  del others[which - 1]
  for names in (idx, None):
    left = check(folder, damaged, names)
    assert [image for i, image in enumerate(left) if len(left) == len(others) or i != which - 1] == others
