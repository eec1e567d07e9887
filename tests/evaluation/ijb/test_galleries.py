"""IJB's lists for 1:N: read, and whatever is wrong with them said with file and line."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gif_jax.core.errors import DataError
from gif_jax.evaluation.ijb.galleries import open_galleries

HEADER = 'TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID'
IDS = np.array([3, 5, 8, 11, 20, 21, 400])
# Templates in no order, on several rows, with further columns; subjects 900 and 901 are known.
G1 = ['8,900,img/1.jpg,1', '3,7,frames/2.jpg,2', '8,900,img/3.jpg,1']
G2 = ['11,901,img/4.jpg,5']
PROBES = ['400,900,a.jpg,1', '5,901,"b,c.jpg",1', '20,12,d.jpg,1', '5,901,e.jpg,1', '21,900,f.jpg,1']


def _write(folder, g1=G1, g2=G2, probes=PROBES, *, name='ijbc', letter='G', end='\n'):
  for part, rows in ((f'gallery_{letter}1', g1), (f'gallery_{letter}2', g2), ('probe_mixed', probes)):
    (folder / f'{name}_1N_{part}.csv').write_text(end.join([HEADER, *rows, '']), newline='')
  return folder


def _error(folder):
  with pytest.raises(DataError) as error:
    open_galleries(folder, 'ijbc', IDS)
  return str(error.value)


@pytest.mark.parametrize('name, letter, end', [('ijbc', 'G', '\n'), ('ijbb', 'S', '\r\n')])
def test_lists_by_hand(tmp_path, name, letter, end):
  found = open_galleries(_write(tmp_path, name=name, letter=letter, end=end), name, IDS)
  assert [gallery.name for gallery in found.galleries] == [f'{letter}1', f'{letter}2']
  first, second = found.galleries
  assert first.template.tolist() == [0, 2] and first.subject.tolist() == [7, 900]
  assert second.template.tolist() == [3] and second.subject.tolist() == [901]
  assert found.probe.tolist() == [1, 4, 5, 6] and found.probe_subject.tolist() == [901, 12, 900, 900]
  assert {array.dtype for array in (found.probe, first.template)} == {np.dtype(np.int32)}
  assert {array.dtype for array in (found.probe_subject, first.subject)} == {np.dtype(np.int64)}


def test_blank_lines_and_a_byte_order_mark_do_no_harm(tmp_path):
  plain = open_galleries(_write(tmp_path), 'ijbc', IDS)
  path = tmp_path / 'ijbc_1N_probe_mixed.csv'
  path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes().replace(b'\n20', b'\n\n  \n20') + b'\n')
  again = open_galleries(tmp_path, 'ijbc', IDS)
  np.testing.assert_array_equal(again.probe, plain.probe)
  path.write_bytes(b'\xef\xbb\xbf1,2\n' + path.read_bytes())
  assert 'line 1 is a row of values' in _error(tmp_path)


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_lists_saved_by_spreadsheets(tmp_path, encoding):
  plain = open_galleries(_write(tmp_path), 'ijbc', IDS)
  for path in tmp_path.iterdir():
    path.write_bytes(path.read_text().replace('\n', '\r\n').replace(',', ' , ').encode(encoding))
  again = open_galleries(tmp_path, 'ijbc', IDS)
  np.testing.assert_array_equal(again.probe, plain.probe)
  np.testing.assert_array_equal(again.galleries[0].template, plain.galleries[0].template)


def test_none_where_there_are_none_and_an_error_where_some_are(tmp_path):
  assert open_galleries(tmp_path, 'ijbc', IDS) is None
  _write(tmp_path)
  assert open_galleries(tmp_path, 'ijbb', IDS) is None
  for part in ('gallery_G1', 'gallery_G2', 'probe_mixed'):
    path = tmp_path / f'ijbc_1N_{part}.csv'
    content = path.read_bytes()
    path.unlink()
    assert _error(tmp_path).startswith(f'{path} is missing')
    path.write_bytes(content)
  for part in ('gallery_G1', 'probe_mixed'):
    (tmp_path / f'ijbc_1N_{part}.csv').unlink()
  (tmp_path / 'ijbc_1N_gallery_G2.csv').rename(tmp_path / 'ijbc_1N_gallery_S2.csv')
  assert _error(tmp_path).startswith(f'{tmp_path / "ijbc_1N_gallery_S1.csv"} is missing')


@pytest.mark.parametrize(
  'lists, where, what',
  [
    ({'probes': [*PROBES[:2], '6,1,x.jpg', '9,1,y.jpg']}, 'probe_mixed.csv, line 4', 'of template 6 (2 of 4'),
    ({'probes': ['9,1,x.jpg', '6,1,y.jpg']}, 'probe_mixed.csv, line 2', 'template 9'),
    ({'probes': ['401,1,x.jpg']}, 'probe_mixed.csv, line 2', 'template 401'),
    ({'g1': ['2,1,x.jpg']}, 'gallery_G1.csv, line 2', 'template 2 (1 of 1'),
    ({'g1': [*G1, 'x,1']}, 'gallery_G1.csv, line 5', 'two integers'),
    ({'g1': [*G1, '3.0,7']}, 'gallery_G1.csv, line 5', 'two integers'),
    ({'g1': [*G1, '3']}, 'gallery_G1.csv, line 5', 'two integers'),
    ({'g1': [*G1, '3;7;x.jpg']}, 'gallery_G1.csv, line 5', "'3;7;x.jpg', but a row begins with"),
    ({'g1': [*G1, '1_1,7']}, 'gallery_G1.csv, line 5', "'1_1,7'"),
    ({'g1': [*G1, f'3,{2**63}']}, 'gallery_G1.csv, line 5', 'two integers'),
    ({'g1': [*G1, '8,901,x.jpg']}, 'gallery_G1.csv, line 5', 'subject 901, but of subject 900 in line 2'),
    ({'g1': [*G1, '5,900,x.jpg']}, 'gallery_G1.csv, line 2', 'subject 900 occurs again; a gallery has one'),
    ({'g2': [*G2, '5,900,x.jpg']}, 'gallery_G2.csv, line 3', 'subject 900 occurs again; it is in ijbc_1N_gallery_G1'),
    ({'g2': [*G2, '3,77,x.jpg']}, 'gallery_G2.csv, line 3', 'template 3 occurs again; it is in ijbc_1N_gallery_G1'),
    ({'probes': [*PROBES, '11,901']}, 'probe_mixed.csv, line 7', 'template 11 occurs again; it is in a gallery'),
    ({'probes': []}, 'probe_mixed.csv', 'lists no template'),
  ],
)
def test_what_is_wrong_is_said_with_file_and_line(tmp_path, lists, where, what):
  message = _error(_write(tmp_path, **lists))
  assert where in message and what in message and '; ' in message


def test_many_templates_against_a_dictionary(tmp_path):
  rng = np.random.default_rng(0)
  ids = np.sort(rng.choice(10**6, 900, replace=False))
  subject = np.concatenate([rng.permutation(200), rng.integers(300, size=700)])
  mixed = rng.permutation(900)
  parts = mixed[:120], mixed[120:200], mixed[200:]
  subjects = np.empty(900, np.int64)
  subjects[np.concatenate(parts)] = subject
  rows = [[f'{ids[i]},{subjects[i]},x' for i in part for _ in range(rng.integers(1, 4))] for part in parts]
  found = open_galleries(_write(tmp_path, *(rng.permutation(part).tolist() for part in rows)), 'ijbc', ids)
  tables = [(gallery.template, gallery.subject) for gallery in found.galleries] + [(found.probe, found.probe_subject)]
  for (template, of), part in zip(tables, parts):
    assert dict(zip(template.tolist(), of.tolist())) == {int(i): int(subjects[i]) for i in part}


@settings(max_examples=int(os.environ.get('FUZZ', 60)), deadline=None, derandomize='FUZZ' not in os.environ)
@given(st.binary(max_size=80) | st.text('0123456789,-\n\r "xX.', max_size=80).map(str.encode))
def test_any_bytes_are_lists_or_an_error(tmp_path_factory, content):
  folder = _write(tmp_path_factory.mktemp('meta'))
  (folder / 'ijbc_1N_probe_mixed.csv').write_bytes(content)
  try:
    found = open_galleries(folder, 'ijbc', IDS)
  except DataError as error:
    assert 'ijbc_1N_probe_mixed.csv' in str(error)
  else:
    assert len(found.probe) and np.isin(found.probe, np.arange(len(IDS))).all()
