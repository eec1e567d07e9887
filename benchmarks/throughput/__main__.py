"""Speed of the training step beside PyTorch: the same network, heads, loss and optimiser, on one device.

python -m benchmarks.throughput --torch=PYTHON --quick      # PYTHON: an interpreter with torch; this one if it has it
python -m benchmarks.throughput --torch=PYTHON              # r50 and r100 in bfloat16: minutes on a GPU
python -m benchmarks.throughput --variants base conv-nhwc stem-padded   # flags of XLA, changes of the network, r50
taskset -c 0 python -m benchmarks.throughput --torch=PYTHON --backbones small r18 --batch=8 --dtype=float32 --eager

First the outputs of both networks are compared in float32, with the same weights and images; where they differ nothing
is timed. Then both are timed in turn, round after round. Each is a process of its own and both hold their memory all
the time, so JAX must not take most of the GPU at its start (XLA_PYTHON_CLIENT_PREALLOCATE=false is set here): less than
half of the GPU must do for each. Batches lie on the device; what reads images is measured by benchmarks.input.
On a CPU the ratio is that of CPU time. One core for both makes it fair where others use the machine: threads of OpenMP
that wait for one another burn CPU time, which made PyTorch look several times slower than it is.
Needs no grain, TensorBoard or OpenCV here: jax, flax, optax, orbax-checkpoint, scipy, scikit-learn, matplotlib, tqdm,
absl-py and ml_collections do. Where the last is missing and nothing can be installed, bring its wheel (`pip download
--no-deps ml-collections`) and set PYTHONPATH to that file. PYTHON needs torch and numpy.
"""

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

from benchmarks.asking import Measured
from benchmarks.throughput.report import plot, report
from gif_jax.codes.size import choose_size

AGREE = 1e-3  # largest difference of outputs in float32


def _settings(backbone, batch, options, variant='base'):
  l, v = choose_size(options.identities)
  return {
    'backbone': backbone,
    'batch': batch,
    'size': options.size,
    'dtype': options.dtype,
    'identities': options.identities,
    'l': l,
    'v': v,
    'variant': variant,
    'torch': bool(options.torch),
    'compile': not options.eager,
    'seconds': options.seconds,
    'checked': min(batch, 16),
  }


def _start(module, folder, python, options, flags=''):
  environment = {
    'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',
    'TF_CPP_MIN_LOG_LEVEL': '2',
    'PYTHONPATH': _path(),
    'XLA_FLAGS': f'{os.environ.get("XLA_FLAGS", "")} {flags}'.strip(),
  }
  return Measured([python, '-m', f'benchmarks.throughput.{module}', str(folder)], environment, options.deadline)


def _path():
  return os.pathsep.join(filter(None, [os.getcwd(), os.environ.get('PYTHONPATH', '')]))


def measure(settings: dict, options: argparse.Namespace, flags: str = '') -> dict:
  """{'settings', 'ours': {'start', 'train': rounds, 'forward': rounds, 'trace'}, 'torch': the same but the trace}.

  Raises RuntimeError where outputs differ or a process ended.
  """
  result, running = {'settings': settings, 'ours': {}, 'torch': {}}, {}
  with tempfile.TemporaryDirectory() as folder:
    (Path(folder) / 'settings.json').write_text(json.dumps(settings))
    try:
      running['ours'] = _start('jax_step', folder, sys.executable, options, flags)
      if settings['torch']:
        running['torch'] = _start('torch_step', folder, options.torch, options)
        running['torch'].ask('check')
        result['difference'] = running['ours'].ask('check')
        _agree(result['difference'])
      for name, process in running.items():  # one at a time: compilers time programs, too
        result[name] = {'start': process.ask('start'), 'train': [], 'forward': []}
      for task in ('train', 'forward'):
        for _ in range(options.rounds):
          for name, process in running.items():
            result[name][task].append(process.ask(task))
      result['ours']['trace'] = running['ours'].ask('trace')
    finally:
      for process in running.values():
        process.close()
  return result


def _agree(difference):
  if not max(difference.values()) < AGREE:
    raise RuntimeError(f'the two networks differ: {difference}, allowed is {AGREE}; what they take cannot be compared')


def _all(options):
  """One measurement after the other; what has been measured is written after each."""
  if options.variants:
    from benchmarks.throughput.variants import VARIANTS

    names = options.variants if options.variants != ['all'] else [*VARIANTS, 'base']  # the first again: what drifted
    jobs = [(b, n, name, VARIANTS[name].flags) for b in options.backbones for n in options.batch for name in names]
  else:
    jobs = [(backbone, batch, 'base', '') for backbone in options.backbones for batch in options.batch]
  results = []
  for backbone, batch, variant, flags in tqdm(jobs, unit='program'):
    settings = _settings(backbone, batch, options, variant)
    try:
      results.append(measure(settings, options, flags))
    except RuntimeError as error:
      late = f'not measured, --limit={options.limit:.0f} was reached'
      results.append({'settings': settings, 'error': late if time.monotonic() > options.deadline else str(error)})
    options.output.write_text(json.dumps(results, indent=2))
  return results


def _options():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  own = sys.executable if importlib.util.find_spec('torch') else ''
  parser.add_argument('--torch', default=own, help='interpreter with torch; without, no rows for it')
  parser.add_argument('--backbones', nargs='+', help='r50 r100 if not given; r50 with --quick or --variants')
  parser.add_argument('--batch', type=int, nargs='+', default=[256], help='images a step')
  parser.add_argument('--dtype', default='bfloat16', choices=['bfloat16', 'float32'])
  parser.add_argument('--size', type=int, default=112, help='pixels a side')
  parser.add_argument('--identities', type=int, default=360_000, help='m: chooses how many code heads of which size')
  parser.add_argument('--rounds', type=int, default=0, help='5 if not given; 3 with --quick or --variants')
  parser.add_argument('--seconds', type=float, default=2.0, help='that a round of each takes')
  parser.add_argument('--eager', action='store_true', help='torch.compile is not tried')
  parser.add_argument('--quick', action='store_true', help='one network, few rounds')
  parser.add_argument('--variants', nargs='*', metavar='NAME', help='without PyTorch; all if none is named')
  parser.add_argument('--limit', type=float, default=560, help='seconds after which nothing more is measured')
  parser.add_argument('--output', type=Path, default=Path('runs/throughput.json'), help='a plot lies beside it')
  options = parser.parse_args()
  short = options.quick or options.variants is not None
  options.backbones = options.backbones or (['r50'] if short else ['r50', 'r100'])
  options.rounds = options.rounds or (3 if short else 5)
  if options.variants is not None:
    options.variants, options.torch = options.variants or ['all'], ''
  options.deadline = time.monotonic() + options.limit
  return options


def main() -> None:
  options = _options()
  options.output.parent.mkdir(parents=True, exist_ok=True)
  results = _all(options)
  print(report(results))
  plot(results, options.output.with_suffix('.png'))
  print(f'{options.output}, {options.output.with_suffix(".png")}')


if __name__ == '__main__':
  main()
