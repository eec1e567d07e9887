"""The training format: every record at its place, from any process or thread; and its records as face crops."""

import json
import os
import pickle
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gif_jax.core.errors import DataError
from gif_jax.core.storage.files import read_json, write_json
from gif_jax.data.augment import Chances
from gif_jax.data.crops import Crops
from gif_jax.data.formats.open import open_records
from gif_jax.data.formats.packed import Packed
from gif_jax.data.formats.records import Person, fingerprint
from gif_jax.data.images import read_image
from gif_jax.training import input_pipeline
from tests.helpers.record_files import write_records


def _encoded(image):
  return cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def _write(folder, encoded, labels):
  names = [f'person {label}' for label in range(max(labels) + 1)]
  write_records(folder, encoded, labels, names, origin='set', size=32)
  return folder


@pytest.fixture(scope='module')
def images(tiny_faces):
  return tiny_faces.train[:]


@pytest.fixture(scope='module')
def packed(images, tiny_faces, tmp_path_factory):
  folder = tmp_path_factory.mktemp('records') / 'packed'
  return _write(folder, [_encoded(image) for image in images], tiny_faces.train.labels())


def test_what_was_written_is_read(packed, images, tiny_faces):
  records = open_records(str(packed))
  assert len(records) == len(images) == 80 and records.size == 32
  assert [records[i] for i in range(80)] == [_encoded(image) for image in images]
  np.testing.assert_array_equal(records.labels(), tiny_faces.train.labels())
  assert records.people()[3] == Person('person 3', 'set:person 3') and len(records.people()) == 20


def test_the_fingerprint_is_of_names_and_numbers_of_images_in_their_order():
  people = [Person(name, 'set') for name in ('anna', 'ben', 'carl')]
  of = fingerprint(people, np.array([0, 0, 1, 2]))
  assert of == fingerprint([person._replace(origin='elsewhere') for person in people], np.array([2, 1, 0, 0]))
  assert of != fingerprint([people[1], people[0], people[2]], np.array([0, 0, 1, 2]))
  assert of != fingerprint(people, np.array([0, 1, 1, 2]))
  assert of != fingerprint(people[:2], np.array([0, 0, 1]))


def test_no_record_beyond_the_last(packed):
  with pytest.raises(IndexError):
    Packed(packed)[80]


def test_what_is_pickled_is_small_and_reads_the_same(packed):
  records = Packed(packed)
  sent = pickle.dumps(records)
  assert len(sent) < 1000
  assert pickle.loads(sent)[7] == records[7]


def test_threads_may_open_and_read_at_once(packed):
  expected = [Packed(packed)[i] for i in range(80)]
  for _ in range(20):
    records = pickle.loads(pickle.dumps(Packed(packed)))
    with ThreadPoolExecutor(8) as pool:
      assert list(pool.map(records.__getitem__, range(80))) == expected


def test_files_are_closed(packed):
  def descriptors():
    return len(os.listdir('/dev/fd'))

  before = descriptors()
  some = [Packed(packed) for _ in range(10)]
  assert descriptors() >= before + 10
  del some
  assert descriptors() <= before


def test_crops_are_the_pixels(packed, images):
  crops = Crops(Packed(packed), 32, np.arange(80)[::-1], np.arange(80))
  np.testing.assert_array_equal(crops[:], images[::-1])
  np.testing.assert_array_equal(crops[np.array([3, 70])], images[[76, 9]])
  np.testing.assert_array_equal(crops.labels(np.array([3, 70])), [3, 70])


def test_crops_of_another_size_keep_their_sides_in_proportion():
  image = np.full((20, 40, 3), 200, np.uint8)
  for size, height in ((20, 10), (80, 40)):
    crop = read_image(_encoded(image), size).pixels
    bar = (size - height) // 2
    assert crop.shape == (size, size, 3)
    assert (crop[bar : bar + height] == 200).all() and not crop[:bar].any() and not crop[bar + height :].any()


@pytest.mark.parametrize('damage', [b'', b'no image', None])
def test_an_image_that_cannot_be_decoded_is_named(images, tmp_path, damage):
  jpeg = cv2.imencode('.jpg', images[0])[1].tobytes()
  folder = _write(tmp_path / 'packed', [jpeg, jpeg[: len(jpeg) // 2] if damage is None else damage], [0, 1])
  crops = Crops(Packed(folder), 32, np.arange(2), np.arange(2))
  assert crops[:1].shape == (1, 32, 32, 3)
  with pytest.raises(DataError, match=r'images\.bin, image 1 cannot be decoded: .*gif_jax convert'):
    crops[np.array([0, 1])]


def _flip(file, place):
  """Changes one bit of a file."""
  content = bytearray(file.read_bytes())
  content[place] ^= 1
  file.write_bytes(content)


def _rewrite(file, **changes):
  """A meta.json with other values, and a checksum that fits them."""
  write_json(file, read_json(file, DataError, '') | changes, checksum=True)


@pytest.mark.parametrize(
  ('file', 'change', 'message'),
  [
    ('images.bin', lambda file: file.write_bytes(file.read_bytes()[:-1]), r'images\.bin has .* copy it again'),
    ('images.bin', os.remove, r'images\.bin cannot be opened \(No such file'),
    ('labels.npy', lambda file: np.save(file, np.zeros(80, np.int32)), r'labels\.npy holds int32 \[80\], wanted'),
    ('offsets.npy', lambda file: np.save(file, np.zeros(9, np.int64)), r'offsets\.npy holds int64 \[9\]'),
    ('lengths.npy', lambda file: file.write_bytes(b'x' * 200), r'lengths\.npy is no \.npy array: .* convert the data'),
    ('meta.json', lambda file: file.write_text('{"version": 9}'), r'meta\.json: not version 1'),
    ('labels.npy', lambda file: np.save(file, np.arange(80) % 21), r'labels\.npy does not name each of 20 people'),
    ('labels.npy', lambda file: np.save(file, np.arange(80) % 19), r'labels\.npy does not name each of 20 people'),
    ('labels.npy', lambda file: np.save(file, np.arange(80) % 20 - 1), r'labels\.npy does not name each of 20'),
    ('meta.json', lambda file: _rewrite(file, images=0), r'meta\.json: no images'),
    ('meta.json', lambda file: file.write_text(file.read_text().replace('80', '0')), r'meta\.json is damaged .*again'),
    ('meta.json', lambda file: file.write_text('{'), r'meta\.json is damaged .* no whole folder'),
    ('meta.json', os.remove, r'meta\.json cannot be read \(No such file .* no whole folder'),
    ('offsets.npy', lambda file: _flip(file, 300), r'offsets\.npy does not match its checksum.* copy or convert'),
    ('lengths.npy', lambda file: _flip(file, 300), r'lengths\.npy does not match its checksum.* copy or convert'),
    ('labels.npy', lambda file: _flip(file, 300), r'labels\.npy does not match its checksum.* copy or convert'),
    ('crcs.npy', lambda file: _flip(file, 300), r'crcs\.npy does not match its checksum.* copy or convert'),
    ('crcs.npy', os.remove, r'crcs\.npy cannot be read \(No such file.* copy or convert'),
  ],
)
def test_damage_is_named(images, tiny_faces, tmp_path, file, change, message):
  folder = _write(tmp_path / 'packed', [_encoded(image) for image in images], tiny_faces.train.labels())
  change(folder / file)
  with pytest.raises(DataError, match=message):
    Packed(folder)


def test_a_file_cut_while_it_is_open(images, tiny_faces, tmp_path):
  folder = _write(tmp_path / 'packed', [_encoded(image) for image in images], tiny_faces.train.labels())
  records = Packed(folder)
  os.truncate(folder / 'images.bin', 1000)
  with pytest.raises(DataError, match=r'images\.bin, image 79: the file is shorter'):
    records[79]


@pytest.mark.parametrize('bit', range(0, 8 * 700, 97))
def test_an_image_with_a_flipped_bit_is_not_read(images, tmp_path, bit):
  encoded = [_encoded(image) for image in images[:2]]
  folder = _write(tmp_path / 'packed', encoded, [0, 1])
  content = bytearray((folder / 'images.bin').read_bytes())
  content[len(encoded[0]) + bit // 8] ^= 1 << bit % 8
  (folder / 'images.bin').write_bytes(content)
  records = Packed(folder)
  assert records[0] == encoded[0]
  with pytest.raises(DataError, match=r'images\.bin, image 1 is damaged: .* checksum; copy or convert the data again'):
    records[1]


def test_people_with_another_spelling_are_not_read(images, tmp_path):
  folder = _write(tmp_path / 'packed', [_encoded(image) for image in images[:2]], [0, 1])
  _flip(folder / 'people.tsv', 3)
  with pytest.raises(DataError, match=r'people\.tsv is damaged: .* checksum in meta\.json; copy or convert'):
    Packed(folder).people()


def test_a_folder_of_an_earlier_version_is_read_with_a_word_in_the_log(images, tmp_path, caplog):
  encoded = [_encoded(image) for image in images[:3]]
  folder = _write(tmp_path / 'packed', encoded, [0, 1, 1])
  people = Packed(folder).people()
  for name in ('offsets', 'lengths', 'labels'):
    np.save(folder / f'{name}.npy', np.load(folder / f'{name}.npy'))  # without a checksum
  (folder / 'crcs.npy').unlink()
  meta = json.loads((folder / 'meta.json').read_text())
  del meta['checksum'], meta['people_sha256']
  (folder / 'meta.json').write_text(json.dumps(meta))
  with caplog.at_level('INFO', 'gif_jax'):
    records = Packed(folder)
  assert f'{folder} is of an earlier version, without checksums of its images; convert it again' in caplog.text
  assert [records[i] for i in range(3)] == encoded and records.labels().tolist() == [0, 1, 1]
  assert records.people() == people


FUZZ = settings(
  max_examples=int(os.environ.get('FUZZ', 100)), deadline=None, derandomize='FUZZ' not in os.environ, database=None
)


@pytest.mark.slow
@FUZZ
@given(data=st.data())
def test_any_damage_is_a_data_error_or_harmless(data):
  """Bytes of any file changed, cut or put in: all is read as it was, or a DataError says what is wrong."""
  with tempfile.TemporaryDirectory() as name:
    images, labels = [b'one', b'three', b'', b'fourteen bytes', *[b'more of it'] * 8], [0, 1, 1, *[2] * 9]
    folder = _write(Path(name) / 'packed', images, labels)
    people, size = Packed(folder).people(), Packed(folder).size
    file = folder / data.draw(st.sampled_from(sorted(path.name for path in folder.iterdir())))
    content = file.read_bytes()
    start, stop = sorted(data.draw(st.integers(0, len(content))) for _ in range(2))
    file.write_bytes(content[:start] + data.draw(st.binary(max_size=16)) + content[stop:])
    try:
      records = Packed(folder)
      assert (records.people(), records.labels().tolist(), records.size) == (people, labels, size)
      assert [records[i] for i in range(len(records))] == images
    except DataError as error:
      assert str(folder) in str(error)


def _batches(faces, table, **options):
  chances = Chances(*[0.3] * len(Chances._fields))
  return list(input_pipeline.batches(faces, table, batch_size=16, seed=3, stop=12, chances=chances, **options))


@pytest.mark.slow
def test_batches_of_records_whatever_the_threads_start_and_processes(packed, tiny_faces, tiny_table):
  crops = Crops(Packed(packed), 32, np.arange(80), tiny_faces.train.labels())
  rendered = _batches(tiny_faces.train, tiny_table)
  for options in ({}, {'workers': 1}, {'workers': 4}, {'workers': 3, 'start': 5}):
    found = _batches(crops, tiny_table, **options)
    expected = rendered[options.get('start', 0) :]
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected):
      assert all(np.array_equal(ours[name], theirs[name]) for name in ours.keys() | theirs.keys())
  shares = [_batches(crops, tiny_table, workers=2, rows=rows) for rows in np.arange(16).reshape(4, 4)]
  for step, batch in enumerate(rendered):
    for name, rows in batch.items():
      np.testing.assert_array_equal(rows, np.concatenate([share[step][name] for share in shares]))


def test_errors_come_out_of_threads(images, tiny_table, tmp_path):
  folder = _write(tmp_path / 'packed', [_encoded(images[0]), b'no image'], [0, 1])
  crops = Crops(Packed(folder), 32, np.arange(2), np.arange(2))
  for workers in (0, 2):
    with pytest.raises(DataError, match=r'images\.bin, image 1 cannot be decoded'):
      _batches(crops, tiny_table, workers=workers)
