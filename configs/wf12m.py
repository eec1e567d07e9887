"""`joint`: WebFace12M (617 970 people, 12 720 066 images, 112x112) with r50 or r100.

python -m gif_jax.main --config=configs/wf12m.py:r100 --config.data.path=DIR

The recipe is that of ms1mv3.py, as in arcface_torch, which reports 97.59 (r100) TAR@FAR=1e-4 on IJB-C; the paper
of GIF 97.82.
With `r100,softmax` arcface_torch's heads and losses too: CosFace.
Not run on the real set yet.
"""

from gif_jax.configs import ms1mv3


def get_config(form='r50'):
  return ms1mv3.get_config(form, m=617_970, combined=(1.0, 0.0, 0.4))
