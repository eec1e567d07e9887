"""`joint`: MS1MV2 (85 742 people, 5 822 653 images, 112x112) with r50 or r100.

python -m gif_jax.main --config=configs/ms1mv2.py:r100 --config.data.path=DIR

The recipe is that of ms1mv3.py, as in arcface_torch.
With `r100,softmax` arcface_torch's heads and losses too: ArcFace.
Not run on the real set yet.
"""

from gif_jax.configs import ms1mv3


def get_config(form='r50'):
  return ms1mv3.get_config(form, m=85_742)
