"""Plots of an evaluation: ROC, DET, scores of genuine and impostor pairs, and verification sets side by side."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.stats import norm

from gif_jax.core.plots import new_figure, save, tidy
from gif_jax.core.texts import for_plot
from gif_jax.evaluation.report.tables import quoted_far
from gif_jax.evaluation.result import Curve, Histogram, Result, rate_name

# Told apart with every kind of colour vision: Okabe and Ito, "Color universal design", 2008.
_COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#000000')
_DASHES = ('-', (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
_SIZE = (6.4, 4.4)
_SETS_BELOW = 0.995  # where the axis of accuracies may begin at the latest
_LOWEST = (0.99, 0.98, 0.95, 0.9, 0.8, 0.6, 0.4, 0.2, 0)  # where an axis of shares may begin
_DET_TICKS = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
_FINE_TICKS = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4)  # where an axis is short
_DET_HIGHEST = 0.5
_TINY = 1e-13  # stands for 0, whose normal deviate is infinite
_BAR = 0.02  # width of a bar of cosines where pairs are few
_FEW = 100_000  # genuine pairs
_APART = 0.09  # of the width of the axis, between two thresholds that are drawn


def draw_roc(results: Sequence[Result], path: str | Path) -> bool:
  """Draws TAR against FAR, logarithmic from the smallest FAR that can be resolved, a line per result.

  Error bars are the intervals of the first. Returns whether there was a curve to draw; without one no file is written.
  """
  results, curves = _with_curves(results, lambda curve: _least(curve) < curve.far[-1])
  if not results:
    return False
  left = min(map(_least, curves))
  right = max(curve.far[-1] for curve in curves)  # curves made of the largest scores alone end early
  figure = new_figure(*_SIZE)
  axes = figure.add_subplot()
  lowest = 1.0
  for i, ((name, _), curve) in enumerate(zip(_named(results), curves)):
    # Left of the smallest FAR nothing is known; to the right of each point TAR is at least that of the point.
    start = max(0, np.searchsorted(curve.far, left, side='right') - 1)
    far, tar = np.maximum(curve.far[start:], left), curve.tar[start:]
    axes.plot(far, tar, drawstyle='steps-post', label=name, **_style(i))
    lowest = min(lowest, tar[0])
  lowest = min(lowest, _error_bars(axes, results[0], left, right))
  axes.set(xscale='log', xlim=(left, right), xlabel='false accept rate', ylabel='true accept rate')
  _shares(axes.yaxis, axes.set_ylim, lowest)
  _finish(axes, results, 'lower right')
  save(figure, path)
  return True


def draw_det(results: Sequence[Result], path: str | Path) -> bool:
  """Draws the share of genuine pairs rejected against FAR on axes of normal deviates, a line per result.

  (Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997.) Returns whether there
  was a curve to draw, one with errors of both kinds; without one no file is written.
  """
  results, curves = _with_curves(results, lambda curve: bool(_both_errors(curve).any()))
  if not results:
    return False
  figure = new_figure(*_SIZE)
  axes = figure.add_subplot()
  for i, ((name, _), (far, tar)) in enumerate(zip(_named(results), curves)):
    axes.plot(_deviate(far), _deviate(1 - tar), drawstyle='steps-post', label=name, **_style(i))
  seen = [(far[some], 1 - tar[some]) for (far, tar), some in ((curve, _both_errors(curve)) for curve in curves)]
  lowest = [min(errors.min() for errors in kind) for kind in zip(*seen)]
  highest = _DET_HIGHEST, min(_DET_HIGHEST, 2 * max(missed.max() for _, missed in seen))
  axes.axline((0, 0), slope=1, color='0.6', linewidth=0.9, linestyle=(0, (4, 3)), zorder=1, label='equal errors')
  axes.set(xlabel='false accept rate, %', ylabel='genuine pairs rejected, %')
  for axis, low, high in zip('xy', lowest, highest):
    coarse, ticks = ([tick for tick in some if low <= tick <= high] for some in (_DET_TICKS, _FINE_TICKS))
    ticks = coarse if len(coarse) > 3 else ticks
    axes.set(**{f'{axis}lim': (_deviate(low if axis == 'x' else low / 1.2), _deviate(high))})
    axes.set(**{f'{axis}ticks': _deviate(ticks), f'{axis}ticklabels': [_percent(tick) for tick in ticks]})
  _finish(axes, results, 'upper right')
  save(figure, path)
  return True


def draw_scores(result: Result, path: str | Path) -> bool:
  """Draws densities of the cosines of genuine and impostor pairs, and the thresholds. Returns whether there are any."""
  if not result.histogram or not result.histogram.genuine.sum() or not result.histogram.impostor.sum():
    return False
  edges, genuine, impostor = _coarse(result.histogram)
  figure = new_figure(*_SIZE)
  axes = figure.add_subplot()
  shown = np.flatnonzero(genuine + impostor)
  low, high = edges[shown[0]], edges[shown[-1] + 1]
  for name, density, colour in (('impostor', impostor, _COLOURS[1]), ('genuine', genuine, _COLOURS[0])):
    axes.stairs(density, edges, fill=True, alpha=0.3, color=colour)
    axes.stairs(density, edges, color=colour, linewidth=1.4, label=name)
  smallest = min(density[density > 0].min() for density in (genuine, impostor))
  top = max(genuine.max(), impostor.max())
  axes.set(yscale='log', xlim=(low, high), ylim=(smallest / 1.5, top * 1.8), xlabel='cosine', ylabel='density')
  for far, cosine in _apart(result, low, high):
    axes.axvline(cosine, color='0.25', linewidth=1, linestyle=(0, (4, 2)))
    axes.annotate(
      f'FAR={far}',
      (cosine, 1),
      xycoords=('data', 'axes fraction'),
      xytext=(0, 3),
      fontsize=7,
      ha='center',
      textcoords='offset points',
      color='0.25',
    )
  tidy(axes)
  axes.set_axisbelow(True)
  axes.legend(frameon=False, fontsize='small', loc='lower right', bbox_to_anchor=(1, 1.04), ncols=2)
  axes.set_title(_heading([result]), fontsize='small', loc='left', pad=18, color='0.25')
  save(figure, path)
  return True


def draw_sets(results: Sequence[Result], path: str | Path) -> bool:
  """Draws the accuracies of two or more .bin sets with their intervals. Returns whether there were as many."""
  results = [result for result in results if math.isfinite(result.metrics.get('accuracy', math.nan))]
  if len(results) < 2:
    return False
  figure = new_figure(6.4, 0.9 + 0.32 * len(results))
  axes = figure.add_subplot()
  lowest = 1.0
  for row, result in enumerate(results):
    value = result.metrics['accuracy']
    low, high = _bounds(result, 'accuracy')
    axes.errorbar(value, row, xerr=[[value - low], [high - value]], fmt='o', color=_COLOURS[0], ms=5, capsize=3)
    lowest = min(lowest, low)
  axes.set_yticks(range(len(results)), [for_plot(result.benchmark) for result in results])
  axes.set(ylim=(len(results) - 0.5, -0.5), xlabel='accuracy, ten folds, with 95 % intervals')
  _shares(axes.xaxis, axes.set_xlim, min(lowest, _SETS_BELOW))
  tidy(axes)
  axes.set_axisbelow(True)
  save(figure, path)
  return True


def _with_curves(results, usable: Callable[[Curve], bool]) -> tuple[list[Result], list[Curve]]:
  """The results whose curves are usable, and these curves."""
  both = [(result, result.curve) for result in results if result.curve and usable(result.curve)]
  return [result for result, _ in both], [curve for _, curve in both]


def _least(curve: Curve) -> float:
  """The smallest FAR above 0: that of one impostor pair; 1 where there is none."""
  return float(min(curve.far[curve.far > 0], default=1.0))


def _style(i):
  colour, dashes = _COLOURS[i % len(_COLOURS)], _DASHES[i % len(_DASHES)]
  return {'color': colour, 'linestyle': dashes, 'linewidth': 1.8, 'zorder': 3 - 0.01 * i}  # the first on top


def _named(results):
  """(what tells a curve from the others, its result); the protocol too where there are several."""
  several = len({result.protocol for result in results}) > 1
  for result in results:
    parts = [result.protocol] * several + [result.mode] * bool(result.mode)
    yield for_plot(' '.join(parts) or result.protocol), result


def _heading(results):
  return for_plot(', '.join(dict.fromkeys([results[0].benchmark, *(result.protocol for result in results)])))


def _error_bars(axes: Axes, result: Result, left: float, right: float) -> float:
  """Intervals of TAR at fixed FARs; returns the lowest bound."""
  lowest = 1.0
  for name, value in result.metrics.items():
    if name in result.intervals and name.startswith('tar@far=') and math.isfinite(value):
      far, (low, high) = float(name.removeprefix('tar@far=')), _bounds(result, name)
      if left <= far < right:
        error = [[value - low], [high - value]]
        axes.errorbar(far, value, yerr=error, color=_COLOURS[0], fmt='o', ms=3.5, capsize=2.5, linewidth=1)
        lowest = min(lowest, low)
  return lowest


def _bounds(result, name):
  """The interval of a figure, widened to hold the figure; the figure itself where it has none."""
  value = result.metrics[name]
  low, high = result.intervals.get(name, (value, value))
  return (min(low, value), max(high, value)) if math.isfinite(low + high) else (value, value)


def _shares(axis, set_limits, lowest):
  """An axis of shares up to 100 %, from a round number below `lowest`."""
  low = next(low for low in _LOWEST if low <= max(0.0, lowest - 0.05 * (1 - lowest)))
  set_limits(low, 1 + 0.015 * (1 - low))
  axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
  axis.set_major_formatter(PercentFormatter(1, decimals=0 if low <= 0.95 else 1))


def _finish(axes, results, place):
  tidy(axes)
  if axes.get_legend():
    axes.legend(fontsize='small', loc=place, framealpha=0.9, edgecolor='none')
  axes.set_title(_heading(results), fontsize='small', loc='left', color='0.25')


def _both_errors(curve):
  """The points of a curve at which some pairs of both kinds are judged wrongly, but less than half."""
  missed = 1 - curve.tar
  return (curve.far > 0) & (curve.far < _DET_HIGHEST) & (missed > _TINY) & (missed < _DET_HIGHEST)


def _deviate(share):
  return norm.ppf(np.clip(share, _TINY, 1 - _TINY))


def _percent(share):
  return f'{100 * share:g}' if share >= 1e-6 else rate_name(100 * share)


def _coarse(histogram: Histogram):
  """Edges and densities of both kinds, over wider bars where pairs are few."""
  width = float(histogram.edges[1] - histogram.edges[0])
  step = max(1, round(_BAR / width)) if histogram.genuine.sum() < _FEW else 1
  first = np.arange(0, len(histogram.genuine), step)
  edges = np.append(histogram.edges[first], histogram.edges[-1])
  counts = [np.add.reduceat(count, first) for count in (histogram.genuine, histogram.impostor)]
  return edges, *(count / count.sum() / np.diff(edges) for count in counts)


def _apart(result, low, high):
  """(FAR, threshold) pairs that can be read side by side, the one to quote among them."""
  first = quoted_far(result)
  drawn: list[tuple[str, float]] = []
  for far in sorted(result.thresholds, key=lambda far: (far != first, float(far))):
    cosine = result.thresholds[far]
    gap = _APART * (high - low)
    if low < cosine < high and all(abs(cosine - other) >= gap for _, other in drawn):
      drawn.append((far, cosine))
  return drawn
