"""Results as tables, as papers print them: for Markdown, for a terminal and for HTML."""

import html
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gif_jax.core.texts import markdown, one_line
from gif_jax.evaluation.result import Result

UNITS = 'Shares in per cent; ± is the standard deviation over folds; in brackets 95 % intervals.'
FOLDS = '10 folds'  # the protocol of the .bin sets
_WIDTH = 120  # characters of a line on a terminal
# Columns in order; the name of a metric ends at its rate. Others follow as they come.
_ORDER = ('accuracy', 'val', 'val_far', 'tar', 'tpir', 'rank1', 'rank5', 'rank10', 'rank20', 'map', 'xnorm')
_TITLES = {'accuracy': 'Accuracy', 'val_far': 'FAR of VAL', 'map': 'mAP', 'xnorm': 'XNorm'}
_LENGTHS = {'xnorm'}  # all others are shares
_SPREADS = {'std': 'accuracy', 'val_std': 'val'}  # standard deviations stand beside their metric
# What a paper quotes of a protocol; where it was not measured, the same metric at the next larger rate.
_QUOTED = {
  FOLDS: 'accuracy',
  '1:1': 'tar@far=1e-4',
  '1:N': 'tpir@fpir=1e-2',
  'search': 'rank1',
  'all pairs': 'tar@far=1e-6',
}


class Cell(NamedTuple):
  """What a table shows in one place: '96.85' or '-', and beside it '[96.42, 97.21]' or ''."""

  value: str
  interval: str = ''


class Table(NamedTuple):
  """A table of text; `labels` columns at the left say what a row is, the others hold metrics.

  notes: what stands below it.
  """

  title: str
  columns: tuple[str, ...]
  rows: list[tuple[Cell, ...]]
  notes: tuple[str, ...] = ()
  labels: int = 1


def grouped(results: Iterable[Result]) -> dict[str, dict[str, list[Result]]]:
  """{benchmark: {protocol: its modes}}, all in the order given."""
  groups: dict[str, dict[str, list[Result]]] = {}
  for result in results:
    groups.setdefault(result.benchmark, {}).setdefault(result.protocol, []).append(result)
  return groups


def protocol_table(results: Sequence[Result]) -> Table:
  """The metrics of the modes of one protocol on one benchmark: a row per mode, a column per metric."""
  names = metric_names(results)
  first = results[0]
  modes = any(result.mode for result in results)
  rows = [
    (Cell(one_line(result.mode if modes else result.benchmark) or '-'), *(cell(result, name) for name in names))
    for result in results
  ]
  parts = (overlap_text, lambda result: counts_text(result.counts), lambda result: result.rule)
  notes = tuple(note for text_of in parts for note in _notes(results, text_of))
  title = f'{one_line(first.benchmark)}, {one_line(first.protocol)}'
  return Table(title, ('mode' if modes else 'benchmark', *map(title_of, names)), rows, notes)


def threshold_table(results: Sequence[Result]) -> Table | None:
  """The cosines from which on a pair is accepted: a row per mode, a column per FAR; None where no mode has any."""
  results = [result for result in results if result.thresholds]
  if not results:
    return None
  fars = sorted({far for result in results for far in result.thresholds}, key=float)
  rows = [
    (
      Cell(one_line(result.mode or result.benchmark)),
      *(Cell(_number(result.thresholds.get(far), 1, 4)) for far in fars),
    )
    for result in results
  ]
  note = 'A pair is accepted if its cosine is not below the threshold.'
  modes = 'mode' if any(result.mode for result in results) else 'benchmark'
  title = f'{one_line(results[0].benchmark)}, {one_line(results[0].protocol)}: cosine thresholds'
  return Table(title, (modes, *(f'FAR={far}' for far in fars)), rows, (note,))


def overview(results: Iterable[Result]) -> list[Table]:
  """What to quote: all .bin sets side by side, and a line for every protocol of the other benchmarks."""
  firsts = [modes[0] for protocols in grouped(results).values() for modes in protocols.values()]
  sets = [result for result in firsts if result.protocol == FOLDS]
  others = [result for result in firsts if result.protocol != FOLDS]
  return ([_sets_table(sets)] if sets else []) + ([_quoted_table(others)] if others else [])


def _sets_table(sets):
  names = [name for name in metric_names(sets) if name in ('accuracy', 'val@far=1e-3', 'xnorm')]
  rows = [(Cell(one_line(result.benchmark)), *(cell(result, name) for name in names)) for result in sets]
  return Table('All .bin sets', ('set', *map(title_of, names)), rows, _warnings(sets))


def _quoted_table(firsts):
  rows = []
  for result in firsts:
    name = quoted(result)
    what = (result.benchmark, result.protocol, result.mode, title_of(name) if name else '-')
    rows.append((*(Cell(one_line(text)) for text in what), cell(result, name)))
  columns = ('benchmark', 'protocol', 'mode', 'metric', 'value')
  return Table('Metrics to quote', columns, rows, _warnings(firsts), labels=4)


def _warnings(results):
  return tuple(dict.fromkeys(filter(None, map(overlap_text, results))))


def quoted(result: Result) -> str:
  """The name of the metric that papers quote of this protocol, or of the nearest that was measured; '' if none."""
  wanted = _QUOTED.get(result.protocol, '')
  if wanted in result.metrics:
    return wanted
  names = metric_names([result])
  alike = [name for name in names if _rate(name) and _kind(name) == _kind(wanted) and _rate(name) >= _rate(wanted)]
  return (alike or names or [''])[0]


def quoted_far(result: Result) -> str:
  """Of the FARs with a threshold the one to quote: that of `quoted`, or 1e-3, or the next larger; '' if none."""
  wanted = _rate(quoted(result)) or 1e-3
  fars = sorted(result.thresholds, key=float)
  return next((far for far in fars if float(far) >= wanted * (1 - 1e-9)), fars[-1] if fars else '')


def metric_names(results: Iterable[Result]) -> list[str]:
  """The metrics of all these results, each once, in the order of the columns; standard deviations left out."""
  every = dict.fromkeys(name for result in results for name in result.metrics)
  names = [name for name in every if _SPREADS.get(name) not in map(_kind, every)]
  return sorted(names, key=lambda name: (_ORDER.index(_kind(name)) if _kind(name) in _ORDER else 99, _rate(name)))


def title_of(name: str) -> str:
  """'TAR@FAR=1e-4' for tar@far=1e-4, 'Rank 5' for rank5."""
  if _rate(name):
    kind, rate = name.rsplit('=', 1)
    return f'{kind.upper()}={rate}'
  return _TITLES.get(name) or re.sub(r'^rank(\d+)$', r'Rank \1', one_line(name.replace('_', ' ')))


def cell(result: Result, name: str) -> Cell:
  """A metric as papers print it: shares as percentages with two decimals; '-' where it is missing or NaN."""
  scale = 1 if _kind(name) in _LENGTHS else 100
  value = _number(result.metrics.get(name), scale)
  spread = next((key for key, kind in _SPREADS.items() if kind == _kind(name)), None)
  deviation = _number(result.metrics.get(spread) if spread else None, scale)
  if value == '-':
    return Cell('-')
  low, high = (_number(bound, scale) for bound in result.intervals.get(name, (None, None)))
  return Cell(value if deviation == '-' else f'{value} ± {deviation}', '' if '-' in (low, high) else f'[{low}, {high}]')


def overlap_text(result: Result) -> str:
  """What a benchmark shares with the training set, in words; '' where nothing."""
  if not result.overlap:
    return ''
  words = result.overlap.words(result.benchmark)
  return f'{words} thresholds.json has none of its thresholds.' if words and result.overlap.tainted else words


def counts_text(counts: Mapping[str, int]) -> str:
  """'6,000 pairs, 3,000 genuine'."""
  return ', '.join(f'{count:,} {one_line(name.replace("_", " "))}' for name, count in counts.items())


def as_markdown(table: Table) -> str:
  """The table with its notes, without the title."""
  rows = [table.columns, *([' '.join(filter(None, one)) for one in row] for row in table.rows)]
  head, *body = ('| ' + ' | '.join(map(markdown, row)) + ' |' for row in rows)
  rule = '| ' + ' | '.join(['---'] * table.labels + ['---:'] * (len(table.columns) - table.labels)) + ' |'
  notes = (markdown(note) for note in table.notes)
  return '\n\n'.join(['\n'.join([head, rule, *body]), *notes])


def as_text(table: Table, *, notes: bool = True) -> str:
  """The table for a terminal: aligned, intervals below their metrics, columns that do not fit a line further below."""
  widths = [
    max(len(text) for text in (title, *(part for row in table.rows for part in row[i])))
    for i, title in enumerate(table.columns)
  ]
  left = list(range(table.labels))
  blocks = [_block(table, widths, left + some) for some in _fitting(widths, table.labels)]
  below = [textwrap.fill(one_line(note), _WIDTH) for note in table.notes] if notes else []
  return '\n'.join([one_line(table.title), '\n\n'.join(blocks), *below])


def _fitting(widths, labels):
  """Numbers of the columns after the labels, in runs that fit a line."""
  room = _WIDTH - sum(width + 2 for width in widths[:labels])
  runs: list[list[int]] = [[]]
  free = room
  for i in range(labels, len(widths)):
    if runs[-1] and widths[i] + 2 > free:
      runs.append([])
      free = room
    runs[-1].append(i)
    free -= widths[i] + 2
  return runs


def _block(table, widths, columns):
  def line(texts):
    padded = (f'{texts[i]:<{widths[i]}}' if i < table.labels else f'{texts[i]:>{widths[i]}}' for i in columns)
    return '  '.join(padded).rstrip()

  lines = [line(table.columns), '  '.join('-' * widths[i] for i in columns)]
  for row in table.rows:
    lines.append(line([one.value for one in row]))
    if any(row[i].interval for i in columns):
      lines.append(line([one.interval for one in row]))
  return '\n'.join(lines)


def as_html(table: Table) -> str:
  """The table as HTML with its notes below, without the title; every text escaped."""
  head = ''.join(f'<th{_side(table, i)}>{html.escape(text)}</th>' for i, text in enumerate(table.columns))
  body = ''.join(
    '<tr>' + ''.join(f'<td{_side(table, i)}>{_html_cell(one)}</td>' for i, one in enumerate(row)) + '</tr>\n'
    for row in table.rows
  )
  notes = ''.join(f'<p class="note">{html.escape(one_line(note))}</p>\n' for note in table.notes)
  head, body = f'<thead><tr>{head}</tr></thead>', f'<tbody>\n{body}</tbody>'
  return f'<div class="wide"><table>{head}\n{body}</table></div>\n{notes}'


def _side(table, column):
  return ' class="label"' if column < table.labels else ''


def _html_cell(one):
  return html.escape(one.value) + (f' <small>{html.escape(one.interval)}</small>' if one.interval else '')


def _notes(results, text_of):
  """One text where all modes have the same; else each with the modes it is of."""
  modes: dict[str, list[str]] = {}
  for result in results:
    if text := text_of(result):
      modes.setdefault(text, []).append(result.mode)
  if len(modes) == 1:
    return list(modes)
  return [f'{", ".join(names)}: {text}' if any(names) else text for text, names in modes.items()]


def _kind(name):
  return name.split('@')[0]


def _rate(name):
  """The rate at the end of a metric's name; 0 where it has none."""
  match = re.fullmatch(r'\w+@\w+=([0-9.]+(?:e-?[0-9]+)?)', name)
  return float(match[1]) if match else 0.0


def _number(value, scale, decimals=2):
  return '-' if value is None or not math.isfinite(value) else f'{scale * value:.{decimals}f}'
