"""Every form of the method beside ArcFace and Partial FC: same network, data, batches, augmentation and steps.

python -m benchmarks.accuracy tuning --jobs=2              # as many trials of each tuned method, on validation people
python -m benchmarks.accuracy thousand --jobs=2            # m = 1000, all rows and controls, 3 seeds
python -m benchmarks.accuracy ten_thousand --jobs=2        # m = 10 000, the tuned ones; before it tuning_ten_thousand
python -m benchmarks.accuracy tail                         # a long tail; `noise`: images under another's name
python -m benchmarks.accuracy report                       # tables and plots again, of what there is

What is chosen is written into configs/ by hand; ROWS and TRIALS are in rows.py. Every run is a process of its
own with a folder of its own, OUTPUT/PART/ROW_SEED (config.json, summary.json, cost.json, log); --jobs of them at a time
share the cores. The same command continues what was stopped and tries again what failed; finished runs stay.
Writes OUTPUT/PART.md, PART.json, PART_tar.png, PART_validation.png, against_m.md and against_m.png. Needs Linux.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from benchmarks.accuracy import report
from benchmarks.accuracy.rows import PARTS, ROWS, TRIALS, runs_of
from benchmarks.accuracy.workers import work
from gif_jax.core.errors import ConfigError, DataError


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
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


def main(arguments: list[str] | None = None) -> None:
  options = parse(arguments)
  failed, output = [], options.output.absolute()
  try:
    if options.part != 'report':
      runs = runs_of(options.part, output, options.rows, options.seeds, options.steps)
      failed = work(runs, output, options.jobs)
    print(report.write(output, [options.part] if options.part in PARTS else list(PARTS)))
  except (ConfigError, DataError) as error:
    sys.exit(f'{type(error).__name__}: {error}')
  except KeyboardInterrupt:
    sys.exit('stopped; the same command continues from there')
  if failed:
    sys.exit('\n'.join(f'FAILED: {run.row}, seed {run.seed}: {why}' for run, why in failed))


if __name__ == '__main__':
  signal.signal(signal.SIGTERM, lambda *_: sys.exit('stopped; the same command continues from there'))
  main()
