"""python -m gif_jax convert: what is written, what is left out, and going on after a kill."""

import io
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from gif_jax.core.errors import ConfigError, DataError
from gif_jax.core.storage.locks import InUseError
from gif_jax.data.convert import pack
from gif_jax.data.convert.convert import Settings, convert
from gif_jax.data.crops import Crops
from gif_jax.data.formats.open import open_records
from gif_jax.data.formats.packed import Packed
from gif_jax.data.images import read_image
from tests.helpers.image_files import BAD, MADE
from tests.helpers.pictures import SIZE, encode, picture, several, write
from tests.helpers.places import ROOT


def run(where, output, **settings):
  return convert(Settings(str(where), output, **{'size': SIZE} | settings))


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def skipped(folder):
  lines = (folder / 'skipped.tsv').read_text('utf-8', 'surrogateescape').splitlines()
  return dict(line.split('\t') for line in lines)


def test_a_folder_to_the_training_format(tmp_path):
  faces = several(tmp_path / 'faces')
  text = run(faces, tmp_path / 'out')
  packed, photos = open_records(tmp_path / 'out'), open_records(faces)
  assert isinstance(packed, Packed) and packed.size == SIZE and packed.people() == photos.people()
  np.testing.assert_array_equal(packed.labels(), photos.labels())
  assert [packed[i] for i in range(30)] == [photos[i] for i in range(30)]
  assert photos.where(7) == str(faces / 'p1' / '01.jpg') and packed.people()[1] == ('p1', 'faces:p1')
  assert '30 images of 5 people, 24x24' in text and '30 images are unchanged, 0 were' in text
  crops = Crops(packed, SIZE, np.arange(30), packed.labels())
  np.testing.assert_array_equal(crops[7:8][0], read_image(faces / 'p1' / '01.jpg', SIZE).pixels)
  assert sorted(path.name for path in tmp_path.iterdir()) == ['faces', 'out']  # the draft is gone


def test_converting_again_changes_nothing(tmp_path):
  several(tmp_path / 'faces')
  run(tmp_path / 'faces', tmp_path / 'out')
  run(tmp_path / 'out', tmp_path / 'again')
  first, second = contents(tmp_path / 'out'), contents(tmp_path / 'again')
  del first['meta.json'], second['meta.json']  # names what was converted
  assert first == second


def test_bad_images_are_left_out_and_named(tmp_path, capfd):
  bad = [make()[0] for make in BAD.values()]
  faces = write(
    tmp_path / 'faces',
    {'anna': [*bad, encode(picture(0)), MADE['CMYK']()[0]], 'ben': [b''], 'eva': [encode(picture(1))] * 2},
  )
  (faces / 'nobody').mkdir()
  text = run(faces, tmp_path / 'out')
  packed = Packed(tmp_path / 'out')
  assert [person.name for person in packed.people()] == ['anna', 'eva'] and packed.labels().tolist() == [0, 0, 1, 1]
  found = skipped(tmp_path / 'out')
  for i, make in enumerate(BAD.values()):
    assert make()[1] in found[str(faces / 'anna' / f'{i:02}.jpg')]
  assert found['ben'] == 'no usable image' and found['faces/nobody'] == 'no images in it' and len(found) == len(BAD) + 3
  assert '3 images are unchanged, 1 were' in text and '2 an empty file' in text and '1 no usable image' in text
  assert 'Warning' not in capfd.readouterr().err
  with pytest.raises(DataError, match=r'anna/00\.jpg: an empty file.*--bad_images=skip'):
    (faces / 'nobody').rmdir()
    run(faces, tmp_path / 'other', bad_images='error')


@pytest.mark.filterwarnings('error')
def test_names_of_all_kinds(tmp_path):
  names = ['Jürgen Müß', 'ab\tc "d"', '山田', os.fsdecode(b'\xff\xfe'), '=1+1', "'quoted'", '-x', '@y', '-5', "'"]
  write(tmp_path / 'faces', {name: [encode(picture(0)), b'x'] for name in names})
  run(tmp_path / 'faces', tmp_path / 'out')
  assert sorted(person.name for person in Packed(tmp_path / 'out').people()) == sorted(names)


def test_a_folder_of_nobody_may_be_an_error(tmp_path):
  several(tmp_path / 'faces', 1, 1)
  (tmp_path / 'faces' / 'nobody').mkdir()
  with pytest.raises(DataError, match='nobody: no images in it; remove it'):
    open_records(tmp_path / 'faces')
  assert open_records(tmp_path / 'faces', damaged='skip').skipped == [('nobody', 'no images in it')]
  (tmp_path / 'faces' / 'nobody').rmdir()
  (tmp_path / 'faces' / 'gone').symlink_to(tmp_path / 'nowhere')
  with pytest.raises(DataError, match=r'faces/gone: a link that leads nowhere\. Repair'):
    run(tmp_path / 'faces', tmp_path / 'out', bad_images='error')


def test_size_is_the_inputs_or_112(tmp_path):
  several(tmp_path / 'faces', 2, 2)
  run(tmp_path / 'faces', tmp_path / 'small')
  run(tmp_path / 'small', tmp_path / 'again', size=0)
  run(tmp_path / 'faces', tmp_path / 'large', size=0)
  assert Packed(tmp_path / 'again').size == SIZE and Packed(tmp_path / 'large').size == 112
  assert Image.open(io.BytesIO(Packed(tmp_path / 'large')[0])).size == (112, 112)


@pytest.mark.parametrize('settings', [{'people': 'list'}, {'without': 'list'}, {'min_images': 3}])
def test_some_of_the_people(tmp_path, settings):
  good, bad = encode(picture(0)), b'x'
  images = {'anna': [good] * 4, 'ben': [good] * 2 + [bad], 'eva': [good] * 2, 'kim': [good] * 3}
  faces = write(tmp_path / 'faces', images)
  (tmp_path / 'list').write_text('kim\n\nanna\n')
  if 'min_images' not in settings:
    settings = {key: str(tmp_path / name) for key, name in settings.items()}
  run(faces, tmp_path / 'out', **settings)
  packed = Packed(tmp_path / 'out')
  expected = {'ben': 2, 'eva': 2} if 'without' in settings else {'anna': 4, 'kim': 3}
  assert [person.name for person in packed.people()] == list(expected)
  assert np.bincount(packed.labels()).tolist() == list(expected.values())
  assert all(packed[i] == good for i in range(len(packed)))
  if 'min_images' in settings:
    found = skipped(tmp_path / 'out')
    assert (found['ben'], found['eva']) == ('fewer than 3 usable images', 'fewer than 3 images')


def test_nobody_is_left(tmp_path):
  write(tmp_path / 'faces', {'anna': [b'', b'x']})
  with pytest.raises(DataError, match=r'nobody is left.*empty'):
    run(tmp_path / 'faces', tmp_path / 'out')
  with pytest.raises(DataError, match=r'nobody is left.*fewer than 3 images'):
    run(tmp_path / 'faces', tmp_path / 'out', min_images=3)
  assert not (tmp_path / 'out').exists()


def test_output_that_exists_or_lies_in_the_input(tmp_path):
  several(tmp_path / 'faces', 1, 1)
  with pytest.raises(ConfigError, match='exists; remove it'):
    run(tmp_path / 'faces', tmp_path / 'faces')
  with pytest.raises(ConfigError, match='lies inside --input'):
    run(tmp_path / 'faces', tmp_path / 'faces' / 'p0' / 'out')


class Killed(Exception):
  pass


def _kill(monkeypatch, method, times):
  """Makes the so many-th call of a method of Packing the last thing that happens."""
  called, original = [], getattr(pack.Packing, method)

  def killing(self, *args):
    called.append(method)
    if len(called) == times and method == '_append':
      self.parts[0].stream.write(b'half an image')  # more than is noted as done
      raise Killed
    original(self, *args)
    if len(called) == times:
      raise Killed

  monkeypatch.setattr(pack.Packing, method, killing)
  return called


@pytest.mark.parametrize('block', range(1, 6))
@pytest.mark.parametrize('method', ['_append', '_save'])
def test_killed_at_any_block_is_as_uninterrupted(tmp_path, monkeypatch, method, block):
  faces = several(tmp_path / 'faces')
  (faces / 'p1' / '02.jpg').write_bytes(b'x')
  run(faces, tmp_path / 'whole')
  monkeypatch.setattr(pack, 'BLOCK', 7)
  monkeypatch.setattr(pack, 'SAVE_SECONDS', 0)
  with monkeypatch.context() as patch, pytest.raises(Killed):
    _kill(patch, method, block)
    run(faces, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
  again = _kill(monkeypatch, '_append', 99)
  run(faces, tmp_path / 'out')
  assert len(again) == 5 - block + (method == '_append')  # no block is done twice
  assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')


@pytest.mark.parametrize('method', ['_append', '_save'])
def test_killed_again_and_again(tmp_path, monkeypatch, method):
  faces = several(tmp_path / 'faces')
  (faces / 'p1' / '02.jpg').write_bytes(b'x')
  run(faces, tmp_path / 'whole')
  monkeypatch.setattr(pack, 'BLOCK', 7)
  monkeypatch.setattr(pack, 'SAVE_SECONDS', 0)
  for _ in range(4):
    with monkeypatch.context() as patch, pytest.raises(Killed):
      _kill(patch, method, 2 if method == '_append' else 1)  # a block further each time
      run(faces, tmp_path / 'out')
  run(faces, tmp_path / 'out')
  assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')


def test_killed_when_all_is_read(tmp_path, monkeypatch):
  faces = several(tmp_path / 'faces')
  (faces / 'p1' / '02.jpg').write_bytes(b'x')
  (faces / 'nobody').mkdir()
  run(faces, tmp_path / 'whole')

  def die(*_, **__):
    raise Killed

  for step in (
    'gif_jax.data.convert.pack.write_index',
    'gif_jax.data.formats.packed.fingerprint',
    'gif_jax.data.convert.convert._deliver',
  ):
    with monkeypatch.context() as patch, pytest.raises(Killed):
      patch.setattr(step, die)
      run(faces, tmp_path / 'out')
  run(faces, tmp_path / 'out')
  assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')


def test_two_at_one_draft(tmp_path, monkeypatch):
  faces = several(tmp_path / 'faces')
  run(faces, tmp_path / 'whole')
  monkeypatch.setattr(pack, 'BLOCK', 7)
  append = pack.Packing._append

  def second(self, block):
    monkeypatch.setattr(pack.Packing, '_append', append)
    with pytest.raises(InUseError, match=r'--output=.*/out is in use by process \d+ on .* wait until it ends, or name'):
      run(faces, tmp_path / 'out')
    append(self, block)

  monkeypatch.setattr(pack.Packing, '_append', second)
  run(faces, tmp_path / 'out')
  assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')
  assert sorted(path.name for path in tmp_path.iterdir()) == ['faces', 'out', 'whole']  # the lock is gone


def _damaged(path):
  """Changes one bit in the middle of a file."""
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 16
  path.write_bytes(content)


DAMAGE = (lambda path: os.truncate(path, path.stat().st_size - 1), os.remove, _damaged)
DRAFTED = ('data/images.bin', 'data/skipped.tsv', 'lengths', 'crcs', 'images.14.npy')


@pytest.mark.parametrize('damage', DAMAGE, ids=['cut', 'gone', 'flipped'])
@pytest.mark.parametrize('file', DRAFTED)
def test_a_damaged_draft_is_begun_again(tmp_path, monkeypatch, caplog, file, damage):
  faces = several(tmp_path / 'faces')
  (faces / 'p1' / '02.jpg').write_bytes(b'x')
  run(faces, tmp_path / 'whole')
  monkeypatch.setattr(pack, 'BLOCK', 7)
  monkeypatch.setattr(pack, 'SAVE_SECONDS', 0)
  with monkeypatch.context() as patch, pytest.raises(Killed):
    _kill(patch, '_save', 2)
    run(faces, tmp_path / 'out')
  damage(tmp_path / '.out.draft' / file)
  caplog.clear()
  run(faces, tmp_path / 'out')
  warnings = [record.getMessage() for record in caplog.records if record.levelname == 'WARNING']
  if damage is os.remove and file == 'images.14.npy':  # as in a draft that was killed before anything was noted
    assert not warnings
  else:
    assert any(f'{tmp_path}/.out.draft' in line and 'again' in line for line in warnings)
  assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')


@pytest.mark.parametrize('change', ['file', 'size', 'people'])
def test_a_draft_of_something_else_is_begun_again(tmp_path, monkeypatch, change):
  faces = several(tmp_path / 'faces')
  monkeypatch.setattr(pack, 'BLOCK', 7)
  monkeypatch.setattr(pack, 'SAVE_SECONDS', 0)
  with monkeypatch.context() as patch, pytest.raises(Killed):
    _kill(patch, '_save', 2)
    run(faces, tmp_path / 'out')
  settings = {}
  if change == 'file':
    (faces / 'p0' / '00.jpg').write_bytes(encode(picture(99)))
  elif change == 'size':
    settings = {'size': 16}
  else:
    (tmp_path / 'list').write_text('p0\n')
    settings = {'without': str(tmp_path / 'list')}
  run(faces, tmp_path / 'out', **settings)
  run(faces, tmp_path / 'whole', **settings)
  assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')


@pytest.mark.slow
def test_processes_and_a_real_kill_change_nothing(tmp_path, command, monkeypatch):
  same = [encode(picture(i)) for i in range(9)] + [encode(picture(9, 30)), b'x']
  faces = write(tmp_path / 'faces', {f'p{p:02}': same for p in range(80)})
  with monkeypatch.context() as patch:
    patch.setattr(pack, 'on_all_cores', map)
    run(faces, tmp_path / 'alone')
  script = (
    'import sys; from pathlib import Path; from gif_jax.data.convert import convert, pack\n'
    'pack.SAVE_SECONDS = 0\n'
    f'print(convert.convert(convert.Settings(sys.argv[1], Path(sys.argv[2]), size={SIZE})))'
  )
  call = [sys.executable, '-c', script, faces, tmp_path / 'out']
  process = subprocess.Popen(call, cwd=ROOT, stderr=subprocess.DEVNULL)
  draft = tmp_path / '.out.draft'
  while not list(draft.glob('images.*.npy')) and process.poll() is None:
    time.sleep(0.005)
  process.send_signal(signal.SIGKILL)
  assert process.wait(timeout=60) == -signal.SIGKILL
  assert draft.exists() and not (tmp_path / 'out').exists()
  done = command('convert', f'--input={faces}', f'--output={tmp_path / "out"}', f'--size={SIZE}')
  assert done.returncode == 0, done.stdout
  assert 'continuing after step' in done.stdout and '800 images of 80 people' in done.stdout
  assert contents(tmp_path / 'out') == contents(tmp_path / 'alone')


def test_errors_are_one_line(tmp_path, command):
  several(tmp_path / 'faces', 1, 1)
  done = command('convert', f'--input={tmp_path / "nowhere"}', f'--output={tmp_path / "out"}')
  assert done.returncode == 1 and done.stdout.startswith('DataError: ') and len(done.stdout.splitlines()) == 1
  done = command('convert', f'--input={tmp_path / "faces"}', '--output=/proc/out')
  assert done.returncode == 1 and len(done.stdout.splitlines()) == 1, done.stdout


@pytest.mark.parametrize('text', ['', '\ufeff\n \t\n'])
def test_lists_of_nobody(tmp_path, text):
  """To take nobody is a mistake, to leave nobody out is what an audit of clean data comes to."""
  faces, path = several(tmp_path / 'faces', people=2, images=2), tmp_path / 'list.txt'
  path.write_text(text)
  with pytest.raises(DataError, match=r'list\.txt names nobody: write a name in each line, or leave out --people'):
    convert(Settings(str(faces), tmp_path / 'out', people=str(path)))
  assert '4 images of 2 people' in convert(Settings(str(faces), tmp_path / 'out', without=str(path)))
