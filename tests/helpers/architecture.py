"""The architecture as the code has it: python -m tests.helpers.architecture [--write]

Prints wings and the arrows between them, arrows that run back, circles, files per folder, the longest files and the
sizes of functions. With --write the file map in docs/architecture.md is made anew from the first lines of docstrings.
"""

import ast
import io
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path
from statistics import mean

from tests.helpers.places import ROOT

# The street: a wing imports only wings to its left. A wing is a folder, or a file of the same name.
STREET = (
  'core',
  'config',
  'ranges',
  'validation',
  'models',
  'data',
  'codes',
  'audit',
  'identification',
  'evaluation',
  'training',
  'planning',
  'commands',
)
PACKAGE = ROOT / 'gif_jax'
PAGE = ROOT / 'docs' / 'architecture.md'
BEGIN, END = '<!-- file map: python -m tests.helpers.architecture --write -->', '<!-- end of file map -->'
_SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
_SELF = ('self', 'cls')

Function = ast.FunctionDef | ast.AsyncFunctionDef


def files() -> list[Path]:
  """The package's files; those of gif_jax/configs, a link to configs/, are experiments and not part of it."""
  return sorted(path for path in PACKAGE.rglob('*.py') if not path.is_relative_to(PACKAGE / 'configs'))


def module(path: Path) -> str:
  """gif_jax.core.lists for gif_jax/core/lists.py, gif_jax.core for gif_jax/core/__init__.py."""
  return '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')


def room(name: str) -> str:
  """The folder that a module lies in, as a module; a file beside the wings is a room of its own."""
  parent = name.rpartition('.')[0]
  return name if (ROOT / name.replace('.', '/')).is_dir() or parent == PACKAGE.name else parent


def wing(name: str) -> str:
  """core for gif_jax.core.lists; '' for the package itself."""
  return [*name.split('.'), ''][1]


def _imported(path: Path) -> Iterator[str]:
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom):
      if node.level:
        raise ValueError(f'{path}: relative imports hide what is imported')
      yield from (f'{node.module}.{alias.name}' for alias in node.names)
    elif isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)


def _longest(name: str, modules: Container[str]) -> str:
  """The module that a dotted name names, or that holds what it names; '' where it is of another package."""
  while name and name not in modules:
    name = name.rpartition('.')[0]
  return name


def graph() -> dict[str, set[str]]:
  """Module -> the modules of the package that it imports, wherever in it. A folder stands for its __init__.py alone."""
  names = {module(path): path for path in files()}
  return {name: {_longest(given, names) for given in _imported(path)} - {'', name} for name, path in names.items()}


def grouped(arrows: Mapping[str, set[str]], of: Callable[[str], str]) -> dict[str, set[str]]:
  """The same arrows between wings or rooms: `of` maps a module to its own."""
  groups = defaultdict(set)
  for name, targets in arrows.items():
    groups[of(name)] |= {of(target) for target in targets} - {of(name)}
  return dict(groups)


def arrows_back(arrows: Mapping[str, set[str]]) -> list[str]:
  """'a -> b' for every module that imports one of a wing further right. The doors of the package may import all."""
  order = {name: i for i, name in enumerate(STREET)}
  return [
    f'{name} -> {target}'
    for name, targets in sorted(arrows.items())
    for target in sorted(targets)
    if order.get(wing(name), len(STREET)) < order.get(wing(target), -1)
  ]


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
  """Groups of names that reach each other."""
  reach = {name: _reachable(name, arrows) for name in arrows}
  groups = {tuple(sorted(other for other in reach[name] if name in reach[other])) for name in arrows}
  return [list(group) for group in sorted(groups) if group]


def _reachable(name: str, arrows: Mapping[str, set[str]]) -> set[str]:
  reached, waiting = set(), [name]
  while waiting:
    new = arrows.get(waiting.pop(), set()) - reached
    reached |= new
    waiting += new
  return reached


def public_functions(path: Path) -> Iterator[Function]:
  """Functions of a file and methods of its classes, but for those of which a name begins with _."""
  tree = ast.parse(path.read_text())
  classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith('_')]
  for holder in (tree, *classes):
    for node in holder.body:
      if isinstance(node, Function) and not node.name.startswith('_'):
        yield node


def not_annotated(function: Function) -> list[str]:
  """Parameters without a type, and 'return' where the result has none."""
  given = function.args
  parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
  names = [parameter.arg for parameter in parameters if not parameter.annotation and parameter.arg not in _SELF]
  return names + ['return'] * (function.returns is None)


def sizes(path: Path) -> list[tuple[str, int]]:
  """(file:name, lines) of every function, its head among them, without docstrings, comments and blank lines."""
  text, name = path.read_text(), path.relative_to(ROOT)
  code = _lines_of_code(text)
  nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, Function)]
  return [(f'{name}:{node.name}', len(code & set(range(node.lineno, node.end_lineno + 1)))) for node in nodes]


def _lines_of_code(text: str) -> set[int]:
  lines = set()
  for token in tokenize.generate_tokens(io.StringIO(text).readline):
    if token.type not in _SILENT:
      lines |= set(range(token.start[0], token.end[0] + 1))
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
      lines -= set(range(node.lineno, node.end_lineno + 1))
  return lines


def file_map() -> str:
  """The generated part of docs/architecture.md: every folder, and every file with the first line of its docstring."""
  folders = defaultdict(list)
  for path in [*files(), *sorted((ROOT / 'benchmarks').rglob('*.py'))]:
    folders[path.parent].append(path)
  return '\n\n'.join(_folder(folder, paths) for folder, paths in sorted(folders.items()))


def _folder(folder: Path, paths: list[Path]) -> str:
  rows = [f'| `{path.name}` | {_cell(first_line(path))} |' for path in paths if path.stem != '__init__']
  about = first_line(folder / '__init__.py') if (folder / '__init__.py').exists() else ''
  title = [f'### {folder.relative_to(ROOT)}/', *filter(None, [about])]
  return '\n\n'.join([*title, '\n'.join(['| file | what it is |', '| --- | --- |', *rows])])


def _cell(line: str) -> str:
  return line.replace('|', '\\|').replace('<', '&lt;')


def first_line(path: Path) -> str:
  """The first line of a file's docstring."""
  return (ast.get_docstring(ast.parse(path.read_text())) or '').partition('\n')[0]


def with_map(page: str) -> str:
  """The page with the file map as it should be between its two marks."""
  before, _, rest = page.partition(BEGIN)
  _, _, after = rest.partition(END)
  return f'{before}{BEGIN}\n\n{file_map()}\n\n{END}{after}'


def report() -> str:
  """All that is printed."""
  arrows = graph()
  return '\n'.join([*_graph_lines(arrows), '', *_size_lines()])


def _graph_lines(arrows: Mapping[str, set[str]]) -> Iterator[str]:
  wings = grouped(arrows, wing)
  yield 'Wings, and what each imports:'
  for name in STREET:
    yield f'  {name:<15} {" ".join(other for other in STREET if other in wings.get(name, ()))}'
  rooms = grouped(arrows, room)
  count = sum(map(len, wings.values())), len(rooms), sum(map(len, rooms.values()))
  yield '{} arrows between wings; {} rooms, {} arrows between rooms'.format(*count)
  yield f'Arrows that run back: {", ".join(arrows_back(arrows)) or "none"}'
  yield f'Circles of wings: {_named(circles(wings))}'
  yield f'Circles of files: {_named(circles(arrows))}'
  yield f'Rooms of a wing that use each other: {_named(circles(rooms))}'


def _named(groups: list[list[str]]) -> str:
  return '; '.join(' '.join(group) for group in groups) or 'none'


def _size_lines() -> Iterator[str]:
  folders = Counter(str(path.parent.relative_to(ROOT)) for path in files() if path.stem != '__init__')
  lines = Counter({str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files()})
  sized = [pair for path in files() for pair in sizes(path)]
  yield f'{sum(folders.values())} files in {len(folders)} folders, {lines.total()} lines'
  yield f'Largest folders: {_top(folders.items())}'
  yield f'Longest files: {_top(lines.items())}'
  yield f'{len(sized)} functions, mean {mean(size for _, size in sized):.1f} lines'
  yield f'Longest functions: {_top(sized)}'


def _top(counts: Iterable[tuple[str, int]]) -> str:
  return ', '.join(f'{name} {count}' for name, count in sorted(counts, key=lambda pair: -pair[1])[:8])


if __name__ == '__main__':
  if '--write' in sys.argv[1:]:
    PAGE.write_text(with_map(PAGE.read_text()))
  else:
    print(report())
