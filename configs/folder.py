"""`joint`: your own faces, one sub-folder per person, 56x56, on a CPU in minutes.

python -m gif_jax.main --config=configs/folder.py --config.data.path=DIR

For 20 to 2000 people. Ten people with two photographs or more are kept for verification, up to two photographs of
everybody else for naming the person (closed set). Faces should be cropped, upright and about equally large, as
`python -m gif_jax align` makes them.
"""

from gif_jax import config


def get_config():
  c = config.default()

  c.data.source = 'folder'
  c.data.size = 56
  c.data.held_out = 2
  c.data.cache = True

  c.model.backbone = 'small'
  c.model.d = 256
  c.model.dtype = 'float32'

  c.joint.enabled = True
  c.joint.start = 'random'
  c.joint.scale = 8.0
  c.joint.negatives = 512
  c.joint.lr = 2.0
  c.loss.digits = 0.1
  c.loss.digits_until = 0.7
  c.loss.sequence = 0.1  # as light as the digits; read with model.sequence alone
  c.loss.gamma = 0.0
  c.loss.margin = 0.2
  c.loss.scale = 16.0
  c.optim.lr = 0.4

  c.train.epochs = 100.0  # 240 photographs: 375 steps, a minute
  c.train.steps_at_most = 2000  # of 1280 photographs or more, about 4 minutes on 2 CPU cores; raise it for thousands
  c.train.batch_size = 64

  c.eval.validation_identities = 0
  c.eval.identities = 10
  return c
