"""Every form of the method beside ArcFace and Partial FC: same network, data, batches, augmentation and steps.

python -m benchmarks.accuracy tuning --jobs=2              # as many trials of each tuned method, on validation people
python -m benchmarks.accuracy thousand --jobs=2            # m = 1000, all rows and controls, 3 seeds
python -m benchmarks.accuracy ten_thousand --jobs=2        # m = 10 000, the tuned ones; before it tuning_ten_thousand
python -m benchmarks.accuracy tail                         # a long tail; `noise`: images under another's name
python -m benchmarks.accuracy report                       # tables and plots again, of what there is

What is chosen is written into configs/ by hand; ROWS and TRIALS are in accuracy_rows.py. Every run is a process of its
own with a folder of its own, OUTPUT/PART/ROW_SEED (config.json, summary.json, cost.json, log); --jobs of them at a time
share the cores. The same command continues what was stopped and tries again what failed; finished runs stay.
Writes OUTPUT/PART.md, PART.json, PART_tar.png, PART_validation.png, against_m.md and against_m.png. Needs Linux.
"""

import argparse
import contextlib
import fcntl
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

from tqdm import tqdm

from benchmarks import accuracy_report
from benchmarks.accuracy_rows import PARTS, ROWS, TRIALS, Run, plain, runs_of
from benchmarks.accuracy_run import check_same
from gif_jax.core.errors import ConfigError, DataError
from gif_jax.core.storage.files import write_json
from gif_jax.data.sets.open import open_faces

ROOT = Path(__file__).parent.parent


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

  def __call__(self, runs: list[Run], bar) -> list[tuple[Run, str]]:
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
    call = [sys.executable, '-m', 'benchmarks.accuracy_run', str(run.folder), f'--cache={self.cache}']
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
def locked(output: Path):
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


def parse(arguments=None):
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('part', choices=[*PARTS, 'report'])
  parser.add_argument('--output', type=Path, default=Path('runs/accuracy'))
  parser.add_argument('--rows', nargs='+', choices=ROWS, default=[], help='instead of all of the part')
  parser.add_argument('--seeds', type=int, nargs='+', default=[], help='0 1 2 unless given; of tuning 0')
  parser.add_argument('--jobs', type=int, default=1, help='runs at a time, each with its share of the cores')
  parser.add_argument('--steps', type=int, default=0, help='a shorter budget, to see that it works')
  options = parser.parse_args(arguments)
  cores = len(os.sched_getaffinity(0))
  if not 1 <= options.jobs <= cores:
    parser.error(f'--jobs={options.jobs}: give 1 to {cores}, the cores there are')
  if options.part in TRIALS and set(options.rows) - set(TRIALS[options.part]):
    parser.error(f'--rows: only {", ".join(TRIALS[options.part])} have trials')
  return options


def main(arguments=None):
  options = parse(arguments)
  failed, output = [], options.output.absolute()
  try:
    if options.part != 'report':
      runs = runs_of(options.part, output, options.rows, options.seeds, options.steps)
      failed = work(runs, output, options.jobs)
    print(accuracy_report.write(output, [options.part] if options.part in PARTS else list(PARTS)))
  except (ConfigError, DataError) as error:
    sys.exit(f'{type(error).__name__}: {error}')
  except KeyboardInterrupt:
    sys.exit('stopped; the same command continues from there')
  if failed:
    sys.exit('\n'.join(f'FAILED: {run.row}, seed {run.seed}: {why}' for run, why in failed))


if __name__ == '__main__':
  signal.signal(signal.SIGTERM, lambda *_: sys.exit('stopped; the same command continues from there'))
  main()
