"""What all commands share: how they are started and end, their flags, their log."""

import io
import logging
import os
import re
import resource
import sys
from collections.abc import Sequence
from functools import partial
from types import ModuleType
from typing import Any

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from gif_jax.commands import config_files, help, mistakes
from gif_jax.core.errors import ConfigError, UserError, explain

flags.disclaim_key_flags()  # flags defined here belong to the command that asks for them, and stand in its --help

_FILES = 256  # file descriptors that a command may need, devices, threads and libraries included
_HELP = re.compile(r'--?(h|\?|help|helpshort|helpfull|helpxml)(=.*)?')
_INTERRUPTED = 130  # exit status of what Ctrl-C ended, by convention


def launch(command: ModuleType, argv: Sequence[str]) -> None:
  """Runs a command: the one place where errors that a user can cure become one line.

  command: a module of gif_jax/commands, with `define_flags()`, `main(argv)`, and in ARGUMENTS the names of what stands
  without a flag, all of which must be given. Its docstring begins what --help prints. argv: the program's name and
  what follows it. Exit status: 0, or 1 after an error, 130 after Ctrl-C.
  """
  command.define_flags()
  names = getattr(command, 'ARGUMENTS', ())
  parse = partial(parse_flags, names=names, description=command.__doc__ or '')
  app.run(partial(_guarded, command.main), argv=list(argv), flags_parser=parse)


def _guarded(main, argv):
  try:
    quiet_libraries()
    _allow_many_files()
    if isinstance(sys.stdout, io.TextIOWrapper):
      sys.stdout.reconfigure(errors='backslashreplace')  # names of files need not be Unicode
    return main(argv)
  except BaseException as error:
    line = explain(error)
    if line is None:
      raise
    print(line, file=sys.stderr, flush=True)
    _say_no_more()
    sys.exit(_INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1)


def _say_no_more():
  """Leaves out what libraries say of the same error while the program ends, unless --verbosity is given.

  A full disk ends many writes of a checkpoint, of which one is raised; asyncio, orbax and Python tell of the others,
  with tracebacks, as they are cleared away.
  """
  if not flags.FLAGS['verbosity'].present:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _allow_many_files():
  """Raises the limit of open files as far as may be; ConfigError where that is too low."""
  _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
  resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
  if most != resource.RLIM_INFINITY and most < _FILES:
    raise ConfigError(f'{most} files may be open at a time, {_FILES} are needed: raise the limit, `ulimit -n 4096`.')


def parse_flags(argv: list[str], names: Sequence[str] = (), description: str = '') -> list[str]:
  """What absl's app.run parses the command line with: a flag or key that cannot be is one line and exit status 1.

  names, description: see `launch`.
  """
  if any(_HELP.fullmatch(argument) for argument in argv[1:]):
    _print_help(help.text(description))
    sys.exit(0)
  try:
    if help.takes_settings():
      argv = config_files.with_installed(argv)
    mistakes.check_keys_given(argv[1:])
    absl_logging.get_absl_logger().disabled = True  # what is wrong is said below
    rest = flags.FLAGS(argv)
    mistakes.check_values()
    if help.takes_settings() and flags.FLAGS['config'].value is not None:
      read_config()  # before the libraries, which take seconds to import
  except UserError as error:
    sys.exit(explain(error))
  except (Exception, SystemExit) as error:  # absl, ml_collections, and the config file, which is a program
    sys.exit(explain(mistakes.of_flags(error, argv[1:])))
  absl_logging.get_absl_logger().disabled = False
  given = len(rest) - 1
  if given > len(names):
    sys.exit(f'ConfigError: unexpected argument {rest[1 + len(names)]!r}; settings are given as --config.KEY=VALUE.')
  if given < len(names):
    sys.exit(f'ConfigError: {names[given]} is missing; --help says what it is.')
  return rest


def _print_help(text):
  try:
    print(text, flush=True)
  except BrokenPipeError:  # whoever read it has read enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def define_config(meaning: str) -> None:
  """The flag --config, a file whose get_config() returns the settings; --config.KEY=VALUE after it changes them."""
  try:
    config_flags.DEFINE_config_file('config', None, meaning)
  except flags.Error as error:  # it looks at the command line already, where there may be a --flagfile
    sys.exit(explain(ConfigError(str(error).removeprefix('ERROR:: '))))


def define_processes() -> None:
  """The flags of a command that several processes run together (gif_jax/core/distributed/processes.py)."""
  flags.DEFINE_string('coordinator', '', 'HOST:PORT of process 0, or auto: Slurm and TPU pods say. Empty: one process.')
  flags.DEFINE_integer('processes', 0, 'How many processes run this command together, with the same flags but one:')
  flags.DEFINE_integer('process', -1, 'Which of them this one is, from 0.')


def quiet_libraries() -> None:
  """Logs this project's messages and only the errors of others, unless --verbosity is given."""
  if not flags.FLAGS['verbosity'].present:
    absl_logging.set_verbosity(absl_logging.ERROR)
    absl_logging.get_absl_logger().addFilter(_is_not_raised_too)
  logging.getLogger('gif_jax').setLevel(logging.INFO)


def _is_not_raised_too(record) -> bool:
  """False for what orbax logs: it raises the same, which then is said in one line, and logs it with its traceback."""
  return 'orbax' not in record.pathname


def read_config() -> ConfigDict:
  """The settings of --config, as the flags after it change them.

  Raises ConfigError where the file could not be loaded, and as `validation.check_keys`.
  """
  from gif_jax.validation import check_keys

  flag = flags.FLAGS['config']
  file = config_flags.get_config_filename(flag)
  try:
    settings: Any = flag.value
    if not hasattr(settings, 'copy_and_resolve_references'):  # OSError, of a file that could not be read
      raise ConfigError(
        f'{file}: get_config() returns {settings!r:.40}, not settings as gif_jax.config.default() does.'
      )
    config = settings.copy_and_resolve_references()
  except OSError as error:
    raise mistakes.of_file(error, file) from error
  check_keys(config)
  return config
