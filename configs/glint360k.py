"""`joint`: Glint360K (360 232 people, 17 091 657 images, 112x112) with r50 or r100.

python -m gif_jax.main --config=configs/glint360k.py:r100 --config.data.path=DIR

The recipe is that of ms1mv3.py but for weight decay, as in arcface_torch, which reports 97.55 (r100)
TAR@FAR=1e-4 on IJB-C.
With `r100,softmax` arcface_torch's heads and losses too: CosFace.
Not run on the real set yet.
"""

from gif_jax.configs import ms1mv3


def get_config(form='r50'):
  c = ms1mv3.get_config(form, m=360_232, combined=(1.0, 0.0, 0.4))
  c.optim.weight_decay = 1e-4
  return c
