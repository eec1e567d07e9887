"""Photographs are decoded once: the cache, its fingerprint, processes."""

import logging
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from gif_jax.codes import tokenizer
from gif_jax.core.errors import DataError
from gif_jax.core.storage import resume
from gif_jax.data import listing
from gif_jax.data.sets import decode as survey
from gif_jax.data.sets.open import open_faces
from gif_jax.training import input_pipeline
from tests.helpers.photographs import folder_config, skipped
from tests.helpers.places import ROOT

SETS = ('train', 'held_out', 'validation', 'test')


def test_a_cache_holds_what_decoding_gives_and_is_used_again(photographs, tmp_path, monkeypatch):
  plain = open_faces(folder_config(photographs), None)
  config = folder_config(photographs, cache=True)
  cached = open_faces(config, tmp_path / 'cache')
  for name in SETS:
    np.testing.assert_array_equal(getattr(cached, name)[:], getattr(plain, name)[:])
    np.testing.assert_array_equal(getattr(cached, name).labels(), getattr(plain, name).labels())
  assert sorted(path.suffix for path in (tmp_path / 'cache').iterdir()) == ['.json', '.npy']
  monkeypatch.setattr(survey, 'read_image', None)
  again = open_faces(config.copy_and_resolve_references(), tmp_path / 'cache')
  np.testing.assert_array_equal(again.train[:], plain.train[:])
  assert again.people == cached.people
  config.data.seed = 1  # another split of the same pixels
  open_faces(config, tmp_path / 'cache')


def _same(faces, expected):
  for name in SETS:
    np.testing.assert_array_equal(getattr(faces, name)[:], getattr(expected, name)[:])
  assert faces.people == expected.people


@pytest.mark.parametrize('suffix', ['npy', 'json'])
@pytest.mark.parametrize(
  'damage',
  [
    lambda content: content[: len(content) // 2],
    lambda content: b'',
    lambda content: (
      content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]
    ),
  ],
  ids=['cut', 'empty', 'flipped'],
)
def test_a_damaged_cache_is_made_again(root, tmp_path, caplog, suffix, damage):
  (root / 'p01' / '0.jpg').write_bytes(b'')
  config = folder_config(root, people=(0, 0), cache=True)
  expected = open_faces(config, tmp_path / 'whole')
  open_faces(config, tmp_path / 'cache')
  (file,) = (tmp_path / 'cache').glob(f'*.{suffix}')
  file.write_bytes(damage(file.read_bytes()))
  caplog.clear()
  _same(open_faces(config, tmp_path / 'cache'), expected)
  warnings = [record.getMessage() for record in caplog.records if record.levelname == 'WARNING']
  assert any(str(file) in line and 'again' in line for line in warnings)
  assert sorted(path.suffix for path in (tmp_path / 'cache').iterdir()) == ['.json', '.npy']


class Killed(Exception):
  pass


@pytest.mark.parametrize('block', range(1, 8))
def test_a_pass_that_was_killed_goes_on(root, tmp_path, monkeypatch, block):
  for name in ('p00/1.jpg', 'p02/2.jpg', 'p04/2.png'):
    (root / name).write_bytes(b'x')
  config = folder_config(root, people=(0, 0), cache=True)
  expected = open_faces(config, tmp_path / 'whole')
  monkeypatch.setattr(survey, '_BLOCK', 3)  # of 20 photographs
  monkeypatch.setattr(resume, 'SECONDS', 0)
  monkeypatch.setattr(resume, '_SHARE', 1e9)
  decode, jobs = survey._decode, []

  def dying(job):
    jobs.append(job)
    if len(jobs) == block:
      raise Killed
    return decode(job)

  monkeypatch.setattr(survey, '_decode', dying)
  with pytest.raises(Killed):
    open_faces(config, tmp_path / 'cache')
  assert not [path for path in (tmp_path / 'cache').iterdir() if not path.name.startswith('.')]
  _same(open_faces(config, tmp_path / 'cache'), expected)
  assert len(jobs) == 8  # the one it was killed in alone was begun twice
  names = [{path.name: path.read_bytes() for path in (tmp_path / where).iterdir()} for where in ('cache', 'whole')]
  assert names[0] == names[1]


@pytest.mark.parametrize('change', ['touch', 'rename', 'grow', 'size'])
def test_changed_files_are_decoded_again(root, tmp_path, change):
  config = folder_config(root, people=(0, 0), cache=True)
  open_faces(config, tmp_path / 'cache')
  path = root / 'p00' / '0.png'
  if change == 'touch':
    os.utime(path, (1, 1))
  elif change == 'rename':
    path.rename(root / 'p00' / '9.png')
  elif change == 'grow':
    path.write_bytes(path.read_bytes() + b'\0')
  else:
    config.data.size = 40
  open_faces(config, tmp_path / 'cache')
  assert len(list((tmp_path / 'cache').iterdir())) == 4


def test_names_need_not_be_unicode():
  assert len({survey._fingerprint([listing.Photo(name, 1, 1)], 32) for name in ('p\udcff', 'p\udcfe')}) == 2


def test_nothing_is_stored_without_a_cache(photographs, tmp_path):
  open_faces(folder_config(photographs), tmp_path)
  open_faces(folder_config(photographs, cache=True), None)
  assert not list(tmp_path.iterdir())


def test_what_is_unreadable_is_remembered_with_the_pixels(root, tmp_path):
  (root / 'p01' / '0.jpg').write_bytes(b'')
  config = folder_config(root, people=(0, 0), cache=True)
  first, second = (open_faces(config, tmp_path / 'cache') for _ in range(2))
  assert first.people == second.people and 'p01/0.jpg' in skipped(second)
  config.data.bad_images = 'error'
  with pytest.raises(DataError, match=r'p01/0\.jpg'):
    open_faces(config, tmp_path / 'cache')


def test_a_file_that_may_not_be_opened_is_tried_again(root, tmp_path, monkeypatch):
  path = root / 'p01' / '0.jpg'
  content = path.read_bytes()
  path.write_bytes(b'x' * len(content))
  os.utime(path, (1, 1))
  config = folder_config(root, people=(0, 0), cache=True)
  with monkeypatch.context() as patch:
    patch.setattr(os, 'access', lambda name, mode: name != path)
    open_faces(config, tmp_path / 'cache')
  path.write_bytes(content)
  os.utime(path, (1, 1))
  assert not open_faces(config, tmp_path / 'cache').people['skipped']


@pytest.mark.slow
def test_many_images_are_decoded_by_processes_of_a_script(root, tmp_path):
  script = tmp_path / 'script.py'
  script.write_text(f"""
from pathlib import Path

from gif_jax.data import listing
from gif_jax.data.sets import decode

if __name__ == '__main__':
  decode._FEW = 0
  root = Path({str(root)!r})
  photos = [photo for own in listing.list_people(root).people.values() for photo in own]
  print(decode.survey(root, photos, 32, Path({str(tmp_path)!r})).pixels)
""")
  environment = os.environ | {'PYTHONPATH': str(ROOT)}
  done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  here = open_faces(folder_config(root, people=(0, 0), cache=True, held_out=0), tmp_path / 'here')
  np.testing.assert_array_equal(np.load(done.stdout.strip()), here.train[:])


def _batches(faces, table, **options):
  iterator = input_pipeline.batches(faces.train, table, batch_size=20, seed=3, **options)
  try:
    return [next(iterator) for _ in range(3)]
  finally:
    iterator.close()


@pytest.mark.parametrize('cache', [False, True])
def test_workers_and_cache_change_no_batch(root, tmp_path, cache):
  plain = open_faces(folder_config(root, people=(0, 0)), None)  # 15 images to train on, batches of 20
  table = tokenizer.make_table(folder_config(root), plain, tmp_path / 'table')
  faces = open_faces(folder_config(root, people=(0, 0), cache=cache), tmp_path / 'cache')
  for a, b in zip(_batches(plain, table), _batches(faces, table, workers=2)):
    assert all(np.array_equal(a[name], b[name]) for name in a.keys() | b.keys())


def test_an_image_that_vanishes_during_a_run(root):
  faces = open_faces(folder_config(root, people=(0, 0)), None)
  (root / 'p00' / '0.png').unlink()
  (root / 'p00' / '1.jpg').unlink()
  with pytest.raises(DataError, match=r'p00/[01]\.\w+ could be read when the run began .* put it back'):
    faces.train[:]


def test_the_log_says_what_was_found(root, caplog):
  with caplog.at_level(logging.INFO):
    open_faces(folder_config(root, people=(0, 2)), None)
  assert '20 images of 5 people, 32x32 14 colour 8-bit, 6 grey 8-bit; scaled to 32x32' in caplog.text
  assert '3 people to train on (9 images, 3 held out), 0 for validation, 2 for the figures' in caplog.text
  Image.new('L', (92, 112)).save(root / 'p00' / 'portrait.tif')
  with caplog.at_level(logging.INFO):
    open_faces(folder_config(root, people=(0, 2)), None)
  assert '32x32 to 92x112' in caplog.text and 'padded to square' in caplog.text
