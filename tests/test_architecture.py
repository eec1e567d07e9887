"""Wings know only what stands below them, nothing knows the commands, and every setting has a reader."""

import ast
import re
from pathlib import Path

import pytest

from gif_jax.config import default

PACKAGE = Path(__file__).parent.parent / 'gif_jax'
# The street: a wing imports only wings to its left. `config` is a single file; commands are at the end of it.
STREET = ('core', 'config', 'models', 'data', 'codes', 'identification', 'evaluation', 'training')


FILES = sorted(PACKAGE.rglob('*.py'))


def _module(path):
  return '.'.join(path.relative_to(PACKAGE.parent).with_suffix('').parts)


def _is_command(path):
  """Whether the file has a block `if __name__ == '__main__'`. Commands join wings, so they may import all of them."""
  tests = [ast.unparse(node.test) for node in ast.parse(path.read_text()).body if isinstance(node, ast.If)]
  return "__name__ == '__main__'" in tests


COMMANDS = [path for path in FILES if _is_command(path)]


def _imports(path):
  """The modules of the package that a file imports, wherever in it; a name from a module counts as one too."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path}: relative imports hide what is imported'
      yield from [node.module, *(f'{node.module}.{alias.name}' for alias in node.names)]
    elif isinstance(node, ast.Import):
      yield from [alias.name for alias in node.names]


def _wings(path):
  return {name.split('.')[1] for name in _imports(path) if name.startswith('gif_jax.')} - {'__version__'}


@pytest.mark.parametrize('wing', STREET)
def test_wings_import_only_what_is_to_their_left(wing):
  house = PACKAGE / f'{wing}.py' if wing == 'config' else PACKAGE / wing
  files = [path for path in FILES if path.is_relative_to(house) and path not in COMMANDS]
  assert files
  for path in files:
    assert _wings(path) <= set(STREET[: STREET.index(wing) + 1]), path


def test_files_are_written_and_read_by_the_ground_floor_alone():
  past = re.compile(r'os\.(replace|rename|fsync)\(|\.rename\(|np\.(load|save|savez)\(|open_memmap|open\(.*encoding=')
  allowed = {PACKAGE / 'data' / 'packing.py': 1}  # a file that grows by what was made, whose every part is noted
  for path in set(FILES) - set((PACKAGE / 'core').rglob('*.py')):
    assert len(past.findall(path.read_text())) == allowed.get(path, 0), path


def test_commands_leave_errors_to_the_one_place_that_knows_them():
  for path in COMMANDS:
    text = path.read_text()
    assert 'except' not in text and 'sys.exit' not in text and 'launch(main' in text, path


def test_nothing_but_commands_imports_a_command():
  commands = set(map(_module, COMMANDS))
  for path in set(FILES) - set(COMMANDS):
    assert not commands & set(_imports(path)), path


def test_commands_are_at_the_top_but_for_those_named_here():
  inside = {_module(path) for path in COMMANDS if path.parent != PACKAGE}
  assert inside == {'gif_jax inspect'}
  shared = {'__init__', 'config', 'command_line', 'usage', 'mistakes'}
  assert {path.stem for path in PACKAGE.glob('*.py') if path not in COMMANDS} == shared


def test_no_folder_of_the_package_is_searched_for_modules():
  for path in FILES:  # gif_jax/commands/inspect.py would hide Python's own `inspect`
    assert 'sys.path' not in path.read_text(), path


def test_every_wing_is_in_the_rules():
  folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != '__pycache__'}
  assert folders == set(STREET) - {'config'}


def test_every_setting_has_a_reader():
  code = '\n'.join(path.read_text() for path in PACKAGE.rglob('*.py') if path.name != 'config.py')
  # `train.steps`, `train.steps_at_most` and `train.epochs` are read in config.py itself.
  for key in {key for keys in default().values() for key in keys} - {'steps', 'steps_at_most', 'epochs'}:
    assert re.search(rf'\.{key}\b', code), key


def test_no_setting_defaults_to_none():
  for _, keys in default().items():
    assert None not in keys.values()


def test_files_stay_readable():
  for path in PACKAGE.rglob('*.py'):
    assert len(path.read_text().splitlines()) <= 350, path


def test_the_map_of_the_house_names_every_room():
  root = PACKAGE.parent
  listed = set(re.findall(r'`((?:gif_jax|benchmarks)/\S+\.py)`', (root / 'CONTRIBUTING.md').read_text()))
  there = {str(path.relative_to(root)) for path in [*FILES, *root.glob('benchmarks/**/*.py')] if path.stat().st_size}
  assert listed == {name for name in there if not name.endswith('__init__.py')}
