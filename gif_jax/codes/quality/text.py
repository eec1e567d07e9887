"""The quality of a table in words: every number with a line that says what it means, and what is good or bad."""

import math
import textwrap
from collections.abc import Iterable, Sequence

import numpy as np

from gif_jax.codes.quality.measure import Balance, Quality
from gif_jax.codes.quality.neighbours import Neighbours
from gif_jax.core.texts import one_line

NEAR_CHANCE = 0.02  # share of the variance left by chance that a first digit must explain, or a warning is given
PAIRS = 5  # of people who share no prefix, listed
_WIDTH = 100


def describe(meta: dict, codes: np.ndarray, balance: Balance, quality: Quality, names: Sequence[str] = ()) -> str:
  """The full report. meta: of the table; codes: uint8 [m, l]; names: of the m people, () where labels must do."""
  sections = {
    'Table': _table_itself(meta),
    'Variance explained by the digits': _explained(meta, quality),
    'Balance': _balance(meta, balance),
    'Digit names: does a digit mean the same under every parent?': _names(quality),
    'Nearest neighbours: do people who look alike share a prefix?': _neighbours(codes, quality.neighbours, names),
    'Homogenisation': _homogenisation(meta['homogenisation']),
  }
  return '\n\n'.join(
    '\n'.join([f'{number}. {title}', *(f'   {line}' for line in lines)])
    for number, (title, lines) in enumerate(sections.items(), 1)
  )


def near_chance(quality: Quality) -> bool:
  """Whether the first digit explains hardly more than random codes would. False where that cannot be measured."""
  if len(quality.explained) < 2:
    return False
  explained, chance = quality.explained[0], quality.explained_chance[0]
  return bool(explained - chance < NEAR_CHANCE * (1 - chance))


def spaced(code: Iterable[int]) -> str:
  """The digits of a code or a prefix, to be read."""
  return ' '.join(map(str, code))


def _table_itself(meta: dict) -> list[str]:
  m, l, v, d = (meta[key] for key in 'mlvd')
  free = v**l - m
  return [
    f'm = {m} identities, l = {l} digits, v = {v} values of a digit, d = {d}; format version {meta["version"]}',
    f'encoder: {meta["encoder"] or "unknown"}; seed: {meta["seed"]}; made for: {meta["label_space"] or "unknown"}',
    f'codes: {_how_codes(meta["settings"])}',
    f'vectors: {_how_vectors(meta["settings"])}',
    f'free codes: {_short(free)} of {_short(v**l)} ({_percent(free / v**l)})',
    *_meaning(
      'Free codes are room for people who come later. None means that any newcomer needs a new table; a table '
      'that is mostly free spends more digits than it needs, and every digit can be read wrong.'
    ),
  ]


def _how_codes(settings: dict) -> str:
  if settings.get('codes') == 'random':
    return 'random, the control'
  if 'cluster' not in settings:
    return 'the table does not say how they were made'
  if settings['codes'] == 'product':
    return f'product codes of the {settings["cluster"]} vectors'
  return f'tree over the {settings["cluster"]} vectors, {settings["iterations"]} iterations a level'


def _how_vectors(settings: dict) -> str:
  if 'homogenize_epochs' not in settings:
    return 'the table does not say how they were made'
  made = f'from {settings["vectors"]}' if settings['vectors'] else 'whitened' if settings['whiten'] else 'not whitened'
  if not settings['homogenize_epochs']:
    return f'{made}, not homogenised'
  scaled = ' times the subset' if settings['homogenize_scaled'] else ''
  return (
    f'{made}, homogenised for {settings["homogenize_epochs"]} epochs (rate {settings["homogenize_lr"]}{scaled}, '
    f'subsets of {settings["homogenize_subset"]})'
  )


def _explained(meta: dict, quality: Quality) -> list[str]:
  if np.isnan(quality.explained[0]):
    return [f'cannot be measured: {"there is only one identity" if meta["m"] == 1 else "all vectors are equal"}']
  if len(quality.explained) == 1:
    return ['nothing to measure: with l = 1 the one digit is the identity']
  rows = {'first digits': quality.explained, 'by chance': quality.explained_chance}
  rows |= {'each digit by itself': quality.alone, 'by chance ': quality.alone_chance, 'as made of': meta['explained']}
  lines = _rows('digit', {name: map(_percent, row) for name, row in rows.items() if len(row)})
  lines += _meaning(
    'How much of the difference between people the first 1, 2 .. digits tell, and each digit alone, which is what a '
    'head can see that knows no other digit: of the code vectors, by chance (the same codes dealt out at random), and '
    'of the vectors that the codes were made of, as meta.json has it. Good: the first digit far above chance, and the '
    'others by themselves too. Bad: close to it: people who share a digit have nothing in common that could be seen.'
  )
  if near_chance(quality):
    lines += ['WARNING: the first digit explains hardly more than chance. These codes are close to random ones.']
  return lines


def _balance(meta: dict, balance: Balance) -> list[str]:
  share, levels = balance.share, balance.levels
  lines = _rows(
    'digit',
    {
      'smallest share of a value': map(_percent, share.min(1)),
      'mean share': map(_percent, share.mean(1)),
      'largest share': map(_percent, share.max(1)),
      'entropy, bits': (f'{bits:.2f}' for bits in balance.entropy),
    },
  )
  lines += _meaning(
    f'Good: shares alike and entropy near log2({meta["v"]}) = {math.log2(meta["v"]):.2f}. Bad: a value that few people '
    'have, which a head hardly sees, or one that most have, which says little.'
  )
  lines += _rows(
    'first digits',
    {
      'nodes': (str(level.nodes) for level in levels),
      'room in a node': (_short(level.capacity) for level in levels),
      'smallest node': (str(level.smallest) for level in levels),
      'largest node': (str(level.largest) for level in levels),
      'full nodes': (str(level.full) for level in levels),
      'empty children': (str(level.empty) for level in levels),
    },
  )
  return lines + _meaning(
    'Identities below each prefix. Good: sizes alike. A full node may have sent people who belong there to its '
    'siblings; where few codes are free that cannot be helped. Empty children are free codes.'
  )


def _names(quality: Quality) -> list[str]:
  if np.isnan(quality.consistency).all():
    return ['cannot be measured: that needs two prefixes or more with different people below them']
  lines = _rows(
    'digit',
    {
      'mean cosine with its direction': map(_cosine, quality.consistency[1:]),
      'with random names': map(_cosine, quality.consistency_chance[1:]),
    },
    first=2,
  )
  return lines + _meaning(
    'A digit has a direction: the mean, over all parents, of (child centre - parent centre). Good: children lie in the '
    'direction of their digit, clearly more than with random names; a head then reads the digit without knowing the '
    'ones before it. Bad: no more than with random names: the digit means something else under every parent.'
  )


def _neighbours(codes: np.ndarray, near: Neighbours | None, names: Sequence[str]) -> list[str]:
  if near is None:
    return ['cannot be measured: there is only one identity']
  lines = [
    f'{len(near.label)} identities, compared with all {len(codes)}',
    f'cosine of code vectors: smallest {near.smallest:.3f}, mean {near.mean:.3f}, largest {near.largest:.3f}, nearest '
    f'neighbour {near.cosine.mean():.3f}',
    *_meaning(
      'Good: a mean near 0 and neighbours well below 1: people are spread out. Bad: a mean far above 0 (all in '
      'one cone), or neighbours near 1, which no embedding can tell apart.'
    ),
  ]
  if len(near.shared) == 1:
    return [*lines, 'l = 1: there is no prefix to share']
  if np.isnan(near.shared[0]):
    return [*lines, 'who shares a prefix cannot be measured: all pairs are equally similar, so nobody is nearest']
  lines += _rows(
    'same first digits',
    {'nearest neighbour': map(_percent, near.shared[:-1]), 'anybody (chance)': map(_percent, near.chance[:-1])},
  )
  lines += _meaning(
    'Good: far above chance, so that digits read right narrow down to people who look alike. Bad: near chance.'
  )
  return lines + _strangers(codes, near, names)


def _strangers(codes: np.ndarray, near: Neighbours, names: Sequence[str]) -> list[str]:
  pairs = {
    tuple(sorted(map(int, pair))): cosine
    for *pair, cosine in zip(near.label, near.stranger, near.stranger_cosine)
    if pair[1] >= 0
  }
  if not pairs:
    return ['all have the same first digit']
  lines = ['closest people without a common prefix:']
  for pair, cosine in sorted(pairs.items(), key=lambda item: -item[1])[:PAIRS]:
    who = (f'{one_line(names[label]) if names else label} ({spaced(codes[label])})' for label in pair)
    lines.append(f'  {" and ".join(who)}: cosine {cosine:.3f}')
  return lines + _meaning(
    'They look alike and share no digit at the beginning: the border between two branches runs '
    'between them. A few are unavoidable. Bad: as close as the nearest neighbours of '
    'most people.'
  )


def _homogenisation(report: dict | None) -> list[str]:
  if not report:
    return ['the table does not say']
  before, after = report['cosine_before'], report['cosine_after']
  names = {'min': 'smallest cosine', 'mean': 'mean cosine', 'max': 'largest cosine', 'neighbour': 'nearest neighbour'}
  lines = _grid(
    ['', 'before', 'after'],
    [
      ['uniformity loss', f'{report["loss_before"]:.3f}', f'{report["loss_after"]:.3f}'],
      *([name, _cosine(before[key]), _cosine(after[key])] for key, name in names.items()),
    ],
  )
  return lines + _meaning(
    f'{report["epochs"]} epochs, measured on {report["sample"]} identities. Good: loss, mean and neighbours fall. No '
    'change: homogenisation did nothing (a rate too low), which the codes survive.'
  )


def _rows(title: str, rows: dict[str, Iterable[str]], first: int = 1) -> list[str]:
  """A row per name, a column per digit from `first` on."""
  cells = [[name, *row] for name, row in rows.items()]
  return _grid([title, *map(str, range(first, first + len(cells[0]) - 1))], cells)


def _grid(head: list[str], cells: list[list[str]]) -> list[str]:
  widths = [max(map(len, column)) for column in zip(head, *cells)]
  return [
    '  '.join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
    for row in [head, *cells]
  ]


def _meaning(text: str) -> list[str]:
  return textwrap.wrap(text, _WIDTH, initial_indent='-> ', subsequent_indent='   ')


def _percent(share: float) -> str:
  return f'{100 * share:.1f} %'


def _cosine(value: float) -> str:
  return '-' if math.isnan(value) else f'{value:.3f}'


def _short(number: int) -> str:
  return str(number) if number < 10**9 else f'{number:.1e}'
