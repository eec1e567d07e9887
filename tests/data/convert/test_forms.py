"""Other forms that python -m gif_jax convert writes: RecordIO, and verification pairs drawn or listed."""

import pickle

import numpy as np
import pytest

from gif_jax.core.errors import ConfigError, DataError
from gif_jax.data.convert.convert import Settings, convert
from gif_jax.data.formats.bin_pairs import read_pairs
from gif_jax.data.formats.open import open_records
from tests.helpers.pictures import SIZE, encode, picture, several, write


def run(where, output, **given):
  return convert(Settings(str(where), output, **{'size': SIZE} | given))


def test_recordio_there_and_back(tmp_path):
  faces = several(tmp_path / 'faces', 4, 3)
  (faces / 'p1' / '02.jpg').write_bytes(b'x')
  (tmp_path / 'made').mkdir()
  run(faces, tmp_path / 'made' / 'train.rec')
  assert sorted(path.name for path in (tmp_path / 'made').iterdir()) == [
    'property',
    'train.idx',
    'train.lst',
    'train.rec',
    'train.rec.people.tsv',
    'train.rec.skipped.tsv',
  ]
  run(tmp_path / 'made', tmp_path / 'back', size=0)
  run(faces, tmp_path / 'direct')
  back, direct = open_records(tmp_path / 'back'), open_records(tmp_path / 'direct')
  np.testing.assert_array_equal(back.labels(), direct.labels())
  assert [back[i] for i in range(11)] == [direct[i] for i in range(11)] and back.size == SIZE
  assert (tmp_path / 'made' / 'train.rec.people.tsv').read_text().splitlines()[1] == 'p1\tfaces:p1'
  assert back.people() == direct.people() and back.name(5) == direct.name(5) == 'p2/00.jpg'
  (tmp_path / 'made' / 'train.rec').unlink()
  with pytest.raises(ConfigError, match=r'train\.idx exists'):
    run(faces, tmp_path / 'made' / 'train.rec')


def test_pairs_are_drawn_in_balanced_folds(tmp_path):
  faces = several(tmp_path / 'faces')
  (faces / 'p1' / '02.jpg').write_bytes(b'x')
  run(faces, tmp_path / 'faces.bin', pairs='40')
  photos, pairs = open_records(faces), read_pairs(tmp_path / 'faces.bin')
  whose = {photos[i]: label for i, label in enumerate(photos.labels().tolist())}
  who = np.array([whose[image] for image in pairs.images]).reshape(-1, 2)
  np.testing.assert_array_equal(who[:, 0] == who[:, 1], pairs.same)
  assert pairs.same.reshape(10, 4).sum(1).tolist() == [2] * 10
  assert 'cannot identify' in (tmp_path / 'faces.bin.skipped.tsv').read_text()
  for wanted, message in (('30', 'a multiple of 20, at most 140'), ('6000', 'at most 140')):
    with pytest.raises(ConfigError, match=message):
      run(faces, tmp_path / 'other.bin', pairs=wanted)


def test_pairs_are_counted_and_each_picture_is_stored_once(tmp_path):
  """A set of 40 pairs of 6 pictures, one of them under two names; InsightFace's load_bin unpickles it like this."""
  images = [encode(picture(i)) for i in range(6)]
  faces = write(tmp_path / 'faces', {'anna': images[:3], 'ben': [*images[3:], images[5]]})
  names = [f'{name}/{i:02}.jpg' for name, count in (('anna', 3), ('ben', 4)) for i in range(count)]
  pairs = [(i, j) for i in range(7) for j in range(i)]
  (tmp_path / 'list').write_text(''.join(f'{names[i]} {names[j]} {int((i < 3) == (j < 3))}\n' for i, j in pairs))
  text = run(faces, tmp_path / 'out.bin', pairs=str(tmp_path / 'list'))
  assert text.splitlines()[-1] == '21 pairs, 9 genuine and 12 impostor, of 6 different pictures'
  assert sum(map(len, images)) < (tmp_path / 'out.bin').stat().st_size < sum(map(len, images)) + 1000
  with open(tmp_path / 'out.bin', 'rb') as file:
    bins, issame_list = pickle.load(file, encoding='bytes')
  stored = [*images, images[5]]
  assert bins == [stored[i] for pair in pairs for i in pair] == read_pairs(tmp_path / 'out.bin').images
  assert issame_list == [(i < 3) == (j < 3) for i, j in pairs] and len({*map(id, bins)}) == 6


def test_a_listed_set_is_written_in_its_order(tmp_path):
  images = {name: [encode(picture((ord(name[0]), i))) for i in range(2)] for name in ('anna', 'ben')}
  faces = write(tmp_path / 'faces', images)
  (tmp_path / 'list.txt').write_text('anna/00.jpg ben/00.jpg 0\nanna/00.jpg anna/01.jpg 1\n')
  run(faces, tmp_path / 'out.bin', pairs=str(tmp_path / 'list.txt'))
  pairs = read_pairs(tmp_path / 'out.bin')
  assert pairs.images == [images['anna'][0], images['ben'][0], *images['anna']] and pairs.same.tolist() == [False, True]


def test_pairs_belong_to_verification_sets(tmp_path):
  faces = several(tmp_path / 'faces', 2, 2)
  for output in ('out', 'out.rec'):
    with pytest.raises(ConfigError, match=rf'--pairs=list.txt is for --output=NAME\.bin, which .*{output} is not'):
      run(faces, tmp_path / output, pairs='list.txt')
  for number in ('\u00b2', '-20', '1e3', '9' * 5000, '40 '):
    with pytest.raises((DataError, ConfigError), match=r'--pairs is a number, or a file|: give a multiple'):
      run(faces, tmp_path / 'out.bin', pairs=number)


@pytest.mark.parametrize(
  'name',
  [
    'x.npz',
    'x.zip',
    'x.tar',
    'x.tar.gz',
    'x.lst',
    'x.h5',
    'x.npy',
    'x.json',
    'x.idx',
    'x.tsv',
    'x.NPZ',
    'x.txt',
    'x.jpg',
    'x.REC',
    'x.Bin',
    'x.tfrecord',
    'x.lmdb',
    'x.csv/',
  ],
)
def test_outputs_that_are_called_as_no_folder(tmp_path, name):
  faces = several(tmp_path / 'faces', 1, 1)
  with pytest.raises(ConfigError, match=r'--output=.* is none of the forms .* a folder .*, NAME\.rec .* or NAME\.bin'):
    run(faces, tmp_path / name)
  assert [path.name for path in tmp_path.iterdir()] == ['faces']


@pytest.mark.parametrize('name', ['faces.v2', 'ms1m-retinaface-t1.5', 'v1.0', '2024.05.01', 'faces.clean', 'bin', 'x.'])
def test_folders_with_dots(tmp_path, name):
  run(several(tmp_path / 'faces', 1, 1), tmp_path / name)
  assert len(open_records(tmp_path / name)) == 1


def test_a_list_of_pairs_wants_one_folder_and_no_other_choice(tmp_path):
  faces = several(tmp_path / 'faces', 2, 2)
  (tmp_path / 'list.txt').write_text('p0/00.jpg p1/00.jpg 0\n')
  run(faces, tmp_path / 'packed')
  given = {'pairs': str(tmp_path / 'list.txt')}
  with pytest.raises(ConfigError, match='must be one folder of people'):
    run(tmp_path / 'packed', tmp_path / 'out.bin', **given)
  with pytest.raises(ConfigError, match='leave out the flags'):
    run(faces, tmp_path / 'out.bin', min_images=2, **given)
  with pytest.raises(DataError, match=r'nowhere\.txt cannot be read \(No such file .*--pairs is a number, or a file'):
    run(faces, tmp_path / 'out.bin', pairs='nowhere.txt')
