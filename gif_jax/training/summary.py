"""What a run leaves for people to look at: plots, summary.json, the table that is printed at the end."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gif_jax.core.plots import contact_sheet, new_figure, save, tidy
from gif_jax.core.storage.arrays import save_arrays
from gif_jax.core.storage.files import write_json
from gif_jax.core.texts import for_plot
from gif_jax.data.augment import Chances, augment
from gif_jax.data.sets.base import Faces
from gif_jax.evaluation.in_training import Final
from gif_jax.evaluation.report.tables import title_of
from gif_jax.evaluation.result import Curve

# Panels of `plot_training`: a metric belongs to the first panel whose word its name contains.
_PANELS = {
  'loss': 'loss',
  'digit': 'digit accuracy',
  'sequence': 'sequence accuracy',
  'learning_rate': 'learning rate',
  'images_per_second': 'images/s',
  'targets/': 'benchmarks',
}
# Rows of `summary_table`, in order; 'tar@far=...' rows stand where they are named here.
_ROWS = {
  'verification_accuracy': 'verification accuracy',
  'pixel_verification_accuracy': 'verification accuracy, raw pixels',
  'tar@far': 'TAR @ FAR',
  'digit_accuracy': 'digit accuracy',
  'decode_top1': 'closed set, decoded, top 1',
  'decode_top5': 'closed set, decoded, top 5',
  'sequence_top1': 'closed set, decoded in order, top 1',
  'sequence_top5': 'closed set, decoded in order, top 5',
  'rerank_top1': 'closed set, decoded and reranked, top 1',
  'rerank_top5': 'closed set, decoded and reranked, top 5',
  'tree_top1': 'closed set, tree, top 1',
  'tree_top5': 'closed set, tree, top 5',
  'fused_top1': 'closed set, digits and tree, top 1',
  'fused_top5': 'closed set, digits and tree, top 5',
  'vector_top1': 'closed set, code vectors, top 1',
  'vector_top5': 'closed set, code vectors, top 5',
  'centre_top1': 'closed set, centres, top 1',
  'centre_top5': 'closed set, centres, top 5',
  'images_per_second': 'images/s',
}


def write(workdir: Path, metrics: Mapping[str, Any], final: Final, rows: Sequence[Mapping[str, Any]]) -> None:
  """summary.json, training.png and, where people were kept apart, eval.npz (unit embeddings, identity) and roc.png.

  rows: of metrics.jsonl.
  """
  if len(final.embedding):
    lengths = np.linalg.norm(final.embedding, axis=1, keepdims=True)
    unit = final.embedding / np.maximum(lengths, 1e-12)
    save_arrays(workdir / 'eval.npz', {'embedding': unit, 'identity': final.identity})
    plot_roc(final.curves, workdir / 'roc.png')
  plot_training(rows, workdir / 'training.png')
  write_json(workdir / 'summary.json', metrics)


def plot_faces(faces: Faces, seed: int, chances: Chances, path: Path, rows: int = 8, columns: int = 8) -> None:
  """Draws neighbouring images from places spread over a training set, augmented."""
  starts = np.arange(rows) * len(faces) // rows
  index = (starts[:, None] + np.arange(columns)) % len(faces)
  images = faces[index.ravel()]
  augment(images, seed, np.arange(len(images)), chances)
  contact_sheet(images.reshape(rows, columns, *images.shape[1:]), path)


def plot_roc(curves: Mapping[str, Curve], path: str | Path) -> None:
  """Draws ROC curves by their names, over a logarithmic FAR axis from 1e-5 to 1."""
  figure = new_figure(6.4, 4.8)
  axes = figure.add_subplot()
  # All pairs of a few thousand images are millions of points: a fixed grid draws the same line.
  far = np.logspace(-5, 0, 1001)
  for name, curve in curves.items():
    axes.plot(far, curve.tar_at(far), label=name, linewidth=1.8)
  axes.set(xscale='log', xlim=(1e-5, 1), ylim=(0, 1.01), xlabel='false accept rate', ylabel='true accept rate')
  tidy(axes)
  save(figure, path)


def plot_training(metrics: Sequence[Mapping[str, Any]], path: str | Path) -> None:
  """Draws loss parts, digit accuracies, learning rate and images/s against the step.

  Args:
    metrics: rows as read from a JSONL file, each with `step`. A metric is drawn in the panel whose word is part of
      its name: loss, digit, sequence, learning_rate, images_per_second; a list of numbers is one line per entry. Rows
      may lack keys or hold null; panels without a value are left out.
    path: image file to write.
  """
  panels = {title: lines for word, title in _PANELS.items() if (lines := _lines(metrics, word))}
  figure = new_figure(6.4 * min(2, max(1, len(panels))), 3.6 * max(1, math.ceil(len(panels) / 2)))
  for place, (title, lines) in enumerate(panels.items(), 1):
    axes = figure.add_subplot(math.ceil(len(panels) / 2), min(2, len(panels)), place)
    for name, points in lines.items():
      label, marker = for_plot(name.replace('_', ' ')), 'o' if len(points) == 1 else None
      axes.plot(*zip(*points), label=label, linewidth=1.5, marker=marker)
    axes.set(xlabel='step', title=title)
    axes.set_ylim(bottom=0)
    tidy(axes)
    if any('/' in name for name in lines):  # sets whose names the title cannot say
      axes.legend(frameon=False, fontsize='small')
  save(figure, path)


def summary_table(summary: Mapping[str, Any]) -> str:
  """The main metrics as aligned plain text: shares as percentages with one decimal, absent keys left out.

  Keys: verification_accuracy, pixel_verification_accuracy, tar@far=1e-1 and the like, digit_accuracy (list, one per
  digit), ROUTE_top1 and ROUTE_top5 for the routes decode, sequence, rerank, tree, fused and vector, or a softmax's tree
  and centre (0..1 each), images_per_second, and targets, which maps benchmarks to their metrics (see `result.Result`),
  of which the first is shown. Other keys are not shown.
  """
  rows = []
  for name, metrics in summary.get('targets', {}).items():
    best = next(iter(metrics))
    spread = f' +- {100 * metrics["std"]:.1f}' if best == 'accuracy' else ''
    title = name if spread else f'{name}, {title_of(best)}'
    rows.append((title, _cell('', metrics[best]) + spread))
  for key, title in _ROWS.items():
    for name, value in summary.items():
      if name.split('=')[0] == key:
        rows.append((title + name[len(key) :].replace('=', ' '), _cell(key, value)))
  width = max((len(title) for title, _ in rows), default=0)
  return '\n'.join(f'{title:<{width}}  {cell}' for title, cell in rows)


def _lines(metrics: Sequence[Mapping[str, Any]], word: str) -> dict[str, list[tuple[float, float]]]:
  """Name -> (step, value) points of all metrics of one panel; gaps and non-finite values are skipped."""
  lines: dict[str, list[tuple[float, float]]] = {}
  for row in metrics:
    for name, value in row.items():
      if next((panel for panel in _PANELS if panel in name), None) != word:
        continue
      several = isinstance(value, list | tuple)
      for digit, number in enumerate(value if several else [value], 1):
        if isinstance(number, int | float) and math.isfinite(number):
          lines.setdefault(f'{name} {digit}' if several else name, []).append((row['step'], number))
  return lines


def _cell(key: str, value: Any) -> str:
  if isinstance(value, list | tuple):
    return '  '.join(_cell(key, item) for item in value)
  if value is None or not math.isfinite(value):
    return f'{"-":>7}'
  return f'{value:7.0f}' if key == 'images_per_second' else f'{100 * value:5.1f} %'
