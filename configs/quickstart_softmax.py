"""A baseline: ArcFace's softmax over all identities, on the data, network and budget of quickstart.py.

python -m gif_jax.main --config=configs/quickstart_softmax.py

No table is made; every identity has a centre. Other baselines, with the same scale and margin:

CosFace                  --config.softmax.margin_type=cosface
AdaFace                  --config.softmax.margin_type=adaface
Partial FC, r = .3       --config.softmax.sample_rate=0.3
"""

from configs import quickstart


def get_config():
  c = quickstart.get_config()
  c.softmax.enabled = True
  # Chosen on validation people, one seed: 64 and .5, as large sets have them, are far too hard for so few steps.
  c.softmax.scale = 12.0
  c.softmax.margin = 0.3
  return c
