"""A run of seconds, for tests that train: as a config file (`--config=tests/helpers/tiny.py`) and as a function."""

from gif_jax import config


def get_config():
  c = config.default()
  c.data.identities = 20
  c.data.images = 4
  c.data.held_out = 1
  c.data.size = 32
  c.tokenizer.homogenize_epochs = 3
  c.model.backbone = 'tiny'
  c.model.d = 16
  c.model.projection = 8
  c.model.dtype = 'float32'
  c.train.steps = 12
  c.train.batch_size = 16
  c.checkpoint.every_steps = 3
  c.eval.validation_identities = 6
  c.eval.identities = 6
  c.eval.images = 4
  c.eval.pairs = 40
  c.eval.batch_size = 16
  c.log.every_steps = 2
  return c
