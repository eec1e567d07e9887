"""What --help prints: what a command does, its flags, and every setting with its default, its comment and its range."""

import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from gif_jax.core.allowed import one_of, words
from gif_jax.ranges import ALLOWED

_LINE = re.compile(r'  c\.(\w+(?:\.\w+)?) = .*?(?:  # (.*))?')  # c.SECTION = ConfigDict() or c.SECTION.KEY = DEFAULT
_NUMBERS = {'int': int, 'float': float}
_WIDEST = 120
_LEFT = 27  # columns in which flags stand
_INDENT = ' ' * 6


def own_flags() -> list[flags.Flag]:
  """The flags that the command has defined, in their order; not those of libraries, nor keys of a config."""
  own: list[flags.Flag] = []
  for module, defined in flags.FLAGS.flags_by_module_dict().items():
    if not module.startswith(('absl.', 'ml_collections')):
      own += [flag for flag in defined if '.' not in flag.name]
  return own


def takes_settings() -> bool:
  """Whether the command has --config."""
  return any(flag.name == 'config' for flag in own_flags())


def flag_words(flag: flags.Flag) -> str:
  """What may be given for a flag; '' where any text will do."""
  if flag.boolean:
    return 'true or false'
  if choices := getattr(flag.parser, 'enum_values', ()):
    return one_of([choice for choice in choices if choice])
  kind = _NUMBERS.get(flag.flag_type())
  least, most = (getattr(flag.parser, f'{side}_bound', None) for side in ('lower', 'upper'))
  low, high = '(-inf' if least is None else f'[{least}', 'inf)' if most is None else f'{most}]'
  return words(kind, f'{low}, {high}') if kind else ''


def key_words(key: str) -> str:
  """What may be given for a setting, by its full name."""
  from gif_jax import config

  return words(type(config.all_keys()[key]), ALLOWED.get(key, ()))


def text(description: str) -> str:
  """All of it. description: the command's docstring, which begins with what it does and an example."""
  width = min(_WIDEST, shutil.get_terminal_size((_WIDEST, 0)).columns)
  parts = [description.strip(), '', 'Flags:', *(line for flag in own_flags() for line in _flag(flag, width))]
  parts += _entry('--verbosity=0', 'Prints what libraries have to say, too.', width)
  parts += _entry('--help', 'Prints this.', width)
  if takes_settings():
    parts += ['', *_settings(width)]
  return '\n'.join(parts)


def _entry(name, meaning, width):
  left = f'  {name}'
  first = [left] if len(left) > _LEFT - 2 else []
  lines = textwrap.wrap(meaning, max(width - _LEFT, 30), break_long_words=False, break_on_hyphens=False)
  rest = [' ' * _LEFT + line for line in lines]
  return [*first, *rest] if first else [left.ljust(_LEFT) + lines[0], *rest[1:]]


def _flag(flag, width):
  given = f'{flag.default} unless given' if flag.default not in ('', None) else ''
  if flag.boolean:
    name, notes = f'--[no]{flag.name}', f'{"yes" if flag.default else "no"} unless given'
  else:
    number = flag.flag_type() in _NUMBERS
    name = f'--{flag.name}={"NUMBER" if number else "FILE" if flag.name == "config" else "VALUE"}'
    limits = flag_words(flag)
    notes = '; '.join(filter(None, (limits.partition(', ')[2] if number else limits, given)))
  notes = 'must be given' if is_required(flag) else notes
  meaning = re.sub(r'^<.*?>: ', '', flag.help)  # absl's way to say choices
  return _entry(name, f'{meaning} ({notes})' if notes else meaning, width)


def is_required(flag: flags.Flag) -> bool:
  """Whether the command cannot do without it."""
  return any(validator.message.endswith('other than None.') for validator in flag.validators)


def _settings(width) -> Iterator[str]:
  """Every setting of `config.default`, in its order there."""
  from gif_jax import config

  yield 'Settings of --config, given after it as --config.KEY=VALUE. Here with their defaults, some of which the file'
  yield 'changes, and with what they may be: an end of a range belongs to it at [ and ], and does not at ( and ).'
  defaults = config.all_keys()
  for key, comment in _comments(Path(config.__file__).read_text()):
    if key not in defaults:
      yield from ('', f'{key}: {comment}' if comment else key)
      continue
    allowed = ALLOWED.get(key, '')
    allowed = allowed if isinstance(allowed, str) else one_of(allowed) if allowed else ''
    yield f'{f"  --config.{key}={defaults[key]!r}":<47} {allowed}'.rstrip()
    yield from textwrap.wrap(comment, width, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False)


def _comments(source: str) -> Iterator[tuple[str, str]]:
  """(section or section.key, comment) in the source of `config.default`: the lines above it and the end of its own."""
  above: list[str] = []
  for line in source.splitlines():
    if line.startswith('  # '):
      above.append(line[4:])
    elif match := _LINE.fullmatch(line):
      yield match[1], ' '.join([*above, match[2] or '']).strip()
      above = []
    else:
      above = []
