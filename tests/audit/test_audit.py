"""The audit: faults planted in a data set are found, all of them and no others; clean data has none."""

import csv
import json
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from gif_jax.audit import audit as audit_command
from gif_jax.audit import duplicates, image_hashes
from gif_jax.audit.audit import Settings, audit
from gif_jax.audit.findings import describe_images, few_of_each
from gif_jax.audit.text import faults
from gif_jax.core.errors import ConfigError
from gif_jax.data.convert import convert
from gif_jax.data.formats.bin_pairs import write_pairs
from gif_jax.data.formats.open import open_records
from gif_jax.data.formats.packed import Packed
from gif_jax.data.formats.recordio import write_insightface
from gif_jax.data.sets.synthetic import SyntheticFaces
from gif_jax.models.encoders import Encoder

SIZE, IMAGES = 112, 3


def jpeg(image, quality=95):
  return cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def again(image):
  """The same photograph, as another collector stored it."""
  return jpeg(cv2.resize(image, (96, 96), interpolation=cv2.INTER_AREA), 85)


@pytest.fixture(scope='module')
def faces():
  """Thirty people, three pictures each: uint8 [30, 3, 112, 112, 3]."""
  return SyntheticFaces(5, SIZE, 30, IMAGES)[:].reshape(30, IMAGES, SIZE, SIZE, 3)


def write(root, people):
  """A folder of people: name -> [encoded images], or pictures."""
  for name, images in people.items():
    (root / name).mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
      (root / name / f'{i}.jpg').write_bytes(image if isinstance(image, bytes) else jpeg(image))
  return root


def rows(path):
  with path.open(newline='') as lines:
    return list(csv.reader(lines))


def run(output, *inputs, **kwargs):
  return audit(Settings(','.join(map(str, inputs)), output, **kwargs))


@pytest.fixture(scope='module')
def clean(faces, tmp_path_factory):
  root = tmp_path_factory.mktemp('clean')
  write(root / 'A', {f'a{k:02}': faces[k] for k in range(16)})
  write(root / 'B', {f'b{k:02}': faces[k] for k in range(16, 24)})
  strangers = [jpeg(image) for image in faces[24:].reshape(-1, SIZE, SIZE, 3)]
  write_pairs(root / 'lfw.bin', strangers, [True] * (len(strangers) // 2))
  return root


@pytest.mark.slow
def test_clean_data_has_no_faults(clean, tmp_path):
  report = run(tmp_path, clean / 'A', clean / 'B', against=str(clean / 'lfw.bin'), encoder='pixels')
  assert list(faults(report)) == []
  assert 'Nothing was found' in (tmp_path / 'audit.md').read_text()
  for name, lines in (('duplicates', 1), ('overlapping_people', 1), ('similar_people', 1)):
    assert len(rows(tmp_path / f'{name}.csv')) == lines
  assert (tmp_path / 'skipped.tsv').read_text() == (tmp_path / 'in_evaluation.txt').read_text() == ''
  found = report['inputs']['A']
  assert (found['images'], found['people'], found['sizes'], found['kinds']) == (48, 16, {'112x112': 48}, {'colour': 48})
  assert found['bytes'] == sum(path.stat().st_size for path in (clean / 'A').rglob('*.jpg'))
  assert report == json.loads((tmp_path / 'audit.json').read_text())
  assert {path.name for path in tmp_path.iterdir() if not path.name.startswith('.')} == {
    'audit.json',
    'audit.md',
    'audit.png',
    'skipped.tsv',
    'duplicates.csv',
    'in_evaluation.txt',
    'overlapping_people.csv',
    'similar_people.csv',
    'odd_sizes.tsv',
  }


@pytest.fixture(scope='module')
def planted(faces, tmp_path_factory):
  """Two inputs with every fault once, and an evaluation set."""
  root = tmp_path_factory.mktemp('planted')
  a = {f'a{k:02}': [jpeg(image) for image in faces[k]] for k in range(16)}
  a['a00'] += [a['a00'][0]]  # the same bytes, one person
  a['a01'] += [again(faces[1, 1])]  # the same picture, one person
  a['a03'] += [a['a02'][0]]  # the same bytes, two people
  a['a05'] += [again(faces[4, 2])]  # the same picture, two people
  a['a06'] += [a['a06'][0][:2000], b'no image', jpeg(np.full((SIZE, SIZE, 3), 90, np.uint8))]
  a['a09'] += [a['a08'][2]]
  write(root / 'A', a)
  (root / 'A' / 'empty').mkdir()
  b = {f'b{k:02}': faces[k] for k in range(16, 24)}
  b['b24'] = [again(image) for image in faces[7]]  # a person of the other input under another name
  write(root / 'B', b)
  strangers = [jpeg(image) for image in faces[24:].reshape(-1, SIZE, SIZE, 3)]
  tested = [*strangers[:6], a['a08'][2], strangers[6], again(faces[10, 0]), again(faces[10, 1]), a['a08'][2], b'bad']
  write_pairs(root / 'lfw.bin', tested, [True] * 6)
  return root


@pytest.fixture(scope='module')
def found(planted, tmp_path_factory):
  output = tmp_path_factory.mktemp('report')
  report = run(output, planted / 'A', planted / 'B', against=str(planted / 'lfw.bin'), encoder='pixels')
  return report, output


def test_pictures_that_are_there_twice(planted, found):
  short = [
    [kind, of, first, second, *(re.sub(rf'{planted}/', '', where) for where in where)]
    for kind, of, first, second, *where in rows(found[1] / 'duplicates.csv')[1:]
  ]
  two, tested, one = 'two people', 'evaluation', 'one person'
  assert sorted(short) == sorted(
    [
      ['exact', two, 'A:a02', 'A:a03', 'A/a02/0.jpg', 'A/a03/3.jpg'],
      ['exact', two, 'A:a08', 'A:a09', 'A/a08/2.jpg', 'A/a09/3.jpg'],
      ['near', two, 'A:a04', 'A:a05', 'A/a04/2.jpg', 'A/a05/3.jpg'],
      *(['near', two, 'A:a07', 'B:b24', f'A/a07/{i}.jpg', f'B/b24/{i}.jpg'] for i in range(3)),
      ['exact', tested, 'A:a08', '', 'A/a08/2.jpg', 'lfw.bin, image 6'],
      *(['near', tested, 'A:a10', '', f'A/a10/{i}.jpg', f'lfw.bin, image {8 + i}'] for i in range(2)),
      ['exact', one, 'A:a00', 'A:a00', 'A/a00/0.jpg', 'A/a00/3.jpg'],
      ['near', one, 'A:a01', 'A:a01', 'A/a01/1.jpg', 'A/a01/3.jpg'],
    ]
  )
  assert found[0]['duplicates'] == {
    'exact': {'within_a_person': {'pairs': 1, 'images': 1}, 'across_people': {'pairs': 2, 'images': 2}},
    'near': {'within_a_person': {'pairs': 1, 'images': 1}, 'across_people': {'pairs': 4, 'images': 4}},
  }


def test_people_in_the_evaluation_set(planted, found):
  assert (found[1] / 'in_evaluation.txt').read_text().split() == ['a08', 'a09', 'a10']
  listed = rows(found[1] / 'overlapping_people.csv')
  assert listed[0] == ['same', 'similarity', 'person', 'evaluation_image', 'found_by']
  where = planted / 'lfw.bin'
  assert listed[1:] == [
    ['1', '', 'A:a08', f'{where}, image 6', 'same bytes'],
    ['1', '', 'A:a09', f'{where}, image 6', 'same bytes'],
    ['1', '', 'A:a10', f'{where}, image 8', 'same picture'],
  ]
  assert found[0]['evaluation']['lfw.bin'] == {
    'images': 12,
    'found': 3,
    'training_images': 4,
    'people': 3,
    'exact_people': 2,
    'similar_people': 0,
  }


def test_images_that_cannot_be_used(planted, found):
  skipped = dict(line.split('\t') for line in (found[1] / 'skipped.tsv').read_text().splitlines())
  assert {name.removeprefix(f'{planted}/'): reason[:12] for name, reason in skipped.items()} == {
    'A/a06/3.jpg': 'image file i',
    'A/a06/4.jpg': 'cannot ident',
    'A/a06/5.jpg': 'shows nothin',
    'lfw.bin, image 11': 'cannot ident',
    'A/empty': 'no images in',
  }
  report = found[0]['inputs']['A']
  assert (report['undecodable'], report['skipped'], report['kinds']['blank']) == (2, 1, 1)


def test_a_person_under_two_names(found):
  listed = rows(found[1] / 'similar_people.csv')
  assert listed[0] == ['same', 'similarity', 'first', 'second']
  assert [(same, *people) for same, _, *people in listed[1:]] == [('', 'A:a07', 'B:b24')]
  assert 0.97 < float(listed[1][1]) <= 1


def test_every_fault_is_a_sentence(found):
  text = '\n'.join(faults(found[0]))
  for part in (
    'A: 2 images cannot be decoded',
    'A: 1 file or record was left out',
    'A: 1 image shows nothing',
    '2 pictures are there under two names, byte for byte',
    '4 pictures are there under two names, nearly',
    '1 picture of a person repeated, nearly',
    'A: 2 pictures are of an odd size among those of 112x112',
    'lfw.bin: 3 people are trained on',
    '1 pair of people looks alike',
  ):
    assert part in text
  assert text.count('\n') == 9 and all(line in (found[1] / 'audit.md').read_text() for line in text.split('\n'))


@pytest.mark.slow
def test_a_network_finds_people_in_other_photographs(faces, tmp_path, monkeypatch):
  """Its network reads who is shown off the first pixel, and every picture is another one."""
  table = np.random.default_rng(0).standard_normal((256, 64)).astype(np.float32)
  network = Encoder(lambda images: table[np.asarray(images)[:, 0, 0, 0]], 'first pixel')
  monkeypatch.setattr(audit_command, 'open_encoder', lambda *_: network)

  def photographs(k, who):
    images = faces[k].copy()
    images[:, 0, 0] = who
    return [cv2.imencode('.png', image[..., ::-1])[1].tobytes() for image in images]

  write(tmp_path / 'A', {f'a{k:02}': photographs(k, k) for k in range(12)})
  write(tmp_path / 'B', {f'b{k:02}': photographs(12 + k, 4 * k) for k in range(3)} | {'c': photographs(16, 100)})
  write_pairs(tmp_path / 'lfw.bin', photographs(20, 7)[:2] + photographs(21, 200)[:2], [True, True])
  report = run(
    tmp_path / 'report',
    tmp_path / 'A',
    tmp_path / 'B',
    against=str(tmp_path / 'lfw.bin'),
    encoder='backbone',
    encoder_path='there',
  )
  alike = [tuple(row[2:]) for row in rows(tmp_path / 'report' / 'similar_people.csv')[1:]]
  assert sorted(alike) == [('A:a00', 'B:b00'), ('A:a04', 'B:b01'), ('A:a08', 'B:b02')]
  overlapping = rows(tmp_path / 'report' / 'overlapping_people.csv')[1:]
  assert [(same, person, by) for same, _, person, _, by in overlapping] == [('', 'A:a07', 'encoder')]
  assert report['evaluation']['lfw.bin']['similar_people'] == 1 and report['similar_people']['people'] == 6
  assert report['duplicates']['near']['across_people']['images'] == 0


def test_lists_fit_the_converter(planted, found, tmp_path):
  same = tmp_path / 'same.csv'
  same.write_text((found[1] / 'similar_people.csv').read_text().replace('\n,', '\n1,'))
  convert.convert(
    convert.Settings(
      f'{planted / "A"},{planted / "B"}', tmp_path / 'out', same=str(same), without=str(found[1] / 'in_evaluation.txt')
    )
  )
  names = {person.name for person in Packed(tmp_path / 'out').people()}
  assert len(names) == 16 + 8 - 3 and not {'a08', 'a09', 'a10', 'b24'} & names


def test_swapped_colours_are_noticed(faces, tmp_path):
  root = write(tmp_path / 'C', {f'c{k}': faces[k][..., ::-1] for k in range(8)})
  report = run(tmp_path / 'report', root)
  assert list(faults(report)) == ['C: red and blue are probably swapped.']
  assert report['inputs']['C']['colour']['blue_above_red'] > 0.5


def test_grey_stored_as_colour_says_nothing_of_the_order_of_channels(faces, tmp_path):
  grey = [faces[k].mean(-1, keepdims=True).repeat(3, -1).astype(np.uint8) for k in range(4)]
  root = write(tmp_path / 'G', {f'g{k}': images for k, images in enumerate(grey)})
  report = run(tmp_path / 'report', root)
  assert report['inputs']['G']['kinds'] == {'colour': 12} and report['inputs']['G']['colour']['images'] == 0
  assert 'channels are in order' not in (tmp_path / 'report' / 'audit.md').read_text()


def test_sizes_and_kinds(faces, tmp_path):
  root = write(tmp_path / 'D', {f'd{k}': faces[k] for k in range(4)})
  picture = Image.fromarray(faces[9, 0])
  picture.convert('L').save(root / 'd0' / 'grey.jpg')
  picture.convert('CMYK').save(root / 'd1' / 'cmyk.jpg')
  picture.resize((80, 100)).save(root / 'd2' / 'tall.png')
  report = run(tmp_path / 'report', root)['inputs']['D']
  assert report['kinds'] == {'colour': 13, 'grey': 1, 'CMYK': 1}
  assert report['sizes'] == {'112x112': 14, '80x100': 1} and report['not_square'] == 1


def test_damaged_labels_of_recordio_are_told(clean, tmp_path):
  (tmp_path / 'R').mkdir()
  write_insightface(open_records(str(clean / 'A')), tmp_path / 'R' / 'train.rec')
  rec = tmp_path / 'R' / 'train.rec'
  rec.write_bytes(rec.read_bytes()[:-40000])
  report = run(tmp_path / 'report', tmp_path / 'R')
  assert report['inputs']['R']['skipped'] and report['inputs']['R']['labels']
  assert any('left out' in fault for fault in faults(report))


@pytest.mark.slow
def test_many_processes_find_what_one_finds(planted, monkeypatch):
  images = image_hashes.Together([open_records(str(planted / 'A'), damaged='skip'), open_records(str(planted / 'B'))])
  here = image_hashes.mark_all(images)
  monkeypatch.setattr(image_hashes, '_FEW', 0)
  monkeypatch.setattr(image_hashes, '_BLOCK', 16)
  there = image_hashes.mark_all(images)
  np.testing.assert_array_equal(here.marks, there.marks)
  assert here.undecodable == there.undecodable
  pairs = np.stack([np.arange(40), np.arange(40) + 1], 1)[:10]
  monkeypatch.setattr(duplicates, '_BLOCK', 1)
  np.testing.assert_array_equal(duplicates.confirmed(images, pairs), np.zeros(10, bool))


def test_people_and_spread():
  table = np.zeros(7, image_hashes.MARK)
  table['kind'], table['bytes'] = image_hashes.COLOUR, [1, 2, 3, 4, 5, 6, 7]
  report = describe_images(table, np.array([0, 0, 0, 0, 0, 1, 2]), 3)
  assert report['images_per_person'] == {'min': 1, 'median': 1, 'mean': 2.33, 'max': 5}
  assert [report[f'people_with_{few}'] for few in ('1_image', 'less_than_5', 'less_than_10')] == [2, 2, 3]
  np.testing.assert_array_equal(few_of_each(np.array([1, 0, 1, 1, 0]), np.array([0, 1, 1, 1, 1], bool), 1), [1, 2])


def test_settings_that_do_not_go_together(clean, tmp_path):
  with pytest.raises(ConfigError, match='names nothing'):
    run(tmp_path, '')
  with pytest.raises(ConfigError, match='lies inside'):
    run(clean / 'A' / 'report', clean / 'A')
  with pytest.raises(ConfigError, match='--encoder=backbone needs --encoder_path'):
    run(tmp_path, clean / 'A', encoder='backbone')
  with pytest.raises(ConfigError, match=r'--encoder=backbone: .*nowhere'):
    run(tmp_path, clean / 'A', encoder='backbone', encoder_path=str(tmp_path / 'nowhere'))


@pytest.mark.slow
def test_the_command(command, photographs, tmp_path):
  done = command('audit', f'--input={photographs}', f'--output={tmp_path / "report"}')
  assert done.returncode == 0, done.stdout
  assert done.stdout.splitlines()[-1] == f'Report: {tmp_path / "report" / "audit.md"}'
  assert (tmp_path / 'report' / 'audit.png').stat().st_size > 10000
  done = command('audit', f'--input={tmp_path / "nothing"}', f'--output={tmp_path / "report"}')
  assert done.returncode == 1 and done.stdout.splitlines()[-1].startswith('DataError: ')
