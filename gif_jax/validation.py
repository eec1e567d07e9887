"""What cannot work among settings: each said in one line that names the key and the cure."""

from ml_collections import ConfigDict

from gif_jax.config import all_keys, default
from gif_jax.core.allowed import did_you_mean, problem, shown
from gif_jax.core.errors import ConfigError
from gif_jax.core.pair_counts import too_few_pairs, usable_pairs
from gif_jax.ranges import ALLOWED


def unknown(key: str) -> ConfigError:
  """That there is no such key, and the nearest one that there is."""
  if key in default():
    return ConfigError(f'config.{key} is a section: give one of its settings, config.{key}.KEY; --help lists all.')
  return ConfigError(f'config.{key} is no setting.{did_you_mean(key, all_keys(), "config.")} --help lists all.')


def check_keys(config: ConfigDict) -> None:
  """Raises ConfigError where a key is missing or is none of `default`, or its value is not one of those ALLOWED."""
  known = default()
  for section in config:
    if section not in known:
      raise ConfigError(f'config.{section} is no setting.{did_you_mean(section, known, "config.")} --help lists all.')
  for section, defaults in known.items():
    keys = config.get(section)
    if not isinstance(keys, ConfigDict):
      raise ConfigError(f'config.{section} is missing: begin with gif_jax.config.default(), and change what you must.')
    for key in keys:
      if key not in defaults:
        raise unknown(f'{section}.{key}')
    for key, value in defaults.items():
      name = f'{section}.{key}'
      if key not in keys:
        raise ConfigError(f'config.{name} is missing: begin with gif_jax.config.default(), and change what you must.')
      if wrong := problem(keys[key], type(value), ALLOWED.get(name, '')):
        raise ConfigError(f'config.{name}={shown(keys[key])} {wrong}')


def validate(config: ConfigDict) -> None:
  """Raises ConfigError at the first setting that cannot work, naming its key and the cure."""
  check_keys(config)
  if not config.train.steps and not config.train.epochs:
    raise ConfigError('config.train.steps=0 and config.train.epochs=0: set one above 0, or nothing will be trained.')
  _check_batch(config.train)
  _check_margin('loss', config.loss)
  if config.softmax.margin_type != 'combined':
    _check_margin('softmax', config.softmax)
  _check_softmax(config)
  _check_encoder(config.tokenizer)
  _check_evaluation(config.eval)


def _check_batch(train):
  """Parts of a batch are equally large, and BatchNorm learns nothing from a single image."""
  for key in ('neighbours', 'accumulate'):
    if train.batch_size % train[key]:
      raise ConfigError(
        f'config.train.{key}={train[key]} does not divide config.train.batch_size={train.batch_size}: give a divisor, '
        'such as 4.'
      )
  if train.batch_size // train.accumulate < 2:
    raise ConfigError(
      f'config.train.batch_size={train.batch_size} in config.train.accumulate={train.accumulate} parts is one image at '
      f'a time, of which BatchNorm learns nothing: give a batch of at least {2 * train.accumulate}, or fewer parts.'
    )


def _check_margin(section, keys):
  """A cosine less a margin of 1 is reached by nobody; an angle is less than pi/2 by ALLOWED."""
  if keys.margin_type != 'arcface' and keys.margin >= 1:
    raise ConfigError(
      f'config.{section}.margin={keys.margin} is too large for {keys.margin_type}, which takes it off the cosine; give '
      'at least 0, less than 1.'
    )


def _check_softmax(config):
  """What cannot work, or what nothing would read."""
  settings, defaults = config.softmax, default().softmax
  changed = [key for key in settings if settings[key] != defaults[key]]
  codes = [key for key in ('table', 'vectors') if config.tokenizer[key]]
  problems = {
    'joint.enabled': (config.joint.enabled, 'and config.softmax.enabled are two ways to train: set one to False.'),
    f'tokenizer.{"".join(codes[:1])}': (codes, 'is for codes, which a softmax does not have: leave it empty.'),
    'train.neighbours': (config.train.neighbours > 1, 'needs codes, which a softmax does not have: set it to 1.'),
    'model.sequence': (config.model.sequence, 'reads codes, which a softmax does not have: set it to 0.'),
    'softmax.margin_type': (
      settings.margin_type != 'combined' and 'combined' in changed,
      "does not read config.softmax.combined: set it to 'combined', or give config.softmax.margin alone.",
    ),
  }
  if not settings.enabled:
    bad = [key for key in changed if key != 'enabled']
    problems = {f'softmax.{bad[0]}': (True, 'is of a softmax: set config.softmax.enabled=True too.')} if bad else {}
  for key, (bad, cure) in problems.items():
    if bad:
      section, name = key.split('.')
      raise ConfigError(f'config.{key}={config[section][name]!r} {cure}')


def _check_encoder(settings):
  encoder, path = settings.encoder, settings.encoder_path
  if path and encoder == 'pixels':
    raise ConfigError(
      f'config.tokenizer.encoder_path={path}: pixels has no weights to read; leave it empty, or set '
      'config.tokenizer.encoder to clip or backbone.'
    )
  if not path and encoder != 'pixels':
    folder = {'clip': "with CLIP's config.json and model.safetensors", 'backbone': 'of a run (its --workdir)'}[encoder]
    raise ConfigError(f'config.tokenizer.encoder={encoder} needs config.tokenizer.encoder_path, the folder {folder}.')


def _check_evaluation(settings):
  """What would be noticed only when the metrics are computed, if it were not said here."""
  if settings.pairs % 20:
    raise ConfigError(f'config.eval.pairs={settings.pairs} must be a multiple of 20: 10 folds, half of each genuine.')
  if settings.every_steps and not (settings.validation_identities or settings.targets):
    raise ConfigError(
      f'config.eval.every_steps={settings.every_steps} needs validation people or targets: set it to 0, '
      'config.eval.validation_identities to 2 or more, or name config.eval.targets.'
    )
  for key in ('identities', 'validation_identities'):
    people = settings[key]
    if people == 1:
      raise ConfigError(f'config.eval.{key}=1 gives no two people to tell apart; give 0 or at least 2.')
    if people and not usable_pairs([settings.images] * people, settings.pairs):
      raise too_few_pairs([settings.images] * people, key)
