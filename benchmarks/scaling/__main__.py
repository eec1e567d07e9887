"""Cost of a training step against the number of identities: codes, joint codes, full softmax, Partial FC.

python -m benchmarks.scaling --output=runs/scaling --torch=PYTHON     # PYTHON: an interpreter that has torch and numpy
python -m benchmarks.scaling --output=runs/published --m 125000 1000000 2000000 8000000 29000000

Two scopes: `classifier`, from embeddings to moved heads or centres (the gradient of the embeddings included), and
`whole`, the train step as it is trained with. Every row, (scope, form, m), has a process of its own, so that its memory
goes with it and running out of memory costs one row. The programs of one m are compiled, then timed in turn, round
after round, as many at a time as there is memory for; with `fixed` and `joint` the smallest `fixed` is timed again,
since what is claimed of them is that they cost the same. Rows that do not fit are computed (`formula.FORMULA`).
The same command continues where it stopped: OUTPUT/scaling.json has the rows so far; report.md and scaling.png lie
beside it. Needs Linux.
"""

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.scaling import report
from benchmarks.scaling.run import FORMS, LEAST, SCOPES, TORCH, Row, Run


def check_torch(options: argparse.Namespace, settings: dict, folder: Path) -> dict:
  """Largest difference between PyTorch's step and ours on the same inputs, relative to the largest value."""
  rng, (m, d, b) = np.random.default_rng(0), (1000, 64, 32)
  inputs = {'features': rng.standard_normal((b, d), np.float32), 'centres': rng.standard_normal((m, d), np.float32)}
  np.savez(folder / 'inputs.npz', label=rng.integers(0, m, b).astype(np.int32), **inputs)
  settings = settings | {'d': d, 'batch': b, 'dtype': 'float32', 'inputs': str(folder / 'inputs.npz')}
  for form, python in (('softmax', sys.executable), ('torch softmax', options.torch)):
    row = Row('classifier', form, m, settings | {'answers': str(folder / f'{form}.npz')}, python)
    row.ask('check')
    row.close()
  ours, theirs = (np.load(folder / f'{form}.npz') for form in ('softmax', 'torch softmax'))
  return {name: float(np.abs(ours[name] - theirs[name]).max() / np.abs(ours[name]).max()) for name in ours}


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--output', type=Path, default=Path('runs/scaling'), help='folder for metrics, table and plot')
  parser.add_argument('--m', type=int, nargs='+', default=[10**k for k in range(4, 9)], help='numbers of identities')
  parser.add_argument('--forms', nargs='+', choices=FORMS, default=list(FORMS))
  parser.add_argument('--scopes', nargs='+', choices=SCOPES, default=list(SCOPES))
  parser.add_argument('--batch', type=int, default=256)
  parser.add_argument('--d', type=int, default=512)
  parser.add_argument('--rate', type=float, default=0.3, help='sample rate of Partial FC')
  parser.add_argument('--negatives', type=int, default=0, help='further identities that `joint` compares with')
  parser.add_argument('--backbone', default='', help='of the whole step; r50 at 112 pixels, on a CPU `small` at 56')
  parser.add_argument('--rounds', type=int, default=8)
  parser.add_argument('--turn', type=float, default=0.3, help='seconds of a program in a round, one step at least')
  parser.add_argument('--seconds', type=float, default=30, help=f'a slower row ends after so many and {LEAST} rounds')
  parser.add_argument('--memory_gb', type=float, default=0, help="the device's, or what is free of the machine's")
  own = sys.executable if importlib.util.find_spec('torch') else ''
  parser.add_argument('--torch', default=own, help='interpreter with torch and numpy; without, no rows for it')
  options = parser.parse_args()
  options.m = sorted(set(options.m))
  return options


def main() -> None:
  options = parse()
  options.output.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=options.output) as folder:
    run = Run(options, Path(folder))
    if options.torch and any(run.has_torch(form) for form in TORCH):
      run.results['check'] = check_torch(options, run.settings, Path(folder))
      if max(run.results['check'].values()) > 1e-4:
        sys.exit(f'PyTorch computes something else, differences {run.results["check"]}: nothing to compare')
    for scope in options.scopes:
      for m in options.m:
        run.wave(scope, m)
    run.bar.close()
  report.write(run.results, options.output)


if __name__ == '__main__':
  main()
