"""The plot of an audit: how images are spread over people, their bytes, and the pairs that should be looked at."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from gif_jax.core.plots import new_figure, save, tidy
from gif_jax.core.texts import for_plot

_ACROSS = 4  # pairs in a row
_BINS = 40
_LINE = 26  # characters of a caption


class Shown(NamedTuple):
  """Two pictures uint8 [s, s, 3] that should be looked at: what they are, and who."""

  title: str
  first: np.ndarray
  second: np.ndarray
  captions: tuple[str, str]


def plot_audit(
  counts: Mapping[str, np.ndarray], stored: Mapping[str, np.ndarray], shown: Sequence[Shown], path: str | Path
) -> None:
  """Draws histograms of images per person (`counts`) and of bytes (`stored`), int [.] per input, and pairs below."""
  rows = math.ceil(len(shown) / _ACROSS)
  figure = new_figure(12, 3.4 + 1.9 * rows)
  # Two pictures and a gap to the next pair.
  grid = figure.add_gridspec(
    1 + rows, 3 * _ACROSS, height_ratios=[3.4, *[1.9] * rows], width_ratios=[1, 1, 0.12] * _ACROSS
  )
  middle = 3 * _ACROSS // 2
  left, right = figure.add_subplot(grid[0, :middle]), figure.add_subplot(grid[0, middle:])
  _histogram(left, counts, 'images of a person', 'people')
  _histogram(right, stored, 'bytes of an image', 'images')
  for i, pair in enumerate(shown):
    row, column = 1 + i // _ACROSS, 3 * (i % _ACROSS)
    for k, image in enumerate((pair.first, pair.second)):
      axes = figure.add_subplot(grid[row, column + k])
      axes.imshow(image)
      axes.set_axis_off()
      axes.text(0.5, -0.03, _short(pair.captions[k]), transform=axes.transAxes, ha='center', va='top', fontsize=6)
      if k == 0:
        axes.set_title(pair.title, fontsize=7, loc='left', pad=3)
  save(figure, path)


def _histogram(axes: Axes, values: Mapping[str, np.ndarray], xlabel: str, ylabel: str) -> None:
  """One outline per input over the same bins, logarithmic where the values spread over more than a factor of 30."""
  low = max(1, min((int(v.min()) for v in values.values() if len(v)), default=1))
  high = max(low + 1, max((int(v.max()) for v in values.values() if len(v)), default=2))
  wide = high / low > 30
  edges = np.geomspace(low, high + 1, _BINS) if wide else np.linspace(low, high + 1, min(_BINS, high - low + 2))
  edges = np.unique(np.floor(edges)) - 0.5  # the values are whole numbers
  for name, v in values.items():
    axes.stairs(np.histogram(v, edges)[0], edges, label=for_plot(name), fill=len(values) == 1, linewidth=1.5)
  axes.set(xlabel=xlabel, ylabel=ylabel, xscale='log' if wide else 'linear')
  tidy(axes)
  axes.set_axisbelow(True)
  if not wide:
    axes.locator_params(axis='x', integer=True)
  if len(values) > 1:
    axes.legend(frameon=False, fontsize='small')


def _short(text: str) -> str:
  return for_plot(text if len(text) <= _LINE else f'{text[: _LINE - 11]}...{text[-8:]}')
