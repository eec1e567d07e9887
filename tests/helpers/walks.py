"""Where a value goes: python -m tests.helpers.walks gif_jax.training.run:run faces [--root=FOLDER]

Follows an argument through the calls of the package, file by file, from the function that first has it. Prints the
files one opens, in order, and how often one returns: goes from a file into another one that one has gone into from
there before. What `core` does is not followed, nor are methods of other objects.
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.helpers.places import ROOT

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Step(NamedTuple):
  """A call that hands the value on, from one file to another or within one."""

  file: str
  function: str
  name: str  # of the value there
  caller: str = ''  # the file that it comes from


class Walker:
  """Follows values through the package in a folder."""

  def __init__(self, root: Path):
    paths = {path: '.'.join(path.relative_to(root).with_suffix('').parts) for path in (root / 'gif_jax').rglob('*.py')}
    self.trees = {name.removesuffix('.__init__'): ast.parse(path.read_text()) for path, name in paths.items()}

  def walk(self, module: str, function: str, name: str) -> Iterator[Step]:
    """All calls that hand a value on, depth first; a function is followed once."""
    seen, waiting = set(), [Step(module, function, name)]
    while waiting:
      step = waiting.pop()
      yield step
      if step[:3] not in seen:
        seen.add(step[:3])
        waiting += reversed(list(self._onwards(step)))

  def _onwards(self, step: Step) -> Iterator[Step]:
    nodes = ast.walk(self._function(step.file, step.function))
    calls = sorted((node for node in nodes if isinstance(node, ast.Call)), key=lambda node: node.lineno)
    for call in calls:
      target = self._target(step.file, call.func)
      if target and not target[0].startswith('gif_jax.core.'):
        yield from (Step(*target, name, step.file) for name in self._parameters(target, call, step.name))

  def _function(self, module: str, name: str) -> Function | None:
    """A function of a module, or what makes an object of one of its classes."""
    nodes = self.trees[module].body
    functions = [node for node in nodes if isinstance(node, Function) and node.name == name]
    classes = [node for node in nodes if isinstance(node, ast.ClassDef) and node.name == name]
    inits = [node for kind in classes for node in kind.body if isinstance(node, Function) and node.name == '__init__']
    return next(iter(functions + inits), None)

  def _target(self, module: str, called: ast.expr) -> tuple[str, str] | None:
    """(module, function) of what is called, where the package defines it."""
    names = ast.unparse(called).split('.')
    full = [*self._imports(module).get(names[0], f'{module}.{names[0]}').split('.'), *names[1:]]
    home, name = '.'.join(full[:-1]), full[-1]
    return (home, name) if home in self.trees and self._function(home, name) else None

  def _imports(self, module: str) -> dict[str, str]:
    nodes = [node for node in ast.walk(self.trees[module]) if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: f'{node.module}.{alias.name}' for node in nodes for alias in node.names}

  def _parameters(self, target: tuple[str, str], call: ast.Call, name: str) -> Iterator[str]:
    """What the value, or a part of it, is called where it arrives."""
    arguments = self._function(*target).args
    names = [parameter.arg for parameter in [*arguments.posonlyargs, *arguments.args] if parameter.arg != 'self']
    given = [*zip(names, call.args), *((keyword.arg, keyword.value) for keyword in call.keywords)]
    for parameter, value in given:
      while isinstance(value, ast.Attribute):
        value = value.value
      if parameter and isinstance(value, ast.Name) and value.id == name:
        yield parameter


def told(steps: list[Step]) -> str:
  """The files in order, with the functions that have the value there, and the counts."""
  functions: dict[str, list[str]] = {}
  for step in steps:
    functions.setdefault(step.file, []).append(step.function)
  lines = [f'  {file}: {" ".join(dict.fromkeys(names))}' for file, names in functions.items()]
  return '\n'.join([*lines, f'{len(functions)} files, {_returns(steps)} returns'])


def _returns(steps: list[Step]) -> int:
  ways = Counter((step.caller, step.file) for step in steps if step.caller not in ('', step.file))
  return sum(ways.values()) - len(ways)


if __name__ == '__main__':
  (start, value), flags = [a for a in sys.argv[1:] if a[:2] != '--'], [a for a in sys.argv[1:] if a[:2] == '--']
  walker = Walker(Path(flags[0].removeprefix('--root=')) if flags else ROOT)
  print(told(list(walker.walk(*start.split(':'), value))))
