"""Cost of a training step against the number of identities: codes, joint codes, full softmax, Partial FC.

python -m benchmarks.scaling --output=runs/scaling --torch=PYTHON     # PYTHON: an interpreter that has torch and numpy
python -m benchmarks.scaling --output=runs/published --m 125000 1000000 2000000 8000000 29000000

Two scopes: `classifier`, from embeddings to moved heads or centres (the gradient of the embeddings included), and
`whole`, the train step as it is trained with. Every row, (scope, form, m), has a process of its own, so that its memory
goes with it and running out of memory costs one row. The programs of one m are compiled, then timed in turn, round
after round, as many at a time as there is memory for; with `fixed` and `joint` the smallest `fixed` is timed again,
since what is claimed of them is that they cost the same. Rows that do not fit are computed (`scaling_report.FORMULA`).
The same command continues where it stopped: OUTPUT/scaling.json has the rows so far; report.md and scaling.png lie
beside it. Needs Linux.
"""

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from tqdm import tqdm

from benchmarks import scaling_report
from benchmarks.asking import Measured
from gif_jax.core.storage.files import write_json

FORMS = ('fixed', 'joint', 'pfc', 'softmax')
TORCH = ('torch pfc', 'torch softmax')
SCOPES = ('classifier', 'whole')
LEAST = 3  # rounds of a row, however slow it is
CONTEXT = 0.5e9  # bytes of a GPU's memory that a process has beside its arrays
REAL = 1_000_000  # tables up to this size are written to disk


class Row:
  """One row's process, and what it has answered."""

  def __init__(self, scope, form, m, settings, python=sys.executable, recorded=True):
    self.scope, self.form, self.m, self.recorded = scope, form, m, recorded
    self.alive, self.found, self.turns, self.spent = True, {}, [], 0.0
    row = settings | {'scope': scope, 'form': form.removeprefix('torch '), 'm': m}
    module = 'benchmarks.scaling_torch' if form in TORCH else 'benchmarks.scaling_row'
    self.process = Measured([python, '-m', module, json.dumps(row)], _environment(row))

  def hear(self, question) -> dict:
    """The answer to a question. Raises RuntimeError with the last words of a process that ended."""
    return self.process.ask(question)

  def close(self):
    self.alive = False
    self.process.close()


def _environment(row):
  environment = {
    'PYTHONPATH': os.getcwd(),
    'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',
    'XLA_PYTHON_CLIENT_MEM_FRACTION': '.95',
  }
  if row['compiler']:  # the compiler of GPUs tries which kernels are fastest: once, and the same for all rows
    flags = f'--xla_gpu_per_fusion_autotune_cache_dir={row["compiler"]}'
    environment['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {flags}'.strip()
  return environment | ({'JAX_DEFAULT_MATMUL_PRECISION': 'highest'} if 'inputs' in row else {})


def prepare(options, folder) -> dict:
  """What the rows run on; writes the tables that are real."""
  real = [m for m in options.m if m <= REAL] if {'fixed', 'joint'} & set(options.forms) else []
  row = Row('', '', real, {'tables': str(folder), 'd': options.d, 'compiler': ''})
  found = row.hear('prepare')
  row.close()
  return found


def check_torch(options, settings, folder) -> dict:
  """Largest difference between PyTorch's step and ours on the same inputs, relative to the largest value."""
  rng, (m, d, b) = np.random.default_rng(0), (1000, 64, 32)
  inputs = {'features': rng.standard_normal((b, d), np.float32), 'centres': rng.standard_normal((m, d), np.float32)}
  np.savez(folder / 'inputs.npz', label=rng.integers(0, m, b).astype(np.int32), **inputs)
  settings = settings | {'d': d, 'batch': b, 'dtype': 'float32', 'inputs': str(folder / 'inputs.npz')}
  for form, python in (('softmax', sys.executable), ('torch softmax', options.torch)):
    row = Row('classifier', form, m, settings | {'answers': str(folder / f'{form}.npz')}, python)
    row.hear('check')
    row.close()
  ours, theirs = (np.load(folder / f'{form}.npz') for form in ('softmax', 'torch softmax'))
  return {name: float(np.abs(ours[name] - theirs[name]).max() / np.abs(ours[name]).max()) for name in ours}


class Run:
  """All rows, those that are done and those to do."""

  def __init__(self, options, folder):
    self.options, self.file = options, options.output / 'scaling.json'
    machine = prepare(options, folder)
    gpu = machine['platform'] != 'cpu'
    (folder / 'compiler').mkdir()
    backbone = options.backbone or ('r50' if gpu else 'small')
    settings = {
      'batch': options.batch,
      'd': options.d,
      'rate': options.rate,
      'backbone': backbone,
      'dtype': 'bfloat16' if gpu else 'float32',
    }
    self.limit = options.memory_gb * 1e9 or machine['memory'] or 0.9 * _available()
    machine |= {'limit': self.limit, 'date': time.strftime('%Y-%m-%d')}
    self.found = {'settings': settings, 'machine': machine, 'rows': []}
    if self.file.exists():
      earlier = json.loads(self.file.read_text())
      if earlier['settings'] != settings or earlier['machine']['device'] != machine['device']:
        sys.exit(f'{self.file} is of other settings or another machine: choose another --output')
      # Rows that did not fit, or failed, may do now.
      self.found['rows'] = [row for row in earlier['rows'] if 'turns' in row]
    self.settings = settings | {
      'tables': str(folder),
      'turn': options.turn,
      'recipe': machine['recipe'],
      'compiler': str(folder / 'compiler') if gpu else '',
    }
    wanted = {(scope, form, m) for scope in options.scopes for form in self._forms(scope) for m in options.m}
    done = wanted & {(row['scope'], row['form'], row['m']) for row in self.found['rows']}
    self.bar = tqdm(total=len(wanted), initial=len(done), unit='row')

  def _forms(self, scope):
    return [*self.options.forms, *(form for form in TORCH if scope == 'classifier' and self._has_torch(form))]

  def _has_torch(self, form):
    return self.options.torch and form.removeprefix('torch ') in self.options.forms

  def record(self, row, **found):
    """Ends a row, adds what was found of it and writes all; nothing of a row that was done before."""
    if isinstance(row, Row):
      row.close()
    if not row.recorded:
      return
    common = {'scope': row.scope, 'form': row.form, 'm': row.m, 'simulated': row.m > REAL}
    self.found['rows'].append(common | row.found | found)
    self.found['rows'].sort(key=lambda r: (r['scope'], r['m'], [*FORMS, *TORCH].index(r['form'])))
    write_json(self.file, self.found)
    self.bar.update()

  def wave(self, scope, m):
    """All rows of a scope and m that are not done."""
    known = {row['form']: row for row in self.found['rows'] if (row['scope'], row['m']) == (scope, m)}
    rows = []
    for form in [form for form in self._forms(scope) if form not in known]:
      asked = scaling_report.predict(self.found, scope, form, m)
      if asked and asked['total'] > self.limit:
        self.record(SimpleNamespace(scope=scope, form=form, m=m, found={'memory': asked}, recorded=True))
      else:
        rows.append(self._start(scope, form, m))
        if len(rows) == 1 and not any(row['scope'] == scope for row in self.found['rows']):
          self._heard(rows[0], 'memory')  # alone: what the compiler finds out by trial is there for all
    if m > self.options.m[0] and any(row.form in ('fixed', 'joint') for row in rows):
      rows.append(self._start(scope, 'fixed', self.options.m[0], recorded=False))
    for row in [row for row in rows if row.alive and not row.found]:
      self._heard(row, 'memory')
    for group in self._groups([row for row in rows if row.alive]):
      self._time(group)

  def _start(self, scope, form, m, recorded=True):
    python = self.options.torch if form in TORCH else sys.executable
    return Row(scope, form, m, self.settings, python, recorded)

  def _heard(self, row, question):
    """Asks a row and puts the answer to what was found of it; a row that crashes is recorded, and no longer alive."""
    self.bar.set_postfix_str(f'{row.scope} {row.form} {row.m:.0e}: {question}')
    started = time.perf_counter()
    try:
      answer = row.hear(question)
    except RuntimeError as crash:
      self.record(row, failed=str(crash))
      return
    if question == 'turn':
      row.turns.append([answer['cpu'], answer['wall']])
      row.spent += time.perf_counter() - started
      return
    if 'torch' in answer:
      self.found['machine']['versions'] |= {'torch': answer['torch']}
      answer = {'memory': scaling_report.predict(self.found, row.scope, row.form, row.m)}
    elif question == 'memory':
      answer = {'memory': answer | {'source': 'compiled'}}
    row.found |= answer

  def _groups(self, rows):
    """Rows in groups that fit into memory together, the smallest first; those that do not fit are recorded."""
    group, taken, beside = [], 0.0, 0.0 if self.found['machine']['platform'] == 'cpu' else CONTEXT
    for row in sorted(rows, key=lambda row: row.found['memory']['total']):
      needed = row.found['memory']['total'] + beside
      if needed - beside > self.limit:
        self.record(row)
        continue
      if group and taken + needed > self.limit:
        yield group
        group, taken = [], 0.0
      group.append(row)
      taken += needed
    if group:
      yield group

  def _time(self, group):
    """Rounds of a group, one row after the other."""
    for row in group:
      self._wait_for(row.found['memory']['total'])
      self._heard(row, 'begin')
    for number in range(self.options.rounds):
      for row in group:
        if row.alive and (number < LEAST or row.spent < self.options.seconds):
          self._heard(row, 'turn')
    again = next((row.turns for row in group if not row.recorded), [])
    for row in [row for row in group if row.alive]:
      self._heard(row, 'end')
      if row.alive:
        compared = {'reference': again[: len(row.turns)], 'reference_m': self.options.m[0]}
        self.record(row, turns=row.turns, **(compared if again and row.form in ('fixed', 'joint') else {}))

  def _wait_for(self, needed):
    """On a CPU others may have the memory for a while: waits, since to swap would time the disk."""
    while self.found['machine']['platform'] == 'cpu' and _available() < min(needed, self.limit):
      self.bar.set_postfix_str(f'waiting for {needed / 1e9:.1f} GB of memory')
      time.sleep(5)


def _available():
  """Bytes of memory that a process can have without swapping (Linux)."""
  with open('/proc/meminfo') as file:
    return next(int(line.split()[1]) * 1024 for line in file if line.startswith('MemAvailable'))


def parse():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--output', type=Path, default=Path('runs/scaling'), help='folder for figures, table and plot')
  parser.add_argument('--m', type=int, nargs='+', default=[10**k for k in range(4, 9)], help='numbers of identities')
  parser.add_argument('--forms', nargs='+', choices=FORMS, default=list(FORMS))
  parser.add_argument('--scopes', nargs='+', choices=SCOPES, default=list(SCOPES))
  parser.add_argument('--batch', type=int, default=256)
  parser.add_argument('--d', type=int, default=512)
  parser.add_argument('--rate', type=float, default=0.3, help='sample rate of Partial FC')
  parser.add_argument('--backbone', default='', help='of the whole step; r50 at 112 pixels, on a CPU `small` at 56')
  parser.add_argument('--rounds', type=int, default=8)
  parser.add_argument('--turn', type=float, default=0.3, help='seconds of a program in a round, one step at least')
  parser.add_argument('--seconds', type=float, default=30, help=f'a slower row ends after so many and {LEAST} rounds')
  parser.add_argument('--memory_gb', type=float, default=0, help="the device's, or what is free of the machine's")
  here = sys.executable if importlib.util.find_spec('torch') else ''
  parser.add_argument('--torch', default=here, help='interpreter with torch and numpy; without, no rows for it')
  options = parser.parse_args()
  options.m = sorted(set(options.m))
  return options


def main():
  options = parse()
  options.output.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=options.output) as folder:
    run = Run(options, Path(folder))
    if options.torch and any(run._has_torch(form) for form in TORCH):
      run.found['check'] = check_torch(options, run.settings, Path(folder))
      if max(run.found['check'].values()) > 1e-4:
        sys.exit(f'PyTorch computes something else, differences {run.found["check"]}: nothing to compare')
    for scope in options.scopes:
      for m in options.m:
        run.wave(scope, m)
    run.bar.close()
  scaling_report.write(run.found, options.output)


if __name__ == '__main__':
  main()
