"""`joint`: code vectors trained with the network, on the data, network and budget of quickstart.py.

python -m gif_jax.main --config=configs/quickstart_joint.py

About as long as quickstart.py. Expect on 400 unseen people a verification accuracy of about 96 % and TAR@FAR=1e-2 of
about 90 %, and about 90 % of the training people's held-out images named by the nearest code vector.

Controls: --config.loss.digits=0 (without codes), that and --config.loss.gamma=0 (the softmax within the batch alone),
--config.tokenizer.codes=random.
"""

from configs import quickstart


def get_config():
  c = quickstart.get_config()
  c.joint.enabled = True
  c.joint.lr = 2.0
  c.loss.digits = 0.3  # with 1 the digits help early and are in the way late
  return c
