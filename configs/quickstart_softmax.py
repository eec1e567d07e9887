"""A baseline: ArcFace's softmax over all identities, on the data, network and budget of quickstart.py.

python -m gif_jax.main --config=configs/quickstart_softmax.py

No table is made; every identity has a centre. Other baselines, with the same scale and margin:

CosFace                  --config.softmax.margin_type=cosface
AdaFace                  --config.softmax.margin_type=adaface
Partial FC, r = 0.3      --config.softmax.sample_rate=0.3
"""

from gif_jax.configs import quickstart


def get_config():
  c = quickstart.get_config()
  c.softmax.enabled = True
  # Chosen on validation people, one seed. Larger scales (64 on large sets) learn far more slowly here.
  c.softmax.scale = 8.0
  c.softmax.margin = 0.3
  c.optim.lr = 0.8
  return c
