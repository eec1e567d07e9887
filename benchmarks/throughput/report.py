"""The results of the throughput benchmark, as tables and as a plot."""

from pathlib import Path

import numpy as np

from benchmarks.throughput.device_time import CATEGORIES

WHO = {'ours': 'gif_jax', 'torch': 'PyTorch'}


def report(results: list[dict]) -> str:
  """Tables of speed, of what was compared and of where the time goes, in Markdown, of what `measure` gives."""
  measured = [one for one in results if 'error' not in one]
  lines = [f'{_label(one)}: {one["error"]}' for one in results if 'error' in one]
  if not measured:
    return '\n'.join(lines)
  first = measured[0]['ours']['start']
  lines += [
    f'{first["device"]}, jax {first["version"]}, {measured[0]["settings"]["dtype"]}; '
    f'matrix products reach {peak(measured) / 1e12:.3g} TFLOP/s',
    '',
    '| network | | training images/s | against PyTorch | utilisation | per CPU-second | forward images/s | '
    'against PyTorch | memory, GB | compiling, s |',
    '| --- ' * 10 + '|',
  ]
  for one in measured:
    lines += [_row(one, who, peak(measured)) for who in WHO if one[who]]
  lines += ['', *[_agreement(one) for one in measured if one['torch']], '', *_where(measured)]
  return '\n'.join(lines)


def _label(one):
  s = one['settings']
  variant = '' if s['variant'] == 'base' else f', {s["variant"]}'
  return f'{s["backbone"]}, batch {s["batch"]}{variant}'


def peak(measured: list[dict]) -> float:
  """FLOP/s of large matrix products: the most that any process of either framework reached."""
  return max(one[who]['start']['peak_flops'] for one in measured for who in WHO if one[who])


def _rates(one, who, task, clock='seconds'):
  """Images per second of each round."""
  return np.array([one['settings']['batch'] / times[clock] for times in one[who][task]])


def _against(one, who, task):
  """Median over the rounds of ours over PyTorch's; by CPU time on a CPU, which others may use too."""
  if who != 'ours' or not one['torch']:
    return ''
  clock = 'cpu' if one['torch']['start']['device'] == 'CPU' else 'seconds'
  return f'{np.median(_rates(one, "ours", task, clock) / _rates(one, "torch", task, clock)):.2f}'


def _row(one, who, most):
  start, flops = one[who]['start'], one['ours']['start']['flops']
  train, forward = (np.median(_rates(one, who, task)) for task in ('train', 'forward'))
  name = WHO[who] if who == 'ours' else f'{WHO[who]} {start["version"]}, {_how(start)}'
  cells = [
    _label(one),
    name,
    f'{train:.1f}',
    _against(one, who, 'train'),
    f'{train * flops / most:.1%}',
    f'{np.median(_rates(one, who, "train", "cpu")):.1f}',
    f'{forward:.1f}',
    _against(one, who, 'forward'),
    _memory(one[who]),
    f'{start["compile_seconds"]:.0f}',
  ]
  return f'| {" | ".join(cells)} |'


def _how(start):
  return 'compiled' if start['compiled'] else 'eager'


def _memory(one):
  """The highest that the device saw, or what the compiled step says it needs."""
  seen, needed = one['train'][-1]['peak_bytes'], one['start'].get('step_bytes')
  if seen:
    return f'{seen / 1e9:.1f}'
  return f'{needed / 1e9:.2f} (compiler)' if needed else 'not measured'


def _agreement(one):
  ours, torch = one['ours']['start'], one['torch']['start']
  steps = ', '.join(f'{a[0]:.4f} {b[0]:.4f}' for a, b in zip(ours['steps'], torch['steps']))
  norms = ', '.join(f'{a[1]:.4g} {b[1]:.4g}' for a, b in zip(ours['steps'], torch['steps']))
  why = f'; not compiled: {torch["not_compiled"]}' if torch['not_compiled'] else ''
  return (
    f'{_label(one)}: parameters {ours["parameters"]} and {torch["parameters"]}; largest differences in float32: '
    f'z {one["difference"]["z"]:.1e}, cosines {one["difference"]["cosines"]:.1e}; '
    f'losses of two steps, gif_jax and PyTorch: {steps}; gradient norms: {norms}{why}'
  )


def _where(measured):
  lines = ['| where the time goes, ms a step | ' + ' | '.join(map(_label, measured)) + ' |']
  lines.append('| --- ' * (1 + len(measured)) + '|')
  for name in CATEGORIES:
    cells = [f'{t["categories"][name]:.2f} ({_share(t, name):.0%})' for t in _traces(measured)]
    lines.append(f'| {name} | {" | ".join(cells)} |')
  lines.append('| all | ' + ' | '.join(f'{t["span"]:.2f}' for t in _traces(measured)) + ' |')
  for one, trace in zip(measured, _traces(measured)):
    lines += ['', f'{_label(one)}, what takes longest, ms a step:']
    lines += [f'  {ms:8.3f}  {category:24} {name}' for name, category, ms in trace['top'][:8]]
  return lines


def _traces(measured):
  return [one['ours']['trace'] for one in measured]


def _share(trace, name):
  return trace['categories'][name] / trace['span'] if trace['span'] else 0.0


def plot(results: list[dict], file: Path) -> None:
  """Training images/s of both, and where our step's time goes, as a PNG."""
  import matplotlib

  matplotlib.use('Agg')
  import matplotlib.pyplot as plt

  measured = [one for one in results if 'error' not in one]
  if not measured:
    return
  figure, (speed, where) = plt.subplots(1, 2, figsize=(12, 2 + 0.6 * len(measured)), layout='constrained')
  _plot_speed(speed, measured)
  _plot_where(where, measured)
  figure.legend(*where.get_legend_handles_labels(), loc='outside lower right', ncols=4, fontsize='small')
  partial = file.with_suffix('.partial.png')
  figure.savefig(partial, dpi=120)
  plt.close(figure)
  partial.replace(file)


def _plot_speed(axes, measured):
  compared = [who for who in WHO if any(one[who] for one in measured)]
  height = 0.8 / len(compared)
  for i, who in enumerate(compared):
    shown = [(y, one) for y, one in enumerate(measured) if one[who]]
    rates = [np.median(_rates(one, who, 'train')) for _, one in shown]
    bars = axes.barh([y + i * height for y, _ in shown], rates, height, label=WHO[who])
    used = [f'{r * one["ours"]["start"]["flops"] / peak(measured):.0%}' for r, (_, one) in zip(rates, shown)]
    axes.bar_label(bars, [f' {r:.4g} ({u})' for r, u in zip(rates, used)])
  axes.set_yticks([y + 0.4 - height / 2 for y in range(len(measured))], map(_label, measured))
  axes.invert_yaxis()
  axes.set_xlim(0, 1.4 * axes.get_xlim()[1])  # room for the labels
  axes.set_xlabel('training images/s (share of the matrix peak)')
  axes.legend(loc='lower right')


def _plot_where(axes, measured):
  left = np.zeros(len(measured))
  for name in CATEGORIES:
    widths = np.array([_share(trace, name) for trace in _traces(measured)])
    axes.barh(range(len(measured)), widths, left=left, label=name)
    left += widths
  labels = [f'{_label(one)}: {trace["span"]:.3g} ms' for one, trace in zip(measured, _traces(measured))]
  axes.set_yticks(range(len(measured)), labels)
  axes.invert_yaxis()
  axes.set_xlabel('share of a step of gif_jax')
