"""What lies in a folder of photographs: what is skipped, and a cure for everything that is wrong."""

import logging
import os
import shutil

import pytest
from PIL import Image

from gif_jax.codes.tokenizer import TokenizeError, make_table
from gif_jax.core.errors import ConfigError, DataError
from gif_jax.data import listing
from gif_jax.data.sets.open import open_faces
from tests.helpers.photographs import folder_config, skipped


def test_bad_images_are_skipped_named_and_counted(root, caplog):
  (root / 'p01' / '0.jpg').write_bytes(b'')
  cut = root / 'p02' / '2.jpg'
  cut.write_bytes(cut.read_bytes()[:-100])
  (root / 'p03' / 'not.png').write_text('hello')
  (root / 'nobody').mkdir()
  (root / 'unreadable').mkdir()
  (root / 'unreadable' / '1.heic').write_bytes(b'ftypheic')
  for name in ('Thumbs.db', '.DS_Store', 'notes.txt', '._0.png'):
    (root / 'p00' / name).write_bytes(b'x')
  faces = open_faces(folder_config(root, people=(0, 0)), None)
  assert skipped(faces) == {
    'nobody': 'no images in it',
    'p01/0.jpg': 'unreadable: an empty file',
    'p02/2.jpg': skipped(faces)['p02/2.jpg'],
    'p03/not.png': 'unreadable: cannot identify image file',
    'unreadable': 'no readable images in it',
    'unreadable/1.heic': 'unreadable: cannot identify image file',
  }
  assert 'truncated' in skipped(faces)['p02/2.jpg']
  assert {other['name']: other['reason'] for other in faces.people['not_images']} == {
    'p00/Thumbs.db': 'no image (.db)',
    'p00/.DS_Store': 'hidden',
    'p00/notes.txt': 'no image (.txt)',
    'p00/._0.png': 'hidden',
  }
  assert faces.m == 5 and len(faces.train) + len(faces.held_out) == 18
  warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
  assert len(warnings) == 1 and '6 files or folders are skipped: nobody (no images in it); p01/0.jpg' in warnings[0]
  assert 'and 1 more, all in people.json' in warnings[0] and 'DS_Store' not in warnings[0]


@pytest.mark.parametrize('bad', ['p01/0.png', 'nobody'])
def test_bad_images_can_be_fatal(root, bad):
  if bad == 'nobody':
    (root / bad).mkdir()
  else:
    (root / bad).write_bytes(b'')
  with pytest.raises(DataError, match=rf'{bad}: .*bad_images=skip'):
    open_faces(folder_config(root, people=(0, 0), bad_images='error'), None)


@pytest.mark.parametrize('other', ['P01', 'p01\u0301', 'stra\u00dfe'])
def test_names_that_differ_only_in_case_or_accents(root, other):
  first = {'P01': 'p01', 'p01\u0301': 'P0\u0031\u0301', 'stra\u00dfe': 'STRASSE'}[other]
  for name in (first, other):
    (root / name).mkdir(exist_ok=True)
  with pytest.raises(DataError) as error:
    open_faces(folder_config(root), None)
  assert f'{root / first} ' in str(error.value) and f'{root / other} ' in str(error.value)
  assert 'one folder' in str(error.value)


def test_links_in_circles_are_skipped_and_other_links_are_followed(root, tmp_path):
  outside = tmp_path / 'outside'
  (outside / 'inner').mkdir(parents=True)
  Image.new('L', (8, 8), 50).save(outside / 'inner' / 'a.png')
  Image.new('L', (8, 8), 60).save(outside / 'b.png')
  Image.new('L', (8, 8), 70).save(tmp_path / 'single.png')
  links = {
    'linked': outside,  # a person elsewhere
    'p00/up': root / 'p00',
    'p00/root': root,
    'p00/above': tmp_path,
    'p00/self.png': root / 'p00' / 'self.png',
    'p00/gone.png': tmp_path / 'nowhere.png',
    'p00/single.png': tmp_path / 'single.png',
    'p00/twice.png': root / 'p00' / '0.png',
    'p01/p02': root / 'p02',
    'twin': root / 'p03',
    'everything': tmp_path,
    'gone': tmp_path / 'nowhere',
    'linked/inner/back': outside,
  }
  for name, target in links.items():
    (root / name).symlink_to(target)
  faces = open_faces(folder_config(root, people=(0, 0)), None)
  circle = 'a link to a folder that contains it'
  assert skipped(faces) == {
    'p00/up': 'the same as p00',
    'p00/root': circle,
    'p00/above': circle,
    'everything': circle,
    'p00/self.png': 'a link that leads nowhere',
    'p00/gone.png': 'a link that leads nowhere',
    'gone': 'a link that leads nowhere',
    'p00/twice.png': 'the same as p00/0.png',
    'p01/p02': 'a link into the folder of p02',
    'twin': 'the same as p03',
    'linked/inner/back': 'the same as linked',
  }
  images = {person['name']: person['images'] + person['held_out'] for person in faces.people['train']}
  assert images == {'linked': 2, 'p00': 5, 'p01': 4, 'p02': 4, 'p03': 4, 'p04': 4}


def test_images_in_nested_folders_are_the_persons(root):
  deep = root / 'p00' / '2019' / 'summer'
  deep.mkdir(parents=True)
  Image.new('L', (8, 8)).save(deep / 'a.png')
  listed = listing.list_people(root)
  names = [photo.name for photo in listed.people['p00']]
  assert names == ['p00/0.png', 'p00/1.jpg', 'p00/2.pgm', 'p00/2019/summer/a.png', 'p00/3.png']


def test_what_systems_leave_behind_is_nobody_and_no_photograph(root):
  made = ['@eaDir', '$RECYCLE.BIN', 'lost+found', 'System Volume Information', '#recycle', '__MACOSX', 'FOUND.000']
  for name in made:
    (root / name / '0.jpg').mkdir(parents=True)
    Image.new('L', (8, 8)).save(root / name / 'thumbnail.jpg')
    (root / 'p00' / name.lower()).mkdir()
    Image.new('L', (8, 8)).save(root / 'p00' / name.lower() / 'SYNOPHOTO_THUMB_M.jpg')
  files = {'a.LOG': '.LOG', 'b.info': '.info', 'c.xmp': '.xmp', 'd.mp4': '.mp4', 'f.jpg.part': '.part'}
  for name in files:
    (root / 'p01' / name).write_bytes(b'x')
  (root / 'p01' / 'IMG_0001').write_bytes(b'x')
  (root / 'p01' / '.LOG').write_bytes(b'x')
  faces = open_faces(folder_config(root, people=(0, 0)), None)
  assert faces.m == 5 and len(faces.train) + len(faces.held_out) == 20 and not skipped(faces)
  system, named = 'a folder of the system or an archive', {}
  for other in faces.people['not_images']:
    assert named.setdefault(other['name'], other['reason']) == other['reason']
  assert len(named) == len(faces.people['not_images'])  # each once
  assert named == {
    **dict.fromkeys([*made, *(f'p00/{name.lower()}' for name in made)], system),
    **{f'p01/{name}': f'no image ({ending})' for name, ending in files.items()},
    'p01/IMG_0001': 'no image (no extension)',
    'p01/.LOG': 'hidden',
  }


def test_a_person_may_be_called_like_a_folder_of_a_system(root):
  (root / 'p00').rename(root / '@anna')
  (root / 'p01').rename(root / 'recycle')
  (root / 'p02' / 'lost+found').write_bytes(b'a file')
  listed = listing.list_people(root)
  assert list(listed.people) == ['@anna', 'p02', 'p03', 'p04', 'recycle']
  assert listed.not_images == [('p02/lost+found', 'no image (no extension)')]


def test_of_very_many_files_that_are_no_images_the_first_are_named(root, monkeypatch):
  monkeypatch.setattr(listing, '_NAMED', 3)
  for i in range(7):
    (root / 'p00' / f'{i}.json').write_bytes(b'{}')
  assert [name for name, _ in listing.list_people(root).not_images] == [
    'p00/0.json',
    'p00/1.json',
    'p00/2.json',
    '4 more',
  ]


def test_images_without_sub_folders(tmp_path):
  with pytest.raises(DataError, match='nothing but no sub-folders; make one sub-folder per person'):
    open_faces(folder_config(tmp_path), None)
  for name in ('b.png', 'a.png'):
    Image.new('L', (8, 8)).save(tmp_path / name)
  with pytest.raises(DataError, match=r'2 images, the first a\.png, but no sub-folders; make one sub-folder'):
    open_faces(folder_config(tmp_path), None)


def test_sub_folders_without_images(tmp_path):
  (tmp_path / 'somebody').mkdir()
  with pytest.raises(DataError, match='no image in any of the 1 sub-folders; is it the right'):
    open_faces(folder_config(tmp_path), None)


def test_images_beside_sub_folders_areskipped(root, caplog):
  Image.new('L', (8, 8)).save(root / 'group.png')
  (root / 'readme.txt').write_text('x')
  faces = open_faces(folder_config(root, people=(0, 0)), None)
  assert list(skipped(faces)) == ['group.png']
  assert faces.people['not_images'] == [{'name': 'readme.txt', 'reason': 'no image (.txt)'}]
  assert "group.png (lies beside the people's folders" in caplog.text


def test_too_few_people_are_left(root):
  with pytest.raises(DataError, match=r'5 people, 5 of them .* 4 are wanted for config\.eval\.identities, 0 for'):
    open_faces(folder_config(root, people=(0, 4)), None)
  assert open_faces(folder_config(root, people=(0, 3)), None).m == 2


def test_one_person_alone_makes_no_table(root, tmp_path):
  for path in sorted(root.iterdir())[1:]:
    shutil.rmtree(path)
  config = folder_config(root, people=(0, 0))
  with pytest.raises(TokenizeError, match='give at least two, or add the person with --extend'):
    make_table(config, open_faces(config, None), tmp_path / 'table')


def test_too_few_images_for_verification_pairs(root):
  for path in root.glob('*/[23].*'):
    path.unlink()
  with pytest.raises(ConfigError, match=r'config\.eval\.identities=3 with 6 images .* raise config\.eval\.identities'):
    open_faces(folder_config(root, people=(0, 3)), None)


def test_a_folder_that_cannot_be_listed(root, monkeypatch):
  listed = os.scandir

  def scandir(path):
    if os.path.basename(path) == 'p03':
      raise PermissionError(13, 'Permission denied', str(path))
    return listed(path)

  monkeypatch.setattr(os, 'scandir', scandir)
  with pytest.raises(DataError, match=r'p03 cannot be listed \(Permission denied\); allow reading it'):
    open_faces(folder_config(root), None)


@pytest.mark.parametrize('path', ['', 'setup.cfg'])
def test_a_path_that_is_no_folder(path):
  with pytest.raises(ConfigError, match=rf"config.data.path='{path}' is no folder"):
    open_faces(folder_config(path), None)
