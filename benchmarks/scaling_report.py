"""The table, the plot, the formula for memory and the aims of benchmarks/scaling.py."""

from pathlib import Path

import matplotlib
import numpy as np

from gif_jax.codes.size import choose_size
from gif_jax.core.storage.files import replacing, write_text

matplotlib.use('Agg')
import matplotlib.pyplot as plt

NAMES = {
  'fixed': '`fixed`',
  'joint': '`joint`',
  'pfc': 'Partial FC {rate}',
  'softmax': 'full softmax',
  'torch pfc': 'PyTorch: Partial FC {rate}',
  'torch softmax': 'PyTorch: full softmax',
}
TITLES = {'classifier': 'Classifier alone', 'whole': 'Whole train step'}
# Okabe and Ito, "Color universal design", 2008; PyTorch has the colour of the same form, dashed.
COLOURS = {'fixed': '#0072b2', 'joint': '#009e73', 'pfc': '#e69f00', 'softmax': '#d55e00'}
# arcface_torch, docs/speed_benchmark.md: samples/s (MB per GPU); ResNet-50, 8 x V100-32GB, fp16, total batch 1024.
PUBLISHED = (
  (125_000, '4681 (7358)', '4824 (5306)', '5004 (4868)'),
  (1_000_000, '2090 (23708)', '3449 (9966)', '4803 (5620)'),
  (2_000_000, 'out of memory', '2593 (13978)', '4626 (6472)'),
  (8_000_000, '-', 'out of memory', '3565 (12310)'),
  (29_000_000, '-', '-', '1855 (32324)'),
)
FORMULA = """Memory by formula, for rows that do not fit: the state of the next smaller row and, for every other person,
4 d + l bytes (`joint`: a vector and a code) or 8 d (a softmax: a centre and its momentum); the temporaries of the next
smaller row, which for a softmax grow in proportion to m as between the two next smaller rows."""


def predict(found, scope, form, m) -> dict | None:
  """Bytes of a row by FORMULA, {'state', 'temporaries', 'total', 'source'}; None without smaller rows to go by.

  `fixed` keeps nothing of anybody, and fits.
  """
  if form == 'fixed':
    return None
  if form.startswith('torch '):
    return torch_bytes(found['settings'], form, m)
  smaller = [row for row in _rows(found, scope, form) if row['m'] < m and _compiled(row)]
  if len(smaller) < (2 if form in ('pfc', 'softmax') else 1):
    return None
  last = smaller[-1]['memory']
  state = last['state'] + (_kept(found, form, m) - _kept(found, form, smaller[-1]['m'])) / found['machine']['devices']
  temporaries = last['temporaries']
  if form in ('pfc', 'softmax'):
    (m0, t0), (m1, t1) = ((row['m'], row['memory']['temporaries']) for row in smaller[-2:])
    temporaries += (t1 - t0) / (m1 - m0) * (m - m1)
  rest = last['total'] - last['state'] - last['temporaries']
  return {'state': state, 'temporaries': temporaries, 'total': state + temporaries + rest, 'source': 'formula'}


def torch_bytes(settings, form, m) -> dict:
  """An estimate of what PyTorch takes: centres and momentum; of the n people compared with four arrays of n rows (unit
  rows, their gradient, the gradient, one on the way) and four of B n values."""
  n = m * (settings['rate'] if form == 'torch pfc' else 1)
  state, temporaries = 8 * settings['d'] * m, n * 16 * (settings['d'] + settings['batch'])
  return {'state': state, 'temporaries': temporaries, 'total': state + temporaries, 'source': 'estimated'}


def _kept(found, form, m):
  """Bytes of the state that are kept of m people."""
  d = found['settings']['d']
  each = {'joint': 4 * d + choose_size(m)[0], 'softmax': 8 * d, 'pfc': 8 * d}
  return each[form] * m


def _rows(found, scope, form):
  return [row for row in found['rows'] if (row['scope'], row['form']) == (scope, form)]


def _row(found, scope, form, m):
  return next((row for row in _rows(found, scope, form) if row['m'] == m), {})


def _compiled(row):
  return row.get('memory', {}).get('source') == 'compiled'


def _seconds(found, row, turns='turns'):
  """The median of CPU-seconds, or of seconds where it is not a CPU that works; None where nothing was timed."""
  column = 0 if found['machine']['platform'] == 'cpu' else 1
  return float(np.median(np.array(row[turns])[:, column])) if row.get(turns) else None


def deviations(found) -> list[tuple[str, str, int, float]]:
  """(scope, form, m, how far the formula is from the compiled program, as a share) of all rows that it can be asked."""
  rows = [row for row in found['rows'] if _compiled(row)]
  pairs = [(row, predict(found, row['scope'], row['form'], row['m'])) for row in rows]
  return [
    (row['scope'], row['form'], row['m'], asked['total'] / row['memory']['total'] - 1) for row, asked in pairs if asked
  ]


def aims(found) -> list[str]:
  """The three aims, each with what was found."""
  few, many = 10_000, 1_000_000
  digits = choose_size(many)[0] / choose_size(few)[0]
  row = _row(found, 'classifier', 'fixed', many)
  here, base = _seconds(found, row), _seconds(found, row, 'reference') if row.get('reference_m') == few else None
  against = [_seconds(found, _row(found, 'classifier', form, many)) for form in ('softmax', 'pfc')]
  faster = [f'{time / here:.0f}' if here and time else 'not measured' for time in against]
  totals = [row['memory']['total'] for row in _rows(found, 'whole', 'fixed') if row['m'] >= 100_000 and _compiled(row)]
  spread = f'{100 * (max(totals) / min(totals) - 1):.2f} %' if len(totals) > 1 else 'not measured'
  grown = f'{here / base:.2f} times' if here and base else 'not measured'
  return [
    f'aim: classifier of `fixed` at 1e6 in at most {1.15 * digits:.2f} times (1.15 x digits) its time at 1e4; '
    f'found: {grown}',
    f'aim: at 1e6 at least 500 times faster than full softmax, 100 than Partial FC; found: {faster[0]}, {faster[1]}',
    f'aim: memory of the whole step of `fixed`, 1e5 to 1e8, equal within 2 %; found: {spread}',
  ]


def _time(found, row):
  if not row.get('turns'):
    return ('failed' if 'failed' in row else 'does not fit') if row else ''
  shown = _three(1e3 * _seconds(found, row))
  wall = 1e3 * float(np.median(np.array(row['turns'])[:, 1]))
  return f'{shown} ({_three(wall)})' if found['machine']['platform'] == 'cpu' else shown


def _memory(row):
  if row.get('form', '').startswith('torch ') and row.get('turns'):
    return f'peak {_size(row["peak"])}'
  if 'memory' not in row:
    return 'failed' if 'failed' in row else ''
  memory = row['memory']
  shown = f'{_size(memory["state"])} + {_size(memory["temporaries"])}'
  return shown if row.get('turns') else f'{shown}, {memory["source"]}'


def _number(m):
  return f'{m:.4g}'.replace('e+0', 'e')


def _three(x):
  """Three digits of it, without an exponent."""
  return f'{x:.3g}' if x < 999.5 else f'{float(f"{x:.3g}"):.0f}'


def _size(n):
  return f'{_three(n / 1e9)} GB' if n >= 1e9 else f'{n / 1e6:.3g} MB'


def _table(found, scope, title, cell):
  forms = [form for form in NAMES if _rows(found, scope, form)]
  numbers = sorted({row['m'] for row in found['rows'] if row['scope'] == scope})
  names = [NAMES[form].format(**found['settings']) for form in forms]
  lines = [f'{title}\n', f'| m | l, v | {" | ".join(names)} | table on the host |', '| --- ' * (len(forms) + 3) + '|']
  for m in numbers:
    (l, v), cells = choose_size(m), [cell(_row(found, scope, form, m)) for form in forms]
    table = f'{_size(m * (l + 2 * found["settings"]["d"]))}{", simulated" if m > 1_000_000 else ""}'
    lines.append(f'| {_number(m)} | {l}, {v} | {" | ".join(cells)} | {table} |')
  return '\n'.join(lines)


def _against_torch(found):
  """CPU-seconds, or seconds, of ours over PyTorch's, by form and m."""
  for form in ('pfc', 'softmax'):
    times = [
      (row['m'], _seconds(found, row), _seconds(found, _row(found, 'classifier', f'torch {form}', row['m'])))
      for row in _rows(found, 'classifier', form)
    ]
    ratios = [f'{ours / theirs:.2f} (m = {_number(m)})' for m, ours, theirs in times if ours and theirs]
    if ratios:
      yield f'time of ours over PyTorch, {NAMES[form].format(**found["settings"])}: {", ".join(ratios)}'


def _against_smallest(found):
  """How `fixed` and `joint` stand to the smallest `fixed`, which was timed again in the same rounds."""
  for scope in TITLES:
    for form in ('fixed', 'joint'):
      rows = [row for row in _rows(found, scope, form) if row.get('reference')]
      pairs = [(row['m'], _seconds(found, row), _seconds(found, row, 'reference')) for row in rows]
      ratios = [f'{here / base:.2f} at {_number(m)}' for m, here, base in pairs]
      if ratios:
        yield f'{scope}, {NAMES[form]} over `fixed` at {_number(rows[0]["reference_m"])}: time {", ".join(ratios)}'


def _peaks(found):
  """What devices that keep count say was in use at most, beside the compiled sum."""
  counted = [row for row in found['rows'] if row.get('turns') and row.get('peak') and _compiled(row)]
  shown = [
    f'{row["scope"]} {row["form"]} {_number(row["m"])}: {_size(row["peak"])} of {_size(row["memory"]["total"])}'
    + (' (while the state was made)' if row['peak'] == row['peak_before'] else '')
    for row in counted
  ]
  return [f'Peak on the device, of the compiled sum: {"; ".join(shown)}'] if shown else []


def text(found) -> str:
  """The report in Markdown."""
  failed = [f'{row["scope"]} {row["form"]} {row["m"]}: {row["failed"]}' for row in found['rows'] if 'failed' in row]
  parts = [_header(found), *_tables(found), *_checks(found), '\n'.join(aims(found)), *failed, _published()]
  return '\n\n'.join(part for part in parts if part) + '\n'


def _header(found):
  machine, settings = found['machine'], found['settings']
  versions = ', '.join(f'{name} {number}' for name, number in machine['versions'].items())
  return (
    f'{machine["date"]}, {machine["devices"]} x {machine["device"]}, {machine["cores"]} CPU cores, Python '
    f'{machine["python"]}, {versions}; B = {settings["batch"]}, d = {settings["d"]}, {settings["backbone"]}, '
    f'{settings["dtype"]}; {_size(machine["limit"])} of memory to be had.\n'
    'Tables of more than a million people are simulated: codes are a bijection of the label, vectors a function of it, '
    'computed for the labels of a batch;\nthe rows of `joint` are then computed on the device. Smaller tables '
    'are real, on disk; the input pipeline maps them, l + 2 d bytes a person.'
  )


def _tables(found):
  kind = 'CPU-milliseconds (milliseconds)' if found['machine']['platform'] == 'cpu' else 'Milliseconds'
  for scope in [scope for scope in TITLES if any(row['scope'] == scope for row in found['rows'])]:
    yield _table(found, scope, f'{TITLES[scope]}: {kind} a step, median', lambda row: _time(found, row))
    yield _table(found, scope, f'{TITLES[scope]}: memory of a device, state + temporaries', _memory)


def _checks(found):
  """What the figures stand on: the same rounds, the formula, PyTorch."""
  yield '\n'.join(_against_smallest(found))
  checks = [f'{scope} {form} {_number(m)}: {100 * share:+.2f} %' for scope, form, m, share in deviations(found)]
  yield '\n'.join([FORMULA, f'Formula against compiled programs: {"; ".join(checks) or "not asked"}', *_peaks(found)])
  if 'check' in found:
    shown = ', '.join(f'{name} {value:.1e}' for name, value in found['check'].items())
    same = f'One step of PyTorch and of ours, same inputs, relative differences: {shown}'
    yield '\n'.join([same, *_against_torch(found)])


def _published():
  lines = [
    'For reference, not measured here: arcface_torch, docs/speed_benchmark.md, ResNet-50 on 8 x V100-32GB, fp16, total '
    'batch 1024; samples/s (MB per GPU)\n',
    '| m | data parallel | model parallel | Partial FC 0.1 |',
    '| --- | --- | --- | --- |',
  ]
  return '\n'.join([*lines, *(f'| {m} | {" | ".join(cells)} |' for m, *cells in PUBLISHED)])


def draw(found, path: Path) -> None:
  """Time and memory against m, a row of panels for each scope; crosses: does not fit."""
  scopes = [scope for scope in TITLES if any(row['scope'] == scope for row in found['rows'])]
  figure, panels = plt.subplots(
    len(scopes), 2, figsize=(10, 3.6 * len(scopes)), layout='constrained', squeeze=False, sharex=True
  )
  cpu = found['machine']['platform'] == 'cpu'
  for scope, (time, memory) in zip(scopes, panels, strict=True):
    for form in [form for form in NAMES if _rows(found, scope, form)]:
      _draw_form(found, scope, form, time, memory)
    limit = found['machine']['limit']
    memory.axhline(limit / 1e9, color='grey', linewidth=0.8, linestyle=':')
    memory.annotate(
      f'{_size(limit)} to be had',
      (1, limit / 1e9),
      xycoords=('axes fraction', 'data'),
      ha='right',
      va='bottom',
      color='grey',
      fontsize=8,
    )
    time.margins(y=0.12)
    time.set(title=TITLES[scope], ylabel=f'{"CPU-" if cpu else ""}milliseconds a step', xscale='log', yscale='log')
    memory.set(title=f'{TITLES[scope]}: device memory', ylabel='GB', xscale='log', yscale='log')
  for axes in panels[-1]:
    axes.set_xlabel('identities m (x: does not fit, memory by formula)')
  panels[0, 0].legend(fontsize=8)
  with replacing(path) as temporary:
    figure.savefig(temporary, dpi=110, format='png')
  plt.close(figure)


def _draw_form(found, scope, form, time, memory):
  rows, base = _rows(found, scope, form), form.removeprefix('torch ')
  label = NAMES[form].format(**found['settings']).replace('`', '')
  style = {'color': COLOURS[base], 'linestyle': '-' if form == base else '--', 'label': label}
  timed = [row for row in rows if row.get('turns')]
  time.plot([row['m'] for row in timed], [1e3 * _seconds(found, row) for row in timed], marker='.', **style)
  if form != base:
    return  # what PyTorch took is known as a peak alone
  known = [row for row in rows if 'memory' in row]
  memory.plot([row['m'] for row in known], [row['memory']['total'] / 1e9 for row in known], **style)
  for fits, marker in ((True, '.'), (False, 'x')):
    some = [row for row in known if bool(row.get('turns')) == fits]
    memory.plot(
      [row['m'] for row in some], [row['memory']['total'] / 1e9 for row in some], marker, color=style['color']
    )
  not_timed = [row['m'] for row in known if not row.get('turns')]
  place = {'pfc': 0.94, 'softmax': 0.98}.get(form, 0.9)
  time.plot(not_timed, [place] * len(not_timed), 'x', color=style['color'], transform=time.get_xaxis_transform())
  if form in ('fixed', 'joint') and timed:
    times = [_seconds(found, row) for row in timed]
    time.annotate(
      f'{_three(1e3 * times[-1])} ms at m = {_number(timed[-1]["m"])}',
      (timed[-1]['m'], 1e3 * times[-1]),
      xytext=(0, 6 if form == 'joint' else -16),
      textcoords='offset points',
      ha='right',
      fontsize=8,
      color=style['color'],
    )


def write(found, folder: Path) -> None:
  """Writes report.md and scaling.png, and prints the report."""
  write_text(folder / 'report.md', text(found))
  draw(found, folder / 'scaling.png')
  print(text(found))
