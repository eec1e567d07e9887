"""Settings: every experiment is valid, and what cannot work says so."""

import importlib
import itertools
import logging
from pathlib import Path

import pytest

from gif_jax import config, main
from gif_jax.data.drawn_pairs import check_pairs

EXPERIMENTS = sorted(path.stem for path in (Path(__file__).parent.parent / 'configs').glob('*.py'))


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_experiments_are_valid_and_say_how_to_run_them(name):
  module = importlib.import_module(f'configs.{name}')
  config.validate(module.get_config())
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
  c.train.steps = 3
  assert config.train_steps(c, images=100) == 3


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
    config.validate(c)


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
    config.validate(c)


def test_no_validation_people_are_needed_where_nobody_asks_for_them():
  c = config.default()
  c.train.steps = 1
  c.eval.validation_identities = c.eval.identities = 0
  config.validate(c)
  c.eval.every_steps = 10
  with pytest.raises(config.ConfigError, match=r'config\.eval\.every_steps=10 needs validation people or targets'):
    config.validate(c)


@pytest.mark.parametrize('images', [[], [9], [2, 2], [1, 1, 40], [7, 3, 8, 1], [5] * 11, [10] * 20])
def test_usable_pairs_are_counted_like_the_pairs_themselves(images):
  identity = [person for person, count in enumerate(images) for _ in range(count)]
  same = [a == b for a, b in itertools.combinations(identity, 2)]
  exist = min(sum(same), len(same) - sum(same)) * 2
  for wanted in (20, 100, 6000):
    pairs = config.usable_pairs(images, wanted)
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
  config.validate(c)
  assert c.model.backbone == backbone and c.data.source == 'records' and c.eval.targets
  assert c.softmax.enabled == bool(baseline) and c.joint.enabled != c.softmax.enabled


def test_baselines_of_the_known_sets_are_those_of_arcface_torch():
  for name in KNOWN_SETS:
    settings = importlib.import_module(f'configs.{name}').get_config('r100,softmax').softmax
    margins = (1.0, 0.5, 0.0) if name.startswith('ms1m') else (1.0, 0.0, 0.4)
    assert (settings.margin_type, settings.combined, settings.scale) == ('combined', margins, 64.0)
    assert settings.sample_rate == (0.2 if name == 'wf42m' else 1.0)


def test_a_config_with_an_argument_names_the_run():
  assert main._name('configs/ms1mv3.py:r100') == 'ms1mv3_r100'
  assert main._name('configs/ms1mv3.py:r100,softmax') == 'ms1mv3_r100_softmax'
  assert main._name('configs/quickstart.py') == 'quickstart'
