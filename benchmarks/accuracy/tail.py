"""What a long tail does to finished runs: who is recognised, and how far apart identities with few images end up.

python -m benchmarks.accuracy.tail runs/accuracy/tail/*_? --cache=runs/accuracy/cache --output=runs/accuracy/tail_thirds
python -m benchmarks.accuracy.tail runs/mine@configs/quickstart_joint.py

Training identities are split in thirds by how many training images they have: many, medium, few (data.imbalance; where
all have as many, by label, and all thirds are alike). For each: the share of their held-out images whose nearest vector
(z . h; a softmax's centre) is their own, and distances 1 - cosine of their vectors, the nearest pair and the mean of
all pairs, beside those of all identities. A softmax is said to push centres of people with few images together (the
"minority collapse" of the paper). Folders are named ROW_SEED; mean and sample standard deviation over seeds. Writes
OUTPUT.md, OUTPUT.json and OUTPUT.png.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.finished import Finished, open_run
from gif_jax.commands.flags import quiet_libraries
from gif_jax.core.errors import ConfigError, DataError
from gif_jax.core.plots import new_figure, save, tidy
from gif_jax.core.storage.files import write_json, write_text
from gif_jax.identification.nearest import nearest
from gif_jax.models.checkpoint.reader import CheckpointError

THIRDS = ('many', 'medium', 'few')
GROUPS = (*THIRDS, 'all')
ROWS = 1024  # vectors compared with all others at a time


def thirds(images: np.ndarray) -> dict[str, np.ndarray]:
  """Labels by how many training images they have, int [m] -> {'many', 'medium', 'few', 'all': int64}; ties by label."""
  order = np.argsort(-images, kind='stable')
  return dict(zip(THIRDS, np.array_split(order, 3))) | {'all': np.arange(len(images))}


def distances(vectors: np.ndarray) -> tuple[float, float]:
  """The smallest and the mean 1 - cosine of all pairs of rows float [n, d]: (nan, nan) where there is no pair."""
  n = len(vectors)
  if n < 2:
    return np.nan, np.nan
  h = np.asarray(vectors, np.float32)
  h = h / np.maximum(np.linalg.norm(h, axis=1, keepdims=True), 1e-12)
  largest, total = -np.inf, -float(np.square(h, dtype=np.float64).sum())
  for start in range(0, n, ROWS):
    cosine = h[start : start + ROWS] @ h.T
    total += cosine.sum(dtype=np.float64)
    cosine[np.arange(len(cosine)), start + np.arange(len(cosine))] = -np.inf
    largest = max(largest, float(cosine.max()))
  return 1 - largest, 1 - float(total) / (n * (n - 1))


def metrics_of(run: Finished) -> dict[str, dict]:
  """Group -> {'images': (fewest, most) training images, 'top1', 'min', 'mean'}. Held-out images decide `top1`."""
  vectors, images = np.asarray(run.trained.vectors), np.bincount(run.faces.train.labels(), minlength=run.faces.m)
  label = run.faces.held_out.labels()
  right = nearest(run.embeddings(run.faces.held_out), vectors, 1)[:, 0] == label
  metrics = {}
  for name, group in thirds(images).items():
    least, mean = distances(vectors[group])
    own = np.isin(label, group)
    metrics[name] = {
      'images': (int(images[group].min()), int(images[group].max())) if len(group) else None,
      'top1': float(right[own].mean()) if own.any() else np.nan,
      'min': least,
      'mean': mean,
    }
  return metrics


def _spread(values, factor, digits):
  """Mean and sample standard deviation over seeds, as text."""
  values = factor * np.array(values)
  if np.isnan(values).any():
    return ''
  return f'{values.mean():.{digits}f}' + (f' ± {values.std(ddof=1):.{digits}f}' if len(values) > 1 else '')


def tables_of(rows: dict[str, list[dict]]) -> str:
  """Markdown of row -> metrics, one for each seed: top 1, then distances."""
  images = next(iter(rows.values()))[0]
  names = [
    f'{name} ({low}-{high} images)' if name != 'all' else name
    for name in GROUPS
    for low, high in [images[name]['images'] or (0, 0)]
  ]
  tables = {'Closed set, nearest vector or centre, top 1, %': ('top1', 100, 1)}
  tables |= {'Distance 1 - cosine of the nearest pair of vectors': ('min', 1, 3)}
  tables |= {'Mean distance 1 - cosine of all pairs of vectors': ('mean', 1, 3)}
  text = ''
  for title, (key, factor, digits) in tables.items():
    lines = [f'{title}:', '', '| form | ' + ' | '.join(names) + ' |', '| --- ' * (len(names) + 1) + '|']
    for row, seeds in rows.items():
      cells = [_spread([seed[group][key] for seed in seeds], factor, digits) for group in GROUPS]
      lines.append(f'| {row} | ' + ' | '.join(cells) + ' |')
    text += '\n'.join([*lines, '', ''])
  return text


def plot(rows: dict[str, list[dict]], path: Path) -> None:
  """A panel for each metric, a line for each form over the groups."""
  panels = {'closed set, top 1, %': ('top1', 100), 'nearest pair, 1 - cosine': ('min', 1)}
  panels |= {'mean of all pairs, 1 - cosine': ('mean', 1)}
  figure = new_figure(13, 4)
  for i, (title, (key, factor)) in enumerate(panels.items(), 1):
    axes = figure.add_subplot(1, len(panels), i)
    for row, seeds in rows.items():
      values = factor * np.array([[seed[group][key] for group in GROUPS] for seed in seeds])
      spread = values.std(0, ddof=1) if len(values) > 1 else None
      axes.errorbar(GROUPS, values.mean(0), spread, marker='o', linestyle='none', capsize=3, label=row)
    axes.set(title=title, xlabel='training images of an identity')
    tidy(axes)
  save(figure, path)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('run', nargs='+', metavar='WORKDIR[@CONFIG]')
  parser.add_argument('--cache', type=Path, help='rendered faces of the runs; default: WORKDIR/cache')
  parser.add_argument('--output', type=Path, default=Path('runs/accuracy_tail'))
  options = parser.parse_args()
  quiet_libraries()
  rows = {}
  for argument in options.run:
    try:
      run = open_run(argument, options.cache)
    except (ConfigError, DataError, CheckpointError, ValueError) as error:
      raise SystemExit(f'{argument}: {error}') from error
    rows.setdefault(run.row, []).append(metrics_of(run))
  write_json(options.output.with_suffix('.json'), rows)
  write_text(options.output.with_suffix('.md'), tables_of(rows))
  plot(rows, options.output.with_suffix('.png'))
  print(tables_of(rows))


if __name__ == '__main__':
  main()
