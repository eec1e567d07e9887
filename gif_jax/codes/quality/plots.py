"""Plots of an identity-code table: its metrics, and the people below a few prefixes."""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import AutoLocator
from tqdm import tqdm

from gif_jax.codes.quality.measure import Balance, Quality, measure, measure_balance
from gif_jax.codes.quality.neighbours import BINS, Neighbours, code_order, starts
from gif_jax.codes.quality.text import describe, spaced
from gif_jax.codes.table import CodeTable
from gif_jax.core.plots import new_figure, save, tidy
from gif_jax.core.texts import for_plot, one_line
from gif_jax.data.sets.base import FaceSets

BRANCHES = ((), (8,), (4, 3), (3, 2, 2))  # children drawn of each node, by the number of levels drawn
ACROSS = 8  # people drawn below a prefix
LOOK_AT = 16  # photographs of a person of which the most typical one is drawn
COLUMN = 1.4  # width of a level of the tree, in faces
ROW = 1.25  # from one row of faces to the next
DOTS = 6  # digits of a code up to which a prefix shows how many are missing
CODE = 13  # characters of a code in a line
NAME = 16  # characters of a name
INCHES = 0.8  # side of a face
CHANCE: dict[str, Any] = {'color': '0.6', 'label': 'chance'}

_Portrait = Callable[[int], np.ndarray]  # of a person, by label: uint8 [h, w, 3]


def plot_report(meta: dict, balance: Balance, quality: Quality, path: Path) -> None:
  """Draws the metrics of a table whose meta.json is `meta`; what cannot be measured is said in its panel."""
  figure = new_figure(12, 7)
  grid = figure.add_gridspec(2, 3)
  figure.suptitle(f'm = {meta["m"]} identities, l = {meta["l"]} digits of v = {meta["v"]} values, d = {meta["d"]}')
  _plot_explained(
    _panel(figure, grid[0, 0], 'Variance explained', 'good: far above chance'),
    'first digits',
    {'code vectors': quality.explained},
    quality.explained_chance,
  )
  clustered = {'codes made of': np.array(meta['explained'])} if len(meta['explained']) else {}
  _plot_explained(
    _panel(figure, grid[1, 0], 'Variance explained by each digit', 'good: far above chance, and even'),
    'digit alone',
    {'code vectors': quality.alone} | clustered,
    quality.alone_chance,
  )
  _plot_digits(_panel(figure, grid[0, 1], 'Digits, share of identities', 'good: one colour'), balance.share)
  _plot_names(_panel(figure, grid[0, 2], 'Digit names, mean cosine', 'good: above random names'), quality)
  _plot_shared(
    _panel(figure, grid[1, 1], 'Nearest neighbours with the same first digits', 'good: far above chance'),
    quality.neighbours,
  )
  _plot_cosines(
    _panel(figure, grid[1, 2], 'Cosines of code vectors', 'good: all around 0, neighbours well below 1'),
    quality.neighbours,
  )
  save(figure, path)


def _panel(figure: Figure, place: SubplotSpec, title: str, good: str) -> Axes:
  axes = figure.add_subplot(place)
  axes.set_title(f'{title}\n', fontsize='medium')
  axes.text(0.5, 1.02, good, transform=axes.transAxes, ha='center', color='0.4', fontsize='small')
  return axes


def _cannot(axes: Axes) -> None:
  axes.text(0.5, 0.5, 'cannot be measured', transform=axes.transAxes, ha='center', color='0.4')
  axes.set_axis_off()


def _bars(axes: Axes, digits: np.ndarray, rows: list[tuple[np.ndarray, dict]]) -> None:
  """Bars beside each other, a group per digit."""
  width = 0.8 / len(rows)
  for i, (row, style) in enumerate(rows):
    axes.bar(digits + (i - (len(rows) - 1) / 2) * width, row, width, **style)
  axes.set(xticks=digits, yticks=np.linspace(0, 1, 6), ylim=(0, 1.18))
  tidy(axes)
  axes.legend(frameon=False, fontsize='small', loc='upper center', ncols=len(rows), handlelength=1)  # above bars
  axes.set_axisbelow(True)


def _plot_explained(axes: Axes, name: str, rows: dict[str, np.ndarray], chance: np.ndarray) -> None:
  l = len(chance)
  if l == 1 or np.isnan(chance[0]):
    return _cannot(axes)
  styles: tuple[dict[str, Any], ...] = ({}, {'color': '#a6c8e4'})
  bars = [(row, {'label': label} | style) for (label, row), style in zip(rows.items(), styles)]
  _bars(axes, np.arange(1, l + 1), [*bars, (chance, CHANCE)])
  axes.set_xlabel(name)


def _plot_digits(axes: Axes, share: np.ndarray) -> None:
  l, v = share.shape
  image = axes.imshow(share, aspect='auto', vmin=0, vmax=max(share.max(), 2 / v), extent=(-0.5, v - 0.5, l + 0.5, 0.5))
  axes.set(xlabel='value', ylabel='digit', yticks=np.arange(1, l + 1))
  locator = AutoLocator()
  locator.set_params(integer=True)
  axes.xaxis.set_major_locator(locator)
  axes.figure.colorbar(image, ax=axes)


def _plot_names(axes: Axes, quality: Quality) -> None:
  if np.isnan(quality.consistency).all():
    return _cannot(axes)
  rows = [
    (quality.consistency[1:], {'label': 'as named'}),
    (quality.consistency_chance[1:], CHANCE | {'label': 'random names'}),
  ]
  _bars(axes, np.arange(2, len(quality.consistency) + 1), rows)
  axes.set_xlabel('digit')


def _plot_shared(axes: Axes, near: Neighbours | None) -> None:
  if near is None or len(near.shared) < 2 or np.isnan(near.shared[0]):
    return _cannot(axes)
  rows = [(near.shared[:-1], {'label': 'nearest neighbour'}), (near.chance[:-1], CHANCE)]
  _bars(axes, np.arange(1, len(near.shared)), rows)
  axes.set_xlabel('first digits')


def _plot_cosines(axes: Axes, near: Neighbours | None) -> None:
  if near is None:
    return _cannot(axes)
  nearest = np.histogram(near.cosine, BINS)[0]
  for count, style in ((near.histogram, CHANCE | {'label': 'any two'}), (nearest, {'label': 'nearest neighbour'})):
    axes.stairs(count / max(1, count.sum()), BINS, fill=True, alpha=0.7, **style)
  axes.set(xlabel='cosine', ylabel='share', xlim=(-1.02, 1.02))
  axes.legend(frameon=False, fontsize='small')
  tidy(axes)
  axes.set_axisbelow(True)


class Branch(NamedTuple):
  """A node of the tree that is drawn: its prefix, how many identities it has, and some of their labels."""

  prefix: tuple[int, ...]
  size: int
  people: np.ndarray


def branches(codes: np.ndarray, seed: int = 0) -> list[list[Branch]]:
  """The nodes that tree.png shows of codes uint8 [m, l]: a list per depth, the root's first; children evenly chosen."""
  m, l = codes.shape
  order, rng = code_order(codes), np.random.default_rng(seed)
  ordered = codes[order]

  def branch(j: int, start: int, stop: int) -> Branch:
    people = np.sort(start + rng.permutation(stop - start)[:ACROSS])
    return Branch(tuple(map(int, ordered[start, :j])), stop - start, order[people])

  levels, spans = [[branch(0, 0, m)]], [(0, m)]
  for j, wanted in enumerate(BRANCHES[min(l, len(BRANCHES)) - 1], 1):
    first = np.append(starts(ordered[:, :j]), m)
    chosen = []
    for start, stop in spans:
      low, high = np.searchsorted(first, (start, stop))
      chosen += [(first[i], first[i + 1]) for i in np.unique(np.linspace(low, high - 1, wanted).astype(int))]
    levels.append([branch(j, *span) for span in chosen])
    spans = chosen
  return levels


def plot_tree(codes: np.ndarray, portrait: _Portrait | None, path: Path, names: Sequence[str] = ()) -> None:
  """Draws a few branches of the tree of codes uint8 [m, l], with people below each.

  portrait: of a person; None draws labels in place of faces. names: of the m people, () for none.
  """
  levels = branches(codes)
  left = COLUMN * len(levels)
  height = _place(levels)
  bottom = max(height.values()) + 1.2
  figure = new_figure(INCHES * (left + ACROSS), INCHES * (bottom + 0.6))
  axes = figure.add_subplot()
  axes.set_axis_off()
  for depth, level in enumerate(levels):
    for node in level:
      _draw_node(axes, node, depth, codes.shape[1], height)
  for node in tqdm(levels[-1], desc='faces', unit='prefix', disable=portrait is None):
    for i, person in enumerate(node.people):
      below = textwrap.fill(spaced(codes[person]), CODE)
      below = f'{shown(names[person])}\n{below}' if names else below
      _draw_person(axes, left + i, height[node.prefix], person, below, portrait)
  text = 'People below the same prefix, drawn at random, should look alike. '
  name = 'the name and ' if names else ''
  text += f'Below a face: {name}the code.' if portrait else 'Label, and code below it; give --config to see faces.'
  axes.text(0.05, -0.35, text, fontsize=9, color='0.3')
  axes.set(xlim=(0, left + ACROSS), ylim=(bottom, -0.6), aspect='equal')
  save(figure, path)


def _place(levels: list[list[Branch]]) -> dict[tuple[int, ...], float]:
  """Prefix -> where its row begins; a parent stands in the middle of its children."""
  height, y = {}, 0.0
  for before, node in zip([None, *levels[-1]], levels[-1]):
    y += 0 if before is None else ROW if before.prefix[:1] == node.prefix[:1] else ROW + 0.3
    height[node.prefix] = y
  for level in levels[-2::-1]:
    for node in level:
      below = [y for prefix, y in height.items() if prefix[:-1] == node.prefix and prefix]
      height[node.prefix] = (min(below) + max(below)) / 2
  return height


def _draw_node(axes: Axes, node: Branch, depth: int, l: int, height: dict[tuple[int, ...], float]) -> None:
  x, y = COLUMN * depth, height[node.prefix] + 0.5
  if node.prefix:
    turn, above = x - 0.15, height[node.prefix[:-1]] + 0.5
    axes.plot([x - 0.35, turn, turn, x], [above, above, y, y], color='0.7', linewidth=1.2, zorder=0)
  missing = '·' * (l - depth) if l <= DOTS else '…'
  name = spaced([*node.prefix, *missing]) if node.prefix else 'everybody'
  axes.text(x + 0.05, y - 0.06, name, fontsize=min(10, 95 / len(name)), weight='bold', va='bottom')
  size = '1 person' if node.size == 1 else f'{node.size} people'
  axes.text(x + 0.05, y + 0.06, size, fontsize=7, color='0.35', va='top')


def shown(name: str) -> str:
  """A name below a face, as much of it as there is room for."""
  name = one_line(name)
  return for_plot(name if len(name) <= NAME else f'{name[: NAME - 3]}...')


def _draw_person(axes: Axes, x: float, y: float, person: int, below: str, portrait: _Portrait | None) -> None:
  if portrait:
    axes.imshow(portrait(person), extent=(x + 0.03, x + 0.97, y + 0.97, y + 0.03), interpolation='bilinear')
  else:
    axes.text(x + 0.5, y + 0.5, str(person), fontsize=8, ha='center', va='bottom')
  axes.text(x + 0.5, y + (1.0 if portrait else 0.55), below, fontsize=6, color='0.35', ha='center', va='top')


def portraits(faces: FaceSets) -> _Portrait:
  """Gives the most typical photograph of a training person, the one nearest to the mean of the first few."""
  labels = faces.train.labels()

  def portrait(person: int) -> np.ndarray:
    images = np.asarray(faces.train[np.flatnonzero(labels == person)[:LOOK_AT]])
    away = np.square(images - images.mean(0, dtype=np.float32)).sum((1, 2, 3))
    return images[away.argmin()]

  return portrait


def inspect(table: CodeTable, faces: FaceSets | None, output: Path) -> str:
  """Measures `table`, writes report.png and tree.png to the folder `output` and returns the report in words."""
  codes = np.asarray(table.codes)
  balance, quality = measure_balance(codes, table.v), measure(codes, table.vectors)
  plot_report(table.meta, balance, quality, output / 'report.png')
  names = faces.names() if faces else []
  plot_tree(codes, portraits(faces) if faces else None, output / 'tree.png', names)
  return describe(table.meta, codes, balance, quality, names)
