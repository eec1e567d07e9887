"""`fixed`: 1000 synthetic people, 56x56, on a CPU in minutes; no download.

python -m gif_jax.main --config=configs/quickstart.py
"""

from gif_jax import config


def get_config():
  c = config.default()
  c.data.identities = 1000
  c.data.size = 56
  c.data.cache = True
  c.model.backbone = 'small'
  c.model.d = 256
  c.model.dtype = 'float32'  # bfloat16 gains nothing on a CPU
  c.train.steps = 1600
  c.train.batch_size = 128
  c.checkpoint.every_steps = 400
  c.eval.every_steps = 400
  return c
