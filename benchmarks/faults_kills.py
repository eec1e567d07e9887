"""Commands to attack and where they begin; kill -9 at any moment; two starts in one folder. See faults.py."""

import functools
import os
import shutil
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks.faults import ROOT, Lab, differences, judge, left_over, result
from gif_jax.data.alignment.geometry import template
from gif_jax.data.sets.synthetic import SyntheticFaces
from tests.helpers.photographs import write_people

_TRIES = 20  # to kill a command while a draft is there


class Command(NamedTuple):
  """A command as it is called in a place laid from a template."""

  call: str
  template: str = 'inputs'


_TINY = f'--config={ROOT / "tests" / "tiny.py"}'
_MAIN = f'train {_TINY} --workdir=out/run'
_FOLDER = '--config.data.source=folder --config.data.path=in/faces --config.eval.validation_identities=0 '
_FOLDER += '--config.eval.identities=4 --config.data.cache=True'
_RECORDS = '--config.data.source=records --config.eval.validation_identities=0 --config.eval.identities=4'
COMMANDS = {
  'train, fixed': Command(_MAIN),
  'train, joint': Command(f'{_MAIN} --config.joint.enabled=True --config.joint.retokenize_every_steps=3'),
  'train, softmax': Command(
    f'{_MAIN} --config.softmax.enabled=True --config.softmax.sample_rate=0.5 --config.train.ema=0.9'
  ),
  'train, cache': Command(f'{_MAIN} --config.data.cache=True'),
  'train, photographs': Command(f'{_MAIN} {_FOLDER}'),
  'train, packed': Command(f'{_MAIN} {_RECORDS} --config.data.path=in/packed'),
  'train, RecordIO': Command(f'{_MAIN} {_RECORDS} --config.data.path=in/rec'),
  'convert, folder': Command('convert --input=in/faces --output=out/packed'),
  'convert, RecordIO': Command('convert --input=in/packed --output=out/rec/train.rec'),
  'convert, pairs': Command('convert --input=in/faces --output=out/p.bin --pairs=40'),
  'align': Command('align --input=in/faces --output=out/aligned --landmarks=in/landmarks.txt --size=32'),
  'tokenize': Command(f'tokenize {_TINY} --output=out/table'),
  'tokenize, extend': Command(
    f'tokenize {_TINY} --config.data.first_identity=20 --config.data.identities=5 --extend=in/table --output=out/table'
  ),
  'evaluate': Command('evaluate --workdir=out/run --benchmarks=in/p.bin,in/packed', 'run'),
  'audit': Command(
    'audit --input=in/packed --against=in/p.bin --output=out/report --encoder=backbone --encoder_path=in/run'
  ),
  'inspect': Command('inspect in/table --output=out/report'),
}


# ---- Where they begin


def _inputs(lab):
  """20 people with four photographs, their points, and in/ what the commands make of them."""
  shutil.rmtree(lab.place, ignore_errors=True)
  (lab.place / 'out').mkdir(parents=True)
  write_people(lab.place / 'in' / 'faces', SyntheticFaces(0, 32, 20, 4), 20)
  points = ' '.join(f'{x:.3f}' for x in np.ravel(template(32)))
  photographs = sorted((lab.place / 'in' / 'faces').rglob('*.*'))
  lines = [f'{path.relative_to(lab.place / "in" / "faces")} {points}\n' for path in photographs]
  (lab.place / 'in' / 'landmarks.txt').write_text(''.join(lines))
  calls = [COMMANDS[name].call for name in ('convert, folder', 'convert, RecordIO', 'convert, pairs', 'train, fixed')]
  lab.lay_compiled()
  for call in [*calls, f'tokenize {_TINY} --config.tokenizer.slack=0.5 --output=out/table']:
    _finish(lab, call.replace('out/', 'in/'))


def _finish(lab, call):
  run = lab.run(call)
  if run.status:
    raise RuntimeError(f'{call} ends with {run.status}: {run.output}{run.said}')
  lab.keep_compiled()


def after(name: str, lab: Lab) -> None:
  """After a command has ended."""
  lab.lay(COMMANDS[name].template)
  _finish(lab, COMMANDS[name].call)


def kill_while(lab: Lab, template: str, call: str, pattern: str) -> None:
  """Killed as soon as there is something of that pattern in the place, and while it is there."""
  for _ in range(_TRIES):
    lab.lay(template)
    started = lab.start(call)
    if started.kill_when(lambda: any(lab.place.glob(pattern))) and any(lab.place.glob(pattern)):
      return
    if (run := started.end()).status not in (0, -9):
      raise RuntimeError(f'{call} ends with {run.status}: {run.output}{run.said}')
  raise RuntimeError(f'{call} could not be killed while {pattern} was there')


def prepare_tfds(lab: Lab) -> None:
  """The faces as TensorFlow Datasets has them, in in/tfds. In a process of its own, since tfds keeps much open."""
  lab.lay('inputs')
  code = (
    'import pathlib, tensorflow_datasets as tfds; from tests.helpers.portraits import prepare\n'
    'files = sorted(pathlib.Path("in/packed_png").rglob("*.png"))\n'
    'kinds = {"image": tfds.features.Image(shape=(32, 32, 3)), "label": tfds.features.Text()}\n'
    'prepare("in/tfds", kinds, [{"image": str(file), "label": file.parent.name} for file in files])'
  )
  for person, image in enumerate(SyntheticFaces(0, 32, 20, 4)[:]):
    path = lab.place / 'in' / 'packed_png' / f'p{person // 4:02}' / f'{person % 4}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
  environment = os.environ | {'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'}
  subprocess.run([sys.executable, '-c', code], cwd=lab.place, env=environment, check=True, capture_output=True)


def _while(name, pattern):
  call, template = COMMANDS[name]
  return functools.partial(kill_while, template=template, call=call, pattern=pattern)


TEMPLATES = {
  'inputs': _inputs,
  'run': functools.partial(after, 'train, fixed'),
  'joint run': functools.partial(after, 'train, joint'),
  'half a run': _while('train, fixed', 'out/run/checkpoints/9'),
  'half a softmax run': _while('train, softmax', 'out/run/checkpoints/9'),
  'half a joint run': _while('train, joint', 'out/run/checkpoints/9'),
  'table alone': _while('train, fixed', 'out/run/table/meta.json'),
}


# ---- Kills


def kills(lab: Lab, rounds: int, only: str) -> None:
  """Kills each command at moments drawn evenly over the time it takes in peace, sometimes several times in a row."""
  expected = {}
  for name, attempt in (bar := lab.jobs(COMMANDS, only, range(rounds))):
    call, where = COMMANDS[name]
    bar.set_postfix_str(name)
    if name not in expected:
      expected[name] = lab.peaceful(call, where)
    wanted, peace = expected[name]
    lab.lay(where)
    times = [lab.rng.uniform(0, peace.seconds) for _ in range(lab.rng.randint(2, 4) if attempt % 4 == 3 else 1)]
    killed = [_killed(lab, call, seconds) for seconds in times]
    _settle(lab, name, wanted, peace, lab.run(call), killed, [round(seconds, 2) for seconds in times])


def _killed(lab, call, seconds):
  started = lab.start(call)
  time.sleep(seconds)
  return started.kill()


def _settle(lab, name, wanted, peace, run, killed, times):
  """Notes what came of the last run, and what those said that were killed."""
  unequal = differences(wanted, result(lab.place / 'out'))
  worst = next((each for each in killed if _failed(each)), None)
  outcome = _failed(worst) if worst else judge(run, not unequal, peace)
  details = {'unequal': unequal[:10], 'left_over': left_over(lab.place / 'out'), 'killed_after': times}
  lab.note(name, outcome, worst or run, call=COMMANDS[name].call, **details)


def _failed(killed):
  """What went wrong in a run before it was killed; '' where nothing did, or it ended before."""
  if killed.status in (0, -9):
    killed = killed._replace(status=0)
  outcome = judge(killed, True)
  return outcome if outcome in ('traceback', 'otherwise') else ''


# ---- Starts

STARTS = {
  'table missing': ('train, fixed', 'inputs'),
  'table ready': ('train, fixed', 'table alone'),
  'with cache': ('train, cache', 'inputs'),
  'half a run': ('train, fixed', 'half a run'),
  'finished': ('train, fixed', 'run'),
}


def starts(lab: Lab, rounds: int, only: str) -> None:
  """Starts each twice, the second at any moment of the first third of the first; notes both."""
  expected = {}
  for what, _ in (bar := lab.jobs(STARTS, only, range(rounds))):
    name, where = STARTS[what]
    bar.set_postfix_str(what)
    if what not in expected:
      expected[what] = lab.peaceful(COMMANDS[name].call, where)
    wanted, peace = expected[what]
    lab.lay(where)
    delay = lab.rng.choice((0.0, lab.rng.uniform(0, peace.seconds / 3)))
    both = [lab.start(COMMANDS[name].call)]
    time.sleep(delay)
    both.append(lab.start(COMMANDS[name].call))
    _note_both(lab, what, wanted, peace, [started.end() for started in both], delay)


def _note_both(lab, what, wanted, peace, runs, delay):
  """One must end equal, the other be refused: two attacks, either of which may be wrong."""
  unequal = differences(wanted, result(lab.place / 'out'))
  outcomes = [judge(run, not unequal, peace) for run in runs]
  for run, outcome in zip(runs, outcomes):
    other = outcomes[0] if run is runs[1] else outcomes[1]
    alike = {outcome, other} <= {'equal', 'noticed'} or outcome == other == 'refused'
    details = {'unequal': unequal[:10], 'left_over': left_over(lab.place / 'out'), 'delay': round(delay, 2)}
    lab.note(what, 'otherwise' if alike else outcome, run, both=outcomes, **details)
