"""Other forms that python -m gif_jax.convert writes: RecordIO, and verification pairs drawn or listed."""

import numpy as np
import pytest

from gif_jax.core.errors import ConfigError, DataError
from gif_jax.data.convert import Settings, convert
from gif_jax.data.inputs import open_records
from gif_jax.data.pairs import read_pairs
from tests.pictures import SIZE, encode, picture, several, write


def run(where, output, **settings):
  return convert(Settings(str(where), output, **{'size': SIZE} | settings))


def test_recordio_there_and_back(tmp_path):
  faces = several(tmp_path / 'faces', 4, 3)
  (faces / 'p1' / '02.jpg').write_bytes(b'x')
  (tmp_path / 'made').mkdir()
  run(faces, tmp_path / 'made' / 'train.rec')
  assert sorted(path.name for path in (tmp_path / 'made').iterdir()) == [
    'property', 'train.idx', 'train.lst', 'train.rec', 'train.rec.people.tsv', 'train.rec.skipped.tsv'
  ]  # fmt: skip
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


PLAIN = 'anna/00.jpg ben/00.jpg 0\n\nanna/00.jpg anna/01.jpg 1\n'
TABS = 'anna/00.jpg\tde la  cruz/00.jpg\t0\nanna/00.jpg\tanna/01.jpg\t1\n'


@pytest.mark.parametrize('text', [PLAIN, TABS, PLAIN.replace('\n', '\r\n')])
def test_pairs_of_a_list(tmp_path, text):
  images = {name: [encode(picture((ord(name[0]), i))) for i in range(2)] for name in ('anna', 'ben', 'de la  cruz')}
  faces = write(tmp_path / 'faces', images)
  (tmp_path / 'list.txt').write_bytes(text.encode())
  run(faces, tmp_path / 'out.bin', pairs=str(tmp_path / 'list.txt'))
  pairs = read_pairs(tmp_path / 'out.bin')
  other = images['de la  cruz' if 'cruz' in text else 'ben'][0]
  assert pairs.images == [images['anna'][0], other, *images['anna']] and pairs.same.tolist() == [False, True]


@pytest.mark.parametrize('header', ['10\t300\n', '1100\n'])
def test_pairs_of_lfw(tmp_path, header):
  names = ['Abel_Pacheco', 'Ben_Affleck']
  faces = write(tmp_path / 'lfw', {name: [] for name in names})
  for i, name in enumerate(names):
    for j in range(1, 13):
      (faces / name / f'{name}_{j:04}.jpg').write_bytes(encode(picture((i, j))))
  (tmp_path / 'pairs.txt').write_text(header + 'Abel_Pacheco\t1\t12\nAbel_Pacheco\t2\tBen_Affleck\t10\n')
  run(faces, tmp_path / 'lfw.bin', pairs=str(tmp_path / 'pairs.txt'))
  pairs = read_pairs(tmp_path / 'lfw.bin')
  assert pairs.images == [encode(picture(which)) for which in ((0, 1), (0, 12), (0, 2), (1, 10))]
  assert pairs.same.tolist() == [True, False]


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('p0/00.jpg p1/00.jpg\n', r'list\.txt, line 1: .* is not LEFT RIGHT 1 or 0'),
    ('p0/00.jpg p1/00.jpg 0\np0/00.jpg p1/00.jpg yes\n', 'line 2: .* is not LEFT'),
    ('p0/00.jpg p1/09.jpg 0\n', r"line 1: no image 'p1/09\.jpg' below"),
    ('10 300\np0 1 p1\n', "line 2: .* is not NAME I J or"),
    ('10 300\np0 1 2\n', "line 2: no image 'p0/p0_0001' below"),
    ('\n', 'names no pairs'),
    ('p0/00.jpg p1/00.jpg 0\n', 'names images that cannot be read: 1 cannot identify image file'),
  ],
)
def test_lists_of_pairs_that_cannot_be_used(tmp_path, text, message):
  faces = several(tmp_path / 'faces', 2, 2)
  (faces / 'p0' / '00.jpg').write_bytes(b'x')
  (tmp_path / 'list.txt').write_text(text)
  with pytest.raises(DataError, match=message):
    run(faces, tmp_path / 'out.bin', pairs=str(tmp_path / 'list.txt'))
  assert not (tmp_path / 'out.bin').exists()


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
