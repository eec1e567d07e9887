"""Eight virtual CPU devices for the whole test session, and what several tests share."""

import jax
import pytest

jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_rank_promotion', 'raise')


@pytest.fixture(scope='session')
def tiny_config():
  """A run of seconds: 20 people, 32x32, 6 steps."""
  from tests.tiny import config

  return config()
