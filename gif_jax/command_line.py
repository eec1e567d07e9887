"""What all commands share: their flags, their log, the folders they write to."""

import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict

from gif_jax.config import ConfigError

flags.disclaim_key_flags()  # flags defined here belong to the command that asks for them, and stand in its --help


def parse_flags(argv: list[str], names: Sequence[str] = ()) -> list[str]:
  """What absl's app.run parses the command line with; an unknown key or argument is one line and exit status 1.

  names: of the arguments that stand without a flag, all of which must be given.
  """
  try:
    rest = app.parse_flags_with_usage(argv)
  except AttributeError as error:
    cause = error.args[0]  # ml_collections wraps its own error, which has a suggestion on its second line
    message = cause.args[0] if isinstance(cause, Exception) else cause
    sys.exit(f'ConfigError: unknown config key {message}\nEvery key is in gif_jax/config.py.')
  given = len(rest) - 1
  if given > len(names):
    sys.exit(f'ConfigError: unexpected argument {rest[1 + len(names)]!r}; settings are given as --config.KEY=VALUE.')
  if given < len(names):
    sys.exit(f'ConfigError: {names[given]} is missing; --help says what it is.')
  return rest


def define_processes() -> None:
  """The flags of a command that several processes run together (gif_jax/training/processes.py)."""
  flags.DEFINE_string('coordinator', '', 'HOST:PORT of process 0, or auto: Slurm and TPU pods say. Empty: one process.')
  flags.DEFINE_integer('processes', 0, 'How many processes run this command together, with the same flags but one:')
  flags.DEFINE_integer('process', -1, 'Which of them this one is, from 0.')


def quiet_libraries() -> None:
  """Logs this project's messages and only the errors of others, unless --verbosity is given."""
  if not flags.FLAGS['verbosity'].present:
    absl_logging.set_verbosity(absl_logging.ERROR)
  logging.getLogger('gif_jax').setLevel(logging.INFO)


def read_flag(holder) -> ConfigDict:
  """The value of a config-file flag. Raises ConfigError where the file could not be loaded."""
  try:
    return holder.value.copy_and_resolve_references()
  except OSError as error:
    raise ConfigError(f'the file given to --config cannot be loaded: {error}') from error


def make_writable(flag: str, folder: Path) -> None:
  """Makes the folder that --FLAG names, and a file in it: hours of work must not end in an error about permissions.

  Raises ConfigError where that cannot be done.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    raise ConfigError(
      f'--{flag}={folder} cannot be written to ({error.strerror}); name a folder that can, or free this one.'
    ) from error
