"""The program: python -m gif_jax VERB, or gif-jax VERB. A verb is a module of gif_jax/commands."""

import importlib
import sys

from gif_jax.commands import VERBS
from gif_jax.commands.flags import launch
from gif_jax.core.allowed import did_you_mean

_HELP = ('-h', '-?', '--help', '-help', 'help')


def main() -> None:
  """Runs the verb that the command line begins with; without one, says which there are."""
  program, verb, *rest = [*sys.argv, ''][: max(2, len(sys.argv))]
  if not verb or verb in _HELP:
    print(_usage())
    sys.exit(0 if verb else 1)
  if verb not in VERBS:
    sys.exit(f'ConfigError: {verb} is no verb.{did_you_mean(verb, VERBS)} `gif-jax --help` lists all.')
  launch(importlib.import_module(f'gif_jax.commands.{verb}'), [program, *rest])


def _usage():
  width = max(map(len, VERBS))
  lines = (f'  {verb:<{width}}  {what}' for verb, what in VERBS.items())
  return '\n'.join(['gif-jax VERB [--FLAG=VALUE ...]', '', *lines, '', 'gif-jax VERB --help says what each takes.'])


if __name__ == '__main__':
  main()
