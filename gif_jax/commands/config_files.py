"""Files that --config may name: those of the working directory, then those installed with the package."""

import re
from collections.abc import Sequence
from pathlib import Path

import gif_jax

INSTALLED = Path(gif_jax.__file__).parent / 'configs'
_FILE = re.compile(r'(--?config=)?(configs/(\w+\.py)(:.*)?)', re.DOTALL)


def with_installed(arguments: Sequence[str]) -> list[str]:
  """A command line whose --config=configs/NAME.py is the installed file where the working directory has none."""
  before = ['', *arguments]
  return [_installed(argument, before[i]) for i, argument in enumerate(arguments)]


def _installed(argument: str, before: str) -> str:
  match = _FILE.fullmatch(argument)
  if not match or not (match[1] or before in ('--config', '-config')):
    return argument
  option, given, name, form = (part or '' for part in match.groups())
  file = given.removesuffix(form)
  return f'{option}{INSTALLED / name}{form}' if not Path(file).exists() and (INSTALLED / name).exists() else argument


def beside(file: str) -> list[str]:
  """Files that may be meant instead of one that does not exist, without `.py`."""
  folder = Path(file).parent
  names = {path.stem for path in folder.glob('*.py')}
  if folder == Path('configs'):
    names |= {path.stem for path in INSTALLED.glob('*.py')}
  return [str(folder / name) for name in sorted(names - {'__init__'})]
