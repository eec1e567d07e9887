"""Flags that make any experiment a run of seconds: the sizes of tests/helpers/tiny.py and two steps."""

from gif_jax.config import all_keys
from tests.helpers import tiny

_TINY = {f'{section}.{key}': value for section, keys in tiny.get_config().items() for key, value in keys.items()}
SETTINGS = {key: value for key, value in _TINY.items() if value != all_keys()[key]}
SETTINGS |= {'train.steps': 2, 'data.workers': 0, 'data.cache': False, 'eval.every_steps': 0}
SETTINGS |= {'eval.validation_identities': 0, 'eval.identities': 0, 'data.held_out': 0}

# `joint` with everything that moves its rows within a few steps, as keywords of `flags`.
JOINT = {'joint__enabled': True, 'joint__negatives': 5, 'joint__lr': 4.0, 'joint__retokenize_every_steps': 3}


def flags(**changes) -> list[str]:
  """changes: further settings, with __ for the dot: train__steps=4."""
  settings = SETTINGS | {key.replace('__', '.'): value for key, value in changes.items()}
  return [f'--config.{key}={value}' for key, value in settings.items()]
