"""What is wrong with a command line, or with the file that --config names: one line with the cure."""

import linecache
import math
import re
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from gif_jax.commands import config_files
from gif_jax.commands.help import flag_words, key_words, own_flags, takes_settings
from gif_jax.core.allowed import KINDS, did_you_mean
from gif_jax.core.errors import ConfigError, UserError, reason

_KEY = re.compile(r'--?(?:no)?config\.([^=]*)(?:=.*)?', re.DOTALL)
_FILE = re.compile(r'--?config(?:=.*)?', re.DOTALL)
_CODE = 60  # characters of a line that are shown
_LOADED = 'config_config'  # what ml_collections calls the module that it makes of the file
_TYPES = re.compile(r"field '(\w+)' .*?\. (.*) is of original type .* type <class '(.*)'>", re.DOTALL)
_KINDS = {kind.__name__: words for kind, words in KINDS.items()}


def check_keys_given(arguments: Sequence[str]) -> None:
  """Raises ConfigError for a --config.KEY that does not exist, or that stands before --config or without it."""
  if not takes_settings():
    return
  from gif_jax.config import all_keys
  from gif_jax.validation import unknown

  known, file_given = all_keys(), False
  for argument in arguments:
    file_given |= bool(_FILE.fullmatch(argument))
    if not (match := _KEY.fullmatch(argument)):
      continue
    if match[1] not in known:
      raise unknown(match[1])
    if not file_given:
      raise ConfigError(f'{argument} changes a setting of --config=FILE, which must stand before it.')


def check_values() -> None:
  """Raises ConfigError for a number that is none, which passes as being within any bounds."""
  for flag in own_flags():
    if isinstance(flag.value, float) and not math.isfinite(flag.value):
      raise ConfigError(f'--{flag.name}={flag.value}: give {flag_words(flag)}.')


def of_flags(error: BaseException, arguments: Sequence[str]) -> ConfigError:
  """What absl, ml_collections or the file given to --config raised while the arguments were parsed, as one line.

  SystemExit is raised again, unless it is the file's.
  """
  text = str(error)
  if isinstance(error, flags.UnrecognizedFlagError):
    known = [*(flag.name for flag in own_flags()), 'verbosity', 'help']
    return ConfigError(f'--{error.flagname} is no flag.{did_you_mean(error.flagname, known, "--")} --help lists all.')
  if missing := re.findall(r'Flag --(\w+) must have a value', text):
    if 'config' in missing and (file := _file_given(arguments)):
      return ConfigError(f'{file}: get_config() returns None; it must end with `return`, and the settings.')
    listed = ' and '.join(f'--{name}' for name in missing)
    return ConfigError(f'{listed} must be given; --help says what for.')
  if isinstance(error, flags.IllegalFlagValueError) and not text.startswith('flag --config='):
    return _of_value(error, text)
  by_absl = isinstance(error, flags.Error) and not isinstance(error, flags.IllegalFlagValueError)
  if by_absl or text.endswith('does not take an argument'):
    return ConfigError(f'{text}; --help says what is wanted.')
  return of_file(error, _file_given(arguments))


def _file_given(arguments):
  places = [i for i, argument in enumerate(arguments) if _FILE.fullmatch(argument)]
  if not places:
    return ''
  _, equals, file = arguments[places[-1]].partition('=')
  return file if equals else ''.join(arguments[places[-1] + 1 : places[-1] + 2])


def _of_value(error, text):
  given = text.removeprefix('flag ').removesuffix(f': {error.__context__}')
  name = given[2:].partition('=')[0]
  wanted = key_words(name.removeprefix('config.')) if '.' in name else flag_words(flags.FLAGS[name])
  return ConfigError(f'{given}: give {wanted}.')


def of_file(error: BaseException, given: str) -> ConfigError:
  """What came of loading the file given to --config, FILE or FILE:FORM, which is a program, as one line.

  The place in it is named. SystemExit is raised again, unless it is the file's.
  """
  file, _, form = given.partition(':')
  if places := list(_places(error)):
    error, where, line = places[-1]
    code = linecache.getline(where, line).strip()[:_CODE]
    return ConfigError(f'{where}, line {line}{f" ({code})" if code else ""}: {_what(error)}')
  *_, error = _chain(error)
  if isinstance(error, SystemExit):
    raise error
  if isinstance(error, OSError):
    alike = did_you_mean(file.removesuffix('.py'), config_files.beside(file), after='.py')
    why = reason(error) if file and Path(file).exists() else 'no such file'
    return ConfigError(f'--config={file} cannot be read ({why}): give one such as configs/quickstart.py.{alike}')
  text = str(error)
  if 'get_config() takes' in text:
    return ConfigError(f'--config={given}: the file has no forms; leave out :{form}.')
  if 'get_config() missing' in text:
    return ConfigError(f'--config={given}: the file has forms; name one as {file}:FORM.')
  if "has no attribute 'get_config'" in text:
    return ConfigError(f'--config={given}: there is no get_config() in it, which returns the settings.')
  return ConfigError(f'--config={given} cannot be loaded: {_what(error)}')


def _chain(error) -> Iterator[BaseException]:
  """An error and those behind it; the last one came first."""
  while error is not None:
    yield error
    error = error.__cause__ or error.__context__


def _places(error) -> Iterator[tuple[BaseException, str, int]]:
  """The errors in the chain that were raised in or below the file, with the file and its line."""
  for cause in _chain(error):
    frames = traceback.walk_tb(cause.__traceback__)
    lines = [(frame.f_code.co_filename, line) for frame, line in frames if frame.f_globals.get('__name__') == _LOADED]
    if isinstance(cause, SyntaxError) and cause.lineno:
      yield cause, cause.filename or '', cause.lineno
    elif lines:
      yield cause, *lines[-1]


def _what(error):
  if isinstance(error, UserError):
    return str(error)
  if isinstance(error, AttributeError) and isinstance(error.obj, ConfigDict):
    return f'there is no {error.name!r} among the settings.{did_you_mean(error.name or "", error.obj)}'
  if match := _TYPES.search(str(error)):
    key, value, wanted = match.groups()
    return f'{key} must be {_KINDS.get(wanted, wanted)}, which {value} is not.'
  message = error.msg if isinstance(error, SyntaxError) else str(error)
  return f'{type(error).__name__}: {message}'
