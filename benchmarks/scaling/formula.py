"""Rows of the scaling benchmark: which there are, their time, and the formula for the memory of those that do not fit.

Results are {'settings', 'machine', 'rows'}, as in scaling.json.
"""

import numpy as np

from gif_jax.codes.size import choose_size

FORMULA = """Memory by formula, for rows that do not fit: the state of the next smaller row and, for every other person,
4 d + l bytes (`joint` with rows on devices: a vector and a code) or 8 d (a softmax: a centre and its momentum); the
temporaries of the next smaller row, which for a softmax grow in proportion to m as between the two smaller ones."""


def predict(results: dict, scope: str, form: str, m: int) -> dict | None:
  """Bytes of a row by FORMULA, {'state', 'temporaries', 'total', 'source'}; None without smaller rows to go by.

  `fixed` and `joint` keep nothing of anybody on a device, and fit.
  """
  if form in ('fixed', 'joint'):
    return None
  if form.startswith('torch '):
    return torch_bytes(results['settings'], form, m)
  smaller = [row for row in rows_of(results, scope, form) if row['m'] < m and is_compiled(row)]
  if len(smaller) < (2 if form in ('pfc', 'softmax') else 1):
    return None
  last = smaller[-1]['memory']
  state = (
    last['state'] + (_kept(results, form, m) - _kept(results, form, smaller[-1]['m'])) / results['machine']['devices']
  )
  temporaries = last['temporaries']
  if form in ('pfc', 'softmax'):
    (m0, t0), (m1, t1) = ((row['m'], row['memory']['temporaries']) for row in smaller[-2:])
    temporaries += (t1 - t0) / (m1 - m0) * (m - m1)
  rest = last['total'] - last['state'] - last['temporaries']
  return {'state': state, 'temporaries': temporaries, 'total': state + temporaries + rest, 'source': 'formula'}


def torch_bytes(settings: dict, form: str, m: int) -> dict:
  """An estimate of what PyTorch takes: centres and momentum; of the n people compared with four arrays of n rows (unit
  rows, their gradient, the gradient, one on the way) and four of B n values."""
  n = m * (settings['rate'] if form == 'torch pfc' else 1)
  state, temporaries = 8 * settings['d'] * m, n * 16 * (settings['d'] + settings['batch'])
  return {'state': state, 'temporaries': temporaries, 'total': state + temporaries, 'source': 'estimated'}


def _kept(results, form, m):
  """Bytes of the state that are kept of m people."""
  d = results['settings']['d']
  each = {'joint_device': 4 * d + choose_size(m)[0], 'softmax': 8 * d, 'pfc': 8 * d}
  return each[form] * m


def rows_of(results: dict, scope: str, form: str) -> list[dict]:
  """All rows of a form, by m."""
  return [row for row in results['rows'] if (row['scope'], row['form']) == (scope, form)]


def row_of(results: dict, scope: str, form: str, m: int) -> dict:
  """The row, or {}."""
  return next((row for row in rows_of(results, scope, form) if row['m'] == m), {})


def is_compiled(row: dict) -> bool:
  """Whether its memory is what the compiler says."""
  return row.get('memory', {}).get('source') == 'compiled'


def seconds_of(results: dict, row: dict, turns: str = 'turns') -> float | None:
  """The median of CPU-seconds, or of seconds where it is not a CPU that works; None where nothing was timed."""
  column = 0 if results['machine']['platform'] == 'cpu' else 1
  return float(np.median(np.array(row[turns])[:, column])) if row.get(turns) else None


def deviations(results: dict) -> list[tuple[str, str, int, float]]:
  """(scope, form, m, how far the formula is from the compiled program, as a share) of all rows that it can be asked."""
  rows = [row for row in results['rows'] if is_compiled(row)]
  pairs = [(row, predict(results, row['scope'], row['form'], row['m'])) for row in rows]
  return [
    (row['scope'], row['form'], row['m'], asked['total'] / row['memory']['total'] - 1) for row, asked in pairs if asked
  ]
