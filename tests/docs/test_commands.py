"""Every block of README and docs that is marked `runnable`, run in the order of SESSION, in one folder, on small data.

Run as they stand, but for what is appended to make them short: settings of tests/helpers/short.py to experiments, and
what `MORE` has. Nothing is installed.
"""

import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from gif_jax.data.synthetic.render import FaceRenderer
from tests.helpers import markdown, short
from tests.helpers.commands import environment
from tests.helpers.photographs import write_people
from tests.helpers.places import ROOT
from tests.helpers.template_files import write_set
from tests.helpers.tinyface_files import write_tree

pytestmark = pytest.mark.slow
# Pages with runnable blocks: later ones use what earlier ones leave, such as runs/quickstart.
SESSION = ('README', 'training', 'codes', 'identification', 'photographs', 'datasets', 'audit', 'evaluation')
PEOPLE, IMAGES, SIZE = 10, 4, 32
_PIPES = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True}
# What is appended to a command in which a text occurs: the tables here are of 20 people, not of 1000.
MORE = {
  'gif_jax align': ['--size=32'],
  'gif_jax evaluate': ['--replicates=10'],
  '--extend=': short.flags(data__first_identity=20, data__identities=3),
  'table=table2': short.flags(data__identities=23, train__steps=4),
}


def _photographs(folder):
  """Rendered faces that a detector finds."""
  renderer = FaceRenderer(0, 112)
  for person in range(PEOPLE):
    (folder / f'person{person}').mkdir(parents=True)
    for i, face in enumerate(renderer.render(np.full(IMAGES, person), np.arange(IMAGES))):
      Image.fromarray(face).resize((160, 160)).save(folder / f'person{person}' / f'{i}.png')


@pytest.fixture(scope='module')
def session(tmp_path_factory, command, tiny_faces):
  """Runs an argument list of a page in a folder that has what a reader is supposed to have."""
  folder = tmp_path_factory.mktemp('session')
  path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])

  def run(*call):
    if call[:2] == ('python', '-m'):
      verb, *arguments = ('train', *call[3:]) if call[2] == 'gif_jax.main' else call[3:]
      done = command(verb, *arguments, folder=folder)
    else:
      call = (sys.executable, *call[1:])
      done = subprocess.run(call, cwd=folder, env=environment(1) | {'PYTHONPATH': path}, **_PIPES)
    assert done.returncode == 0, f'{shlex.join(call)}\n{done.stdout}'

  _photographs(folder / 'photographs')
  write_people(folder / 'ms1m', tiny_faces.train, PEOPLE, IMAGES)
  for name in ('lfw', 'cfp_fp', 'agedb_30'):
    run('python', '-m', 'gif_jax', 'convert', '--input=ms1m', f'--output={name}.bin', '--pairs=40')
  (folder / 'data').mkdir()
  write_set(folder / 'IJBC', pictures=tiny_faces.train[np.arange(0, 40, 4)], size=SIZE)
  write_tree(folder / 'tinyface', SIZE)
  return run


def _commands(block):
  """Argument lists of a block. Installing is left out: the test has what it needs."""
  for line in markdown.lines(block.text):
    words = shlex.split(line, comments=True)
    if words[:1] != ['pip']:
      yield words + _more(line)


def _more(line):
  appended = short.flags() if 'configs/' in line else []
  return appended + [flag for text, flags in MORE.items() if text in line for flag in flags]


def _page(name):
  return ROOT / 'README.md' if name == 'README' else ROOT / 'docs' / f'{name}.md'


@pytest.mark.parametrize('name', SESSION)
def test_marked_blocks_run(session, name):
  blocks = [block for block in markdown.blocks(_page(name)) if block.runnable]
  assert blocks
  for block in blocks:
    if block.language == 'bash':
      for command in _commands(block):
        session(*command)
  program = ''.join(block.text for block in blocks if block.language == 'python')
  if program:
    session('python', '-c', program)


def test_no_page_with_marked_blocks_is_left_out():
  marked = {page.stem for page in markdown.PAGES if any(block.runnable for block in markdown.blocks(page))}
  assert marked == set(SESSION)
