"""`joint`: code vectors trained with the network, on the data, network and budget of quickstart.py.

python -m gif_jax.main --config=configs/quickstart_joint.py

About as long as quickstart.py. Expect on 400 unseen people a verification accuracy of about 97.8 % and TAR@FAR=1e-2 of
about 95 %, and about 93.5 % of the training people's held-out images named by the nearest code vector.

Controls: --config.loss.digits=0 (without codes), --config.joint.negatives=0 (people of the batch alone),
--config.joint.embeddings=0 (code vectors alone), --config.tokenizer.codes=random. Where people are seen less often than
here (180 times), a larger --config.joint.lr is better: 16 for 10 000 people in 1200 steps.
"""

from gif_jax.configs import quickstart


def get_config():
  c = quickstart.get_config()
  c.joint.enabled = True
  # Chosen on validation people, one seed (benchmarks/README.md). A start at vectors made from pixels keeps some of what
  # looks alike in pixels, such as backgrounds.
  c.joint.start = 'random'
  c.joint.scale = 8.0
  c.joint.negatives = 512
  c.joint.embeddings = 1.0
  c.joint.lr = 4.0
  c.loss.digits = 0.1
  c.loss.digits_until = 0.7
  c.loss.sequence = 0.1  # as light as the digits; read with model.sequence alone
  c.loss.gamma = 0.0
  c.loss.scale = 16.0
  return c
