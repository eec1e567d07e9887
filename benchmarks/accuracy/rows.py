"""What the accuracy benchmark compares: the rows, the trials of the tuned ones, the parts, and what must be equal."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from configs import quickstart, quickstart_joint, quickstart_published, quickstart_softmax
from gif_jax import config
from gif_jax.core.errors import ConfigError
from gif_jax.validation import validate

_ALONE = {'loss.digits': 0.0, 'loss.gamma': 0.0, 'joint.negatives': 0, 'joint.embeddings': 0.0}
# Name -> the experiment, and what a variant or a control changes of it.
ROWS = {
  'published': (quickstart_published, {}),
  'fixed': (quickstart, {}),
  'joint': (quickstart_joint, {}),
  'ArcFace': (quickstart_softmax, {}),
  'CosFace': (quickstart_softmax, {'softmax.margin_type': 'cosface'}),
  'AdaFace': (quickstart_softmax, {'softmax.margin_type': 'adaface'}),
  'Partial FC 0.1': (quickstart_softmax, {'softmax.sample_rate': 0.1, 'softmax.scale': 6.0}),  # by its trials
  'Partial FC 0.3': (quickstart_softmax, {'softmax.sample_rate': 0.3}),
  # Partial FC with the centres of the batch's identities and no others: what is left of `joint` without the method.
  'in-batch softmax alone': (quickstart_joint, _ALONE),
  'joint without negatives': (quickstart_joint, {'joint.negatives': 0}),
  'joint without embeddings': (quickstart_joint, {'joint.embeddings': 0.0}),
  'joint without digits': (quickstart_joint, {'loss.digits': 0.0}),
  'joint, sequence decoder': (quickstart_joint, {'model.sequence': 128}),
  'joint, random codes': (quickstart_joint, {'tokenizer.codes': 'random'}),
  'fixed, random codes': (quickstart, {'tokenizer.codes': 'random'}),
  'L_C alone': (quickstart, {'loss.gamma': 0.0}),
  'L_AR alone': (quickstart, {'loss.digits': 0.0}),
}
MAIN = ('ArcFace', 'Partial FC 0.1', 'fixed', 'joint')  # the rows that are tuned


def _trials(keys, *values):
  return [dict(zip(keys.split(), trial, strict=True)) for trial in values]


_SOFTMAX = 'softmax.scale softmax.margin optim.lr'
_CODES = 'loss.scale loss.margin optim.lr'
_JOINT = 'joint.scale joint.negatives joint.lr loss.digits_until joint.embeddings'
_SMALL = _trials(_SOFTMAX, (8.0, 0.3, 0.8), (12.0, 0.3, 0.8), (6.0, 0.3, 0.8))
_LARGE = _trials(_SOFTMAX, *((scale, 0.3, rate) for scale in (16.0, 8.0) for rate in (0.8, 1.6)), (6.0, 0.3, 0.8))
_DIGITS = _trials(_CODES, (16.0, 0.2, 0.4), (16.0, 0.2, 0.8), (8.0, 0.2, 0.8))
# Part -> row -> the trials it is tuned with there, see `check_trials`.
TRIALS = {
  'tuning': {
    'ArcFace': _SMALL,
    'Partial FC 0.1': _SMALL,
    'fixed': _DIGITS,
    'joint': _trials(_JOINT, *((8.0, 512, 4.0, 0.7, counted) for counted in (0.0, 1.0, 3.0))),
  },
  'tuning_ten_thousand': {
    'ArcFace': _LARGE,
    'Partial FC 0.1': _LARGE,
    'fixed': _DIGITS + _trials(_CODES, (8.0, 0.2, 1.6), (4.0, 0.2, 0.8)),
    'joint': _trials(_JOINT, *((8.0, 512, rate, 0.7, 1.0) for rate in (4.0, 8.0, 16.0, 32.0)))
    + _trials(_JOINT, (6.0, 512, 16.0, 0.7, 1.0)),
  },
}


class Part(NamedTuple):
  """A comparison: what all its rows have in common, the rows it has unless others are asked for, and its seeds.

  tuned: the part of TRIALS that its settings are from. chosen: row -> what was chosen there and is not in configs/.
  """

  changes: dict
  rows: tuple[str, ...]
  seeds: tuple[int, ...] = (0, 1, 2)
  tuned: str = 'tuning'
  chosen: Mapping[str, dict] = {}


def _budget(m, steps):
  """Validation people are looked at eight times."""
  return {'data.identities': m, 'train.steps': steps, 'eval.every_steps': steps // 8}


def _tuning(m, steps):
  """Validation people alone are looked at, more of them and once. Those who are reported on are not seen."""
  return _budget(m, steps) | {'eval.every_steps': steps, 'eval.identities': 0, 'eval.validation_identities': 400}


# In tuning_ten_thousand; controls are as what they control.
_CHOSEN = {
  'ArcFace': {'softmax.scale': 6.0},
  'Partial FC 0.1': {'softmax.scale': 8.0},
  'joint': {'joint.lr': 16.0},
  'fixed': {'loss.scale': 4.0},
  'joint without digits': {'joint.lr': 16.0},
}
_IMAGES = {'data.images': 14}  # of each person, where there are many
PARTS = {
  'tuning': Part(_tuning(1000, 1400), MAIN, seeds=(0,)),
  'tuning_ten_thousand': Part(_tuning(10_000, 1200) | _IMAGES, MAIN, seeds=(0,), tuned='tuning_ten_thousand'),
  'thousand': Part(_budget(1000, 1400), tuple(ROWS)),
  'ten_thousand': Part(_budget(10_000, 4000) | _IMAGES, MAIN, tuned='tuning_ten_thousand', chosen=_CHOSEN),
  'hundred_thousand': Part(_budget(100_000, 40_000) | _IMAGES, MAIN, tuned='tuning_ten_thousand', chosen=_CHOSEN),
  # About as many images as in `thousand`: 40 of the first person, 2 of the last.
  'tail': Part(_budget(1000, 1400) | {'data.images': 40, 'data.imbalance': 20.0}, MAIN),
  'noise': Part(_budget(1000, 1400) | {'data.label_noise': 0.2}, MAIN),
}
SEEDS = ('train.seed', 'tokenizer.seed')  # initial weights, order, augmentation; clustering. The people are the same
# Sections and keys that no row may have of its own.
_EQUAL = (
  'data.',
  'augment.',
  'eval.',
  'train.steps',
  'train.epochs',
  'train.batch_size',
  'train.accumulate',
  'train.ema',
  'model.backbone',
  'model.d',
  'model.dropout',
  'model.dtype',
)
_SAVED = ('checkpoint.', 'log.')  # of what is written when: no metric depends on it


class Run(NamedTuple):
  """One training: a row of a part with a seed, and the folder it is or will be in."""

  row: str
  seed: int
  config: config.ConfigDict
  folder: Path


def check_trials(trials: dict) -> None:
  """Raises ValueError unless every method has equally many trials, all different, each naming all keys it is tuned in.

  A trial that names them all stays what it was when one of them is chosen and written into configs/.
  """
  counts = {method: len({json.dumps(trial, sort_keys=True) for trial in own}) for method, own in trials.items()}
  listed = {method: len(own) for method, own in trials.items()}
  if counts != listed or len(set(counts.values())) > 1:
    raise ValueError(f'every method must have as many different trials: of {listed} these differ: {counts}.')
  for method, own in trials.items():
    if len({tuple(sorted(trial)) for trial in own}) > 1:
      raise ValueError(f'TRIALS[{method!r}]: all trials of a method must name the same keys.')


def trials_of(part: str, method: str) -> dict[str, dict]:
  """Name of a row of a part that tunes -> what it changes."""
  trials = TRIALS[part][method]
  return {f'{method} {" ".join(f"{key}={value}" for key, value in trial.items())}': trial for trial in trials}


def slug(row: str) -> str:
  """The name of a row as that of a folder."""
  return re.sub(r'[^\w.=-]+', '_', row)


def runs_of(part: str, output: Path, rows: Sequence[str] = (), seeds: Sequence[int] = (), steps: int = 0) -> list[Run]:
  """The runs of a part, the first seed of all rows first. Raises ConfigError for settings that cannot work.

  rows, seeds, steps: instead of the part's own.
  """
  wanted = rows or PARTS[part].rows
  changes = {name: {} for name in wanted}
  if part in TRIALS:
    check_trials(TRIALS[part])
    changes = {name: trial for method in wanted for name, trial in trials_of(part, method).items()}
  runs = []
  for seed in seeds or PARTS[part].seeds:
    for name, trial in changes.items():
      method = name if name in ROWS else next(method for method in wanted if name in trials_of(part, method))
      settings = make_config(part, method, seed, trial, steps)
      runs.append(Run(name, seed, settings, output / part / f'{slug(name)}_{seed}'))
  check_budget({f'{run.row}, seed {run.seed}': flat(plain(run.config)) for run in runs})
  return runs


def make_config(part: str, row: str, seed: int, trial: dict, steps: int = 0) -> config.ConfigDict:
  """The settings of a row with a seed. Raises ConfigError for keys that this version does not have."""
  experiment, changes = ROWS[row]
  settings = experiment.get_config()
  changes = changes | PARTS[part].chosen.get(row, {}) | trial | PARTS[part].changes | dict.fromkeys(SEEDS, seed)
  if steps:
    changes |= {'train.steps': steps, 'eval.every_steps': max(1, steps // 8)}
  check_keys(changes, f'the row {row!r} of {part}')
  settings.update_from_flattened_dict(changes)
  validate(settings)
  return settings


def check_keys(keys: Iterable[str], whose: str) -> None:
  """Raises ConfigError for the first key that is not one of this version's settings."""
  known = flat(plain(config.default()))
  for key in keys:
    if key not in known:
      raise ConfigError(f'config.{key} of {whose} is no setting of this version: use the one that has it.')


def check_budget(configs: dict[str, dict]) -> None:
  """Raises ConfigError where rows, name -> flat settings, differ in what all must have in common."""
  (first, expected), *others = configs.items()
  for name, settings in others:
    for key in differences(expected, settings):
      if key.startswith(_EQUAL):
        raise ConfigError(
          f'config.{key} is {expected.get(key)!r} for {first}, {settings.get(key)!r} for {name}: nothing to compare. '
          'Give all rows the same.'
        )


def plain(settings: config.ConfigDict) -> dict:
  """Settings as JSON has them."""
  return json.loads(json.dumps(settings.to_dict()))


def flat(settings: dict) -> dict:
  """{section: {key: value}} -> {'section.key': value}."""
  return {f'{section}.{key}': value for section, keys in settings.items() for key, value in keys.items()}


def differences(one: dict, other: dict) -> list[str]:
  """Keys in which flat settings differ and that a metric can depend on.

  Where one lacks a key, made before there was one, the default counts.
  """
  default = flat(plain(config.default()))
  one, other = (
    {key: value for key, value in (default | some).items() if not key.startswith(_SAVED)} for some in (one, other)
  )
  return [key for key in sorted(one | other) if key not in one or key not in other or one[key] != other[key]]
