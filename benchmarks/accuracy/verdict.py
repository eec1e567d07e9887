"""Whether a form whose step does not grow with m beats ArcFace and Partial FC, and what digits add, seed by seed.

Metrics of a run: its summary, the last metrics of the validation people, `seed`, and `softmax`: whether its step grows
with m.
"""

from collections.abc import Mapping, Sequence

import numpy as np

PEERS = ('ArcFace', 'Partial FC 0.1')
DIGITS = ('joint', 'joint without digits')
CHOICE = 'validation/tar@far=1e-3'  # which row is best, which trial is kept: never by the metrics that are reported
LOG_COST = ('decode', 'rerank', 'fused', 'tree', 'sequence')  # routes to an identity whose cost is O(log m)
ROUTES = (*LOG_COST, 'vector')
_ACCURACY = {'verification': 'verification_accuracy', 'TAR@FAR=1e-3': 'tar@far=1e-3'}

Rows = Mapping[str, Sequence[Mapping]]  # row -> metrics, one mapping for each seed


def metric(metrics: Mapping, key: str) -> float:
  """A metric, NaN where a row has none; the nearest centre of a softmax stands beside the nearest code vector."""
  value = metrics.get(key)
  value = metrics.get(key.replace('vector', 'centre')) if value is None else value
  return np.nan if value is None else value


def best_row(rows: Rows) -> str | None:
  """The row, controls included, with the best mean on validation people of those whose step does not grow with m."""
  candidates = {row: np.mean([metric(m, CHOICE) for m in runs]) for row, runs in rows.items() if _constant(runs)}
  measured = {row: mean for row, mean in candidates.items() if np.isfinite(mean)}
  return max(measured, key=measured.get) if measured else None


def _constant(runs):
  return not any(metrics['softmax'] for metrics in runs)


def best_route(runs: Sequence[Mapping], routes: Sequence[str]) -> str | None:
  """Of the routes that all runs have, the one with the best mean top 1."""
  means = {route: np.mean([metric(m, f'{route}_top1') for m in runs]) for route in routes}
  means = {route: mean for route, mean in means.items() if np.isfinite(mean)}
  return max(means, key=means.get) if means else None


def paired(ours: Sequence[Mapping], theirs: Sequence[Mapping], key: str, other_key: str = '') -> np.ndarray:
  """Differences of a metric (other_key: of theirs), ours less theirs, float64, one for each seed that both have."""
  other = {metrics['seed']: metric(metrics, other_key or key) for metrics in theirs}
  common = [metrics for metrics in sorted(ours, key=lambda metrics: metrics['seed']) if metrics['seed'] in other]
  differences = [metric(metrics, key) - other[metrics['seed']] for metrics in common]
  return np.array([difference for difference in differences if np.isfinite(difference)])


def judged(differences: np.ndarray) -> tuple[str, str]:
  """Mean and sample standard deviation of differences of shares, in points, and what is to be said of them."""
  if not len(differences):
    return '', 'not measured'
  mean, spread = 100 * differences.mean(), 100 * differences.std(ddof=1) if len(differences) > 1 else np.nan
  cell = f'{mean:+.1f}' + (f' ± {spread:.1f}' if len(differences) > 1 else ' (1 seed)')
  if mean < 0:
    return cell, 'missed'
  return cell, 'ahead' if mean > spread else 'not below, ahead not shown'


def verdict(rows: Rows) -> str:
  """The verdict as Markdown, from the metrics alone."""
  best = best_row(rows)
  if best is None:
    return 'No row whose step does not grow with m is measured.\n'
  text = f'Best row whose step does not grow with m, by {CHOICE.removeprefix("validation/")} of the validation people: '
  parts = [f'{text}**{best}**. Differences in points, paired by seed, mean and sample standard deviation.']
  parts += [_table(rows, best, peer, _compared(rows[best], rows.get(peer, []))) for peer in PEERS]
  ours, theirs = DIGITS
  if ours in rows:
    lines = _ACCURACY | _top1('top 1', rows[ours], rows.get(theirs, []), ROUTES)
    parts.append('What digits add:\n\n' + _table(rows, ours, theirs, lines))
  return '\n\n'.join(parts) + '\n'


def _compared(ours, theirs):
  lines = dict(_ACCURACY)
  lines |= _top1('top 1, best route of log cost', ours, theirs, LOG_COST)
  return lines | _top1('top 1, best route of all', ours, theirs, ROUTES)


def _top1(title, ours, theirs, routes):
  """A line of the table: which route of ours with which of theirs; each has its own best."""
  our_route, their_route = best_route(ours, routes), best_route(theirs, ROUTES) if theirs else None
  if not our_route or not their_route:
    return {title: ('', '')}
  name = 'centre' if their_route == 'vector' and _softmax(theirs) else their_route
  return {f'{title} ({our_route} against {name})': (f'{our_route}_top1', f'{their_route}_top1')}


def _softmax(runs):
  return not _constant(runs)


def _table(rows, ours, theirs, lines):
  text = f'| {ours} less {theirs} | {ours} | {theirs} | difference | |\n| --- | --- | --- | --- | --- |\n'
  for title, keys in lines.items():
    key, other = keys if isinstance(keys, tuple) else (keys, keys)
    differences = paired(rows[ours], rows.get(theirs, []), key, other)
    cells = [_mean(rows[ours], key), _mean(rows.get(theirs, []), other), *judged(differences)]
    text += f'| {title} | ' + ' | '.join(cells) + ' |\n'
  return text.rstrip()


def _mean(runs, key):
  values = [metric(metrics, key) for metrics in runs]
  return f'{100 * np.mean(values):.1f}' if values and np.isfinite(values).all() else ''
