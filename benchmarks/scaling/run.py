"""All rows of the scaling benchmark: each in a process of its own, timed in turn, as many as there is memory for."""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tqdm import tqdm

from benchmarks.asking import Measured
from benchmarks.scaling import formula
from gif_jax.core.storage.files import write_json

FORMS = ('fixed', 'joint', 'joint_device', 'pfc', 'softmax')
TORCH = ('torch pfc', 'torch softmax')
SCOPES = ('classifier', 'whole')
LEAST = 3  # rounds of a row, however slow it is
CONTEXT = 0.5e9  # bytes of a GPU's memory that a process has beside its arrays
REAL = 1_000_000  # tables up to this size are written to disk


class Row:
  """One row's process, and what it has answered."""

  def __init__(
    self, scope: str, form: str, m: int | list[int], settings: dict, python: str = sys.executable, recorded: bool = True
  ):
    self.scope, self.form, self.m, self.recorded = scope, form, m, recorded
    self.alive, self.answers, self.turns, self.spent = True, {}, [], 0.0
    row = settings | {'scope': scope, 'form': form.removeprefix('torch '), 'm': m}
    module = 'benchmarks.scaling.torch_row' if form in TORCH else 'benchmarks.scaling.row'
    self.process = Measured([python, '-m', module, json.dumps(row)], _environment(row))

  def ask(self, question: str) -> dict:
    """The answer to a question. Raises RuntimeError with the last words of a process that ended."""
    return self.process.ask(question)

  def close(self) -> None:
    self.alive = False
    self.process.close()


def _environment(row: dict) -> dict[str, str]:
  environment = {
    'PYTHONPATH': os.getcwd(),
    'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',
    'XLA_PYTHON_CLIENT_MEM_FRACTION': '.95',
  }
  if row['compiler']:  # the compiler of GPUs tries which kernels are fastest: once, and the same for all rows
    flags = f'--xla_gpu_per_fusion_autotune_cache_dir={row["compiler"]}'
    environment['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {flags}'.strip()
  return environment | ({'JAX_DEFAULT_MATMUL_PRECISION': 'highest'} if 'inputs' in row else {})


def prepare(options: argparse.Namespace, folder: Path) -> dict:
  """What the rows run on; writes the tables that are real."""
  real = [m for m in options.m if m <= REAL] if {'fixed', 'joint', 'joint_device'} & set(options.forms) else []
  row = Row('', '', real, {'tables': str(folder), 'd': options.d, 'compiler': ''})
  machine = row.ask('prepare')
  row.close()
  return machine


class Run:
  """All rows, those that are done and those to do."""

  def __init__(self, options: argparse.Namespace, folder: Path):
    self.options, self.file = options, options.output / 'scaling.json'
    machine = prepare(options, folder)
    gpu = machine['platform'] != 'cpu'
    (folder / 'compiler').mkdir()
    backbone = options.backbone or ('r50' if gpu else 'small')
    settings = {
      'batch': options.batch,
      'd': options.d,
      'rate': options.rate,
      'negatives': options.negatives,
      'backbone': backbone,
      'dtype': 'bfloat16' if gpu else 'float32',
    }
    self.limit = options.memory_gb * 1e9 or machine['memory'] or 0.9 * _available()
    machine |= {'limit': self.limit, 'date': time.strftime('%Y-%m-%d')}
    self.results = {'settings': settings, 'machine': machine, 'rows': []}
    if self.file.exists():
      earlier = json.loads(self.file.read_text())
      if earlier['settings'] != settings or earlier['machine']['device'] != machine['device']:
        sys.exit(f'{self.file} is of other settings or another machine: choose another --output')
      # Rows that did not fit, or failed, may do now.
      self.results['rows'] = [row for row in earlier['rows'] if 'turns' in row]
    self.settings = settings | {
      'tables': str(folder),
      'turn': options.turn,
      'recipe': machine['recipe'],
      'compiler': str(folder / 'compiler') if gpu else '',
    }
    wanted = {(scope, form, m) for scope in options.scopes for form in self._forms(scope) for m in options.m}
    done = wanted & {(row['scope'], row['form'], row['m']) for row in self.results['rows']}
    self.bar = tqdm(total=len(wanted), initial=len(done), unit='row')

  def _forms(self, scope):
    return [*self.options.forms, *(form for form in TORCH if scope == 'classifier' and self.has_torch(form))]

  def has_torch(self, form: str) -> bool:
    """Whether this form is measured in PyTorch too."""
    return bool(self.options.torch) and form.removeprefix('torch ') in self.options.forms

  def record(self, row: Row | SimpleNamespace, **metrics: Any) -> None:
    """Ends a row, adds what was measured of it and writes all; nothing of a row that was done before."""
    if isinstance(row, Row):
      row.close()
    if not row.recorded:
      return
    common = {'scope': row.scope, 'form': row.form, 'm': row.m, 'simulated': row.m > REAL}
    self.results['rows'].append(common | row.answers | metrics)
    self.results['rows'].sort(key=lambda r: (r['scope'], r['m'], [*FORMS, *TORCH].index(r['form'])))
    write_json(self.file, self.results)
    self.bar.update()

  def wave(self, scope: str, m: int) -> None:
    """All rows of a scope and m that are not done."""
    known = {row['form']: row for row in self.results['rows'] if (row['scope'], row['m']) == (scope, m)}
    rows = []
    for form in [form for form in self._forms(scope) if form not in known]:
      asked = formula.predict(self.results, scope, form, m)
      if asked and asked['total'] > self.limit:
        self.record(SimpleNamespace(scope=scope, form=form, m=m, answers={'memory': asked}, recorded=True))
      else:
        rows.append(self._start(scope, form, m))
        if len(rows) == 1 and not any(row['scope'] == scope for row in self.results['rows']):
          self._ask(rows[0], 'memory')  # alone: what the compiler finds out by trial serves all
    if m > self.options.m[0] and any(row.form in ('fixed', 'joint') for row in rows):
      rows.append(self._start(scope, 'fixed', self.options.m[0], recorded=False))
    for row in [row for row in rows if row.alive and not row.answers]:
      self._ask(row, 'memory')
    for group in self._groups([row for row in rows if row.alive]):
      self._time(group)

  def _start(self, scope, form, m, recorded=True):
    python = self.options.torch if form in TORCH else sys.executable
    return Row(scope, form, m, self.settings, python, recorded)

  def _ask(self, row, question):
    """Asks a row and keeps the answer; a row that crashes is recorded, and no longer alive."""
    self.bar.set_postfix_str(f'{row.scope} {row.form} {row.m:.0e}: {question}')
    started = time.perf_counter()
    try:
      answer = row.ask(question)
    except RuntimeError as crash:
      self.record(row, failed=str(crash))
      return
    if question == 'turn':
      row.turns.append([answer['cpu'], answer['wall']])
      row.spent += time.perf_counter() - started
      return
    if 'torch' in answer:
      self.results['machine']['versions'] |= {'torch': answer['torch']}
      answer = {'memory': formula.predict(self.results, row.scope, row.form, row.m)}
    elif question == 'memory':
      answer = {'memory': answer | {'source': 'compiled'}}
    row.answers |= answer

  def _groups(self, rows):
    """Rows in groups that fit into memory together, the smallest first; those that do not fit are recorded."""
    group, taken, beside = [], 0.0, 0.0 if self.results['machine']['platform'] == 'cpu' else CONTEXT
    for row in sorted(rows, key=lambda row: row.answers['memory']['total']):
      needed = row.answers['memory']['total'] + beside
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
      self._wait_for(row.answers['memory']['total'])
      self._ask(row, 'begin')
    for number in range(self.options.rounds):
      for row in group:
        if row.alive and (number < LEAST or row.spent < self.options.seconds):
          self._ask(row, 'turn')
    again = next((row.turns for row in group if not row.recorded), [])
    for row in [row for row in group if row.alive]:
      self._ask(row, 'end')
      if row.alive:
        compared = {'reference': again[: len(row.turns)], 'reference_m': self.options.m[0]}
        self.record(row, turns=row.turns, **(compared if again and row.form in ('fixed', 'joint') else {}))

  def _wait_for(self, needed):
    """On a CPU others may have the memory for a while: waits, since to swap would time the disk."""
    while self.results['machine']['platform'] == 'cpu' and _available() < min(needed, self.limit):
      self.bar.set_postfix_str(f'waiting for {needed / 1e9:.1f} GB of memory')
      time.sleep(5)


def _available() -> int:
  """Bytes of memory that a process can have without swapping (Linux)."""
  with open('/proc/meminfo') as file:
    return next(int(line.split()[1]) * 1024 for line in file if line.startswith('MemAvailable'))
