"""Wings know only what stands to their left, nothing knows the commands, and every setting has a reader."""

import ast
import re

import pytest

from gif_jax.commands import VERBS
from gif_jax.config import default
from tests.helpers import architecture
from tests.helpers.architecture import PACKAGE, STREET, wing
from tests.helpers.places import ROOT

FILES = architecture.files()
ARROWS = architecture.graph()
COMMANDS = {f'gif_jax.commands.{verb}' for verb in VERBS}
SHARED = {'flags', 'help', 'mistakes', 'config_files'}  # what commands share
DOORS = {'gif_jax.main', 'gif_jax.__main__'}
LONG = {'gif_jax/training/train.py:train'}  # the loop, which is read from top to bottom


@pytest.mark.parametrize('name', STREET)
def test_wings_import_only_what_is_to_their_left(name):
  known = set(STREET[: STREET.index(name) + 1])
  inside = [module for module in ARROWS if wing(module) == name]
  assert inside
  for module in inside:
    assert {wing(target) for target in ARROWS[module]} - {''} <= known, module


def test_no_arrow_runs_back_and_no_circle_is_closed():
  assert architecture.arrows_back(ARROWS) == []
  assert architecture.circles(ARROWS) == []
  assert architecture.circles(architecture.grouped(ARROWS, wing)) == []


def test_arrows_back_and_circles_are_seen():
  arrows = {'gif_jax.core.a': {'gif_jax.models.b'}, 'gif_jax.models.b': {'gif_jax.core.a'}, 'gif_jax.main': set()}
  assert architecture.arrows_back(arrows) == ['gif_jax.core.a -> gif_jax.models.b']
  assert architecture.circles(arrows) == [['gif_jax.core.a', 'gif_jax.models.b']]
  assert architecture.circles(architecture.grouped(arrows, wing)) == [['core', 'models']]


def test_every_wing_is_in_the_rules():
  folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {'__pycache__', 'configs'}
  files = {path.stem for path in PACKAGE.glob('[!_]*.py')} - {'main'}
  assert folders | files == set(STREET)


def test_files_are_written_and_read_by_the_ground_floor_alone():
  past = re.compile(r'os\.(replace|rename|fsync)\(|\.rename\(|np\.(load|save|savez)\(|open_memmap|open\(.*encoding=')
  allowed = {PACKAGE / 'data' / 'convert' / 'pack.py': 1}  # a file that grows by what was made, all parts noted
  for path in set(FILES) - set((PACKAGE / 'core').rglob('*.py')):
    assert len(past.findall(path.read_text())) == allowed.get(path, 0), path


def test_commands_leave_errors_to_the_one_place_that_knows_them():
  for verb in VERBS:
    text = (PACKAGE / 'commands' / f'{verb}.py').read_text()
    assert 'except' not in text and 'sys.exit' not in text, verb


def test_nothing_but_the_doors_imports_a_command():
  for module, targets in ARROWS.items():
    if module not in DOORS:
      assert not COMMANDS & targets, module


def test_commands_are_verbs_and_what_they_share():
  assert {path.stem for path in (PACKAGE / 'commands').glob('[!_]*.py')} == set(VERBS) | SHARED


def test_only_the_doors_can_be_started():
  started = {architecture.module(path) for path in FILES if "__name__ == '__main__'" in path.read_text()}
  assert started == DOORS


def test_no_folder_of_the_package_is_searched_for_modules():
  for path in FILES:  # gif_jax/commands/inspect.py would hide Python's own `inspect`
    assert 'sys.path' not in path.read_text(), path


def test_every_setting_has_a_reader():
  code = '\n'.join(path.read_text() for path in FILES if path.name != 'config.py')
  # `train.steps`, `train.steps_at_most` and `train.epochs` are read in config.py itself.
  for key in {key for keys in default().values() for key in keys} - {'steps', 'steps_at_most', 'epochs'}:
    assert re.search(rf'\.{key}\b', code), key


def test_no_setting_defaults_to_none():
  for _, keys in default().items():
    assert None not in keys.values()


@pytest.mark.parametrize('path', FILES, ids=architecture.module)
def test_files_and_functions_stay_readable(path):
  assert len(path.read_text().splitlines()) <= 300
  assert [(name, size) for name, size in architecture.sizes(path) if size > 60 and name not in LONG] == []


@pytest.mark.slow
def test_functions_are_short_on_average():
  sizes = [size for path in FILES for _, size in architecture.sizes(path)]
  assert sum(sizes) / len(sizes) <= 8


def test_sizes_leave_out_what_is_no_code(tmp_path):
  path = ROOT / 'tests' / 'helpers' / 'places.py'  # any file of the project
  assert architecture.sizes(path) == []
  text = 'def f(\n  a,\n):\n  """Two\n  lines."""\n\n  # A comment.\n  b = """two\nlines"""\n  return b\n'
  file = tmp_path / 'a.py'
  file.write_text(text)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(architecture, 'ROOT', tmp_path)
    assert architecture.sizes(file) == [('a.py:f', 6)]


@pytest.mark.parametrize('path', FILES, ids=architecture.module)
def test_public_functions_are_annotated(path):
  missing = {f.name: architecture.not_annotated(f) for f in architecture.public_functions(path)}
  assert {name: parameters for name, parameters in missing.items() if parameters} == {}


def test_missing_annotations_are_seen():
  function = ast.parse('def f(self, a, b: int = 1, *c, d, **e: str): ...').body[0]
  assert architecture.not_annotated(function) == ['a', 'd', 'c', 'return']


def test_the_page_shows_the_street():
  (street,) = re.findall(r'^    core -> [^`]*?(?=\n\n)', architecture.PAGE.read_text(), re.M)
  assert tuple(street.replace('->', ' ').split()) == STREET


@pytest.mark.slow
def test_the_file_map_is_that_of_the_files():
  page = architecture.PAGE.read_text()
  assert page == architecture.with_map(page), 'stale: python -m tests.helpers.architecture --write'


@pytest.mark.slow
def test_every_file_says_what_it_is():
  for path in [*FILES, *(ROOT / 'benchmarks').rglob('*.py')]:
    if path.stat().st_size:
      assert architecture.first_line(path), path
