"""What commands say before they begin: help with every flag and setting, and one line for whatever is wrong."""

import re
import subprocess
import sys

import pytest

from gif_jax import config
from gif_jax.ranges import ALLOWED
from tests.helpers.places import ROOT

COMMANDS = ('train', 'tokenize', 'convert', 'audit', 'align', 'evaluate', 'inspect')
WITH_CONFIG = ('train', 'tokenize', 'inspect')
TINY = '--config=tests/helpers/tiny.py'
# Words of libraries, and of files that nobody who asks for help knows.
FOREIGN = (
  'absl',
  'FATAL',
  'flags:',
  'helpfull',
  'helpshort',
  '(default:',
  '.py:\n',
  'Traceback',
  'ml_collections',
  'an integer',
  'a non-negative',
  str(ROOT),
)


@pytest.mark.parametrize('module', COMMANDS)
def test_help_in_our_own_words(command, module):
  done = command(module, '--help')
  assert done.returncode == 0 and not [word for word in FOREIGN if word in done.stdout], done.stdout
  first, *rest = done.stdout.splitlines()
  program = 'gif_jax.main' if module == 'train' else f'gif_jax {module}'
  assert f': python -m {program} ' in first and '=' in first  # what it does, and an example
  text = '\n'.join(rest)
  assert '\nFlags:\n' in text and '  --help ' in text and all(len(line) <= 120 for line in rest)
  source = (ROOT / 'gif_jax' / 'commands' / f'{module}.py').read_text()
  defined = re.findall(r"DEFINE_\w+\(\s*'(\w+)'", source) + ['config'] * (module in WITH_CONFIG)
  assert defined
  for flag in defined:
    assert re.search(rf'^  --(\[no\])?{flag}\b', text, re.MULTILINE), flag
  assert ('Settings of --config' in text) == (module in WITH_CONFIG)


@pytest.mark.slow
def test_help_by_any_name(command):
  asked = [
    command('convert', *flags).stdout
    for flags in (
      ['--help'],
      ['-h'],
      ['-help'],
      ['--helpfull'],
      ['--helpshort'],
      ['--helpxml'],
      ['-?'],
      ['--size=x', '--help'],
    )
  ]
  assert len(set(asked)) == 1 and asked[0].startswith('Makes a data set to train on: ')


def test_help_says_limits_and_what_must_be_given(command):
  text = ' '.join(command('convert', '--help').stdout.split())
  assert '--input=VALUE What to convert; several with commas between are put together. (must be given)' in text
  assert (
    '--size=NUMBER Pixels a side, 16 or more; 0: those of the input, or 112 where they differ. (at least 0, at most'
    in text
  )
  assert '--bad_images=VALUE What to do with images that cannot be read. (skip or error; skip unless given)' in text


def test_help_that_nobody_reads_to_its_end():
  pipe = f'{sys.executable} -m gif_jax.main --help | head -1; echo "${{PIPESTATUS[0]}}"'
  done = subprocess.run(['bash', '-c', pipe], cwd=ROOT, capture_output=True, text=True)
  assert done.stdout.endswith('\n0\n') and not done.stderr


def test_help_has_every_setting_with_its_default_comment_and_range(command):
  entries = command('train', '--help').stdout.split('\n  --config.')[1:]
  found = {entry.partition('=')[0]: ' '.join(entry.split('\n\n')[0].split()) for entry in entries}
  keys = config.all_keys()
  assert found.keys() == keys.keys()
  for key, default in keys.items():
    allowed = ALLOWED.get(key, '')
    limits = allowed if isinstance(allowed, str) else allowed[-1] if allowed else ''
    assert found[key].startswith(f'{key}={default!r}') and limits in found[key]
  assert found['optim.lr'] == 'optim.lr=0.1 (0, inf) highest learning rate'
  assert found['optim.schedule'].startswith("optim.schedule='cosine' cosine or polynomial ")
  assert found['loss.digits_until'].startswith('loss.digits_until=0.0 [0, 1] Share of the steps in which digits shape')
  assert found['data.source'].endswith('(whatever `convert` reads)')
  assert found['softmax.combined'].startswith('softmax.combined=(1.0, 0.5, 0.0) (0, 4] [0, pi/2) [0, 1) m1, m2, m3 of')
  assert found['log.every_steps'] == 'log.every_steps=50 [1, inf)'
  # All the comments of the file are there: nothing is said in two places.
  source = (ROOT / 'gif_jax' / 'config.py').read_text()
  comments = re.findall(r'^  c\.(\w+\.\w+) = .*  # (.*)$', source, re.MULTILINE)
  assert len(comments) > 80 and all(comment in found[key] for key, comment in comments)


def test_help_needs_none_of_the_slow_libraries():
  program = """import runpy, sys
sys.argv = ['gif_jax', 'train', '--help']
try:
  runpy.run_module('gif_jax', run_name='__main__')
except SystemExit:
  print(sorted({'jax', 'numpy', 'flax', 'scipy', 'cv2'} & set(sys.modules)))
"""
  done = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True)
  assert done.stdout.splitlines()[-1] == '[]', done.stdout[-300:] + done.stderr


@pytest.mark.parametrize(
  ('module', 'arguments', 'line'),
  [
    ('train', [], '--config must be given; --help says what for.'),
    ('convert', [], '--input and --output must be given; --help says what for.'),
    ('train', ['--confg=a'], '--confg is no flag. Did you mean --config? --help lists all.'),
    ('convert', ['--config.train.steps=3'], '--config.train.steps is no flag. --help lists all.'),
    ('train', [TINY, '--verbose=1'], '--verbose is no flag. Did you mean --verbosity? --help lists all.'),
    ('train', ['--config'], 'Missing value for flag --config; --help says what is wanted.'),
    ('convert', ['--size=9999'], '--size=9999: give a whole number, at least 0, at most 1024.'),
    ('convert', ['--size=a: b'], '--size=a: b: give a whole number, at least 0, at most 1024.'),
    ('convert', ['--size=1e400'], '--size=1e400: give a whole number, at least 0, at most 1024.'),
    ('align', ['--size=8'], '--size=8: give a whole number, at least 16, at most 1024.'),
    ('audit', ['--input=a', '--output=b', '--similarity=nan'], '--similarity=nan: give a number, at least 0,'),
    ('evaluate', ['--step=-1'], '--step=-1: give a whole number, at least 0.'),
    ('convert', ['--bad_images=skp'], '--bad_images=skp: give skip or error.'),
    ('audit', ['--encoder=clop'], '--encoder=clop: give pixels, clip or backbone.'),
    ('train', [TINY, '--accept_changes=perhaps'], '--accept_changes=perhaps: give true or false.'),
    ('evaluate', ['--noflip=3'], '--noflip=3 does not take an argument; --help says what is wanted.'),
    (
      'train',
      [TINY, '--config.train.stepps=3'],
      'config.train.stepps is no setting. Did you mean config.train.steps? --help lists all.',
    ),
    (
      'tokenize',
      [TINY, '--config.batch_size=3'],
      'config.batch_size is no setting. Did you mean config.eval.batch_size or config.train.batch_size? --help ',
    ),
    (
      'inspect',
      ['a', TINY, '--noconfig.data.cash'],
      'config.data.cash is no setting. Did you mean config.data.cache? --help lists all.',
    ),
    (
      'train',
      [TINY, '--config.train=3'],
      'config.train is a section: give one of its settings, config.train.KEY; --help lists all.',
    ),
    ('train', [TINY, '--config.data.keys'], 'config.data.keys is no setting.'),
    ('train', [TINY, '--config.=3'], 'config. is no setting. --help lists all.'),
    (
      'train',
      [TINY, '--config.train.steps=1e3'],
      '--config.train.steps=1e3: give a whole number, at least 0, at most 2147483647.',
    ),
    ('train', [TINY, '--config.optim.lr=fast'], '--config.optim.lr=fast: give a number, more than 0.'),
    ('train', [TINY, '--config.data.cache=maybe'], '--config.data.cache=maybe: give True or False.'),
    ('train', [TINY, '--config.softmax.combined=(1,'], '--config.softmax.combined=(1,: give 3 numbers, more than 0,'),
    (
      'train',
      ['--config.train.steps=3', TINY],
      '--config.train.steps=3 changes a setting of --config=FILE, which must stand before it.',
    ),
    (
      'tokenize',
      ['--output=a', '--config.train.steps=3'],
      '--config.train.steps=3 changes a setting of --config=FILE, which must stand before it.',
    ),
    ('train', ['--config='], '--config= cannot be read (no such file): give one such as configs/quickstart.py.'),
    (
      'train',
      ['--config=configs'],
      '--config=configs cannot be read (Is a directory): give one such as configs/quickstart.py.',
    ),
    (
      'train',
      ['--config=configs/quickstat.py'],
      '--config=configs/quickstat.py cannot be read (no such file): give one '
      'such as configs/quickstart.py. Did you mean configs/quickstart.py?',
    ),
    (
      'train',
      ['--config', 'configs/quickstat.py', '--config.train.steps=3'],
      '--config=configs/quickstat.py cannot be read (no such file): give one such as configs/quickstart.py. Did you ',
    ),
    (
      'train',
      ['--config=configs/quickstart.py:x'],
      '--config=configs/quickstart.py:x: the file has no forms; leave out :x.',
    ),
    ('train', ['--config=configs/r100.py:shrot'], 'configs/r100.py:shrot is not known; give configs/r100.py or '),
    (
      'train',
      ['--config=gif_jax/config.py'],
      '--config=gif_jax/config.py: there is no get_config() in it, which returns the settings.',
    ),
    ('train', [TINY, '--flagfile=/nowhere'], 'Unable to open flagfile: '),
  ],
)
def test_a_mistake_is_one_line(command, module, arguments, line):
  done = command(module, *arguments)
  assert done.returncode == 1 and done.stdout.startswith(f'ConfigError: {line}'), done.stdout
  assert len(done.stdout.splitlines()) == 1 and not [word for word in FOREIGN if word in done.stdout]


@pytest.mark.parametrize(
  ('flag', 'line'),
  [
    ('optim.lr=1e400', 'config.optim.lr=inf is no number to work with; give a finite one.'),
    ('optim.lr=nan', 'config.optim.lr=nan is no number to work with; give a finite one.'),
    ('optim.lr=0', 'config.optim.lr=0.0 is too small; give more than 0.'),
    ('softmax.combined=(1,1e400,2)', 'config.softmax.combined=(1, inf, 2) is no number to work with; give a '),
    ('softmax.combined=abc', "config.softmax.combined=('abc',) must be 3 numbers, "),
    ('data.source=web', "config.data.source='web' is not known; choose from synthetic, folder, records."),
    ('train.batch_size=1', 'config.train.batch_size=1 is too small; give at least 2.'),
  ],
)
def test_a_value_that_cannot_work_is_one_line(command, tmp_path, flag, line):
  done = command('train', TINY, f'--workdir={tmp_path / "run"}', f'--config.{flag}')
  assert done.returncode == 1 and done.stdout.startswith(f'ConfigError: {line}'), done.stdout
  assert len(done.stdout.splitlines()) == 1 and not (tmp_path / 'run').exists()


FILE = """from gif_jax import config

def get_config():
  c = config.default()
  {}
  return c
"""


@pytest.mark.parametrize(
  ('text', 'line'),
  [
    ('c.train.steps = 1e3', 'FILE, line 5 (c.train.steps = 1e3): steps must be a whole number, which 1000.0 is not.'),
    ("c.optim.lr = 'x'", "FILE, line 5 (c.optim.lr = 'x'): lr must be a number, which x is not."),
    ('c.train.steps = None', 'config.train.steps=None is not a whole number, at least 0, at most 2147483647.'),
    ('c.train.steps = True', 'config.train.steps=True is not a whole number, at least 0, at most 2147483647.'),
    (
      'c.train.batchsize = 1',
      'config.train.batchsize is no setting. Did you mean config.train.batch_size? --help lists all.',
    ),
    (
      'c.trian.steps = 1',
      "FILE, line 5 (c.trian.steps = 1): there is no 'trian' among the settings. Did you mean train?",
    ),
    (
      'c.train.stepps += 1',
      "FILE, line 5 (c.train.stepps += 1): there is no 'stepps' among the settings. Did you mean steps?",
    ),
    ('del c.train.steps', 'config.train.steps is missing: begin with gif_jax.config.default(), and change'),
    ('c.optim.lr = 10**400', 'FILE, line 5 (c.optim.lr = 10**400): OverflowError: '),
    ('c.checkpoint.keep = 10**5000', 'config.checkpoint.keep=a number without end is no number to work with'),
    ('import sys; sys.exit(0)', 'FILE, line 5 (import sys; sys.exit(0)): SystemExit: 0'),
    ("open('/nowhere')", "FILE, line 5 (open('/nowhere')): FileNotFoundError: "),
    ('1 / 0', 'FILE, line 5 (1 / 0): ZeroDivisionError: division by zero'),
    ('  indented', 'FILE, line 5 (indented): IndentationError: unexpected indent'),
    ('return None', 'FILE: get_config() returns None; it must end with `return`, and the settings.'),
    ('return c.to_dict()', 'FILE: get_config() returns {'),
    ('return 5', 'FILE: get_config() returns 5, not settings as gif_jax.config.default() does.'),
  ],
)
def test_a_mistake_in_a_file_of_settings_is_one_line(command, tmp_path, text, line):
  file = tmp_path / 'mine.py'
  file.write_text(FILE.format(text))
  done = command('train', f'--config={file}', f'--workdir={tmp_path / "run"}', '--verbosity=-1')
  assert done.returncode == 1 and done.stdout.startswith(f'ConfigError: {line.replace("FILE", str(file))}'), done.stdout
  assert len(done.stdout.splitlines()) == 1 and not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('text', 'line'),
  [
    ('x = 1\n', 'there is no get_config() in it'),
    ('def get_config(form):\n  return 3\n', 'the file has forms; name'),
    ('\0', 'cannot be loaded: SyntaxError: '),
    ('(', "line 1 ((): SyntaxError: '(' was never closed"),
  ],
)
def test_a_file_that_is_no_file_of_settings(command, tmp_path, text, line):
  file = tmp_path / 'mine.py'
  file.write_text(text)
  done = command('tokenize', f'--config={file}', '--output=a')
  assert done.returncode == 1 and line in done.stdout and str(file) in done.stdout, done.stdout
  assert len(done.stdout.splitlines()) == 1
