"""InsightFace's RecordIO: what MXNet's own writer wrote, our own files, labels, the index and its cache."""

import logging
import pickle
import struct

import numpy as np
import pytest

from gif_jax.core.errors import DataError
from gif_jax.data.crops import Crops
from gif_jax.data.formats.open import open_records
from gif_jax.data.formats.recordio import RecordIO, RecordWriter, framing, heads, names, reader, write_insightface
from gif_jax.data.formats.records import Person
from tests.helpers.golden_records import EXPECTED, GOLDEN, IMAGES
from tests.helpers.record_files import Given, content, write

SPLIT = IMAGES[9:]
MAGIC = struct.pack('<I', framing.MAGIC)


def test_what_mxnet_wrote_as_insightface_does():
  records = open_records(str(GOLDEN / 'insightface'))
  assert content(records) == IMAGES
  assert records.people() == [Person(str(label), f'insightface:{label}') for label in (3, 7, 100000)]
  assert [int(records.people()[label].name) for label in records.labels()] == EXPECTED['labels']
  assert records.labels().dtype == np.int64 and records.size == 8 and not records.skipped
  assert records.where(4) == f'{GOLDEN}/insightface/train.rec, key 5'
  assert not records.report.sentences() and records.report.header == [21, 24] and records.report.ranges == 3


def test_what_mxnet_wrote_without_header_and_shuffled():
  records = open_records(str(GOLDEN / 'plain' / 'train.rec'))
  assert content(records) == [IMAGES[key] for key in EXPECTED['order']]
  assert records.labels().tolist() == [key % 5 for key in EXPECTED['order']]
  assert records.size == 0 and records.report.header is None and not records.report.sentences()


def test_what_we_write_is_what_mxnet_writes(tmp_path):
  write_insightface(Given(SPLIT, [i % 3 for i in range(len(SPLIT))]), tmp_path / 'train.rec')
  for name in ('train.rec', 'train.idx', 'property'):
    assert (tmp_path / name).read_bytes() == (GOLDEN / 'ours' / name).read_bytes(), name
  assert len(list(tmp_path.iterdir())) == 3


def test_without_idx_the_file_is_read_from_its_start(tmp_path):
  for name in ('insightface', 'plain'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'train.rec').write_bytes((GOLDEN / name / 'train.rec').read_bytes())
    for damaged in ('error', 'skip'):
      found, known = open_records(str(tmp_path / name), damaged=damaged), RecordIO(GOLDEN / name)
      assert content(found) == content(known) and not found.skipped
      assert found.report == known.report._replace(idx='train.idx is missing') and len(found.report.sentences()) == 1
      np.testing.assert_array_equal(found.labels(), known.labels())
      assert found.where(4) == known.where(4).replace(str(GOLDEN), str(tmp_path))


def test_records_without_keys_of_their_own_are_numbered(tmp_path):
  with RecordWriter(tmp_path / 'a.rec') as writer:
    for key in range(3):
      writer.write(10 + key, framing.pack(bytes([key]), key, 0))
  assert RecordIO(tmp_path / 'a.rec').where(2) == f'{tmp_path}/a.rec, key 12'
  (tmp_path / 'a.idx').unlink()
  assert RecordIO(tmp_path / 'a.rec').where(2) == f'{tmp_path}/a.rec, record 2'


@pytest.mark.slow
def test_files_larger_than_a_block(tmp_path, monkeypatch):
  rng = np.random.default_rng(0)
  images = [rng.bytes(size) + MAGIC * (size % 3) for size in rng.integers(1, 200, 500)]
  write_insightface(Given(images, rng.permutation(500) % 40), tmp_path / 'train.rec')
  whole = RecordIO(tmp_path)
  for block in (16, 20, 128, 1000):
    monkeypatch.setattr(heads, '_BLOCK', block)
    monkeypatch.setattr(names, '_BLOCK', block)
    (tmp_path / 'train.idx').rename(tmp_path / 'other.idx')
    scanned = RecordIO(tmp_path)
    (tmp_path / 'other.idx').rename(tmp_path / 'train.idx')
    for found in (RecordIO(tmp_path), scanned):
      assert content(found) == content(whole) and found.report._replace(idx='') == whole.report
      np.testing.assert_array_equal(found.labels(), whole.labels())
  assert sorted(content(whole)) == sorted(images)


def test_labels_are_renumbered_and_kept_as_names(tmp_path):
  labels = [16777215, 5, 2, 5, 0, 900000]
  path = write(tmp_path / 'some.rec', *((i, label, b'x') for i, label in enumerate(labels)))
  records = RecordIO(path)
  assert records.labels().tolist() == [4, 2, 1, 2, 0, 3]
  assert records.people()[2] == Person('5', 'some:5')


def test_idx_as_others_write_it(tmp_path):
  path = write(tmp_path / 'train.rec', *((i, i % 2, bytes([i])) for i in range(4)))
  lines = path.with_suffix('.idx').read_text().split('\n')[:4]
  spaces = '\n'.join(lines).replace('\t', '  ')
  for text in ('\r\n'.join(lines), '\n\n'.join(reversed(lines)), spaces, ' \n'.join(lines)):
    path.with_suffix('.idx').write_text(text)
    assert content(RecordIO(path)) == [bytes([i]) for i in range(4)]


def test_records_named_twice_are_read_once(tmp_path):
  path = write(tmp_path / 'train.rec', *((i // 2, 0, bytes([i])) for i in range(4)))
  with path.with_suffix('.idx').open('a') as file:
    file.write('7\t0\n7\t0\n')
  records = RecordIO(path)
  assert content(records) == [bytes([i]) for i in range(4)]
  assert records.report.places_twice == 2 and records.report.keys_twice == 2


def _rounded(path, first):
  """As InsightFace writes two people with two images each, keys from `first` on."""
  images = [(first + i, i // 2, b'x') for i in range(4)]
  people = [(first + 4, (first, first + 2), b''), (first + 5, (first + 2, first + 4), b'')]
  return RecordIO(write(path, (0, (first + 4, first + 6), b''), *images, *people))


def test_what_float32_did_to_header_and_ranges(tmp_path, caplog):
  assert not _rounded(tmp_path / 'exact.rec', (1 << 24) - 7).report.sentences()
  with caplog.at_level(logging.WARNING):
    records = _rounded(tmp_path / 'rounded.rec', (1 << 24) + 1)
  assert records.labels().tolist() == [0, 0, 1, 1] and not records.skipped
  assert records.report.header == [16777220, 16777224] and records.report.keys == [16777221, 16777223]
  assert records.report.ranges == records.report.ranges_wrong == records.report.ranges_rounded == 2
  assert 'rebuilt from the records as [16777221, 16777223]' in caplog.text and '2 of 2 identity records' in caplog.text


def test_ranges_that_are_wrong_for_another_reason(tmp_path):
  people = [
    (4, (1, 3), b''),
    (5, (2, 4), b''),
    (6, (3, 4), b''),
    (7, (9, 4), b''),
    (8, (float('nan'), 4), b''),
    (9, (1, 2), b''),
  ]
  path = write(tmp_path / 'a.rec', (0, (4, 10), b''), (1, 0, b'x'), (2, 0, b'x'), (3, 1, b'x'), *people)
  report = RecordIO(path).report
  assert (report.ranges, report.ranges_wrong, report.ranges_rounded) == (6, 4, 0)


def test_labels_that_float32_may_have_joined(tmp_path):
  report = RecordIO(write(tmp_path / 'a.rec', (0, 1 << 24, b'x'), (1, 1 << 25, b'x'), (2, 3, b'x'))).report
  assert report.rounded == 2 and 'people may share a label' in report.sentences()[0]


@pytest.mark.parametrize(
  ('label', 'why'),
  [
    (float('nan'), 'no number'),
    (float('inf'), 'no number'),
    (1e30, 'no number'),
    (0.5, 'no whole number'),
    (-1.0, 'negative'),
    ([float('nan')], 'no number'),
  ],
)
def test_labels_that_are_none(tmp_path, label, why):
  path = write(tmp_path / 'a.rec', (10, 1, b'a'), (11, label, b'b'), (12, 0, b'c'))
  with pytest.raises(DataError, match=rf'a\.rec, key 11: its label is {why} .* python -m gif_jax convert'):
    open_records(str(path))
  records = open_records(str(path), damaged='skip')
  assert content(records) == [b'a', b'c'] and records.labels().tolist() == [1, 0]
  assert records.skipped == [('a.rec, key 11', f'its label is {why}')]
  assert records.report.damaged == {f'its label is {why}': 1}


def test_property_is_believed_for_the_size_and_reported_where_it_is_wrong(tmp_path, caplog):
  path = write(tmp_path / 'train.rec', (0, 0, b'x'))
  for text, size in (('1,112,112\nmore', 112), ('2,96,96', 96), ('1,96,112', 0), ('junk', 0), ('1,-2,-2', 0), ('', 0)):
    (tmp_path / 'property').write_text(text)
    with caplog.at_level(logging.WARNING):
      assert RecordIO(path).size == size
  assert caplog.text.count('property says 2 people, there are 1') == 1 == len(caplog.records)


def test_a_writer_that_fails_leaves_nothing(tmp_path):
  class Broken(Given):
    def __getitem__(self, index):
      raise DataError('gone')

  with pytest.raises(DataError, match='gone'):
    write_insightface(Broken(IMAGES, [0] * 20), tmp_path / 'train.rec')
  assert not list(tmp_path.iterdir())


def test_a_payload_that_no_record_holds(tmp_path, monkeypatch):
  monkeypatch.setattr(framing, 'LENGTH', 100)
  with pytest.raises(DataError, match=r'record 1 has 101 bytes, but a record holds at most 100'):
    write_insightface(Given([bytes(77)], [0]), tmp_path / 'train.rec')


def test_rounding_is_announced(tmp_path, monkeypatch, caplog):
  monkeypatch.setattr('gif_jax.data.formats.recordio.writer.EXACT', 24)
  write_insightface(Given(IMAGES, [i % 3 for i in range(20)]), tmp_path / 'a.rec')
  assert not caplog.text
  write_insightface(Given(IMAGES, [i % 4 for i in range(20)]), tmp_path / 'a.rec')
  assert 'rounded to float32' in caplog.text and 'exact' in caplog.text


def test_the_index_is_kept_and_used_again(tmp_path, monkeypatch):
  write_insightface(Given(IMAGES, [i % 4 for i in range(20)]), tmp_path / 'train.rec')
  first = open_records(str(tmp_path), tmp_path / 'cache')
  assert sorted(path.suffix for path in (tmp_path / 'cache').iterdir()) == ['.json'] + ['.npy'] * 6
  with monkeypatch.context() as patch:
    patch.setattr(reader, 'make_index', None)
    again = open_records(str(tmp_path), tmp_path / 'cache')
    sent = pickle.loads(pickle.dumps(again))
    assert content(first) == content(again) == content(sent) and sent.report == first.report
    np.testing.assert_array_equal(sent.labels(), first.labels())
  assert len(pickle.dumps(again)) < 1000
  kept = next((tmp_path / 'cache').glob('*.places.npy'))
  (tmp_path / 'cut').write_bytes(kept.read_bytes()[:50])
  (tmp_path / 'cut').rename(kept)  # a damaged index is made again
  assert content(open_records(str(tmp_path), tmp_path / 'cache')) == content(first)
  write(tmp_path / 'train.rec', (0, 0, b'other'))
  assert content(open_records(str(tmp_path), tmp_path / 'cache')) == [b'other']


@pytest.mark.parametrize('name', ['json', *(f'{name}.npy' for name in reader._ARRAYS)])
@pytest.mark.parametrize('damage', ['cut', 'empty', 'flipped'])
def test_a_damaged_index_is_made_again(tmp_path, caplog, name, damage):
  write_insightface(Given(IMAGES, [i % 4 for i in range(20)]), tmp_path / 'train.rec')
  first = open_records(str(tmp_path), tmp_path / 'cache')
  (kept,) = (tmp_path / 'cache').glob(f'*.{name}')
  before = kept.read_bytes()
  place = len(before) // 2 if name == 'json' else 130
  flipped = before[:place] + bytes([before[place] ^ 2]) + before[place + 1 :]
  # A file of its own: the one before is mapped.
  (tmp_path / 'other').write_bytes({'cut': before[:-1], 'empty': b'', 'flipped': flipped}[damage])
  (tmp_path / 'other').rename(kept)
  if name == 'json' and damage == 'cut':
    kept.write_bytes(before[:-2])  # more than the line break
  again = open_records(str(tmp_path), tmp_path / 'cache')
  assert content(again) == content(first) and again.people() == first.people() and again.report == first.report
  np.testing.assert_array_equal(again.labels(), first.labels())
  assert str(kept) in caplog.text and kept.read_bytes() == before


def test_a_worker_without_cache_reads_the_index_itself():
  records = pickle.loads(pickle.dumps(RecordIO(GOLDEN / 'insightface')))
  assert content(records) == IMAGES


def test_what_was_left_out_is_kept_with_the_index(tmp_path):
  path = write(tmp_path / 'a.rec', (0, -1, b'a'), (1, 0, b'b'))
  for _ in range(2):
    assert [entry.reason for entry in RecordIO(path, tmp_path, damaged='skip').skipped] == ['its label is negative']
    with pytest.raises(DataError, match='key 0: its label is negative'):
      RecordIO(path, tmp_path)


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
  path = write(tmp_path / 'a.rec', (0, 0, b'abcd'), (1, 0, b'abcd' + MAGIC), (2, 0, b'efgh'))
  records = RecordIO(path)
  path.write_bytes(path.read_bytes()[:40])
  assert records[0] == b'abcd'
  for i in (1, 2):
    with pytest.raises(DataError, match=rf'a\.rec, key {i}: the file has changed'):
      records[i]


def test_crops_of_records():
  records = RecordIO(GOLDEN / 'insightface')
  crops = Crops(records, 8, np.arange(9), records.labels()[:9])
  assert crops[:].shape == (9, 8, 8, 3) and crops[:].std() > 20
