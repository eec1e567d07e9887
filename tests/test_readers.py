"""Every reader of files, given whatever may lie there: it reads, or raises a UserError of one line that says where."""

import io
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st

from gif_jax.codes.table import CodeTable
from gif_jax.config import default
from gif_jax.core.errors import UserError
from gif_jax.core.storage.arrays import load_array, load_arrays
from gif_jax.core.storage.resume import Draft, Progress
from gif_jax.data.alignment.landmarks import read_landmarks
from gif_jax.data.convert.convert import Settings, convert
from gif_jax.data.convert.merge import Merged, named, read_same
from gif_jax.data.convert.pair_list import read_pair_list
from gif_jax.data.formats.folder import Photos
from gif_jax.data.formats.open import open_records
from gif_jax.data.listing import list_people
from gif_jax.data.sets.decode import survey
from gif_jax.evaluation.registry import open_benchmark
from gif_jax.evaluation.report.thresholds import read_thresholds
from gif_jax.models.checkpoint.reader import read_saved
from gif_jax.models.clip import open_clip
from gif_jax.training import run_record
from gif_jax.training.metrics import MetricsLog
from tests.helpers.checkpoints import write_run
from tests.helpers.damage import FUZZ, changed
from tests.helpers.photographs import write_people
from tests.helpers.pictures import encode
from tests.helpers.places import ROOT
from tests.helpers.portraits import prepare
from tests.helpers.record_files import six_people, write_records
from tests.helpers.template_files import write_set


def _use_records(where):
  records = open_records(where)
  return [records[i] for i in range(len(records))], records.people()


def _use_benchmark(where):
  benchmark = open_benchmark(str(where), 32)
  return benchmark.images is not None and benchmark.images[np.arange(len(benchmark.images))]


class Places:
  """A folder of every kind of file, made once: {reader: (its files, what reads them)}."""

  def __init__(self, root: Path, faces):
    self.root = root
    images = [encode(image) for image in faces[np.arange(8)]]
    labels = [0, 0, 1, 1, 2, 2, 3, 3]
    write_people(root / 'photos', faces, 2, 2)
    self.photos = Photos(root / 'photos')
    self.names = [self.photos.name(i) for i in range(len(self.photos))]
    write_records(root / 'packed', images, labels, names=['Zoë', 'b', '=c', "d'"])
    convert(Settings(str(root / 'photos'), root / 'rec' / 'train.rec'))
    six_people(root / 'six.bin', faces)
    np.save(root / 'identities.npy', np.repeat(np.arange(5), 4))
    write_set(root / 'IJBC')
    self._write_lists()
    self._write_tfds(images)
    self._write_made()
    write_run(root / 'run')

  def _write_lists(self):
    numbers = ' '.join(['38.3', '51.7', '73.5', '51.5', '56.0', '71.7', '41.5', '92.4', '70.7', '92.2'])
    (self.root / 'points.txt').write_text(''.join(f'{name} {numbers} .9\n' for name in self.names))
    (self.root / 'pairs.txt').write_text(f'{self.names[0]}\t{self.names[1]}\t1\n{self.names[0]}\t{self.names[2]}\t0\n')
    (self.root / 'same.csv').write_text('same,similarity,first,second\n1,.9,photos:p00,photos:p01\n')
    (self.root / 'people.txt').write_text('p00\np01\n')
    for which, rows in (('gallery_G1', '7,1\n'), ('gallery_G2', '31,2\n'), ('probe_mixed', '900,1\n4000,3\n')):
      (self.root / 'IJBC' / 'meta' / f'ijbc_1N_{which}.csv').write_text(f'TEMPLATE_ID,SUBJECT_ID\n{rows}')

  def _write_tfds(self, images):
    kinds = {'image': tfds.features.Image(shape=(32, 32, 3), encoding_format='png'), 'label': tfds.features.Text()}
    rows = [{'image': io.BytesIO(images[i]), 'label': f'p{i}'} for i in range(4)]
    self.tfds = prepare(self.root / 'tfds', kinds, rows)

  def _write_made(self):
    vectors = np.eye(6, dtype=np.float32)
    CodeTable.write(
      self.root / 'table',
      np.arange(6)[:, None],
      vectors,
      v=6,
      encoder='e',
      seed=0,
      label_space='',
      settings={'codes': 'tree'},
    )
    Draft(self.root / 'draft', {'seed': 1}).save('codes', 3, np.arange(9))
    Progress(self.root / 'progress', 'rows', {'key': 'a'}).save(3, {'sums': np.arange(4.0)})
    (self.root / 'clip').mkdir()
    for name in ('config.json', 'model.safetensors'):
      shutil.copy(ROOT / 'tests' / 'golden' / 'clip' / name, self.root / 'clip')
    means = {'image_mean': [0.5, 0.5, 0.5], 'image_std': [1, 1, 1]}
    (self.root / 'clip' / 'preprocessor_config.json').write_text(json.dumps(means))
    (self.root / 'thresholds.json').write_text(
      json.dumps(
        {
          'format': 1,
          'model': 'm',
          'metric': 'cosine of f(x) + f(flip x)',
          'use': '',
          'benchmarks': {
            'a': {'protocol': '', 'mode': '', 'fars': {'1e-3': {'cosine': 0.5, 'tar': 0.5, 'interval': None}}}
          },
        }
      )
    )
    run_record.note_start(self.root / 'run', default(), 0, 9, {}, lambda step: 0.1)
    log = MetricsLog(self.root / 'run', 0)
    log.write(1, {'loss': 1.0})
    log.close()
    scipy.io.savemat(self.root / 'names.mat', {'names': np.array([['a.jpg'], ['b.jpg']], object)})
    survey(self.root / 'photos', _photos(self.root / 'photos'), 16, self.root / 'cache')

  def readers(self):
    """{name: (folder or file that is changed, what reads it there)}."""
    photos = _photos(self.root / 'photos')
    return {
      'training format': ('packed', _use_records),
      'RecordIO': ('rec', _use_records),
      'verification set': ('six.bin', _use_benchmark),
      'identities': ('identities.npy', _use_benchmark),
      'IJB': ('IJBC', _use_benchmark),
      'landmarks': ('points.txt', lambda path: read_landmarks(path, self.root / 'photos', self.names)),
      'pairs': ('pairs.txt', lambda path: read_pair_list(path, self.photos)),
      'people who are one': ('same.csv', lambda path: list(read_same(path, [('photos', 'p00'), ('photos', 'p01')]))),
      'people': ('people.txt', lambda path: named(path, Merged({'photos': self.photos}))),
      'tfds': (self.tfds.relative_to(self.root), lambda path: _use_records(f'tfds:{path}')),
      'table': ('table', lambda path: (CodeTable.open(path).verify(), CodeTable.open(path).rows(np.arange(6)))),
      'draft': ('draft', lambda path: Draft(path, {'seed': 1}).load('codes')),
      'progress': ('progress', lambda path: Progress(path, 'rows', {'key': 'a'}).load(0)),
      'CLIP': ('clip', open_clip),
      'thresholds': ('thresholds.json', read_thresholds),
      'array': ('identities.npy', load_array),
      'arrays': ('progress', lambda path: load_arrays(path / 'rows-0.npz')),
      'a run': ('run', lambda path: (read_saved(path), run_record.check(path, default(), True))),
      'metrics': ('run', lambda path: MetricsLog(path, 1).close()),
      'decoded photographs': ('cache', lambda path: survey(self.root / 'photos', photos, 16, path)),
    }


def _photos(root):
  return [photo for own in list_people(root).people.values() for photo in own]


@pytest.fixture(scope='module')
def places(tiny_faces, tmp_path_factory):
  return Places(tmp_path_factory.mktemp('places'), tiny_faces.train)


READERS = [
  'training format',
  'RecordIO',
  'verification set',
  'identities',
  'IJB',
  'landmarks',
  'pairs',
  'people who are one',
  'people',
  'tfds',
  'table',
  'draft',
  'progress',
  'CLIP',
  'thresholds',
  'array',
  'arrays',
  'a run',
  'metrics',
  'decoded photographs',
]
_numbers = itertools.count()


def test_every_reader_is_here(places):
  assert list(places.readers()) == READERS
  for where, read in places.readers().values():
    read(places.root / where)


@pytest.mark.slow
@pytest.mark.parametrize('reader', READERS)
@FUZZ
@given(data=st.data())
def test_any_change_to_any_file_is_read_or_named(places, reader, data):
  where, read = places.readers()[reader]
  place = places.root / 'changed' / str(next(_numbers))
  source = places.root / where
  place.parent.mkdir(exist_ok=True)
  shutil.copytree(source, place) if source.is_dir() else shutil.copy(source, place := place.with_suffix(source.suffix))
  files = sorted(path for path in place.rglob('*') if path.is_file()) if place.is_dir() else [place]
  file = data.draw(st.sampled_from(files), label='file')
  content = data.draw(st.sampled_from(['changed', 'any', 'gone', 'nested', 'a folder']), label='how')
  if content == 'changed':
    file.write_bytes(changed(file.read_bytes(), data))
  elif content == 'any':
    file.write_bytes(data.draw(st.binary(max_size=200)))
  elif content == 'nested':
    file.write_bytes(b'[' * 100_000)
  else:
    file.unlink()
    if content == 'a folder':
      file.mkdir()
  try:
    read(place)
  except UserError as error:
    assert str(error).strip() and '\n' not in str(error).strip()[:500]
  finally:
    shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
