"""Lists of verification pairs: the same whoever wrote them, and what cannot be meant is refused by its part."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gif_jax.core.errors import DataError
from gif_jax.core.lists import normal
from gif_jax.data.convert.convert import Settings, convert
from gif_jax.data.convert.pair_list import read_pair_list
from gif_jax.data.formats.bin_pairs import read_pairs
from gif_jax.data.formats.folder import Photos
from tests.helpers.pictures import SIZE, encode, picture, several, write


def run(where, output, **given):
  return convert(Settings(str(where), output, **{'size': SIZE} | given))


NAMES = ('anna', 'Zo\u00eb', 'de la  cruz', 'a\tb', '7')
PLAIN = 'anna/00.jpg 7/00.jpg 0\nanna/00.jpg anna/01.jpg 1\n'
ODD = 'de la  cruz/00.jpg a\tb/00.jpg 0\na\tb/01.jpg\tde la  cruz/00.jpg\t0\n'
ZOE = 'Zo\u00eb/00.jpg anna/00.jpg 0\nZo\u00eb/00.jpg Zo\u00eb/01.jpg 1\n'
PLAIN_PAIRS, ODD_PAIRS, ZOE_PAIRS = ((0, 8, 0), (0, 1, 1)), ((4, 6, 0), (7, 4, 0)), ((2, 0, 0), (2, 3, 1))
LISTS = {
  'plain': (PLAIN, PLAIN_PAIRS),
  'CRLF': (PLAIN.replace('\n', '\r\n'), PLAIN_PAIRS),
  'UTF-8 with a mark': ('\ufeff' + PLAIN, PLAIN_PAIRS),
  'UTF-16': (ZOE.encode('utf-16'), ZOE_PAIRS),
  'tabs': (PLAIN.replace(' ', '\t'), PLAIN_PAIRS),
  'tabs and blanks': (PLAIN.replace(' 0', '\t0').replace(' 1', '  \t 1'), PLAIN_PAIRS),
  'tab, then a blank': (PLAIN.replace(' ', '\t', 1), PLAIN_PAIRS),
  'blanks around': (PLAIN.replace('\n', ' \t\n').replace('anna/00.jpg', ' anna/00.jpg'), PLAIN_PAIRS),
  'empty lines': (PLAIN.replace('\n', '\n \t\n\n'), PLAIN_PAIRS),
  'no end': (PLAIN[:-1], PLAIN_PAIRS),
  './': (PLAIN.replace('anna', './anna'), PLAIN_PAIRS),
  'backslashes': (PLAIN.replace('/', '\\'), PLAIN_PAIRS),
  'names with blanks and tabs': (ODD, ODD_PAIRS),
  'composed': (ZOE, ZOE_PAIRS),
  'decomposed': (ZOE.replace('\u00eb', 'e\u0308'), ZOE_PAIRS),
} | {
  f'{yes}, {no}': (PLAIN.replace(' 1\n', f' {yes}\n').replace(' 0\n', f' {no}\n'), PLAIN_PAIRS)
  for yes, no in (('1.0', '0.0'), ('True', 'False'), ('TRUE', 'FALSE'), ('true', 'false'), ('yes', 'no'), ('Yes', '0.'))
}


def _pair_list(tmp_path, text, names=NAMES):
  """What a list says of a folder with two images of everybody: [(left, right, same)]."""
  if not (tmp_path / 'faces').exists():
    write(tmp_path / 'faces', {name: [b'x', b'x'] for name in names})
  (tmp_path / 'list.txt').write_bytes(text if isinstance(text, bytes) else text.encode())
  photos = Photos(tmp_path / 'faces')
  pairs, same = read_pair_list(tmp_path / 'list.txt', photos)
  assert pairs.dtype == np.int64 and same.dtype == bool
  place = {normal(f'{name}/0{i}.jpg'): 2 * k + i for k, name in enumerate(names) for i in range(2)}
  return tuple((*(place[normal(photos.name(i))] for i in pair), int(one)) for pair, one in zip(pairs.tolist(), same))


@pytest.mark.parametrize('form', LISTS)
@pytest.mark.parametrize('disk', ['NFC', 'NFD'])
def test_lists_of_pairs_whoever_wrote_them(tmp_path, form, disk):
  text, pairs = LISTS[form]
  assert _pair_list(tmp_path, text, [unicodedata.normalize(disk, name) for name in NAMES]) == pairs


def _lfw(root, *people, images=12):
  for i, name in enumerate(people):
    (root / name).mkdir(parents=True)
    for j in range(1, images + 1):
      (root / name / f'{name}_{j:04}.jpg').write_bytes(encode(picture((i, j))))
  return root


LFW = 'Abel_Pacheco\t1\t12\nAbel_Pacheco\t2\tBen_Affleck\t10\n'


@pytest.mark.parametrize(
  'text', ['1\t1\n' + LFW, '1\n' + LFW, LFW, LFW.replace('\t', ' '), ' 1 1 \n' + LFW.replace('\t', ' ', 2)]
)
def test_pairs_of_lfw(tmp_path, text, caplog):
  faces = _lfw(tmp_path / 'lfw', 'Abel_Pacheco', 'Ben_Affleck')
  (tmp_path / 'pairs.txt').write_text(text)
  run(faces, tmp_path / 'lfw.bin', pairs=str(tmp_path / 'pairs.txt'))
  pairs = read_pairs(tmp_path / 'lfw.bin')
  assert pairs.images == [encode(picture(which)) for which in ((0, 1), (0, 12), (0, 2), (1, 10))]
  assert pairs.same.tolist() == [True, False] and not caplog.records


def _read(tmp_path, text):
  (tmp_path / 'pairs.txt').write_text(text)
  return read_pair_list(tmp_path / 'pairs.txt', Photos(tmp_path / 'lfw'))


def test_names_of_lfw_with_blanks_and_numbers(tmp_path):
  """People whose names are numbers, or end in one: what exists says where a name ends."""
  _lfw(tmp_path / 'lfw', '001', '002', 'Agent 47', 'Agent', images=2)
  pairs, same = _read(tmp_path, '001 1 2\n001 1 002 2\nAgent 47 1 2\nAgent 1 Agent 47 2\nAgent 47 1\tAgent 2\n')
  assert pairs.tolist() == [[0, 1], [0, 3], [6, 7], [4, 7], [6, 5]]
  assert same.tolist() == [True, False, True, False, False]


def test_folds_of_lfw(tmp_path, caplog):
  """Two folds of two and two; in any order within folds nothing is said, but where a fold is not half and half."""
  _lfw(tmp_path / 'lfw', 'a', 'b')
  genuine, impostor = [f'a 1 {i}\n' for i in range(2, 6)], [f'a 1 b {i}\n' for i in range(1, 5)]
  mixed = [*genuine[:1], *impostor[:2], *genuine[1:3], *impostor[2:], *genuine[3:]]
  for lines in ([*genuine[:2], *impostor[:2], *genuine[2:], *impostor[2:]], mixed):
    assert _read(tmp_path, '2 2\n' + ''.join(lines))[1].sum() == 4 and not caplog.records
  assert _read(tmp_path, '4\n' + ''.join(genuine + impostor))[1].tolist() == [True] * 4 + [False] * 4
  assert not caplog.records
  _read(tmp_path, '2 2\n' + ''.join(genuine + impostor))
  assert '2 of 2 folds, fold 1 first, are not 2 pairs of one person and as many of two' in caplog.text
  for header, n in (('2 3', 6), ('10 300', 3000), ('0', 0), ('8', 8)):
    announced = rf'its first line \({header}\) announces {n} pairs of one person and {n} of two'
    with pytest.raises(DataError, match=f'pairs.txt: {announced}, there are 4 and 4;'):
      _read(tmp_path, f'{header}\n' + ''.join(genuine + impostor))
  for cut, found in (1, '3 and 4'), (-1, '4 and 3'):
    with pytest.raises(DataError, match=rf'\(2 2\) announces 4 .* and 4 of two, there are {found};'):
      _read(tmp_path, '2\t2\n' + ''.join((genuine + impostor)[max(cut, 0) : cut if cut < 0 else None]))


def test_two_files_of_one_stem(tmp_path):
  """Wrong only for a line that means one of them; a list with endings knows which."""
  root = _lfw(tmp_path / 'lfw', 'anna', 'ben', images=3)
  (root / 'anna' / 'anna_0001.png').write_bytes(b'x')
  assert _read(tmp_path, 'anna 2 3\nanna 2 ben 1\n')[0].tolist() == [[2, 3], [2, 4]]
  names = 'anna/anna_0001.jpg.* or .*anna/anna_0001.png'
  for line in ('anna 1 3', 'ben 1 anna 1'):
    with pytest.raises(DataError, match=rf"pairs.txt, line 2: (LEFT|RIGHT): 'anna/anna_0001' may be '{names}'.*rename"):
      _read(tmp_path, f'anna 2 3\n{line}\n')
  assert _read(tmp_path, 'anna/anna_0001.png anna/anna_0001.jpg 1\n')[0].tolist() == [[1, 0]]


def test_two_names_of_one_spelling(tmp_path):
  write(tmp_path / 'faces', {'anna': [], 'ben': [b'x', b'x']})
  for name in ('Zo\u00eb.jpg', 'Zoe\u0308.jpg'):
    (tmp_path / 'faces' / 'anna' / name).write_bytes(b'x')
  (tmp_path / 'list').write_text('ben/00.jpg ben/01.jpg 1\n')
  assert read_pair_list(tmp_path / 'list', Photos(tmp_path / 'faces'))[0].tolist() == [[2, 3]]
  (tmp_path / 'list').write_text('anna/Zo\u00eb.jpg ben/01.jpg 0\n')
  with pytest.raises(DataError, match=r'line 1: LEFT: .* may be .* or .*: rename one'):
    read_pair_list(tmp_path / 'list', Photos(tmp_path / 'faces'))


def test_folders_that_differ_in_blanks(tmp_path):
  """A blank before a line means nothing, so that the list cannot tell the two apart."""
  write(tmp_path / 'faces', {'kim': [b'x'], ' kim': [b'x'], ' ben': [b'x']})
  for line in ('kim/00.jpg  ben/00.jpg 0', ' kim/00.jpg ben/00.jpg 0'):
    (tmp_path / 'list').write_text(line)
    with pytest.raises(DataError, match=r"line 1: LEFT: 'kim/00.jpg' may be ' kim/00.jpg' or 'kim/00.jpg': rename one"):
      read_pair_list(tmp_path / 'list', Photos(tmp_path / 'faces'))
  (tmp_path / 'list').write_text('ben/00.jpg ben/00.jpg 1')
  assert read_pair_list(tmp_path / 'list', Photos(tmp_path / 'faces'))[0].tolist() == [[0, 0]]


def test_a_line_that_may_mean_two_pairs(tmp_path):
  write(tmp_path / 'faces', {'a': [b'x'], 'b': [b'x']})
  for name in ('a/00.jpg b', 'b/00.jpg a'):
    (tmp_path / 'faces' / name).mkdir()
    (tmp_path / 'faces' / name / '00.jpg').write_bytes(b'x')
  (tmp_path / 'list').write_text('a/00.jpg b/00.jpg a/00.jpg 1\n')
  with pytest.raises(DataError, match=r"1: this may be 'a/00.jpg' and 'b/00.jpg a/00.jpg' or 'a/00.jpg b/00.jpg' and"):
    read_pair_list(tmp_path / 'list', Photos(tmp_path / 'faces'))


@pytest.mark.slow
@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('p0/00.jpg p1/00.jpg\n', r'list\.txt, line 1: .* is not LEFT RIGHT 1 or 0'),
    ('p0/00.jpg p1/00.jpg 0\np0/00.jpg p1/00.jpg maybe\n', "2: the label, its last word, is 'maybe', wanted 1"),
    ('p0/00.jpg p1/00.jpg 2\n', "line 1: the label, its last word, is '2'"),
    ('p0/00.jpg p1/00.jpg -1\n', "line 1: the label, its last word, is '-1'"),
    ('1 p0/00.jpg p1/00.jpg\n', "line 1: the label, its last word, is 'p1/00.jpg', wanted 1"),
    ('left right same\n', "line 1: the label, its last word, is 'same'"),
    ('# by hand\np0/00.jpg p1/00.jpg 0\n', "line 1: the label, its last word, is 'hand'.*; there are no comments"),
    ('p0/00.jpg p1/00.jpg 0 # hard\n', "line 1: the label, its last word, is 'hard'.*; there are no comments"),
    ('p0/00.jpg p1/09.jpg 0\n', r"1: RIGHT: no image below .*faces is called 'p1/09\.jpg'; there is 'p1/0[01]\.jpg'"),
    ('p0/00.png p1/00.jpg 0\n', "line 1: LEFT: .* 'p0/00.png'; there is 'p0/00.jpg'"),
    ('P0/00.JPG p1/00.jpg 0\n', "LEFT: .* 'P0/00.JPG'; there is 'p0/00.jpg'"),
    ('p0/00 p1/00.jpg 0\n', "LEFT: .* 'p0/00'; there is"),
    ('/data/faces/p0/00.jpg p1/00.jpg 0\n', "LEFT: .*; there is 'p0/00.jpg'"),
    ('"p0/00.jpg" "p1/00.jpg" 0\n', "LEFT: .*; there is 'p0/00.jpg'"),
    ('an na/1.jpg p1/00.jpg 0\n', "line 1: LEFT: .* 'an na/1.jpg'"),
    ('p0/00.jpg,p1/00.jpg,0\n', 'line 1: .* is not LEFT RIGHT 1 or 0; commas separate nothing: put tabs'),
    ('left,right,same\np0/00.jpg,p1/00.jpg,0\n', 'line 1: .*commas separate nothing: put tabs for them, and no titles'),
    ('p0/00.jpg, p1/00.jpg, 0\n', 'LEFT: .*commas separate nothing'),
    ('p0/00.jpg;p1/00.jpg;0\n', 'commas separate nothing'),
    ('name,imagenum1,imagenum2,\nAbel_Pacheco,1,4,\n', 'line 1: .*commas separate nothing: put tabs .* no titles'),
    ('1\np0 1 p1\n', 'line 2: .* is not NAME I J or'),
    ('1\np0/00.jpg p1/00.jpg 0\n', 'line 2: .* is not NAME I J or'),
    ('1\np0 1 2\n', "line 2: LEFT: no image below .*faces is called 'p0/p0_0001'"),
    ('p0 1 2\n', "line 1: LEFT: no image below .*faces is called 'p0/p0_0001'"),
    ('p0 p1 1\n', "line 1: LEFT: no image below .*faces is called 'p0'"),
    ('Zo\udcebe/1.jpg p1/00.jpg 0\n', 'the list is not in UTF-8'),
    ('1\n', 'names no pairs'),
    ('\n', 'names no pairs'),
    ('\ufeff \n', 'names no pairs'),
    ('p0/00.jpg p1/00.jpg 0\np1/00.jpg p0/00.jpg 1\n', 'line 2: the pair of line 1, with another label'),
    ('p0/01.jpg p0/01.jpg 0\n', 'line 1: an image and itself, labelled as two people'),
    ('p0/00.jpg p1/00.jpg 0\n', r'list.txt names .*p0/00.jpg, which cannot be read: cannot identify image file'),
    ('a ' * 100_000 + '0\n', 'line 1: .{,200} is not LEFT RIGHT 1 or 0'),
  ],
)
def test_lists_of_pairs_that_cannot_be_used(tmp_path, text, message):
  faces = several(tmp_path / 'faces', 2, 2)
  (faces / 'p0' / '00.jpg').write_bytes(b'x')
  (tmp_path / 'list.txt').write_text(text, 'utf-8', 'surrogateescape')
  with pytest.raises(DataError, match=message) as caught:
    run(faces, tmp_path / 'out.bin', pairs=str(tmp_path / 'list.txt'))
  assert not (tmp_path / 'out.bin').exists() and len(str(caught.value)) < 600


def test_what_a_list_of_pairs_says_twice_or_against_the_folders_is_said(tmp_path, caplog):
  lines = [
    'anna/00.jpg 7/00.jpg 0',
    'anna/00.jpg anna/01.jpg 1',
    '7/00.jpg anna/00.jpg no',
    '7/01.jpg 7/01.jpg 1',
    'anna/00.jpg 7/01.jpg 1',
    '7/00.jpg 7/01.jpg 0',
    'anna/00.jpg ./anna/01.jpg yes',
  ]
  for count, said in (
    (2, []),
    (3, ['line 3: a pair that was there before']),
    (
      7,
      [
        'line 3 and 1 others: a pair that was there',
        'line 4: an image and itself',
        'line 6: labelled as two people, both in',
        'line 5: labelled as one person, in',
      ],
    ),
  ):
    caplog.clear()
    assert len(_pair_list(tmp_path, '\n'.join(lines[:count]))) == count  # all are used
    assert len(caplog.messages) == len(said) and all(map(str.__contains__, caplog.messages, said)), caplog.messages


@pytest.mark.slow
@settings(max_examples=100, deadline=None, derandomize=True)
@given(
  st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8),
  st.lists(st.tuples(*[st.sampled_from([' ', '\t', '  ', ' \t '])] * 2, st.sampled_from(['', ' ', '\t']))),
  st.sampled_from(['', './', './/']),
  st.booleans(),
)
def test_any_list_of_pairs_is_read_as_it_was_meant(tmp_path_factory, pairs, gaps, before, backslash):
  place = tmp_path_factory.mktemp('lists')
  pairs = list({(min(i, j), max(i, j)): (i, j, int(i // 2 == j // 2)) for i, j in pairs}.values())
  text = ''
  for k, (i, j, same) in enumerate(pairs):
    one, other, end = gaps[k % len(gaps)] if gaps else (' ', ' ', '')
    left, right = (f'{before}{NAMES[i // 2]}/0{i % 2}.jpg' for i in (i, j))
    text += f'{end}{left}{one}{right}{other}{same}{end}\n'
  assert _pair_list(place, text.replace('/', '\\') if backslash else text) == tuple(pairs)
