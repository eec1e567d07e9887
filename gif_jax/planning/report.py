"""A plan in words."""

from collections.abc import Iterable
from typing import Any

from gif_jax.core.texts import size
from gif_jax.planning.plan import largest

_TOLD = 8  # collectives that are listed, the largest


def text(plan: dict[str, Any]) -> str:
  """What `plan.make_plan` found, as Markdown."""
  step, batch, devices = plan['parts']['train step'], plan['batch'], plan['devices']
  images = batch / devices
  lines = [
    f'# {plan["topology"]}: {devices} devices, {plan["processes"]} process(es)',
    f'A step of {batch} images, {images:g} a device. m = {plan["m"]} people.',
  ]
  if 'memory' in step:
    lines[-1] += f' l = {step["l"]}, v = {step["v"]}.'
    lines += [_memory(step, plan), _work(step, images), *_bounds(plan), _sent(step)]
  else:
    lines.append(f'**Does not fit**: the compiler says {step["lacks"]}\n\n{plan["cure"]}')
  if plan['trials']:
    lines.append(_trials(plan))
  lines.append(_others(plan['parts']))
  return '\n\n'.join(lines)


def _memory(step, plan):
  capacity = plan['capacity']
  parts = {name: count for name, count in step['parts'].items() if count}
  total = step['memory']['total']
  table = _table(('memory of a device', 'bytes'), [*((name, size(count)) for name, count in parts.items())])
  table += f'\n| **total** | **{size(total)}** |'
  if capacity is None:
    return table
  share = f'{100 * total / capacity:.0f} % of {size(capacity)}'
  verdict = f'**Fits**: {share}.' if total <= capacity else f'**Does not fit**: {share}. {plan["cure"]}'
  return f'{table}\n\n{verdict} What convolutions need to work in is chosen on the device and not in it.'


def _work(step, images):
  flops, moved = step['flops'], step['bytes']
  text = f'A device computes {flops / 1e12:.3g} TFLOP in a step, {flops / images / 1e9:.3g} GFLOP an image'
  if not moved:
    return f'{text}.'
  return f'{text}, and moves {size(moved)} to and from its memory: {flops / moved:.0f} FLOP a byte.'


def _bounds(plan):
  if not plan['bounds']:
    return []
  seconds, what = max((seconds, name) for name, seconds in plan['bounds'].items())
  listed = ', '.join(f'{name} {1000 * seconds:.3g} ms' for name, seconds in plan['bounds'].items())
  rate = plan['batch'] / seconds
  return [
    f'**Bound, not a forecast**: no step is faster than {1000 * seconds:.3g} ms ({listed}; by data sheets), so at most '
    f'{rate:.0f} images/s, {rate / plan["devices"]:.0f} a device. What limits is {what}.'
  ]


def _sent(step):
  each = step['collectives']
  if not each:
    return 'Devices send each other nothing.'
  rows = [(c['op'], size(c['size']), c['times'], size(c['size'] * c['times'])) for c in each[:_TOLD]]
  if rest := each[_TOLD:]:
    sizes = sum(c['size'] * c['times'] for c in rest)
    rows.append((f'{len(rest)} smaller kinds', '', sum(c['times'] for c in rest), size(sizes)))
  times = sum(c['times'] for c in each)
  text = f'What devices send each other in a step, {times} times:\n\n' + _table(('', 'bytes', 'times', 'in all'), rows)
  if step['group_devices'] > 1:
    text += (
      f'\n\nBatchNorm is over {step["group"]} images, which lie on {step["group_devices"]} devices, so each sends its '
      'sums; a config.model.batch_norm_group of the images of a device would send nothing, and train otherwise.'
    )
  return text


def _trials(plan):
  rows = [(t['images'], size(t['total']) if t['total'] else 'more than there is') for t in plan['trials']]
  best, known = largest(plan)
  least = '' if known else 'at least '
  batch = f'{least}**{best} images a device**, config.train.batch_size={best * plan["devices"]}'
  table = _table(('images a device', 'bytes'), rows)
  return f'Largest batch: {batch if best else "none tried fits"}. Compiled:\n\n{table}'


def _others(parts):
  told = [
    f'{name} {part["seconds"]:.0f} s' + (f', {size(part["memory"]["total"])}' if 'memory' in part else '')
    for name, part in parts.items()
  ]
  return f'Compiled: {"; ".join(told)}.'


def _table(head: tuple[str, ...], rows: Iterable[tuple]) -> str:
  lines = [head, tuple('---' for _ in head), *rows]
  return '\n'.join('| ' + ' | '.join(str(cell) for cell in line) + ' |' for line in lines)
