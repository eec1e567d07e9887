"""Plots of the accuracy benchmark: TAR against FAR, against the step, and metrics against the number of people."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np

from benchmarks.accuracy.rows import ROWS
from benchmarks.accuracy.verdict import Rows, metric
from gif_jax.core.plots import new_figure, save, tidy

FARS = ('1e-1', '1e-2', '1e-3', '1e-4')


def _style(row):
  """A colour and a line for a row, the same in all plots: baselines dashed, controls dotted."""
  place = list(ROWS).index(row) if row in ROWS else len(ROWS)
  baseline = row in ROWS and 'softmax' in ROWS[row][0].__name__
  line = '-' if row in ('published', 'fixed', 'joint') else '--' if baseline else ':'
  colour = 2 * (place % 10) + place // 10 % 2  # the ten dark ones first: the rows that are compared
  return {'color': matplotlib.colormaps['tab20'](colour), 'linestyle': line, 'label': row, 'linewidth': 1.6}


def _band(axes, x, values, row):
  """Values [seeds, len(x)]: their mean, and their spread where there are several."""
  values = 100 * np.array(values)
  spread = values.std(0, ddof=1) if len(values) > 1 else None
  axes.errorbar(x, values.mean(0), spread, marker='.', capsize=3, **_style(row))


def _finish(figure, path):
  """One legend for all axes, beside them: there are up to seventeen rows."""
  for axes in figure.axes:
    tidy(axes, legend=False)
  figure.legend(*figure.axes[0].get_legend_handles_labels(), loc='outside right upper', frameon=False, fontsize='small')
  save(figure, path)


def plot_tar(rows: Rows, path: Path) -> None:
  """TAR against FAR."""
  figure = new_figure(8, 5)
  axes = figure.add_subplot()
  for row, runs in rows.items():
    _band(axes, [float(far) for far in FARS], [[metric(m, f'tar@far={far}') for far in FARS] for m in runs], row)
  axes.set(xscale='log', xlabel='FAR', ylabel='TAR, %', title='Unseen people, mean and spread over seeds')
  _finish(figure, path)


def plot_curves(rows: Rows, path: Path) -> None:
  """TAR of the validation people against the step."""
  figure = new_figure(12, 5)
  for place, far in enumerate(('1e-2', '1e-3'), 1):
    axes = figure.add_subplot(1, 2, place)
    for row, runs in rows.items():
      steps = [point['step'] for point in runs[0]['curve']]
      _band(axes, steps, [[metric(point, f'validation/tar@far={far}') for point in m['curve']] for m in runs], row)
    axes.set(xlabel='step', ylabel=f'TAR@FAR={far}, %', title='Validation people')
  _finish(figure, path)


def plot_against_m(rows: Mapping[str, Mapping[int, list]], keys: Mapping[str, str], path: Path) -> None:
  """A panel for each of `keys`, title -> key; rows: form -> m -> metrics of its runs. A single m makes no line."""
  most = max(map(len, rows.values()))
  figure = new_figure(15, 4.5)
  for place, (title, key) in enumerate(keys.items(), 1):
    axes = figure.add_subplot(1, 3, place)
    for row, by_m in rows.items():
      if len(by_m) < most:
        continue  # a point without a line is in the tables
      values_of_m = [[metric(metrics, key) for metrics in by_m[m]] for m in sorted(by_m)]
      means = [100 * np.mean(values) for values in values_of_m]
      spread = [100 * np.std(values, ddof=1) if len(values) > 1 else np.nan for values in values_of_m]
      axes.errorbar(sorted(by_m), means, spread, marker='.', capsize=3, **_style(row))
    axes.set(xscale='log', xlabel='m, people to train on', ylabel='%', title=title)
  _finish(figure, path)
