"""The commands attacked from outside: killed, their files damaged, their disk full, started twice at a time.

python -m benchmarks.faults kills      # kill -9 at any moment, the same command again: the result of a run in peace?
python -m benchmarks.faults flips      # a bit, the end or all of a file gone: noticed, harmless, or used in silence?
python -m benchmarks.faults disk       # full, read-only, folder removed, few open files: one line, and then goes on?
python -m benchmarks.faults starts     # two at a time in one folder: one runs, one is refused?

Every attack is a real command in a process group of its own, on a few rendered faces, with what XLA compiled kept.
Prints a table and writes OUTPUT/PART.json, every attack, and OUTPUT/PART/NNN.txt, what was said where it went wrong.
--only=PATTERN takes the rows in whose name it is found, --rounds so many attacks for each row. Needs Linux; disk needs
root or user namespaces. Hours on two cores for all of it.
"""

import argparse
import contextlib
import importlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

ROOT = Path(__file__).parent.parent
ROUNDS = {'kills': 8, 'flips': 10, 'disk': 10, 'starts': 3}
COLUMNS = {
  'equal': 'ended equal',
  'noticed': 'ended equal, said',
  'refused': 'refused in one line',
  'told': 'other result, said',
  'silent': 'used in silence',
  'traceback': 'tracebacks',
  'otherwise': 'otherwise',
}
WRONG = ('silent', 'traceback', 'otherwise')
_SECONDS = 240  # in which every command here has ended, however slow the machine
_TRACES = ('Traceback (most recent call last)', 'Fatal Python error', 'terminate called', 'Check failed')
_LOG = re.compile(r'[IW]\d{4} \d\d:\d\d:\d\d')  # a line of absl's log, by Python and by C++
_WARNING = re.compile(r'W\d{4} \d\d:\d\d:\d\d\S* +\d+ (.*)')
# Of tqdm, and its steps from bar to bar; what follows has no line of its own.
_BAR = re.compile(r'^[^|\]]*\d+%\|.*?\]|^.*\d\S* \[\d+:\d\d[^\]]*\]|\x1b\[A')
_TELLING = re.compile(r'damaged|left out|cannot be read|checksum|missing|made again|beginning again', re.I)


class Run(NamedTuple):
  """How a command ended. status: None where it did not and was killed for it."""

  status: int | None
  output: str
  said: str  # on stderr
  seconds: float


class Lab:
  """A folder to attack commands in, and a record of what became of each attack.

  Commands run in one and the same place, so that paths which they keep stay true: `lay` puts there a copy of a
  template (benchmarks/faults_kills.py), with the times of its files. They write below place/out.
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
    """(row, attack) for every row in whose name `only` is found, with a progress bar."""
    found = [(row, attack) for row in rows if re.search(only, row) for attack in attacks]
    return tqdm(found, self.part, unit='attack', smoothing=0)


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

  def kill_when(self, there: Callable[[], bool]) -> bool:
    """Kills it as soon as there() holds; False where it ended before."""
    while not (found := there()) and self.process.poll() is None:
      time.sleep(0.001)
    self.kill()
    return found

  def _run(self, status):
    texts = (self.log.with_suffix(suffix).read_text(errors='replace') for suffix in ('.out', '.err'))
    return Run(status, *texts, time.monotonic() - self.began)


def spoken(said: str) -> list[str]:
  """The lines of stderr that are neither log nor progress bar."""
  lines = (_BAR.sub('', line).strip() for line in re.split(r'[\r\n]', said))
  return [line for line in lines if line and not _LOG.match(line)]


def warned(said: str) -> list[str]:
  """The warnings in the log."""
  lines = (_BAR.sub('', line).strip() for line in re.split(r'[\r\n]', said))
  return [found[1] for line in lines if (found := _WARNING.match(line))]


def telling(run: Run, usual: Run | None = None) -> list[str]:
  """All that says that something is wrong; usual: a run that says the same, which is nothing then."""
  lines = spoken(run.said) + warned(run.said)
  lines += [line for line in [*run.said.splitlines(), *run.output.splitlines()] if _TELLING.search(line)]
  before = {_numberless(line) for line in telling(usual)} if usual else ()
  return [line for line in dict.fromkeys(lines) if _numberless(line) not in before]


def _numberless(line):
  return re.sub(r'\d+', 'N', line)


def judge(run: Run, equal: bool, usual: Run | None = None) -> str:
  """What an attack came to, a key of COLUMNS. usual: a run in peace, whose warnings are none of this one's."""
  if any(trace in text for trace in _TRACES for text in (run.output, run.said)) or (run.status or 0) < 0:
    return 'traceback'
  if run.status != 0:
    return 'refused' if run.status == 1 and len(spoken(run.said)) == 1 else 'otherwise'
  told = bool(telling(run, usual))
  if equal:
    return 'noticed' if told else 'equal'
  return 'told' if told else 'silent'


# ---- Results

# A checkpoint is compared by state_sha256 in summary.json; training.png shows speed; caches and embeddings are no
# results; the rest are times, or what was set aside.
_LEFT_OUT = re.compile(r'/(checkpoints|tensorboard|cache|embeddings)/|/(starts\.jsonl|training\.png)$|\.damaged')
_TIMES = ('images_per_second', 'resumed_from_step', 'model_tflops_per_second', 'utilisation', 'data_stall', 'checksum')
_DATE = re.compile(r'\d{4}-\d\d-\d\d')  # of an evaluation


def result(out: Path) -> dict[str, object]:
  """What a command has made: {path below `out`: content}, without all that depends on time or on how it was made.

  Hidden files are none of it.
  """
  found = {}
  for path in sorted(path for path in out.rglob('*') if path.is_file()):
    name = f'/{path.relative_to(out)}'
    if '/.' not in name and not _LEFT_OUT.search(name):
      found[name] = _content(path)
  return found


def _content(path):
  content = path.read_bytes()
  try:
    if path.suffix == '.json':
      return _timeless(json.loads(content))
    if path.suffix == '.jsonl':
      return [_timeless(json.loads(line)) for line in content.splitlines()]
    return _DATE.sub('DATE', content.decode()) if path.suffix in ('.html', '.md') else content
  except ValueError:
    return content


def _timeless(value):
  if isinstance(value, dict):
    return {key: _timeless(item) for key, item in value.items() if key not in _TIMES}
  if isinstance(value, list):
    return [_timeless(item) for item in value]
  return 'DATE' if isinstance(value, str) and _DATE.fullmatch(value) else value


def left_over(out: Path) -> list[str]:
  """Hidden files and folders, which nobody should find when all is done, but for locks."""
  hidden = [path for path in out.rglob('.*') if not path.name.endswith('.lock')]
  return sorted(str(path.relative_to(out)) for path in hidden)


def differences(expected: dict, found: dict) -> list[str]:
  """The names of what is not the same, such as -/a (missing), +/b (not wanted), /c (another content)."""
  gone, new = expected.keys() - found.keys(), found.keys() - expected.keys()
  other = sorted(name for name in expected.keys() & found.keys() if expected[name] != found[name])
  return sorted(f'-{name}' for name in gone) + sorted(f'+{name}' for name in new) + other


# ---- Figures


def counted(records: list[dict]) -> dict[str, dict[str, int]]:
  """{what: {'attempts': .., outcome: ..}}."""
  rows = {}
  for record in records:
    rows.setdefault(record['what'], Counter()).update(['attempts', record['outcome']])
  return {what: {key: row[key] for key in ('attempts', *COLUMNS)} for what, row in rows.items()}


def table(records: list[dict]) -> str:
  """The rows in Markdown, and a line for every attack that went wrong or left files behind."""
  rows = counted(records)
  rows['all'] = {key: sum(row[key] for row in rows.values()) for key in ('attempts', *COLUMNS)}
  lines = [' | '.join(['', 'what', 'attempts', *COLUMNS.values(), '']).strip(), '| --- ' * (2 + len(COLUMNS)) + '|']
  lines += [f'| {what} | {" | ".join(map(str, row.values()))} |' for what, row in rows.items()]
  for number, record in enumerate(records):
    if record['outcome'] in WRONG or record.get('left_over') or record.get('named') is False:
      lines.append(f'\n{number:03} {json.dumps(record)}')
  return '\n'.join(lines)


def parse(arguments=None):
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('part', choices=ROUNDS)
  parser.add_argument('--output', type=Path, help='where figures go; default: a new folder for temporary files')
  parser.add_argument('--rounds', type=int, default=0, help=f'attacks for each row; default: {ROUNDS}')
  parser.add_argument('--seed', type=int, default=0, help='of what is attacked, where and when')
  parser.add_argument('--only', default='', help='a regular expression: rows in whose name it is found')
  return parser.parse_args(arguments)


def main(arguments=None) -> None:
  """Prints a Markdown table."""
  options = parse(arguments)
  output = (options.output or Path(tempfile.mkdtemp(prefix='faults-'))).absolute()
  # Imported here because they import this file.
  kills, flips, disk = (importlib.import_module(f'benchmarks.faults_{name}') for name in ('kills', 'flips', 'disk'))
  attacks = {'kills': kills.kills, 'flips': flips.flips, 'disk': disk.disk, 'starts': kills.starts}
  if options.part == 'disk':
    disk.enter_namespace()
  lab = Lab(options.part, output, options.seed, kills.TEMPLATES)
  try:
    attacks[options.part](lab, options.rounds or ROUNDS[options.part], options.only)
  finally:
    for started in lab.started:  # whatever ended this program
      started.kill()
    shutil.rmtree(lab.folder, ignore_errors=True)
    print(f'{table(lab.records)}\n\nAll of them: {output / options.part}.json')


if __name__ == '__main__':
  signal.signal(signal.SIGTERM, lambda *_: sys.exit('stopped'))
  main()
