"""Tables and verdicts of the accuracy benchmark, from the runs on disk alone."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.accuracy.plots import FARS, plot_against_m, plot_curves, plot_tar
from benchmarks.accuracy.rows import PARTS, ROWS, SEEDS, TRIALS, check_budget, differences, flat, slug, trials_of
from benchmarks.accuracy.verdict import CHOICE, ROUTES, Rows, best_route, metric, verdict
from gif_jax.core.errors import ConfigError
from gif_jax.core.storage.files import read_json, write_json, write_text

_TARS = {f'TAR@FAR={far}': f'tar@far={far}' for far in FARS[1:]}
_ROUTE = {'decode': 'decoded', 'rerank': 'reranked', 'vector': 'nearest vector or centre'}  # others: by their name
COLUMNS = {'verification': 'verification_accuracy', **_TARS} | {
  f'{_ROUTE.get(route, route)} top 1': f'{route}_top1' for route in ROUTES
}
TOP5 = {f'{_ROUTE.get(route, route)} top 5': f'{route}_top5' for route in ROUTES}
TUNING = (
  {'verification': 'validation/verification_accuracy'}
  | {title: f'validation/{key}' for title, key in _TARS.items()}
  | {'nearest vector or centre top 1': 'vector_top1'}
)
# Title -> (key, what it is multiplied with).
COST = {
  'images/s while training': ('images_per_second', 1),
  'CPU-s of a run': ('cpu_seconds', 1),
  'network and optimiser, MB': ('network_bytes', 1e-6),
  'what grows with m, MB': ('identity_bytes', 1e-6),
  'temporaries of a step, MB': ('step_temporaries_bytes', 1e-6),
  'peak resident, MB': ('peak_resident_bytes', 1e-6),
  'peak on the device, MB': ('peak_device_bytes', 1e-6),
}
MEMORY = {key: COST[key] for key in ('images/s while training', 'what grows with m, MB')}


def table_of(rows: Rows, columns: Mapping[str, str | tuple[str, float]]) -> str:
  """A Markdown table, mean and sample standard deviation over seeds; columns that no row has are left out.

  rows: row -> metrics, one mapping for each seed. columns: title -> key of a share, shown in percent, or (key,
  factor). A row with fewer seeds than another says how many it has.
  """
  columns = {title: key if isinstance(key, tuple) else (key, 100) for title, key in columns.items()}
  columns = {title: key for title, key in columns.items() if any(_values(runs, *key) for runs in rows.values())}
  most = max(map(len, rows.values()), default=0)
  lines = ['| form | ' + ' | '.join(columns) + ' |', '| --- ' * (len(columns) + 1) + '|']
  for form, runs in rows.items():
    cells = [_cell(_values(runs, *key), len(runs)) for key in columns.values()]
    lines.append(f'| {form}{"" if len(runs) == most else f" ({_seeds(len(runs))})"} | ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines) + '\n'


def _values(runs, key, factor):
  values = [factor * metric(metrics, key) for metrics in runs]
  return [value for value in values if np.isfinite(value)]


def _cell(values, runs):
  if not values:
    return ''
  text = f'{np.mean(values):.1f}' + (f' ± {np.std(values, ddof=1):.1f}' if len(values) > 1 else '')
  return text if len(values) == runs else f'{text} ({len(values)} of {runs})'


def _seeds(count):
  return f'{count} seed' + ('s' if count != 1 else '')


def write(output: Path, parts: Sequence[str]) -> str:
  """Writes tables, metrics and plots of those parts that have finished runs; returns the tables.

  Raises ConfigError where runs cannot be compared: their settings differ in more than a row may change.
  """
  texts = []
  for part, rows in {part: read(output, part) for part in parts}.items():
    if rows:
      texts.append(_tuning(rows, part) if part in TRIALS else _part(rows, part, output))
      write_text(output / f'{part}.md', texts[-1])
      write_json(output / f'{part}.json', rows)
  against = {part: read(output, part) for part in PARTS if _measures_m(part)}
  if any(against.values()):
    _against_m({part: rows for part, rows in against.items() if rows}, output)
  return '\n'.join(texts) or f'{output} holds no finished run of {", ".join(parts)}.'


def _measures_m(part):
  """Whether nothing but the number of people, and the budget that goes with it, is what a part is about."""
  return set(PARTS[part].changes) <= {'data.identities', 'data.images', 'train.steps', 'eval.every_steps'}


def read(output: Path, part: str) -> dict[str, list[dict]]:
  """The finished runs of a part: row -> metrics of each, by seed; rows in their usual order.

  Metrics: the summary, cost.json, the last of the validation people (`validation/...`), all of these by step (`curve`),
  `seed`, `softmax`, `m`. Raises ConfigError where settings differ that must not.
  """
  usual = [trial for method in TRIALS[part] for trial in trials_of(part, method)] if part in TRIALS else list(ROWS)
  names = {slug(name): name for name in usual}
  rows, settings = {}, {}
  for folder in sorted(path.parent for path in (output / part).glob('*/summary.json')):
    name, seed = folder.name.rpartition('_')[::2]
    recorded = _settings(folder, seed)
    rows.setdefault(names.get(name, name), []).append(_metrics(folder, recorded))
    settings.setdefault(names.get(name, name), {})[folder.name] = recorded
  _check(settings)
  order = sorted(rows, key=lambda row: usual.index(row) if row in usual else len(usual))
  return {row: sorted(rows[row], key=lambda metrics: metrics['seed']) for row in order}


def _settings(folder, seed):
  if not (folder / 'config.json').exists():
    raise ConfigError(f'{folder} holds a run and no config.json that says of what: remove it.')
  recorded = flat(read_json(folder / 'config.json', ConfigError, 'remove that folder'))
  if seed != str(recorded['train.seed']):
    raise ConfigError(f'{folder} is of config.train.seed={recorded["train.seed"]}: let its name end in that seed.')
  return recorded


def _check(settings):
  for runs in settings.values():
    (first, expected), *others = runs.items()
    for folder, recorded in others:
      if bad := [key for key in differences(expected, recorded) if key not in SEEDS]:
        raise ConfigError(
          f'{folder} has config.{bad[0]}={recorded.get(bad[0])!r}, {first} {expected.get(bad[0])!r}: not '
          'two seeds of one row. Remove one of them.'
        )
  if settings:
    check_budget({folder: recorded for runs in settings.values() for folder, recorded in runs.items()})


def _metrics(folder, recorded):
  summary, curve = json.loads((folder / 'summary.json').read_text()), []
  if (folder / 'metrics.jsonl').exists():
    lines = (folder / 'metrics.jsonl').read_text().splitlines()
    curve = [row for row in map(json.loads, lines) if 'validation/verification_accuracy' in row]
    curve = [{key: value for key, value in row.items() if key == 'step' or 'validation/' in key} for row in curve]
  cost = json.loads((folder / 'cost.json').read_text()) if (folder / 'cost.json').exists() else {}
  if summary.get('resumed_from_step'):  # of the last of its processes alone
    cost = {key: value for key, value in cost.items() if key not in ('cpu_seconds', 'wall_seconds')}
  return (
    summary
    | cost
    | (curve[-1] if curve else {})
    | {
      'curve': curve,
      'seed': recorded['train.seed'],
      'softmax': recorded['softmax.enabled'],
      'm': recorded['data.identities'],
      'images_a_step': recorded['train.batch_size'],
    }
  )


def _budget(rows):
  one = next(iter(rows.values()))[0]
  machines = sorted(
    {
      '{device}, {cores} cores a run, jax {jax}, {date}'.format(**metrics['machine'])
      for runs in rows.values()
      for metrics in runs
      if 'machine' in metrics
    }
  )
  return f'm = {one["m"]}, {one["steps"]} steps of {one["images_a_step"]} images. {"; ".join(machines)}.\n\n'


def _tuning(rows, part):
  """All trials, the best of each method by the choice in bold."""
  methods = {method: {row: runs for row, runs in rows.items() if _is_trial(row, method)} for method in TRIALS[part]}
  counts = {method: len(trials) for method, trials in methods.items()}
  text = f'# {part}\n\n{_budget(rows)}Trials on validation people; a choice is made by {CHOICE}.\n\n'
  if len(set(counts.values())) > 1:
    listed = ', '.join(f'{method} {count}' for method, count in counts.items())
    text += f'**Not the same number of trials: {listed}. Nothing may be chosen from these yet.**\n\n'
  for method, trials in methods.items():
    means = {row: np.nan_to_num(np.mean([metric(metrics, CHOICE) for metrics in runs])) for row, runs in trials.items()}
    best = max(means, key=means.get, default=None)
    marked = {f'**{row}** (best)' if row == best else row: runs for row, runs in trials.items()}
    text += f'{method}:\n\n{table_of(marked, TUNING) if marked else "not measured"}\n'
  return text


def _is_trial(row, method):
  return row.startswith((f'{method} ', f'{slug(method)}_'))  # the folder's name, of a trial that is not listed any more


def _part(rows, part, output):
  plot_tar(rows, output / f'{part}_tar.png')
  plot_curves(rows, output / f'{part}_validation.png')
  tuned = ', '.join(f'{method} ({len(trials)} trials)' for method, trials in TRIALS[PARTS[part].tuned].items())
  seeds = _seeds(max(map(len, rows.values())))
  return (
    f'# {part}\n\n{_budget(rows)}Mean ± sample standard deviation over {seeds}, shares in percent. '
    f'Tuned on validation people: {tuned}; other rows have the settings of the form or baseline that they vary.\n\n'
    f'{table_of(rows, COLUMNS | MEMORY)}\n## Closed set, top 5\n\n{table_of(rows, TOP5)}\n'
    f'## Cost\n\n{table_of(rows, COST)}\n## Verdict, m = {next(iter(rows.values()))[0]["m"]}\n\n{verdict(rows)}'
  )


def _against_m(parts, output):
  """Metrics against the number of people, and the verdicts at each."""
  keys = {'verification': 'verification_accuracy', 'TAR@FAR=1e-3': 'tar@far=1e-3', 'top 1, best route': 'best_top1'}
  by_row = {}
  for rows in parts.values():
    for row, runs in rows.items():
      route = best_route(runs, ROUTES)
      runs = [metrics | {'best_top1': metric(metrics, f'{route}_top1')} for metrics in runs]
      by_row.setdefault(row, {})[runs[0]['m']] = runs
  plot_against_m(by_row, keys, output / 'against_m.png')
  tables = [
    f'## m = {m}\n\n' + table_of({row: by_m[m] for row, by_m in by_row.items() if m in by_m}, keys)
    for m in sorted({m for by_m in by_row.values() for m in by_m})
  ]
  verdicts = [f'## Verdict, m = {next(iter(rows.values()))[0]["m"]}\n\n{verdict(rows)}' for rows in parts.values()]
  write_text(output / 'against_m.md', '\n'.join(['# Against the number of people\n', *tables, *verdicts]))
