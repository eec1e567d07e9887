"""IJB-B and IJB-C opened from their files: numbers worked out on paper, crops by matrices of scikit-image."""

import codecs
import json
import os
import shutil

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gif_jax.core.errors import DataError
from gif_jax.data.alignment.geometry import template
from gif_jax.evaluation.registry import open_benchmark
from gif_jax.models.extraction.extract import extract
from tests.helpers import places
from tests.helpers.template_files import IMAGES, PAIRS, write, write_set

GOLDEN = json.loads((places.GOLDEN / 'align_golden.json').read_text())


def _pictures(n=10, height=112, width=112):
  return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), np.uint8)


@pytest.mark.parametrize('name', ['ijbb', 'ijbc'])
def test_attributes_on_paper(tmp_path, name):
  found = open_benchmark(str(write_set(tmp_path / 'set', name)), 112)
  assert (found.name, found.images, found.search) == (name, None, None)
  assert found.template_ids.tolist() == [7, 31, 32, 900, 4000]
  assert found.template.tolist() == [3, 0, 1, 0, 4, 0, 3, 2, 3, 1] and found.template.dtype == np.int32
  assert found.media.tolist() == [11, 1, 4, 2, 5, 1, 11, 1, 12, 4] and found.media.dtype == np.int64
  assert found.detector.tolist() == np.array([row[3] for row in IMAGES], np.float32).tolist()
  assert found.left.tolist() == [0, 1, 0, 1, 3, 4, 3] and found.left.dtype == np.int32
  assert found.right.tolist() == [3, 0, 4, 2, 2, 1, 4] and found.right.dtype == np.int32
  assert found.same.tolist() == [True, False, False, True, False, False, False]
  assert found.subject[[0, 1, 4]].tolist() == found.subject[[3, 2, 4]].tolist()  # 7 with 900, 31 with 32
  assert np.unique(found.subject).tolist() == [0, 1, 2]
  assert found.identity.tolist() == found.subject[found.template].tolist()


def test_people_are_chains_of_genuine_pairs(tmp_path):
  pairs = [(7, 31, 1), (900, 31, 1), (900, 4000, 1), (7, 32, 0)]
  found = open_benchmark(str(write_set(tmp_path, pairs=pairs)), 112)
  assert len(set(found.subject[[0, 1, 3, 4]].tolist())) == 1 and found.subject[2] != found.subject[0]


ARRAYS = ('template', 'media', 'detector', 'template_ids', 'left', 'right', 'same', 'subject')


@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
@pytest.mark.parametrize(
  ('mark', 'encoding'),
  [(b'', 'utf-8'), (codecs.BOM_UTF8, 'utf-8'), (codecs.BOM_UTF16_LE, 'utf-16-le'), (codecs.BOM_UTF16_BE, 'utf-16-be')],
)
def test_lists_saved_by_other_programs_are_the_same(tmp_path, end, mark, encoding):
  """Line ends, marks and encodings, tabs, blank lines; names whose bytes in UTF-8 are white space in Latin-1."""
  images = [('à Å\u2705'.replace(' ', '') + name, *rest) for name, *rest in IMAGES]
  one = open_benchmark(str(write_set(tmp_path / 'one', images=images, pictures=_pictures())), 112)
  write_set(tmp_path / 'two', images=images, pictures=_pictures())
  for path in (tmp_path / 'two' / 'meta').iterdir():
    text = '\n \t\n' + path.read_text().replace(' ', ' \t').replace('\n', ' \n\n')
    path.write_bytes(mark + text.replace('\n', end).encode(encoding))
  two = open_benchmark(str(tmp_path / 'two'), 112)
  for key in ARRAYS:
    np.testing.assert_array_equal(getattr(one, key), getattr(two, key))
  np.testing.assert_array_equal(one.images[:], two.images[:])


def test_labels_may_be_written_as_floats(tmp_path):
  one = open_benchmark(str(write_set(tmp_path / 'one')), 112)
  two = open_benchmark(str(write_set(tmp_path / 'two', pairs=[(*ids, float(label)) for *ids, label in PAIRS])), 112)
  for key in ARRAYS:
    np.testing.assert_array_equal(getattr(one, key), getattr(two, key))


def test_the_fingerprint_is_of_the_text_files_and_the_size(tmp_path):
  def fingerprint(name, size=112, **settings):
    return open_benchmark(str(write_set(tmp_path / name, **settings)), size).fingerprint

  prints = [
    fingerprint('a'),
    fingerprint('b', size=128),
    fingerprint('c', pairs=PAIRS[:-1]),
    fingerprint('d', images=IMAGES[::-1]),
    fingerprint('e', points=np.random.default_rng(0).normal(size=(10, 5, 2))),
  ]
  assert len(set(prints)) == 5 and fingerprint('f') == prints[0]


@pytest.mark.parametrize('size', [112, 56, 128])
def test_a_face_in_its_place_is_taken_as_it_is(tmp_path, size):
  """RGB, in the order of the lists, by slices and by numbers."""
  pictures = _pictures(height=size + 9, width=size + 4)
  points = np.repeat(template(size)[None], 10, 0)
  found = open_benchmark(str(write_set(tmp_path, points=points, pictures=pictures)), size).images
  assert len(found) == 10 and found[2:5].dtype == np.uint8
  np.testing.assert_array_equal(found[2:5], pictures[2:5, :size, :size])
  np.testing.assert_array_equal(found[np.array([7, 0])], pictures[[7, 0], :size, :size])


def test_crops_are_bilinear_by_the_matrices_of_scikit_image(tmp_path):
  """Also of large faces, of which a bilinear warp leaves out most pixels: that is how the field measures on IJB."""
  cases = [case for case in GOLDEN if 1e-1 < np.hypot(*np.array(case['matrix'])[:, 0]) < 4][:10]
  assert min(np.hypot(*np.array(case['matrix'])[:, 0]) for case in cases) < 0.4
  points = np.array([case['points'] for case in cases])
  # The golden points may lie anywhere: moved into a small picture; the matrix has the move taken back.
  corner = points.min(1, keepdims=True) - 8
  pictures = [cv2.resize(picture, (260, 220)) for picture in _pictures(height=60, width=60)]
  found = open_benchmark(str(write_set(tmp_path, points=points - corner, pictures=pictures)), 112).images[:]
  for crop, picture, case, moved in zip(found, pictures, cases, corner[:, 0]):
    matrix = np.array(case['matrix'])
    matrix[:, 2] += matrix[:, :2] @ moved
    expected = cv2.warpAffine(picture[..., ::-1].copy(), matrix, (112, 112), borderValue=0.0)[..., ::-1]
    # Places are equal up to rounding, which may turn the last bit of a pixel.
    assert np.abs(crop.astype(int) - expected).max() <= 1 and np.mean(crop != expected) < 1e-3


def test_threads_read_what_one_reads(tmp_path):
  images = open_benchmark(str(write_set(tmp_path, pictures=_pictures())), 112).images
  found = extract(lambda batch: batch[:, ::31, ::37].reshape(len(batch), -1), images, 8, progress='')
  np.testing.assert_array_equal(found, images[:][:, ::31, ::37].reshape(10, -1))


@pytest.mark.parametrize('which', ['face_tid_mid', 'name_5pts_score', 'template_pair_label'])
def test_a_file_that_is_missing(tmp_path, which):
  write_set(tmp_path)
  (tmp_path / 'meta' / f'ijbc_{which}.txt').unlink()
  with pytest.raises(DataError, match=rf'meta/ijbc_{which}\.txt does not exist; copy'):
    open_benchmark(str(tmp_path), 112)


def _row(which, row):
  rows = {
    'face_tid_mid': [row[:3] for row in IMAGES],
    'name_5pts_score': [(name, *range(10), score) for name, _, _, score in IMAGES],
    'template_pair_label': list(PAIRS),
  }[which]
  return [*rows[:3], row, *rows[4:]]


@pytest.mark.parametrize(
  ('which', 'row', 'message'),
  [
    ('face_tid_mid', ('2.png', 7), r'mid\.txt, line 4: 2 columns, wanted IMAGE TEMPLATE MEDIA between white space;'),
    ('face_tid_mid', ('2.png', 7, 2, 1), r'line 4: 4 columns'),
    ('face_tid_mid', ('2.png', 'x7', 2), r"line 4, column 2: 'x7' is not a whole number that can be a TEMPLATE; .*\.$"),
    ('face_tid_mid', ('2.png', 7.5, 2), r"line 4, column 2: '7\.5' is not a whole number that can be a TEMPLATE"),
    ('face_tid_mid', ('2.png', 2**63, 2), r"line 4, column 2: '9223372036854775808' is not a whole number that"),
    ('face_tid_mid', ('2.png', 7, -(2**63) - 1), r"line 4, column 3: '-9223372036854775809' is not .* be a MEDIA"),
    ('face_tid_mid', ('2.jpg', 7, 2), r'line 4: 2\.jpg, but .*name_5pts_score\.txt, line 4: 2\.png \(1 such'),
    ('face_tid_mid', ('3.png', 7, 2), r'line 4: 3\.png, but .*line 4: 2\.png'),
    ('name_5pts_score', ('2.png', *range(10)), r'name_5pts_score\.txt, line 4: 11 columns, wanted IMAGE x1 y1'),
    ('name_5pts_score', ('2.png', *range(10), 'high'), r"line 4, column 12: 'high' is not a number that can be"),
    ('name_5pts_score', ('2.png', *range(10), 'nan'), r'line 4: a score of nan, not finite and above 0 .*\(1 such'),
    ('name_5pts_score', ('2.png', *range(9), 'inf', 1), r'line 4: a number that is not finite, y5 \(1 such'),
    ('template_pair_label', (31, 32), r'template_pair_label\.txt, line 4: 2 columns, wanted TEMPLATE TEMPLATE 1\|0'),
    ('template_pair_label', (31, 32, 1, 1), r'line 4: 4 columns'),
    ('template_pair_label', (31, 33, 1), r'line 4: a template 33 that .*tid_mid\.txt lacks \(1 such lines\); copy'),
    ('template_pair_label', (9999, 32, 1), r'line 4: a template 9999 that'),
    ('template_pair_label', (31, 32, 2), r'line 4: a label 2 that is neither 0 nor 1'),
    ('template_pair_label', (31, 32, -1), r'line 4: a label -1 that is neither 0 nor 1'),
    ('template_pair_label', (31, 32, 'nan'), r'line 4: a label nan that is neither'),
    ('template_pair_label', (31, 32, 0.5), r'line 4: a label 0\.5 that is neither'),
    ('template_pair_label', (31, 32, '1_0'), r"line 4, column 3: '1_0' is not a number that can be a 1\|0"),
    ('template_pair_label', ('9' * 30, 32, 1), r"line 4, column 1: '9{30}' is not a whole number"),
    ('template_pair_label', (31, 'x' * 9999, 1), r"line 4, column 2: 'x{40}\.\.\.x{20}' is not"),
    ('template_pair_label', ('31,32,1',), r'line 4: 1 columns, wanted TEMPLATE TEMPLATE 1\|0 between white space'),
  ],
)
def test_rows_that_cannot_be_used(tmp_path, which, row, message):
  write_set(tmp_path)
  write(tmp_path, f'ijbc_{which}', _row(which, row))
  with pytest.raises(DataError, match=message):
    open_benchmark(str(tmp_path), 112)


@pytest.mark.parametrize('score', [0, '-0.0', -0.7, '-inf', 'inf', '1e-60', '1e39'])
def test_scores_that_cannot_weight_images(tmp_path, score):
  """0 leaves an image out, less takes its opposite; as float32, which they become, 1e-60 is 0 and 1e39 infinite."""
  images = [*IMAGES[:5], (*IMAGES[5][:3], score), *IMAGES[6:]]
  with pytest.raises(DataError, match=r'_score\.txt, line 6: a score of .*, not finite and above 0 .*; copy'):
    open_benchmark(str(write_set(tmp_path, images=images)), 112)


@pytest.mark.parametrize(
  ('which', 'header'),
  [
    ('face_tid_mid', 'image template media'),
    ('name_5pts_score', 'name x1 y1 x2 y2 x3 y3 x4 y4 x5 y5 score'),
    ('name_5pts_score', 'name points score'),
    ('template_pair_label', 'TEMPLATE_1\tTEMPLATE_2\tLABEL'),
  ],
)
def test_a_header_is_named_as_one(tmp_path, which, header):
  path = write_set(tmp_path) / 'meta' / f'ijbc_{which}.txt'
  path.write_text(f'\n{header}\n{path.read_text()}')
  with pytest.raises(DataError, match=rf'{which}\.txt, line 2: a header, which the file must not have; remove'):
    open_benchmark(str(tmp_path), 112)


def test_a_blank_line_counts_as_a_line_of_the_file(tmp_path):
  path = write_set(tmp_path) / 'meta' / 'ijbc_template_pair_label.txt'
  path.write_text('\n7 900 1\n\n31 7 2\n')
  with pytest.raises(DataError, match='line 4: a label'):
    open_benchmark(str(tmp_path), 112)


def test_a_blank_line_is_not_what_is_wrong(tmp_path):
  path = write_set(tmp_path) / 'meta' / 'ijbc_template_pair_label.txt'
  path.write_text('\n7 900 1\n\n31 7\n')
  with pytest.raises(DataError, match='line 4: 2 columns'):
    open_benchmark(str(tmp_path), 112)


def test_lists_of_unlike_length(tmp_path):
  write_set(tmp_path)
  write(tmp_path, 'ijbc_face_tid_mid', [row[:3] for row in IMAGES[:-1]])
  with pytest.raises(DataError, match=r'face_tid_mid\.txt has 9 rows, .*name_5pts_score\.txt 10; row i'):
    open_benchmark(str(tmp_path), 112)


@pytest.mark.parametrize(('label', 'word'), [(1, 'impostor'), (0, 'genuine')])
def test_pairs_of_one_kind(tmp_path, label, word):
  write_set(tmp_path, pairs=[(7, 31, label), (7, 900, label)])
  with pytest.raises(DataError, match=f'has no {word} pairs; copy all of it again'):
    open_benchmark(str(tmp_path), 112)


@pytest.mark.parametrize('which', ['face_tid_mid', 'name_5pts_score', 'template_pair_label'])
def test_an_empty_file(tmp_path, which):
  (write_set(tmp_path) / 'meta' / f'ijbc_{which}.txt').write_text('')
  with pytest.raises(DataError, match=rf'ijbc_{which}\.txt cannot be used'):
    open_benchmark(str(tmp_path), 112)


def test_images_that_are_not_there_are_missed_before_anything_is_embedded(tmp_path):
  write_set(tmp_path, pictures=_pictures())
  (tmp_path / 'loose_crop' / '9.png').unlink()
  with pytest.raises(DataError, match=r"name_5pts_score\.txt, line 5: no image '9\.png' in .*loose_crop \(1 such"):
    open_benchmark(str(tmp_path), 112)


def test_images_may_lie_in_folders(tmp_path):
  images = [(f'img/{name}', *rest) for name, *rest in IMAGES]
  write_set(tmp_path, images=images)
  (tmp_path / 'loose_crop').mkdir()
  with pytest.raises(DataError, match=r"line 1: no image 'img/5\.png' in .*loose_crop \(10 such"):
    open_benchmark(str(tmp_path), 112)
  (tmp_path / 'loose_crop' / 'img').mkdir()
  pictures = _pictures()
  for (name, *_), picture in zip(images, pictures):
    cv2.imwrite(str(tmp_path / 'loose_crop' / name), picture[..., ::-1])
  np.testing.assert_array_equal(open_benchmark(str(tmp_path), 112).images[:], pictures)


def test_points_that_no_face_has(tmp_path):
  points = np.repeat(template(112)[None], 10, 0)
  points[6] = 30
  write_set(tmp_path, points=points, pictures=_pictures())
  with pytest.raises(DataError, match=r'_score\.txt, line 7: points that all but coincide; they must be in pixels'):
    open_benchmark(str(tmp_path), 112)


@pytest.mark.parametrize('pictures', [True, False])
@pytest.mark.parametrize(
  ('wrong', 'message'),
  [
    (lambda points: points[:, [1, 0, 2, 4, 3]], r'line 1: left and right are swapped \(10 such lines\); .*the eye'),
    (lambda points: points[..., ::-1], r'line 1: y comes before x \(10'),
    (lambda points: points[:, [0, 1, 3, 4, 2]], r'line 1: the nose comes last \(10'),
    (lambda points: points.swapaxes(1, 2).reshape(10, 5, 2), r'line 1: all x come before all y \(10'),
    (lambda points: points / 112, r'line 1: points that all but coincide; they must be in pixels, not shares .*\(10'),
    (lambda points: points - [[[300, 0]]], r'line 1: points that do not lie in the picture \(10'),
    (lambda points: points - 300 * (np.arange(10) == 3)[:, None, None], r'line 4: .* the picture \(1 such'),
    (lambda points: points * 1e12, r'line 1: points that are not numbers \(10'),
  ],
)
def test_points_that_are_wrong_in_most_lines(tmp_path, wrong, message, pictures):
  """As of `--landmarks`; embeddings made elsewhere need no points."""
  points = wrong(np.repeat(template(112)[None], 10, 0))
  write_set(tmp_path, points=points, pictures=_pictures() if pictures else None)
  if not pictures:
    assert open_benchmark(str(tmp_path), 112).images is None
    return
  with pytest.raises(DataError, match=r'name_5pts_score\.txt, ' + message):
    open_benchmark(str(tmp_path), 112)


@pytest.mark.parametrize('away', [(90, 0), (0, 90), (4000, 4000)])
def test_points_outside_of_their_picture_are_named_when_it_is_read(tmp_path, away):
  points = np.repeat(template(112)[None], 10, 0)
  points[6] += away
  images = open_benchmark(str(write_set(tmp_path, points=points, pictures=_pictures())), 112).images
  assert len(images[:6]) == 6
  with pytest.raises(DataError, match=r'_score\.txt, line 7: points that do not lie in the picture .*/6\.png, .*x112'):
    images[np.array([2, 6])]


def test_faces_that_ijb_has_are_taken(tmp_path):
  """A profile at the edge, a face found mirrored, one turned by a quarter: single rows that the field measures too."""
  points = np.repeat(template(112)[None], 10, 0)
  points[1] = [[4, 50], [3, 50], [-14, 70], [6, 92], [5, 92]]
  points[2] = points[2][[1, 0, 2, 4, 3]]
  points[3] = (points[3] - 56) @ [[0, 1], [-1, 0]] + 56
  points[4] -= [40, 50]
  images = open_benchmark(str(write_set(tmp_path, points=points, pictures=_pictures())), 112).images
  assert images[:].reshape(10, -1).any(1).all()


def test_an_image_in_several_rows_counts_in_each(tmp_path):
  images = [*IMAGES, ('1.png', 32, 9, 0.5), ('1.png', 7, 1, 0.9)]
  found = open_benchmark(str(write_set(tmp_path, images=images, pictures=[*_pictures(), *_pictures()[[1, 1]]])), 112)
  assert found.template.tolist()[-2:] == [2, 0] and len(found.images) == 12
  np.testing.assert_array_equal(found.images[-2:], _pictures()[[1, 1]])


@pytest.mark.parametrize(
  ('listed', 'there'),
  [
    ('./img/Zoë 1.png', 'img/Zoë 1.png'),
    ('img//Zoë/.//1.png', 'img/Zoë/1.png'),
    ('img\\Zoë\\1.png', 'img/Zoë/1.png'),
    ('Zoe\u0308/1.png', 'Zoë/1.png'),
    ('Zoë/1.png', 'Zoe\u0308/1.png'),
    ('Zoë\\e\u0301.png', 'Zoe\u0308/é.png'),
  ],
)
def test_names_in_every_spelling_are_one(tmp_path, listed, there):
  listed, there = listed.replace(' ', '_'), there.replace(' ', '_')
  images = [*IMAGES[:4], (listed, *IMAGES[4][1:]), *IMAGES[5:]]
  (tmp_path / 'loose_crop' / there).parent.mkdir(parents=True)
  write_set(tmp_path, images=images)
  # The two lists spell it unlike each other, too.
  write(tmp_path, 'ijbc_face_tid_mid', [(f'./{row[0]}' if row[0] == '8.png' else row[0], *row[1:3]) for row in images])
  pictures = _pictures()
  for row, picture in zip(IMAGES, pictures):
    path = tmp_path / 'loose_crop' / (there if row[0] == IMAGES[4][0] else row[0])
    path.write_bytes(cv2.imencode('.png', picture[..., ::-1])[1].tobytes())
  np.testing.assert_array_equal(open_benchmark(str(tmp_path), 112).images[:], pictures)


@pytest.mark.parametrize('content', [b'', b'no image', None])
def test_an_image_that_cannot_be_read_is_named(tmp_path, content):
  images = open_benchmark(str(write_set(tmp_path, pictures=_pictures())), 112).images
  broken = tmp_path / 'loose_crop' / '2.png'
  broken.unlink()
  if content is not None:
    broken.write_bytes(content)
  assert len(images[:3]) == 3
  with pytest.raises(DataError, match=r'loose_crop/2\.png: .*copy it again'):
    images[:4]


@given(
  which=st.sampled_from(['face_tid_mid', 'name_5pts_score', 'template_pair_label']),
  place=st.floats(0, 1),
  length=st.integers(0, 12),
  put=st.one_of(
    st.binary(max_size=6), st.sampled_from([b'\n', b' ', b'nan', b'-', b'1e9', b'"', b'#', b'\0', b'9' * 25])
  ),
)
@settings(
  max_examples=int(os.environ.get('FUZZ', 80)), deadline=None, derandomize='FUZZ' not in os.environ, database=None
)
def test_any_damage_is_refused_or_leaves_a_set(tmp_path_factory, which, place, length, put):
  folder = write_set(tmp_path_factory.mktemp('damaged') / 'set')
  path = folder / 'meta' / f'ijbc_{which}.txt'
  content = path.read_bytes()
  start = int(place * len(content))
  path.write_bytes(content[:start] + put + content[start + length :])
  try:
    found = open_benchmark(str(folder), 112)
  except DataError as error:
    assert str(path) in str(error)
    return
  assert len(found.template) == len(found.media) == len(found.detector) == len(found.identity)
  assert len(found.left) == len(found.right) == len(found.same) and found.same.any() and not found.same.all()
  assert max(found.left.max(), found.right.max(), found.template.max()) < len(found.template_ids) == len(found.subject)


def test_another_picture_under_the_same_name_is_another_set(tmp_path):
  """Embeddings are kept by the fingerprint: those of pictures of before must not be taken for these."""
  pictures = np.random.default_rng(0).integers(0, 256, (10, 112, 112, 3), np.uint8)
  folder = write_set(tmp_path / 'ijbc', pictures=pictures)
  before = open_benchmark(str(folder), 112).fingerprint
  assert open_benchmark(str(folder), 112).fingerprint == before
  shutil.copy(folder / 'loose_crop' / '1.png', folder / 'loose_crop' / '2.png')
  assert open_benchmark(str(folder), 112).fingerprint != before


@pytest.mark.parametrize(
  'pairs',
  [
    (*PAIRS, (7, 900, 0)),  # there before, with the other label
    (*PAIRS, (32, 32, 0)),  # a template and itself
    ((7, 900, 1), (900, 31, 1), (31, 7, 0), (7, 4000, 0)),  # by other lines
  ],
)
def test_pairs_that_contradict_each_other(tmp_path, pairs):
  said = r'template_pair_label\.txt, line \d+: templates \d+ and \d+ as of two people, who'
  with pytest.raises(DataError, match=said):
    open_benchmark(str(write_set(tmp_path / 'set', pairs=pairs)), 112)


def test_subjects_of_1_n_that_contradict_the_pairs(tmp_path):
  folder = write_set(tmp_path / 'set')
  lists = {'gallery_G1': [(7, 1)], 'gallery_G2': [(31, 2)], 'probe_mixed': [(900, 1), (32, 2), (4000, 3)]}

  def write_lists():
    for name, rows in lists.items():
      text = ''.join(f'{template},{subject}\n' for template, subject in rows)
      (folder / 'meta' / f'ijbc_1N_{name}.csv').write_text(f'TEMPLATE_ID,SUBJECT_ID\n{text}')

  write_lists()
  assert open_benchmark(str(folder), 112).search is not None
  lists['probe_mixed'] = [(900, 2), (32, 3), (4000, 1)]
  write_lists()
  with pytest.raises(DataError, match=r'ijbc_1N_\*\.csv have templates \d+ and \d+ of the subjects \d and \d, who are'):
    open_benchmark(str(folder), 112)
