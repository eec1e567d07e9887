"""The commands attacked from outside: killed, their files damaged, their disk full, started twice at a time.

python -m benchmarks.faults kills      # kill -9 at any moment, the same command again: the result of a run in peace?
python -m benchmarks.faults flips      # a bit, the end or all of a file gone: noticed, harmless, or used in silence?
python -m benchmarks.faults disk       # full, read-only, folder removed, few open files: one line, and then goes on?
python -m benchmarks.faults starts     # two at a time in one folder: one runs, one is refused?

Every attack is a real command in a process group of its own, on a few rendered faces, with what XLA compiled kept.
Prints a table and writes OUTPUT/PART.json, every attack, and OUTPUT/PART/NNN.txt, what was said where it went wrong.
--only=PATTERN takes the rows whose name it matches, --rounds so many attacks for each row. Needs Linux; disk needs
root or user namespaces. Hours on two cores for all of it.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks.faults import disk, flips, kills
from benchmarks.faults.commands import TEMPLATES
from benchmarks.faults.lab import Lab
from benchmarks.faults.report import table

ROUNDS = {'kills': 8, 'flips': 10, 'disk': 10, 'starts': 3}
ATTACKS = {'kills': kills.kills, 'flips': flips.flips, 'disk': disk.disk, 'starts': kills.starts}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('part', choices=ROUNDS)
  parser.add_argument('--output', type=Path, help='where results go; default: a new folder for temporary files')
  parser.add_argument('--rounds', type=int, default=0, help=f'attacks for each row; default: {ROUNDS}')
  parser.add_argument('--seed', type=int, default=0, help='of what is attacked, where and when')
  parser.add_argument('--only', default='', help='a regular expression that the names of rows match')
  return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
  """Prints a Markdown table."""
  options = parse(arguments)
  output = (options.output or Path(tempfile.mkdtemp(prefix='faults-'))).absolute()
  if options.part == 'disk':
    disk.enter_namespace()
  lab = Lab(options.part, output, options.seed, TEMPLATES)
  try:
    ATTACKS[options.part](lab, options.rounds or ROUNDS[options.part], options.only)
  finally:
    for started in lab.started:  # whatever ended this program
      started.kill()
    shutil.rmtree(lab.folder, ignore_errors=True)
    print(f'{table(lab.records)}\n\nAll of them: {output / options.part}.json')


if __name__ == '__main__':
  signal.signal(signal.SIGTERM, lambda *_: sys.exit('stopped'))
  main()
