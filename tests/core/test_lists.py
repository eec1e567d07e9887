"""Lists are read the same whoever wrote them, and cells come back as they were; what is no text is refused."""

import codecs
import csv
import io
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gif_jax.core.errors import DiskError
from gif_jax.core.lists import (
  Names,
  indexed,
  is_number,
  nearest,
  normal,
  open_text,
  parse_int,
  parts,
  path_key,
  read_lines,
  read_rows,
  table_text,
  tidy,
  write_rows,
  yes_or_no,
)
from gif_jax.core.storage.files import write_text
from gif_jax.core.texts import quoted
from tests.helpers.damage import FUZZ, OtherError, changed

# What tables and names of files hold that goes wrong; lone bytes of a name stand as surrogates.
ODD = [
  '\r',
  '\n',
  '\t',
  '"',
  "'",
  '=',
  '+',
  '-',
  '@',
  ',',
  '0',
  '1',
  '.',
  'e',
  ' ',
  'é',
  'e\u0301',
  '\x85',
  '\u2028',
  '\x0b',
  '\x1c',
  '\ufeff',
  '\udcff',
  '\udcfe',
  '\U0001f600',
]
LETTERS = st.sampled_from(ODD) | st.characters(codec='utf-8', exclude_characters='\0')
CELLS = st.lists(LETTERS, max_size=6).map(''.join)
ROWS = st.lists(
  st.lists(CELLS, min_size=1, max_size=4).filter(lambda row: any(cell.strip() for cell in row)), max_size=4
)
STEPS = ['/', '//', '\\', '.', './', ' ', 'a', 'b', 'é', 'e\u0301', '\u212b', '\u2000']
PATHS = st.lists(st.sampled_from(STEPS) | st.characters()).map(''.join)
TEXT = 'Zoë,"1\t2"\n\n  \nb c,陈 \n'


def lines(path, **how):
  return list(read_lines(path, error=OtherError, fix='write it again', **how))


def rows(path, delimiter='\t'):
  return list(read_rows(path, delimiter, error=OtherError, fix='write it again'))


@pytest.mark.parametrize('end', ['\n', '\r\n'])
@pytest.mark.parametrize('last', [True, False])
@pytest.mark.parametrize(
  ('mark', 'encoding'),
  [(b'', 'utf-8'), (codecs.BOM_UTF8, 'utf-8'), (codecs.BOM_UTF16_LE, 'utf-16-le'), (codecs.BOM_UTF16_BE, 'utf-16-be')],
)
def test_the_same_text_is_read_the_same(tmp_path, end, last, mark, encoding):
  text = TEXT if last else TEXT.removesuffix('\n')
  (tmp_path / 'a').write_bytes(mark + text.replace('\n', end).encode(encoding))
  assert lines(tmp_path / 'a') == [(1, 'Zoë,"1\t2"'), (4, 'b c,陈 ')]
  assert rows(tmp_path / 'a', ',') == [(1, ['Zoë', '1\t2']), (4, ['b c', '陈 '])]
  with open_text(tmp_path / 'a') as file:
    assert file.read() == text


@pytest.mark.parametrize('content', [b'', codecs.BOM_UTF8, codecs.BOM_UTF16_LE, b'\n\n', b' \r\n\t\n'])
def test_a_list_of_nothing(tmp_path, content):
  (tmp_path / 'a').write_bytes(content)
  assert lines(tmp_path / 'a') == rows(tmp_path / 'a') == []


def test_bytes_that_are_no_text_stay_what_they_are(tmp_path):
  written = bytes(range(14, 256)) + b'\xed\xa0\x80\xc3\xa9\n'
  (tmp_path / 'a').write_bytes(written)
  ((_, line),) = lines(tmp_path / 'a')
  write_text(tmp_path / 'b', f'{line}\n')
  assert (tmp_path / 'b').read_bytes() == written
  ((_, row),) = rows(tmp_path / 'a')
  write_rows(tmp_path / 'b', [row], '\t')
  assert rows(tmp_path / 'b') == [(1, row)]
  (tmp_path / 'c').write_bytes(codecs.BOM_UTF16_LE + b'a\0\x00\xd8b\0')  # half a pair, as Windows allows it in names
  ((_, line),) = lines(tmp_path / 'c')
  write_text(tmp_path / 'd', line)
  assert (tmp_path / 'd').read_bytes() == b'a\xed\xa0\x80b'


@pytest.mark.slow
@FUZZ
@given(table=ROWS, delimiter=st.sampled_from('\t,;'))
def test_any_table_is_read_as_it_was_written(tmp_path, table, delimiter):
  write_rows(tmp_path / 'a', table, delimiter)
  assert [row for _, row in rows(tmp_path / 'a', delimiter)] == table


@pytest.mark.parametrize(
  'cell',
  [
    'a\rb',
    'a\r\nb',
    'a\nb',
    '\r',
    '\r=1',
    "'=1",
    "'",
    "''",
    '=',
    '-1',
    '-x',
    '\ufeffa',
    '\udcff\udcfea',
    '"',
    '""',
    '\t',
    ' a ',
    '\x85',
    '\x1c',
  ],
)
@pytest.mark.parametrize('delimiter', ['\t', ','])
def test_an_odd_cell_is_read_as_it_was_written(tmp_path, cell, delimiter):
  for table in ([[cell, 'x']], [['x', cell]], [['x', 'y'], [cell, 'x'], ['x', 'y']]):
    write_rows(tmp_path / 'a', table, delimiter)
    assert [row for _, row in rows(tmp_path / 'a', delimiter)] == table


def _of_spreadsheet(text, delimiter):
  """The cells as a spreadsheet finds them, for which a lone CR that is not quoted ends a row too."""
  return [cell for row in csv.reader(io.StringIO(text, newline=''), delimiter=delimiter) for cell in row]


@pytest.mark.slow
@FUZZ
@given(table=ROWS, delimiter=st.sampled_from('\t,;'))
def test_no_cell_of_any_table_is_run_by_a_spreadsheet(table, delimiter):
  for cell in _of_spreadsheet(table_text(table, delimiter), delimiter):
    assert not cell.startswith(('=', '+', '-', '@', '\t', '\r'))


def test_what_is_no_text_in_a_table_is_written_as_it_is():
  text = table_text([[-1, 2.5, None, True, '-1', '-x', "it's"]], '\t')
  assert text.splitlines() == ["-1\t2.5\t\tTrue\t'-1\t'-x\tit's"]


def test_rows_have_the_numbers_of_their_lines(tmp_path):
  write_rows(tmp_path / 'a', [['a', 'b'], ['', ' '], ['c\nd', 'e'], ['f']], ',')
  assert rows(tmp_path / 'a', ',') == [(1, ['a', 'b']), (4, ['c\nd', 'e']), (5, ['f'])]


@pytest.mark.parametrize(
  ('content', 'why'),
  [
    (b'a' * (1 << 20) + b'\n', 'line 1: this is no text'),
    (b'a\nb\n' + b'a' * (1 << 21), 'line 3: this is no text'),
    (b'a\nb\0c\n', 'line 2: this is no text'),
    (bytes(100), 'line 1: this is no text'),
    ('one\ntwo\n'.encode('utf-16-le'), 'line 1: this is no text'),
    ('one\ntwo\n'.encode('utf-32'), 'this is no text'),
    (codecs.BOM_UTF16_LE + b'abc', 'is no text'),
  ],
)
def test_what_is_no_text_is_refused(tmp_path, content, why):
  (tmp_path / 'a').write_bytes(content)
  for read in (lines, rows):
    with pytest.raises(OtherError, match=f'^{tmp_path}/a.*{why}.*: write it again.$'):
      read(tmp_path / 'a')


def test_a_cell_that_is_too_large_is_refused(tmp_path):
  (tmp_path / 'a').write_text('a\t"' + 'b\n' * 100_000)
  with pytest.raises(OtherError, match=f'^{tmp_path}/a, line .*field larger than field limit.*: write it again.$'):
    rows(tmp_path / 'a')


def test_what_is_no_file_is_refused(tmp_path):
  (tmp_path / 'file').write_text('a')
  for place, why in [('none', 'No such file'), ('', 'Is a directory'), ('file/a', 'Not a directory')]:
    for read in (lines, rows):
      with pytest.raises(OtherError, match=rf'^{tmp_path / place} cannot be read \({why}.*\): write it again.$'):
        read(tmp_path / place)
    with pytest.raises(OSError, match=why):
      open_text(tmp_path / place)
    if place != 'none':
      with pytest.raises(DiskError, match=f'^{tmp_path / place} cannot be written'):
        write_rows(tmp_path / place, [['a']], ',')


@FUZZ
@given(
  content=st.binary() | st.builds(lambda text, mark: mark + text.encode('utf-16'), st.text(), st.just(b'')),
  data=st.data(),
)
@pytest.mark.slow
def test_any_bytes_are_a_list_or_refused(tmp_path, content, data):
  (tmp_path / 'a').write_bytes(changed(content, data))
  for read in (lines, rows, lambda path: rows(path, ',')):
    try:
      for _, found in read(tmp_path / 'a'):
        assert found and '\0' not in found
    except OtherError as error:
      assert str(error).startswith(f'{tmp_path}/a')


def test_a_list_that_is_not_read_to_its_end_is_closed(tmp_path):
  write_text(tmp_path / 'a', 'x\n' * 10)
  for reader in (read_lines(tmp_path / 'a'), read_rows(tmp_path / 'a', ',')):
    next(reader)
    del reader  # an open file would warn, which is an error here


@FUZZ
@given(PATHS)
def test_any_name_has_one_spelling(name):
  for spelling in (normal, path_key):
    assert spelling(spelling(name)) == spelling(name)
  assert path_key(f'a/{name}') == path_key(f'./a/.//{name}') == path_key(f'a\\{name}//')
  assert path_key(f'/{name}') == path_key(f'//{name}') == f'/{path_key(f"./{name}")}'


@pytest.mark.parametrize(
  ('text', 'kinds'),
  [
    ('12', 'iw'),
    ('-9223372036854775808', 'iw'),
    ('9223372036854775808', 'i'),
    ('+7', 'iw'),
    ('1.0', 'i'),
    ('1e5', 'i'),
    ('nan', 'i'),
    ('-inf', 'i'),
    ('1_0', ''),
    ('', ''),
    ('x', ''),
    ('0x10', ''),
    ('9' * 5000, 'i'),
    ('1.', 'i'),
    ('.', ''),
  ],
)
def test_numbers_of_lists(text, kinds):
  assert is_number(text) == ('i' in kinds) and is_number(text, parse_int) == ('w' in kinds)
  if 'w' in kinds:
    assert parse_int(text) == int(text)


def test_names_that_no_disk_can_have_take_no_time():
  started = time.process_time()
  path_key('a' + '\u0301\u0323' * 250_000)
  assert time.process_time() - started < 2
  assert normal('e\u0301' * 2000) == 'é' * 2000


def test_the_spelling_of_names():
  assert normal('Zoe\u0308') == normal('Zoë') == 'Zoë'
  assert path_key('./a//b') == path_key('a\\b') == path_key('a/b/') == path_key('a/./b') == 'a/b'
  assert path_key('/a//b/') == '/a/b' and path_key('a /b ') == 'a /b '
  assert path_key('Zoe\u0308/a..b/..') == 'Zoë/a..b/..'
  assert indexed(['./Zoe\u0308//1', 'b'], path_key) == {'Zoë/1': 0, 'b': 1}
  assert indexed(['Zoe\u0308', 'b/'], normal) == {'Zoë': 0, 'b/': 1}


@pytest.mark.parametrize('yes', ['1', '1.0', '1.', 'yes', 'YES', 'true', 'True', 'TRUE', ' 1\t', '1.000'])
@pytest.mark.parametrize('no', ['0', '0.0', '0.', 'no', 'No', 'false', 'False', 'FALSE', ' 0 '])
def test_marks(yes, no):
  assert yes_or_no(yes) is True and yes_or_no(no) is False


@pytest.mark.parametrize('mark', ['', ' ', '2', '-1', '1,0', '01', '10', '.5', 'y', 'maybe', '\u0661', '\u00b9', 'nan'])
def test_what_is_no_mark(mark):
  assert yes_or_no(mark) is None


@FUZZ
@given(NAME := st.text(st.sampled_from('aA/\\. \t\u00eb\u0308e:'), max_size=6), st.lists(NAME, max_size=6))
def test_any_name_is_found_by_the_first_spelling_that_has_it(name, names):
  """Beside the definition, one name at a time."""
  expected = []
  for spelling in (normal, tidy):
    expected = expected or [place for place, other in enumerate(names) if spelling(other) == spelling(name)]
  found = Names('person', list(zip(names, range(len(names)))), normal, tidy, shown=lambda place: f'<{place}>')
  assert found.find(name) == expected
  if len(expected) == 1:
    assert found.one(name) == expected[0]
  else:
    wanted = r'<\d> or <\d>.*: rename one' if expected else 'no person is called'
    with pytest.raises(LookupError, match=f'^second: {wanted}' if not expected else f'^second: .* may be {wanted}'):
      found.one(name, 'second')


def test_a_thing_of_two_names_is_one():
  names = Names('person', [('a', 0), ('A', 0), ('a', 0), ('b', 1)], normal, str.casefold)
  assert names.one('a') == names.one('A') == 0 and names.one('B') == 1


@pytest.mark.parametrize(
  ('name', 'there'),
  [
    ('Anna_Smith', 'anna smith'),
    ('zoe', 'Zo\u00eb'),
    ('annasmith', 'anna smith'),
    ('x/1.png', 'x/1.jpg'),
    ('faces/x/1.jpg', 'x/1.jpg'),
    ('/data/x/2.jpg', 'x/2.jpg'),
    ('3.jpg', 'y/3.jpg'),
    ('y/5.jpg', 'y/3.jpg'),
    ('q', None),
    ('', None),
    ('+', None),
    ('z' * 100_000, None),
  ],
)
def test_what_may_have_been_meant(name, there):
  assert nearest(name, ['anna smith', 'Zo\u00eb', 'x/1.jpg', 'x/2.jpg', 'y/3.jpg', '--']) == there


def test_names_in_messages_are_short():
  assert quoted("it's\t\udcff") == repr("it's\t\udcff") and quoted('a' * 80) == repr('a' * 80)
  assert quoted('a' * 500 + 'b' * 500) == repr('a' * 40 + '...' + 'b' * 20)


def test_blanks_around_names_with_commas_between():
  assert parts(' a b, c/d ,,e,') == ['a b', 'c/d', 'e'] and parts('') == parts(' , ') == []
