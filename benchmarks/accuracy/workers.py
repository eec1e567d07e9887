"""Runs of the accuracy benchmark in processes of their own, several at a time, one command at a time in a folder."""

import contextlib
import fcntl
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

from tqdm import tqdm

from benchmarks.accuracy.rows import Run, plain
from benchmarks.accuracy.run import check_same
from gif_jax.core.storage.files import write_json
from gif_jax.data.sets.open import open_faces

ROOT = Path(__file__).parents[2]


class Workers:
  """Runs in processes of their own, `jobs` at a time, each with its share of this process's cores.

  held: a file descriptor that the processes keep open, and with it the lock on the output.
  """

  def __init__(self, jobs: int, cache: Path, held: int):
    self.jobs, self.cache, self.held = jobs, cache, held
    self.alive, self.stopping, self.starting = {}, False, threading.Lock()
    self.shares, cores = queue.SimpleQueue(), sorted(os.sched_getaffinity(0))
    for job in range(jobs):
      self.shares.put(cores[job::jobs])

  def __call__(self, runs: list[Run], bar: tqdm) -> list[tuple[Run, str]]:
    """Runs them all in their order; returns those that failed, and why. If interrupted, has the rest saved first."""
    failed = []
    with ThreadPoolExecutor(self.jobs) as pool:
      waiting = {pool.submit(self._one, run): run for run in runs}
      try:
        while waiting:
          for future in wait(waiting, timeout=5, return_when=FIRST_COMPLETED).done:
            run, why = waiting.pop(future), future.result()
            failed += [(run, why)] if why else []
            bar.update()
          bar.set_postfix_str(', '.join(self.alive) + (f'; {len(failed)} failed' if failed else ''))
      except BaseException:
        self._stop(pool)
        raise
    return failed

  def _one(self, run):
    """Why it failed, or nothing."""
    share = self.shares.get()
    os.sched_setaffinity(0, share)  # of this thread, and so of what it starts
    try:
      with self.starting:
        if self.stopping:
          return 'not started'
        process = self.alive[run.folder.name] = self._start(run, len(share))
      status = process.wait()
    finally:
      self.alive.pop(run.folder.name, None)
      self.shares.put(share)
    return f'exit {status}: {last_words(run)}' if status or not (run.folder / 'summary.json').exists() else ''

  def _start(self, run, cores):
    run.folder.mkdir(parents=True, exist_ok=True)
    write_json(run.folder / 'config.json', plain(run.config))
    call = [sys.executable, '-m', 'benchmarks.accuracy.run', str(run.folder), f'--cache={self.cache}']
    environment = os.environ | {'OMP_NUM_THREADS': str(cores), 'TQDM_MININTERVAL': '60'}
    if self.jobs > 1:  # of a GPU, whose memory the first process would take
      environment['XLA_PYTHON_CLIENT_MEM_FRACTION'] = f'{0.9 / self.jobs:.2f}'
    with (run.folder / 'log').open('ab') as log:
      return subprocess.Popen(call, cwd=ROOT, env=environment, stdout=log, stderr=log, pass_fds=[self.held])

  def _stop(self, pool):
    with self.starting:
      self.stopping = True
    pool.shutdown(wait=False, cancel_futures=True)
    for process in list(self.alive.values()):
      process.terminate()  # training saves its state and ends


@contextlib.contextmanager
def locked(output: Path) -> Iterator[int]:
  """OUTPUT for this process and those it starts. Gives the lock's file descriptor; exits if others have it."""
  output.mkdir(parents=True, exist_ok=True)
  with (output / '.lock').open('w') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      sys.exit(
        f'{output} is in use by another benchmarks.accuracy, or by a run one of them left behind: wait for it, '
        'or choose another --output; several runs at a time are --jobs.'
      )
    yield file.fileno()


def work(runs: list[Run], output: Path, jobs: int) -> list[tuple[Run, str]]:
  """Runs what is not finished; returns what failed, and why. Raises ConfigError if a folder is of other settings."""
  cache = (output / 'cache').absolute()
  with locked(output) as held:
    for run in runs:
      check_same(run.config, run.folder)
    wanted = [run for run in runs if not (run.folder / 'summary.json').exists()]
    # Rendered here, once: runs that render the same faces would be in each other's way, and the first would pay for it.
    pictures = {json.dumps([plain(run.config)[key] for key in ('data', 'eval')]): run.config for run in wanted}
    for config in pictures.values():
      open_faces(config, cache)
    with tqdm(total=len(runs), initial=len(runs) - len(wanted), unit='run', smoothing=0) as bar:
      return Workers(jobs, cache, held)(wanted, bar)


def last_words(run: Run) -> str:
  """The last line of a run's log, and where all of it is."""
  log = run.folder / 'log'
  said = [line.strip()[:300] for line in log.read_text(errors='replace').splitlines() if line.strip()]
  return f'{said[-1] if said else "nothing said"} ({log})'
