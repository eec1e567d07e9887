"""The plot of the scaling benchmark: time and memory against the number of identities."""

from pathlib import Path

import matplotlib

from benchmarks.scaling.formula import rows_of, seconds_of
from benchmarks.scaling.shown import NAMES, TITLES, shown_number, shown_size, three_digits
from gif_jax.core.storage.files import replacing

matplotlib.use('Agg')
import matplotlib.pyplot as plt

# Okabe and Ito, "Color universal design", 2008; PyTorch has the colour of the same form, dashed.
COLOURS = {'fixed': '#0072b2', 'joint': '#009e73', 'joint_device': '#56b4e9', 'pfc': '#e69f00', 'softmax': '#d55e00'}


def draw(results: dict, path: Path) -> None:
  """Time and memory against m, a row of panels for each scope; crosses: does not fit."""
  scopes = [scope for scope in TITLES if any(row['scope'] == scope for row in results['rows'])]
  figure, panels = plt.subplots(
    len(scopes), 2, figsize=(10, 3.6 * len(scopes)), layout='constrained', squeeze=False, sharex=True
  )
  cpu = results['machine']['platform'] == 'cpu'
  for scope, (time, memory) in zip(scopes, panels, strict=True):
    for form in [form for form in NAMES if rows_of(results, scope, form)]:
      _draw_form(results, scope, form, time, memory)
    limit = results['machine']['limit']
    memory.axhline(limit / 1e9, color='grey', linewidth=0.8, linestyle=':')
    memory.annotate(
      f'{shown_size(limit)} to be had',
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


def _draw_form(results, scope, form, time, memory):
  rows, base = rows_of(results, scope, form), form.removeprefix('torch ')
  label = NAMES[form].format(**results['settings']).replace('`', '')
  style = {'color': COLOURS[base], 'linestyle': '-' if form == base else '--', 'label': label}
  timed = [row for row in rows if row.get('turns')]
  time.plot([row['m'] for row in timed], [1e3 * seconds_of(results, row) for row in timed], marker='.', **style)
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
    times = [seconds_of(results, row) for row in timed]
    time.annotate(
      f'{three_digits(1e3 * times[-1])} ms at m = {shown_number(timed[-1]["m"])}',
      (timed[-1]['m'], 1e3 * times[-1]),
      xytext=(0, 6 if form == 'joint' else -16),
      textcoords='offset points',
      ha='right',
      fontsize=8,
      color=style['color'],
    )
