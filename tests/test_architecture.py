"""Wings know only what stands below them, and every setting has a reader."""

import ast
import re
from pathlib import Path

import pytest

from gif_jax.config import default

PACKAGE = Path(__file__).parent.parent / 'gif_jax'
# Wing -> wings it may import from, itself included.
ALLOWED = {
  'codes': {'codes'},
  'models': {'models'},
  'identification': {'identification', 'codes'},
  'data': {'data', 'codes', 'config'},
  'evaluation': {'evaluation', 'identification', 'models'},
  'training': {'training', 'data', 'models', 'codes', 'evaluation', 'identification', 'config'},
}


def _imports(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('gif_jax'):
      parts = node.module.split('.')
      yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
    elif isinstance(node, ast.Import):
      yield from [a.name.split('.')[1] for a in node.names if a.name.startswith('gif_jax.')]


@pytest.mark.parametrize('wing', ALLOWED)
def test_wings_import_only_what_is_below(wing):
  files = list((PACKAGE / wing).rglob('*.py'))
  assert files
  for path in files:
    assert set(_imports(path)) <= ALLOWED[wing], path


def test_every_wing_is_in_the_rules():
  assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != '__pycache__'} == set(ALLOWED)


def test_every_setting_has_a_reader():
  code = '\n'.join(path.read_text() for path in PACKAGE.rglob('*.py') if path.name != 'config.py')
  # `train.steps` and `train.epochs` are read in config.py itself.
  for key in {key for keys in default().values() for key in keys} - {'steps', 'epochs'}:
    assert re.search(rf'\.{key}\b', code), key


def test_no_setting_defaults_to_none():
  for _, keys in default().items():
    assert None not in keys.values()


def test_files_stay_readable():
  for path in PACKAGE.rglob('*.py'):
    assert len(path.read_text().splitlines()) <= 350, path
