"""Whether a form whose step does not grow with m beats ArcFace and Partial FC, and what digits add, seed by seed.

Figures of a run: its summary, the last figures of the validation people, `seed`, and `softmax`: whether its step grows
with m.
"""

from collections.abc import Mapping, Sequence

import numpy as np

PEERS = ('ArcFace', 'Partial FC 0.1')
DIGITS = ('joint', 'joint without digits')
CHOICE = 'validation/tar@far=1e-3'  # which row is best, which trial is kept: never by the figures that are reported
LOG_COST = ('decode', 'rerank', 'fused', 'tree', 'sequence')  # routes to an identity whose cost is O(log m)
ROUTES = (*LOG_COST, 'vector')
_ACCURACY = {'verification': 'verification_accuracy', 'TAR@FAR=1e-3': 'tar@far=1e-3'}

Found = Mapping[str, Sequence[Mapping]]  # row -> figures, one for each seed


def figure(figures: Mapping, key: str) -> float:
  """A figure, NaN where a row has none; the nearest centre of a softmax stands beside the nearest code vector."""
  found = figures.get(key)
  found = figures.get(key.replace('vector', 'centre')) if found is None else found
  return np.nan if found is None else found


def best_row(found: Found) -> str | None:
  """The row, controls included, with the best mean on validation people of those whose step does not grow with m."""
  candidates = {row: np.mean([figure(f, CHOICE) for f in runs]) for row, runs in found.items() if _constant(runs)}
  measured = {row: mean for row, mean in candidates.items() if np.isfinite(mean)}
  return max(measured, key=measured.get) if measured else None


def _constant(runs):
  return not any(figures['softmax'] for figures in runs)


def best_route(runs: Sequence[Mapping], routes: Sequence[str]) -> str | None:
  """Of the routes that all runs have, the one with the best mean top 1."""
  means = {route: np.mean([figure(f, f'{route}_top1') for f in runs]) for route in routes}
  means = {route: mean for route, mean in means.items() if np.isfinite(mean)}
  return max(means, key=means.get) if means else None


def paired(ours: Sequence[Mapping], theirs: Sequence[Mapping], key: str, other_key: str = '') -> np.ndarray:
  """Differences of a figure (other_key: of theirs), ours less theirs, float64, one for each seed that both have."""
  other = {figures['seed']: figure(figures, other_key or key) for figures in theirs}
  found = [figure(f, key) - other[f['seed']] for f in sorted(ours, key=lambda f: f['seed']) if f['seed'] in other]
  return np.array([difference for difference in found if np.isfinite(difference)])


def judged(differences: np.ndarray) -> tuple[str, str]:
  """Mean and sample standard deviation of differences of shares, in points, and what is to be said of them."""
  if not len(differences):
    return '', 'not measured'
  mean, spread = 100 * differences.mean(), 100 * differences.std(ddof=1) if len(differences) > 1 else np.nan
  cell = f'{mean:+.1f}' + (f' ± {spread:.1f}' if len(differences) > 1 else ' (1 seed)')
  if mean < 0:
    return cell, 'missed'
  return cell, 'ahead' if mean > spread else 'not below, ahead not shown'


def verdict(found: Found) -> str:
  """The verdict as Markdown, from the figures alone."""
  best = best_row(found)
  if best is None:
    return 'No row whose step does not grow with m is measured.\n'
  text = f'Best row whose step does not grow with m, by {CHOICE.removeprefix("validation/")} of the validation people: '
  parts = [f'{text}**{best}**. Differences in points, paired by seed, mean and sample standard deviation.']
  parts += [_table(found, best, peer, _compared(found[best], found.get(peer, []))) for peer in PEERS]
  ours, theirs = DIGITS
  if ours in found:
    lines = _ACCURACY | _top1('top 1', found[ours], found.get(theirs, []), ROUTES)
    parts.append('What digits add:\n\n' + _table(found, ours, theirs, lines))
  return '\n\n'.join(parts) + '\n'


def _compared(ours, theirs):
  lines = dict(_ACCURACY)
  lines |= _top1('top 1, best route of log cost', ours, theirs, LOG_COST)
  return lines | _top1('top 1, best route of all', ours, theirs, ROUTES)


def _top1(title, ours, theirs, routes):
  """A line of the table: which route of ours with which of theirs; each has its own best."""
  here, there = best_route(ours, routes), best_route(theirs, ROUTES) if theirs else None
  if not here or not there:
    return {title: ('', '')}
  name = 'centre' if there == 'vector' and _softmax(theirs) else there
  return {f'{title} ({here} against {name})': (f'{here}_top1', f'{there}_top1')}


def _softmax(runs):
  return not _constant(runs)


def _table(found, ours, theirs, lines):
  text = f'| {ours} less {theirs} | {ours} | {theirs} | difference | |\n| --- | --- | --- | --- | --- |\n'
  for title, keys in lines.items():
    key, other = keys if isinstance(keys, tuple) else (keys, keys)
    differences = paired(found[ours], found.get(theirs, []), key, other)
    cells = [_mean(found[ours], key), _mean(found.get(theirs, []), other), *judged(differences)]
    text += f'| {title} | ' + ' | '.join(cells) + ' |\n'
  return text.rstrip()


def _mean(runs, key):
  values = [figure(figures, key) for figures in runs]
  return f'{100 * np.mean(values):.1f}' if values and np.isfinite(values).all() else ''
