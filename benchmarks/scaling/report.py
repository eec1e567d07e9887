"""The tables and the aims of the scaling benchmark."""

from pathlib import Path

import numpy as np

from benchmarks.scaling.formula import FORMULA, deviations, is_compiled, row_of, rows_of, seconds_of
from benchmarks.scaling.plot import draw
from benchmarks.scaling.shown import NAMES, TITLES, shown_number, shown_size, three_digits
from gif_jax.codes.size import choose_size
from gif_jax.core.storage.files import write_text

# arcface_torch, docs/speed_benchmark.md: samples/s (MB per GPU); ResNet-50, 8 x V100-32GB, fp16, total batch 1024.
PUBLISHED = (
  (125_000, '4681 (7358)', '4824 (5306)', '5004 (4868)'),
  (1_000_000, '2090 (23708)', '3449 (9966)', '4803 (5620)'),
  (2_000_000, 'out of memory', '2593 (13978)', '4626 (6472)'),
  (8_000_000, '-', 'out of memory', '3565 (12310)'),
  (29_000_000, '-', '-', '1855 (32324)'),
)


def aims(results: dict) -> list[str]:
  """The three aims, each with what was measured."""
  few, many = 10_000, 1_000_000
  digits = choose_size(many)[0] / choose_size(few)[0]
  row = row_of(results, 'classifier', 'fixed', many)
  here, base = (
    seconds_of(results, row),
    seconds_of(results, row, 'reference') if row.get('reference_m') == few else None,
  )
  against = [seconds_of(results, row_of(results, 'classifier', form, many)) for form in ('softmax', 'pfc')]
  faster = [f'{time / here:.0f}' if here and time else 'not measured' for time in against]
  totals = [
    row['memory']['total'] for row in rows_of(results, 'whole', 'fixed') if row['m'] >= 100_000 and is_compiled(row)
  ]
  spread = f'{100 * (max(totals) / min(totals) - 1):.2f} %' if len(totals) > 1 else 'not measured'
  grown = f'{here / base:.2f} times' if here and base else 'not measured'
  return [
    f'aim: classifier of `fixed` at 1e6 in at most {1.15 * digits:.2f} times (1.15 x digits) its time at 1e4; '
    f'found: {grown}',
    f'aim: at 1e6 at least 500 times faster than full softmax, 100 than Partial FC; found: {faster[0]}, {faster[1]}',
    f'aim: memory of the whole step of `fixed`, 1e5 to 1e8, equal within 2 %; found: {spread}',
  ]


def _time(results, row):
  if not row.get('turns'):
    return ('failed' if 'failed' in row else 'does not fit') if row else ''
  shown = three_digits(1e3 * seconds_of(results, row))
  wall = 1e3 * float(np.median(np.array(row['turns'])[:, 1]))
  return f'{shown} ({three_digits(wall)})' if results['machine']['platform'] == 'cpu' else shown


def _memory(row):
  if row.get('form', '').startswith('torch ') and row.get('turns'):
    return f'peak {shown_size(row["peak"])}'
  if 'memory' not in row:
    return 'failed' if 'failed' in row else ''
  memory = row['memory']
  shown = f'{shown_size(memory["state"])} + {shown_size(memory["temporaries"])}'
  return shown if row.get('turns') else f'{shown}, {memory["source"]}'


def _table(results, scope, title, cell):
  forms = [form for form in NAMES if rows_of(results, scope, form)]
  numbers = sorted({row['m'] for row in results['rows'] if row['scope'] == scope})
  names = [NAMES[form].format(**results['settings']) for form in forms]
  lines = [f'{title}\n', f'| m | l, v | {" | ".join(names)} | table on the host |', '| --- ' * (len(forms) + 3) + '|']
  for m in numbers:
    (l, v), cells = choose_size(m), [cell(row_of(results, scope, form, m)) for form in forms]
    table = f'{shown_size(m * (l + 2 * results["settings"]["d"]))}{", simulated" if m > 1_000_000 else ""}'
    lines.append(f'| {shown_number(m)} | {l}, {v} | {" | ".join(cells)} | {table} |')
  return '\n'.join(lines)


def _against_torch(results):
  """CPU-seconds, or seconds, of ours over PyTorch's, by form and m."""
  for form in ('pfc', 'softmax'):
    times = [
      (
        row['m'],
        seconds_of(results, row),
        seconds_of(results, row_of(results, 'classifier', f'torch {form}', row['m'])),
      )
      for row in rows_of(results, 'classifier', form)
    ]
    ratios = [f'{ours / theirs:.2f} (m = {shown_number(m)})' for m, ours, theirs in times if ours and theirs]
    if ratios:
      yield f'time of ours over PyTorch, {NAMES[form].format(**results["settings"])}: {", ".join(ratios)}'


def _against_smallest(results):
  """How `fixed` and `joint` stand to the smallest `fixed`, which was timed again in the same rounds."""
  for scope in TITLES:
    for form in ('fixed', 'joint'):
      rows = [row for row in rows_of(results, scope, form) if row.get('reference')]
      pairs = [(row['m'], seconds_of(results, row), seconds_of(results, row, 'reference')) for row in rows]
      ratios = [f'{here / base:.2f} at {shown_number(m)}' for m, here, base in pairs]
      if ratios:
        yield f'{scope}, {NAMES[form]} over `fixed` at {shown_number(rows[0]["reference_m"])}: time {", ".join(ratios)}'


def _peaks(results):
  """What devices that keep count say was in use at most, beside the compiled sum."""
  counted = [row for row in results['rows'] if row.get('turns') and row.get('peak') and is_compiled(row)]
  shown = [
    f'{row["scope"]} {row["form"]} {shown_number(row["m"])}: {shown_size(row["peak"])} of '
    + shown_size(row['memory']['total'])
    + (' (while the state was made)' if row['peak'] == row['peak_before'] else '')
    for row in counted
  ]
  return [f'Peak on the device, of the compiled sum: {"; ".join(shown)}'] if shown else []


def text(results: dict) -> str:
  """The report in Markdown."""
  failed = [f'{row["scope"]} {row["form"]} {row["m"]}: {row["failed"]}' for row in results['rows'] if 'failed' in row]
  parts = [_header(results), *_tables(results), *_checks(results), '\n'.join(aims(results)), *failed, _published()]
  return '\n\n'.join(part for part in parts if part) + '\n'


def _header(results):
  machine, settings = results['machine'], results['settings']
  versions = ', '.join(f'{name} {number}' for name, number in machine['versions'].items())
  return (
    f'{machine["date"]}, {machine["devices"]} x {machine["device"]}, {machine["cores"]} CPU cores, Python '
    f'{machine["python"]}, {versions}; B = {settings["batch"]}, d = {settings["d"]}, {settings["backbone"]}, '
    f'{settings["dtype"]}; {shown_size(machine["limit"])} of memory to be had.\n'
    'Tables of more than a million people are simulated: codes are a bijection of the label, vectors a function of it, '
    'computed for the labels of a batch;\nrows on devices are then computed there. Smaller tables '
    'are real, on disk; the input pipeline maps them, l + 2 d bytes a person.\nThe rows of `joint` lie in files of '
    '4 d + l bytes a person. Every step reads those of other people and writes them back; its time includes that.'
  )


def _tables(results):
  kind = 'CPU-milliseconds (milliseconds)' if results['machine']['platform'] == 'cpu' else 'Milliseconds'
  for scope in [scope for scope in TITLES if any(row['scope'] == scope for row in results['rows'])]:
    yield _table(results, scope, f'{TITLES[scope]}: {kind} a step, median', lambda row: _time(results, row))
    yield _table(results, scope, f'{TITLES[scope]}: memory of a device, state + temporaries', _memory)


def _checks(results):
  """What the numbers stand on: the same rounds, the formula, PyTorch."""
  yield '\n'.join(_against_smallest(results))
  checks = [f'{scope} {form} {shown_number(m)}: {100 * share:+.2f} %' for scope, form, m, share in deviations(results)]
  yield '\n'.join([FORMULA, f'Formula against compiled programs: {"; ".join(checks) or "not asked"}', *_peaks(results)])
  if 'check' in results:
    shown = ', '.join(f'{name} {value:.1e}' for name, value in results['check'].items())
    same = f'One step of PyTorch and of ours, same inputs, relative differences: {shown}'
    yield '\n'.join([same, *_against_torch(results)])


def _published():
  lines = [
    'For reference, not measured here: arcface_torch, docs/speed_benchmark.md, ResNet-50 on 8 x V100-32GB, fp16, total '
    'batch 1024; samples/s (MB per GPU)\n',
    '| m | data parallel | model parallel | Partial FC 0.1 |',
    '| --- | --- | --- | --- |',
  ]
  return '\n'.join([*lines, *(f'| {m} | {" | ".join(cells)} |' for m, *cells in PUBLISHED)])


def write(results: dict, folder: Path) -> None:
  """Writes report.md and scaling.png, and prints the report."""
  write_text(folder / 'report.md', text(results))
  draw(results, folder / 'scaling.png')
  print(text(results))
