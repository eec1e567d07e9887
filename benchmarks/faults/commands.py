"""The commands that are attacked, and the templates of the places where they begin."""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks.faults.lab import ROOT, Lab
from gif_jax.data.alignment.geometry import template
from gif_jax.data.sets.synthetic import SyntheticFaces
from tests.helpers.photographs import write_people

_TRIES = 20  # to kill a command while a draft is there


class Command(NamedTuple):
  """A command as it is called in a place laid from a template."""

  call: str
  template: str = 'inputs'


_TINY = f'--config={ROOT / "tests" / "helpers" / "tiny.py"}'
_MAIN = f'train {_TINY} --workdir=out/run'
_FOLDER = '--config.data.source=folder --config.data.path=in/faces --config.eval.validation_identities=0 '
_FOLDER += '--config.eval.identities=4 --config.data.cache=True'
_RECORDS = '--config.data.source=records --config.eval.validation_identities=0 --config.eval.identities=4'
COMMANDS = {
  'train, fixed': Command(_MAIN),
  'train, joint': Command(
    f'{_MAIN} --config.joint.enabled=True --config.joint.negatives=5 --config.joint.retokenize_every_steps=3'
    ' --config.checkpoint.every_steps=1'
  ),
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
  """Killed as soon as something in the place matches the pattern, and while it does."""
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


def while_making(name: str, pattern: str) -> Callable[[Lab], None]:
  """A template: the command killed while something that matches the pattern is in the place."""
  call, template = COMMANDS[name]
  return functools.partial(kill_while, template=template, call=call, pattern=pattern)


TEMPLATES = {
  'inputs': _inputs,
  'run': functools.partial(after, 'train, fixed'),
  'joint run': functools.partial(after, 'train, joint'),
  'half a run': while_making('train, fixed', 'out/run/checkpoints/9'),
  'half a softmax run': while_making('train, softmax', 'out/run/checkpoints/9'),
  'half a joint run': while_making('train, joint', 'out/run/checkpoints/9'),
  'table alone': while_making('train, fixed', 'out/run/table/meta.json'),
}
