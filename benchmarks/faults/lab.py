"""Where commands are attacked: a folder laid from templates, commands started in it, a record of every attack."""

import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks.faults.judge import WRONG, Run, spoken, warned
from benchmarks.faults.report import counted
from benchmarks.faults.results import result

ROOT = Path(__file__).parents[2]
_SECONDS = 240  # in which every command here has ended, however slow the machine


class Lab:
  """A folder to attack commands in, and a record of what became of each attack.

  Commands run in one and the same place, so that paths which they keep stay true: `lay` puts there a copy of a
  template (benchmarks/faults/commands.py), with the times of its files. They write below place/out.
  """

  def __init__(self, part: str, output: Path, seed: int, templates: dict):
    self.part, self.output, self.rng, self.templates = part, output, random.Random(seed), templates
    self.folder = output / f'{part}.work'
    self.place, self.compiled = self.folder / 'place', self.folder / 'compiled'
    self.records, self.started = [], []
    shutil.rmtree(self.folder, ignore_errors=True)
    shutil.rmtree(output / part, ignore_errors=True)
    self.compiled.mkdir(parents=True)

  def lay(self, template: str, *, out: bool = True) -> Path:
    """A fresh place; out: with what the template has in its folder `out`."""
    source = self.folder / 'templates' / template
    if not source.exists():
      self.templates[template](self)
      os.makedirs(source.parent, exist_ok=True)
      shutil.rmtree(self.place / 'compiled')
      os.rename(self.place, source)
    shutil.rmtree(self.place, ignore_errors=True)
    shutil.copytree(source, self.place, symlinks=True, ignore=None if out else shutil.ignore_patterns('out'))
    (self.place / 'out').mkdir(exist_ok=True)
    self.lay_compiled()
    return self.place

  def lay_compiled(self) -> None:
    """What XLA compiled, linked: a killed command may leave a half of a file there, which is none of its faults."""
    shutil.copytree(self.compiled, self.place / 'compiled', copy_function=os.link, dirs_exist_ok=True)

  def start(self, call: str, *, files: int = 0) -> 'Started':
    """Starts `python -m gif_jax CALL`. files: how many it may have open; 0: as many as usual."""
    self.started.append(Started(call, self.place, self.folder / f'{len(self.started)}', files))
    return self.started[-1]

  def run(self, call: str, *, files: int = 0) -> Run:
    """Runs it to its end."""
    return self.start(call, files=files).end()

  def peaceful(self, call: str, template: str, runs: int = 2) -> tuple[dict, Run]:
    """What it makes of a fresh place, undisturbed, and how it ended. What it has XLA compile is kept.

    The first run compiles; where it matters how long it takes, another one says so.
    """
    for _ in range(runs):
      self.lay(template)
      run = self.run(call)
      if run.status:
        raise RuntimeError(f'undisturbed, {call} ends with {run.status}: {run.output}{run.said}')
      self.keep_compiled()
    return result(self.place / 'out'), run

  def keep_compiled(self) -> None:
    """Keeps what XLA compiled in the place. To be called after runs in peace alone."""
    for path in (self.place / 'compiled').iterdir():
      if not (self.compiled / path.name).exists():
        shutil.copyfile(path, self.compiled / path.name)

  def note(self, what: str, outcome: str, run: Run, **details) -> None:
    """Records an attack; where it went wrong, all that was said."""
    number = len(self.records)
    last = (spoken(run.said) or warned(run.said) or [''])[-1][:500]
    about = {'what': what, 'outcome': outcome, 'status': run.status, **details, 'last': last}
    self.records.append(about)
    if outcome in WRONG:
      path = self.output / self.part / f'{number:03}.txt'
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text(f'{json.dumps(about, indent=2)}\n\n{run.output}\n{run.said}\n')
    self.write()

  def write(self) -> None:
    """OUTPUT/PART.json, after every attack: these are hours of work."""
    partial = self.output / f'.{self.part}.partial'
    partial.write_text(json.dumps({'rows': counted(self.records), 'attacks': self.records}, indent=1) + '\n')
    os.replace(partial, self.output / f'{self.part}.json')

  def jobs(self, rows: Iterable[str], only: str, attacks: Sequence) -> tqdm:
    """(row, attack) for every row whose name `only` matches, with a progress bar."""
    jobs = [(row, attack) for row in rows if re.search(only, row) for attack in attacks]
    return tqdm(jobs, self.part, unit='attack', smoothing=0)


class Started:
  """A command that runs, in a process group of its own."""

  def __init__(self, call: str, place: Path, log: Path, files: int = 0):
    environment = os.environ | {
      'PYTHONPATH': str(ROOT),
      'JAX_PLATFORMS': 'cpu',
      'JAX_NUM_CPU_DEVICES': '1',
      'JAX_COMPILATION_CACHE_DIR': str(place / 'compiled'),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
    }
    self.log, self.began = log, time.monotonic()
    module, *arguments = call.split(' ')
    limit = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))) if files else None
    with log.with_suffix('.out').open('wb') as out, log.with_suffix('.err').open('wb') as said:
      self.process = subprocess.Popen(
        [sys.executable, '-m', 'gif_jax', module, *arguments],
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=said,
        start_new_session=True,
        preexec_fn=limit,
      )

  def end(self, seconds: float = _SECONDS) -> Run:
    """Waits for its end; after so many seconds it is killed, which is no end."""
    try:
      status = self.process.wait(seconds)
    except subprocess.TimeoutExpired:
      status = None
    self.kill()  # workers too, if any outlive it
    return self._run(status)

  def kill(self) -> Run:
    """kill -9 of the whole group, if it is there still."""
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self.process.pid, signal.SIGKILL)
    return self._run(self.process.wait())

  def kill_when(self, condition: Callable[[], bool]) -> bool:
    """Kills it as soon as the condition holds; False where it ended before."""
    while not (holds := condition()) and self.process.poll() is None:
      time.sleep(0.001)
    self.kill()
    return holds

  def _run(self, status):
    texts = (self.log.with_suffix(suffix).read_text(errors='replace') for suffix in ('.out', '.err'))
    return Run(status, *texts, time.monotonic() - self.began)
