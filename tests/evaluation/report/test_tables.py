"""Tables say what the results say, whatever they are made into."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gif_jax.core import texts
from gif_jax.evaluation.report import tables
from gif_jax.evaluation.result import Result
from tests.helpers import results
from tests.helpers.pages import ODD, Page

NAMES = st.text(st.characters(), max_size=12) | st.sampled_from(['lfw', 'cfp_fp', ODD, '', '|', '\\|', '-'])
SHARES = st.floats(0, 1) | st.just(math.nan)
FIGURES = [
  'accuracy',
  'val@far=1e-3',
  'val_far',
  'tar@far=1e-6',
  'tar@far=1e-4',
  'tpir@fpir=1e-2',
  'rank1',
  'rank10',
  'map',
  'xnorm',
  'something_new',
]


@st.composite
def _results(draw):
  modes = draw(st.lists(NAMES, min_size=1, max_size=3))
  name, protocol, found = draw(NAMES), draw(st.sampled_from(['10 folds', '1:1', '1:N', 'search'])), []
  for mode in modes:
    figures = draw(st.dictionaries(st.sampled_from(FIGURES), SHARES, max_size=6))
    some = draw(st.sets(st.sampled_from(sorted(figures)))) if figures else ()
    intervals = {key: (draw(SHARES), draw(SHARES)) for key in some}
    found.append(Result(name, protocol, mode, draw(NAMES), {'pairs': draw(st.integers(0, 10**10))}, figures, intervals))
  return found


def _expected(result, name):
  """A cell by its definition."""
  scale = 1 if name == 'xnorm' else 100
  value = result.metrics.get(name, math.nan)
  if math.isnan(value):
    return '-'
  low, high = result.intervals.get(name, (math.nan, math.nan))
  beside = '' if math.isnan(low + high) else f' [{scale * low:.2f}, {scale * high:.2f}]'
  return f'{scale * value:.2f}{beside}'


def _from_markdown(text):
  """Rows of cells of the first table."""
  lines = [line for line in text.split('\n') if line.startswith('|')]
  rows = [re.split(r'(?<!\\)(?:\\\\)*\|', line)[1:-1] for line in lines]
  assert set(''.join(rows.pop(1))) <= set(' -:')
  return [[re.sub(r'\\([^\w\s])', r'\1', re.sub(r'\\_', '_', cell.strip())) for cell in row] for row in rows]


def _flat(text):
  return ' '.join(text.split())


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(_results())
def test_values_in_are_values_out(found):
  table, names = tables.protocol_table(found), tables.metric_names(found)
  expected = [[_expected(result, name) for name in names] for result in found]
  titles = [tables.title_of(name) for name in names]
  for rows in (_from_markdown(tables.as_markdown(table)), Page(tables.as_html(table)).tables[0]):
    assert rows[0][1:] == titles
    assert [list(map(_flat, row[1:])) for row in rows[1:]] == expected
  for width in {len(row) for row in table.rows}:
    assert width == len(table.columns)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(NAMES, NAMES)
def test_names_are_shown_as_they_are(benchmark, mode):
  result = Result(benchmark, '1:1', mode, 'rule', {}, {'rank1': 0.5})
  label = texts.one_line(mode or benchmark) or '-'
  table = tables.protocol_table([result])
  assert _flat(Page(tables.as_html(table)).tables[0][1][0]) == _flat(label)
  assert _from_markdown(tables.as_markdown(table))[1][0] == label.strip()
  assert len(tables.as_text(table).split('\n')) == 5
  tables.as_text(table).encode()  # no half of a surrogate pair


def test_no_markdown_is_left_in_a_name():
  bare = re.sub(r'\\.', '', texts.markdown(ODD))
  assert not set('*`|<>$&!\\') & set(bare) and '](' not in bare
  assert texts.markdown('cfp_fp') == 'cfp_fp'


def test_the_terminal_has_the_same_data_aligned_and_short_lines():
  for modes in (results.templates(), results.galleries(), [results.all_pairs()], [results.pair_set()]):
    table = tables.protocol_table(modes)
    text = tables.as_text(table)
    shown = re.findall(r'\[[^]]*\]|[\d.]+ ± [\d.]+|(?<![\w.])\d+\.\d\d(?!\d)', text)
    wanted = [part for row in table.rows for cell in row[1:] for part in cell if part]
    assert sorted(shown) == sorted(wanted)
    assert max(map(len, text.split('\n'))) <= 120
    for line, under in zip(text.split('\n')[3:], text.split('\n')[4:]):
      if under.startswith('  ') and under.rstrip().endswith(']'):
        ends = {match.end() for match in re.finditer(r'\d\.\d\d(?=\s|$)', line)}
        assert {match.end() for match in re.finditer(r'\]', under)} <= ends


def test_columns_that_do_not_fit_stand_below_with_their_mode():
  figures = {f'tar@far=1e-{i}': 0.9 for i in range(1, 10)}
  intervals = {name: (0.89, 0.91) for name in figures}
  table = tables.protocol_table([Result('x', 'all pairs', 'm', 'A rule.', {}, figures, intervals)])
  blocks = tables.as_text(table).split('\n\n')
  assert len(blocks) == 2 and all(re.search(r'^m +90\.00', block, re.M) for block in blocks)
  assert sum(block.count('TAR@FAR') for block in blocks) == 9


def test_order_of_columns_and_their_titles():
  assert list(map(tables.title_of, tables.metric_names([results.pair_set(pairs=4000)]))) == [
    'Accuracy',
    'VAL@FAR=1e-3',
    'FAR of VAL',
    'TAR@FAR=1e-3',
    'TAR@FAR=1e-2',
    'TAR@FAR=1e-1',
    'XNorm',
  ]
  assert list(map(tables.title_of, tables.metric_names(results.galleries()))) == [
    'TPIR@FPIR=1e-4',
    'TPIR@FPIR=1e-3',
    'TPIR@FPIR=1e-2',
    'TPIR@FPIR=1e-1',
    'Rank 1',
    'Rank 5',
    'Rank 10',
  ]
  assert list(map(tables.title_of, tables.metric_names([results.search()]))) == ['Rank 1', 'Rank 5', 'Rank 20', 'mAP']


def test_figures_as_papers_print_them():
  figures = {'accuracy': 0.99833, 'std': 0.00197, 'val@far=1e-3': 0.9766, 'val_std': math.nan, 'xnorm': 21.366}
  result = Result('lfw', '10 folds', '', '', {}, figures, {'accuracy': (0.99649, 0.99925)})
  shown = [' '.join(filter(None, tables.cell(result, name))) for name in tables.metric_names([result])]
  assert shown == ['99.83 ± 0.20 [99.65, 99.92]', '97.66', '21.37']


def test_all_bin_sets_side_by_side_and_what_to_quote():
  found = results.everything()
  sets, others = tables.overview(found)
  assert [row[0].value for row in sets.rows] == ['lfw', 'cfp_fp', 'agedb_30']
  assert sets.columns == ('set', 'Accuracy', 'VAL@FAR=1e-3', 'XNorm')
  assert sets.rows[1][1] == tables.cell(found[1], 'accuracy') and '±' in sets.rows[1][1].value
  assert [tuple(cell.value for cell in row[:4]) for row in others.rows] == [
    ('ijbc', '1:1', 'N1D1', 'TAR@FAR=1e-4'),
    ('ijbc', '1:N', 'N1D1', 'TPIR@FPIR=1e-2'),
    ('tinyface', 'search', '', 'Rank 1'),
    ('mfr', 'all pairs', '', 'TAR@FAR=1e-4'),
  ]
  assert tables.overview([]) == []


def test_rule_and_counts_stand_below_once_or_with_their_modes():
  found = results.templates()
  assert tables.protocol_table(found).notes == ('500 templates, 20,200 pairs, 200 genuine', found[0].rule)
  found[3] = found[3]._replace(rule='Another rule.')
  notes = tables.protocol_table(found).notes
  assert notes[1:] == (f'N1D1, N0D1, N1D0: {found[0].rule}', 'N0D0: Another rule.')


def test_thresholds_by_mode():
  found = results.templates()
  table = tables.threshold_table(found)
  fars = sorted(found[0].thresholds, key=float)
  assert table.columns == ('mode', *(f'FAR={far}' for far in fars))
  for result, row in zip(found, table.rows):
    np.testing.assert_allclose([float(cell.value) for cell in row[1:]], [result.thresholds[f] for f in fars], atol=5e-5)
  assert tables.threshold_table(results.galleries()) is None


@pytest.mark.parametrize(
  ('figures', 'thresholds', 'expected'),
  [
    ({'tar@far=1e-4': 0.9, 'tar@far=1e-3': 0.95}, {'1e-4': 0.5, '1e-3': 0.4}, ('tar@far=1e-4', '1e-4')),
    ({'tar@far=1e-2': 0.9, 'tar@far=1e-3': 0.95}, {'1e-2': 0.5, '1e-3': 0.4}, ('tar@far=1e-3', '1e-3')),
    ({'rank1': 0.9}, {'1e-2': 0.5}, ('rank1', '1e-2')),
    ({'rank1': 0.9}, {'1e-5': 0.5}, ('rank1', '1e-5')),
    ({}, {}, ('', '')),
  ],
)
def test_what_is_quoted_where_the_usual_rate_was_not_measured(figures, thresholds, expected):
  result = Result('x', '1:1', '', '', {}, figures, thresholds=thresholds)
  assert (tables.quoted(result), tables.quoted_far(result)) == expected
