"""From photographs to a folder of aligned faces: what is written, what is skipped, and running it again."""

import itertools
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from gif_jax.core.errors import ConfigError, DataError, DiskError
from gif_jax.core.storage.files import remove
from gif_jax.data.alignment import detectors
from gif_jax.data.alignment import photographs as align
from gif_jax.data.alignment.detectors import Faces
from gif_jax.data.alignment.geometry import template
from gif_jax.data.images import read_full_size
from gif_jax.data.listing import list_people
from tests.helpers.landmark_files import write_points

PEOPLE, IMAGES = 5, 4


def fake_detector(monkeypatch, detect=None):
  """Faces are where they are in an aligned crop that fills the picture, unless `detect` says otherwise."""

  def found(image):
    if detect and not detect(image):
      return Faces(np.empty((0, 4)), np.empty((0, 5, 2)))
    return Faces(np.array([[0, 0, *image.shape[1::-1]]]), template(len(image))[None])

  return use(monkeypatch, found)


def use(monkeypatch, detector):
  monkeypatch.setattr(align, '_detector', lambda source: detector)
  monkeypatch.setattr(detectors, '_look_again', lambda image, points, detector: points)
  return align.Source()


def skipped(output):
  return dict(line.split('\t') for line in (output / 'skipped.tsv').read_text().splitlines())


@pytest.fixture
def output(tmp_path):
  return tmp_path / 'out' / 'faces'


@pytest.fixture
def source(root, tmp_path):
  return write_points(tmp_path / 'points.txt', root)


@pytest.mark.slow
def test_a_command_over_all_cores(command, photographs, tmp_path):
  write_points(tmp_path / 'points.txt', photographs)  # 80 photographs: more than are aligned without processes
  arguments = [f'--input={photographs}', f'--output={tmp_path / "faces"}', f'--landmarks={tmp_path / "points.txt"}']
  done = command('align', *arguments, '--size=32')
  assert done.returncode == 0, done.stdout
  assert '80 faces aligned, 0 photographs skipped' in done.stdout and 'aligning faces: 100%' in done.stdout
  assert sorted(path.name for path in tmp_path.iterdir()) == ['faces', 'faces.png', 'points.txt']
  listing = list_people(tmp_path / 'faces')
  assert len(listing.people) == 20 and not listing.skipped
  for photo in (photo for own in list_people(photographs).people.values() for photo in own):
    crop = read_full_size(tmp_path / 'faces' / photo.name.replace(photo.name.split('.')[1], 'png'))
    np.testing.assert_array_equal(crop, read_full_size(photographs / photo.name))  # not moved, and nothing is lost
  again = command('align', *arguments, '--size=32')
  assert '80 faces aligned (80 in a run before), 0 photographs skipped' in again.stdout
  other = command('align', *arguments)
  assert other.returncode == 1 and "'size': 32" in other.stdout and 'name another --output' in other.stdout
  assert 'Traceback' not in other.stdout


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--detector=yunet'], 'DetectorError: --detector=yunet needs --detector_path=FILE'),
    (['--landmarks=x', '--detector=mtcnn'], 'ConfigError: --landmarks says where the points are'),
    (['--detector_path=x'], 'ConfigError: --detector_path is for --detector=yunet'),
    (['--landmarks=x'], 'DataError: x cannot be read'),
  ],
)
def test_errors_are_one_line(command, root, output, arguments, message):
  done = command('align', f'--input={root}', f'--output={output}', *arguments)
  assert done.returncode == 1 and done.stdout.splitlines()[-1].startswith(message) and not output.exists()


@pytest.mark.parametrize('where', ['faces', 'faces/p00', 'faces/new', '.'])
def test_folders_in_each_other(root, tmp_path, where):
  with pytest.raises(ConfigError, match='lie in each other'):
    align.align_people(root, tmp_path / where, 32, align.Source())


def test_folders_and_sizes_that_cannot_be_used(root, output, tmp_path, source):
  with pytest.raises(ConfigError, match='nowhere is no folder'):
    align.align_people(tmp_path / 'nowhere', output, 32, source)
  with pytest.raises(ConfigError, match='--size=8'):
    align.align_people(root, output, 8, source)
  output.mkdir(parents=True)
  (output / 'letter.txt').touch()
  with pytest.raises(ConfigError, match='holds other files'):
    align.align_people(root, output, 32, source)


def test_what_changed_is_done_again_and_nothing_else(root, output, source, monkeypatch):
  align.align_people(root, output, 32, source)
  written, write = [], align._write
  monkeypatch.setattr(
    align, '_write', lambda output, target, *rest: (written.append(target.name), write(output, target, *rest))
  )
  assert align.align_people(root, output, 32, source)[:2] == (0, 20) and not written
  os.utime(root / 'p00' / '0.png', (1, 1))
  (output / 'p01' / '1.png').unlink()
  assert align.align_people(root, output, 32, source)[:2] == (2, 18) and written == ['0.png', '1.png']


@pytest.mark.parametrize(
  'damage',
  [
    lambda content: content[:-1],
    lambda content: b'',
    lambda content: (
      content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]
    ),
  ],
  ids=['cut', 'empty', 'flipped'],
)
def test_a_damaged_crop_is_made_again(root, output, source, damage):
  align.align_people(root, output, 32, source)
  crop = output / 'p02' / '1.png'
  content, modified = crop.read_bytes(), crop.stat().st_mtime_ns
  crop.write_bytes(damage(content))
  os.utime(crop, ns=(modified, modified))
  assert align.align_people(root, output, 32, source)[:2] == (1, 19) and crop.read_bytes() == content


def test_crops_of_photographs_that_are_gone_are_named(root, output, monkeypatch):
  source = fake_detector(monkeypatch)
  assert align.align_people(root, output, 32, source).stale == []
  (root / 'p00' / '0.png').unlink()
  found = align.align_people(root, output, 32, source)
  assert found.stale == ['p00/0.png'] and found[:2] == (0, 19)
  assert '1 crops are of no photograph any more, such as p00/0.png.' in align.described(output, found)


def test_crops_appear_whole_or_not_at_all(root, output, source, monkeypatch):
  def killed(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(os, 'replace', killed)
    with pytest.raises(KeyboardInterrupt):
      align._write(output, output / 'p00' / '0.png', np.zeros((32, 32, 3), np.uint8), 1)
  assert not [path for path in output.rglob('*') if path.is_file()]
  with pytest.raises(DataError):
    list_people(output)


def test_what_a_killed_run_leaves_is_no_photograph_and_in_nobodys_way(root, output, source):
  output.mkdir(parents=True)
  (output / '.align.json.4711.partial').write_text('{')  # killed before there was a crop
  assert align.align_people(root, output, 32, source)[:2] == (20, 0)
  (output / 'p00' / '0.png').rename(output / 'p00' / '.0.png.4711.partial')  # killed before a crop had its name
  found = align.align_people(root, output, 32, source)
  assert found[:2] == (1, 19) and not found.skipped and not found.stale and (output / 'p00' / '0.png').exists()


@pytest.mark.parametrize('after', [1, 7, PEOPLE * IMAGES - 1])
@pytest.mark.parametrize('gone', ['.', 'p00', 'p00/0.png'])
def test_what_is_removed_meanwhile_is_missed(root, output, source, monkeypatch, after, gone):
  """The next crop makes the folder anew otherwise, and what was in it before is lost in silence."""
  calls, encode = itertools.count(), cv2.imencode

  def removing(*args):
    if next(calls) == after:
      remove(output / gone)
    return encode(*args)

  with monkeypatch.context() as patch, pytest.raises(DiskError, match=r'was removed .* give the same command again'):
    patch.setattr(cv2, 'imencode', removing)
    align.align_people(root, output, 32, source)
  if gone == '.':
    remove(output)  # one crop at most may be there, and nothing says of what settings
  align.align_people(root, output, 32, source)
  assert sum(map(len, list_people(output).people.values())) == PEOPLE * IMAGES


def test_photographs_that_are_skipped_are_listed_with_the_reason(root, output, tmp_path, source):
  (root / 'p01' / '0.jpg').write_bytes(b'')
  lines = (tmp_path / 'points.txt').read_text().splitlines()
  swapped, outside, unknown = template(32)[[1, 0, 2, 4, 3]], template(32) + 50, np.full((5, 2), np.nan)
  odd = {
    'p02/0.pgm': swapped,
    'p02/1.png': outside,
    'p03/0.png': unknown,
    'p03/1.jpg': template(32) / 32,
    'p03/2.pgm': np.zeros((5, 2)),
  }
  kept = [line for line in lines if line.split()[0] not in odd and not line.startswith('p04')]
  more = [f'{name} {" ".join(map(str, points.reshape(-1)))}' for name, points in odd.items()]
  (tmp_path / 'points.txt').write_text('\n'.join(kept + more))
  (root / 'nobody.png').write_bytes((root / 'p00' / '0.png').read_bytes())
  found = align.align_people(root, output, 32, source)
  assert (found.made, found.before, len(found.skipped), found.lost) == (10, 0, 10, ['p04'])
  reasons = skipped(output)
  assert reasons.pop('p01/0.jpg').startswith('unreadable: ')
  assert reasons == {
    'p02/0.pgm': 'left and right of its points are swapped',
    'p02/1.png': 'points that do not lie in the picture',
    'p03/1.jpg': 'points that all but coincide; they must be in pixels, not shares of the picture',
    **dict.fromkeys(
      ['p03/0.png', 'p03/2.pgm', *(f'p04/{name}' for name in ('0.jpg', '1.pgm', '2.png', '3.jpg'))],
      f'no points in {source.landmarks}',
    ),
    'nobody.png': "lies beside the people's folders; its person is not known",
  }
  assert len(list(output.glob('*/*.png'))) == 10
  assert 'No face of 1 people, such as p04.' in align.described(output, found)
  assert align._counted(found.skipped).startswith(f'6 no points in {source.landmarks}, 1 ')


def test_a_photograph_that_has_no_face_any_more_loses_its_crop(root, output, monkeypatch):
  align.align_people(root, output, 32, fake_detector(monkeypatch))
  Image.new('RGB', (40, 40)).save(root / 'p00' / '0.png')
  found = align.align_people(root, output, 32, fake_detector(monkeypatch, np.any))
  assert found.skipped == [('p00/0.png', 'no face found')] and not (output / 'p00' / '0.png').exists()
  assert skipped(output) == {'p00/0.png': 'no face found'}


def test_nobody_at_all(root, output, monkeypatch):
  with pytest.raises(DataError, match='not one of 20 photographs is aligned: 20 no face found'):
    align.align_people(root, output, 32, fake_detector(monkeypatch, lambda image: False))


def test_photographs_are_turned_as_exif_says_before_a_face_is_sought(root, output, monkeypatch):
  upright = np.zeros((200, 200, 3), np.uint8)
  upright[:60] = 255
  path = root / 'p00' / '0.png'
  exif = Image.Exif()
  exif[274] = 6  # to be turned by a quarter, clockwise
  Image.fromarray(np.rot90(upright).copy()).save(path, exif=exif)
  align.align_people(root, output, 112, fake_detector(monkeypatch))
  crop = read_full_size(output / 'p00' / '0.png')
  assert crop[2:30, 2:-2].min() > 240 and crop[40:].max() < 15


def test_faces_are_cut_out_of_the_original_not_of_the_copy_they_are_found_in(root, output, monkeypatch):
  """A face of 112 pixels in a picture of 2400: in a copy of 640 pixels nothing of its detail is left."""
  detail = np.random.default_rng(0).integers(0, 256, (112, 112, 3)).astype(np.uint8)
  canvas = np.zeros((2400, 2400, 3), np.uint8)
  canvas[1000:1112, 1000:1112] = detail
  Image.fromarray(canvas).save(root / 'p00' / '0.png')

  def found(image):
    assert len(image) == 640
    points = (template(112) + 1000.5) * (640 / 2400) - 0.5
    return Faces(np.array([[0, 0, 9, 9]]), points[None])

  for path in [*root.glob('p0[1-4]/*'), *root.glob('p00/[123].*')]:
    path.unlink()
  align.align_people(root, output, 112, use(monkeypatch, found))
  crop = read_full_size(output / 'p00' / '0.png')
  assert np.abs(crop.astype(int) - detail).max() <= 1


def test_names_that_would_meet_keep_their_extension():
  names = ['a/1.jpg', 'a/1.PNG', 'a/2.jpg', 'b/1.jpg', 'b/X.jpg', 'b/x.jpeg']
  expected = ['a/1.jpg.png', 'a/1.PNG.png', 'a/2.png', 'b/1.png', 'b/X.jpg.png', 'b/x.jpeg.png']
  assert align.target_names(names) == expected
  with pytest.raises(DataError, match=r'two photographs would become a/1\.jpg\.png'):
    align.target_names(['a/1.jpg', 'a/1.png', 'a/1.jpg.gif'])


def test_other_points_are_not_mixed_in(root, output, tmp_path, source, monkeypatch):
  align.align_people(root, output, 32, source)
  again = write_points(tmp_path / 'copy.txt', root)
  assert align.align_people(root, output, 32, again).before == 20
  other = write_points(tmp_path / 'other.txt', root, points=template(32) + 1)
  with pytest.raises(ConfigError, match=r'was made with .* name another --output, or remove it'):
    align.align_people(root, output, 32, other)
  with pytest.raises(ConfigError, match='was made with'):
    align.align_people(root, output, 32, fake_detector(monkeypatch))
  (output / 'align.json').write_text('{')
  with pytest.raises(DataError, match=r'align\.json is damaged'):
    align.align_people(root, output, 32, source)


def test_a_sheet_of_a_few_faces_lies_beside_the_folder(root, output, source):
  found = align.align_people(root, output, 32, source)
  sheet = output.parent / 'faces.png'
  assert cv2.imread(str(sheet)) is not None and f'A few of them: {sheet}.' in align.described(output, found)
  sheet.unlink()
  (output / 'p00' / '0.png').unlink()
  align._draw_sheet(output)
  assert cv2.imread(str(sheet)) is not None
