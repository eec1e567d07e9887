"""Settings: every experiment is valid, and what cannot work says so."""

import contextlib
import importlib
import itertools
import logging
import math
from pathlib import Path

import pytest

from gif_jax import config
from gif_jax.commands import train
from gif_jax.core.allowed import problem, ranges
from gif_jax.core.pair_counts import usable_pairs
from gif_jax.data.drawn_pairs import check_pairs
from gif_jax.ranges import ALLOWED
from gif_jax.validation import check_keys, validate

EXPERIMENTS = sorted(path.stem for path in (Path(__file__).parent.parent / 'configs').glob('[!_]*.py'))


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_experiments_are_valid_and_say_how_to_run_them(name):
  module = importlib.import_module(f'configs.{name}')
  validate(module.get_config())
  assert f'python -m gif_jax.main --config=configs/{name}.py' in module.__doc__


def test_the_papers_values_in_published():
  for name in ('quickstart_published', 'r100'):
    c = importlib.import_module(f'configs.{name}').get_config()
    tokenizer = c.tokenizer
    assert (tokenizer.cluster, tokenizer.codes) == ('homogenized', 'tree')
    assert not tokenizer.whiten
    assert (tokenizer.homogenize_epochs, tokenizer.homogenize_lr, tokenizer.homogenize_subset) == (1000, 0.1, 2048)
    assert not tokenizer.homogenize_scaled
    assert (c.loss.digits, c.loss.gamma) == (1.0, 1.0)
    assert (c.optim.name, c.optim.lr, c.optim.momentum, c.optim.schedule) == ('sgd', 0.1, 0.9, 'cosine')


def test_steps_win_over_epochs():
  c = config.default()
  c.train.epochs, c.train.batch_size = 2.0, 32
  assert config.train_steps(c, images=100) == 7  # 200 images, 6.25 batches
  c.train.steps_at_most = 7
  assert [config.train_steps(c, images) for images in (50, 100, 113, 10**9)] == [4, 7, 7, 7]
  c.train.steps = 9
  assert config.train_steps(c, images=100) == 9  # asked for by name
  c.train.steps, c.train.steps_at_most, c.train.epochs = 0, 0, 1e6
  with pytest.raises(config.ConfigError, match=r'config\.train\.epochs=1000000\.0 are 3125000000 steps; give fewer'):
    config.train_steps(c, images=100_000)


def test_photographs_are_trained_on_for_minutes_however_many_there_are():
  c = importlib.import_module('configs.folder').get_config()
  assert config.train_steps(c, images=240) == 375
  # Of 128 images each, 1400 steps of the quickstart take 6 minutes on 2 cores, all else included.
  assert config.train_steps(c, images=38 * 64) * c.train.batch_size < 1400 * 128
  assert config.train_steps(c, images=10**6) == config.train_steps(c, images=38 * 64)


@pytest.mark.parametrize(
  ('key', 'value'),
  [
    ('data.size', 8),
    ('augment.flip', 1.5),
    ('augment.jpeg', -0.1),
    ('loss.margin_type', 'sphere'),
    ('loss.digits_until', 1.5),
    ('loss.digits_until', -0.1),
    ('eval.pairs', 0),
    ('eval.pairs', 6010),
    ('eval.identities', 1),
    ('eval.identities', -2),
    ('eval.validation_identities', 1),
    ('data.bad_images', 'delete'),
    ('model.backbone', 'r9'),
    ('train.steps', -1),
  ],
)
def test_an_impossible_value_is_named(key, value):
  c = config.default()
  c.train.steps = 1
  section, name = key.split('.')
  c[section][name] = value
  with pytest.raises(config.ConfigError, match=f'config.{key}={value}|config.{key}={value!r}'):
    validate(c)


KEYS = config.all_keys()


def test_every_key_says_what_it_may_be():
  assert ALLOWED.keys() == {key for key, value in KEYS.items() if not isinstance(value, bool)}
  for key, limits in ALLOWED.items():
    default = KEYS[key]
    assert isinstance(limits, tuple if isinstance(default, str) else str), key
    if isinstance(limits, str):
      assert len(ranges(limits)) == (len(default) if isinstance(default, tuple) else 1), key
    assert not problem(default, type(default), limits), key


def _with(key, value):
  c = config.default()
  c.train.steps = 1
  section, name = key.split('.')
  c[section]._fields[name] = value  # past all that ml_collections checks
  return c


WRONG = [
  math.nan,
  math.inf,
  -math.inf,
  1e39,
  10**400,
  10**5000,
  None,
  [],
  {},
  (),
  b'x',
  'a\0b',
  object,
  'x',
  'x' * 9999,
  1.5,
  True,
  -1e30,
  2**127,
]
OFF = (
  'loss.digits',
  'loss.gamma',
  'loss.margin',
  'joint.lr',
  'joint.embeddings',
  'joint.weight',
  'optim.clip',
  'optim.warmup',
  'optim.momentum',
  'optim.weight_decay',
  'train.ema',
  'model.dropout',
  'data.label_noise',
)


@pytest.mark.parametrize('key', KEYS)
def test_no_key_takes_what_is_none_of_its_kind(key):
  """Everything is refused in one line that names the key, or it is a value of the key's own kind and within range."""
  for value in WRONG:
    try:
      check_keys(_with(key, value))
    except config.ConfigError as error:
      assert str(error).startswith(f'config.{key}') and len(str(error)) < 300 and '\n' not in str(error)
    else:
      kind = type(KEYS[key])
      assert isinstance(value, (int, float) if kind is float else kind)
      assert (kind is bool) == isinstance(value, bool)
      assert kind is str or abs(value) < 2.0**128


@pytest.mark.parametrize('key', [key for key, limits in ALLOWED.items() if isinstance(limits, str)])
def test_the_ends_of_every_range(key):
  kind = type(KEYS[key])
  if kind is tuple:
    return
  (limits,) = ranges(ALLOWED[key])
  for end, open_, outward in ((limits.least, limits.open_below, -1), (limits.most, limits.open_above, 1)):
    if not math.isfinite(end):
      continue
    beyond = int(end) + outward if kind is int else end + outward * max(1e-9, 1e-9 * abs(end))
    for value, fits in ((kind(end), not open_), (beyond, False)):
      with contextlib.nullcontext() if fits else pytest.raises(config.ConfigError, match=f'config.{key}='):
        check_keys(_with(key, value))


@pytest.mark.parametrize('key', OFF)
def test_what_turns_something_off_stays_legal(key):
  validate(_with(key, 0.0))


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'train.batch_size': 1}, r'config\.train\.batch_size=1 is too small; give at least 2'),
    ({'train.batch_size': 4, 'train.accumulate': 4}, r'batch_size=4 in .*accumulate=4 parts is one image at a time'),
    ({'train.batch_size': 6, 'train.accumulate': 4}, r'config\.train\.accumulate=4 does not divide .*batch_size=6'),
    ({'train.batch_size': 2, 'train.accumulate': 4}, r'config\.train\.accumulate=4 does not divide .*batch_size=2'),
    ({'loss.margin': 1.0}, r'config\.loss\.margin=1\.0 is too large for cosface'),
    ({'loss.margin': 1.6, 'loss.margin_type': 'arcface'}, r'loss\.margin=1\.6 is too large; give less than pi/2'),
    ({'softmax.margin_type': 'adaface', 'softmax.margin': 1.2}, r'softmax\.margin=1\.2 is too large for adaface'),
    ({'softmax.combined': (1, 1.6, 0)}, r'=\(1, 1\.6, 0\) has a part 1\.6 that is too large; give less than pi/2'),
    ({'softmax.combined': (0, 0.5, 0)}, r'has a part 0 that is too small; give more than 0'),
    ({'softmax.combined': (1, (0.5, math.inf), 0)}, r'must be 3 numbers'),
    ({'softmax.combined': (1, 10**400, 0)}, r'config\.softmax\.combined=.* is no number to work with'),
    ({'softmax.combined': (1, True, 0)}, r'must be 3 numbers'),
    ({'softmax.combined': (1, 'a', 0)}, r'must be 3 numbers'),
  ],
)
@pytest.mark.parametrize('form', ['softmax', 'joint', 'fixed'])
def test_what_cannot_work_together(form, changes, message):
  c = config.default()
  c.train.steps = 1
  if form != 'fixed':
    c[form].enabled = True
  c.update_from_flattened_dict(changes)
  with pytest.raises(config.ConfigError, match=message):
    validate(c)


@pytest.mark.parametrize('form', ['softmax', 'joint', 'fixed'])
def test_two_images_are_a_batch(form):
  c = config.default()
  c.train.steps, c.train.batch_size = 1, 2
  if form != 'fixed':
    c[form].enabled = True
  validate(c)
  c.train.batch_size, c.train.accumulate = 8, 4
  validate(c)


def _change(c, text):
  exec(text, {'c': c, 'ConfigDict': config.ConfigDict})
  return c


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('c.train.batchsize = 1', r'config\.train\.batchsize is no setting\. Did you mean config\.train\.batch_size\?'),
    ('c.optim.learning_rate = 1', r'config\.optim\.learning_rate is no setting\.'),
    ('c.eval.seed = 1', r'eval\.seed is no setting\. Did you mean config\.data\.seed, .* or config\.train\.seed\?'),
    ('c.trian = ConfigDict()', r'config\.trian is no setting\. Did you mean config\.train\?'),
    ('c.steps = 5', r'config\.steps is no setting\.'),
    ('del c.train', r'config\.train is missing'),
    ('del c.train.ema', r'config\.train\.ema is missing'),
    ('c.train = {"steps": 3}', r'config\.train\.accumulate is missing'),
    ('c.train = None', r'config\.train is missing'),
    ('c.train.steps = None', r'config\.train\.steps=None is not a whole number'),
    ('c.data.path = None', r'config\.data\.path=None is not a text'),
    ('c.data.cache = None', r'config\.data\.cache=None is not True or False'),
  ],
)
def test_keys_that_are_wrong_in_a_file(text, message):
  with pytest.raises(config.ConfigError, match=message):
    validate(_change(config.default(), text))


@pytest.mark.parametrize(
  ('encoder', 'path', 'message'),
  [
    ('pixels', 'weights', r'encoder_path=weights: pixels has no weights .* leave it empty'),
    ('clip', '', r"encoder=clip needs config\.tokenizer\.encoder_path, the folder with CLIP's config\.json"),
    ('backbone', '', r'encoder=backbone needs config\.tokenizer\.encoder_path, the folder of a run'),
  ],
)
def test_encoders_with_weights_need_a_path_and_others_have_none(encoder, path, message):
  c = config.default()
  c.train.steps = 1
  c.tokenizer.encoder, c.tokenizer.encoder_path = encoder, path
  with pytest.raises(config.ConfigError, match=message):
    validate(c)


def test_no_validation_people_are_needed_where_nobody_asks_for_them():
  c = config.default()
  c.train.steps = 1
  c.eval.validation_identities = c.eval.identities = 0
  validate(c)
  c.eval.every_steps = 10
  with pytest.raises(config.ConfigError, match=r'config\.eval\.every_steps=10 needs validation people or targets'):
    validate(c)


@pytest.mark.parametrize('images', [[], [9], [2, 2], [1, 1, 40], [7, 3, 8, 1], [5] * 11, [10] * 20])
def test_usable_pairs_are_counted_like_the_pairs_themselves(images):
  identity = [person for person, count in enumerate(images) for _ in range(count)]
  same = [a == b for a, b in itertools.combinations(identity, 2)]
  exist = min(sum(same), len(same) - sum(same)) * 2
  for wanted in (20, 100, 6000):
    pairs = usable_pairs(images, wanted)
    assert pairs % 20 == 0 and pairs <= min(wanted, exist)
    assert pairs == wanted or pairs + 20 > exist


def test_fewer_pairs_than_asked_for_are_announced_and_too_few_refused(caplog):
  settings = config.default().eval
  with caplog.at_level(logging.INFO):
    check_pairs([10] * 10, settings, 'identities')
  assert '10 people with 100 images give 900 verification pairs, fewer than config.eval.pairs=6000' in caplog.text
  with pytest.raises(config.ConfigError, match=r'eval\.identities=4 with 8 images .* config\.eval\.identities=0'):
    check_pairs([2] * 4, settings, 'identities')


KNOWN_SETS = ('ms1mv2', 'ms1mv3', 'glint360k', 'wf4m', 'wf12m', 'wf42m')


@pytest.mark.parametrize('name', KNOWN_SETS)
@pytest.mark.parametrize('backbone', ['r50', 'r100'])
@pytest.mark.parametrize('baseline', ['', ',softmax'])
def test_configs_of_the_known_sets(name, backbone, baseline):
  c = importlib.import_module(f'configs.{name}').get_config(backbone + baseline)
  validate(c)
  assert c.model.backbone == backbone and c.data.source == 'records' and c.eval.targets
  assert c.softmax.enabled == bool(baseline) and c.joint.enabled != c.softmax.enabled


def test_baselines_of_the_known_sets_are_those_of_arcface_torch():
  for name in KNOWN_SETS:
    settings = importlib.import_module(f'configs.{name}').get_config('r100,softmax').softmax
    margins = (1.0, 0.5, 0.0) if name.startswith('ms1m') else (1.0, 0.0, 0.4)
    assert (settings.margin_type, settings.combined, settings.scale) == ('combined', margins, 64.0)
    assert settings.sample_rate == (0.2 if name == 'wf42m' else 1.0)


def test_a_config_with_an_argument_names_the_run():
  assert train._name('configs/ms1mv3.py:r100') == 'ms1mv3_r100'
  assert train._name('configs/ms1mv3.py:r100,softmax') == 'ms1mv3_r100_softmax'
  assert train._name('configs/quickstart.py') == 'quickstart'


def test_the_recipe_of_the_paper_has_a_short_form():
  module = importlib.import_module('configs.r100')
  whole, short = module.get_config(), module.get_config('short')
  validate(short)
  assert whole.log.short == 'configs/r100.py:short' and whole.log.short in module.__doc__
  assert short.train.steps <= 2 and short.data.identities * short.data.images < 1000
  for section in ('model', 'loss', 'optim', 'joint', 'softmax'):  # the network and what it is trained for are the same
    assert short[section] == whole[section]
  with pytest.raises(config.ConfigError, match=r'configs/r100\.py:shrot is not known; give .*:short'):
    module.get_config('shrot')
