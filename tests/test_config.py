"""Settings: every experiment is valid, and what cannot work says so."""

import importlib
from pathlib import Path

import pytest

from gif_jax import config

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
    assert not tokenizer.align and not tokenizer.whiten
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
    ('loss.margin_type', 'sphere'),
    ('eval.pairs', 0),
    ('eval.pairs', 6010),
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
