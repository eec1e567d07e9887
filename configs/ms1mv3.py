"""`joint`: MS1MV3 (93 431 people, 5 179 510 images, 112x112) with r50 or r100.

python -m gif_jax.main --config=configs/ms1mv3.py:r100 --config.data.path=DIR

DIR is the folder as InsightFace has it (train.rec, train.idx, property, lfw.bin, cfp_fp.bin, agedb_30.bin ...), or what
`python -m gif_jax convert --input=DIR --output=...` made of it, which starts sooner. Data, length, batch, optimiser and
evaluation are those of arcface_torch's config of the same set (8 GPUs x 128); heads, losses and their settings are this
project's. For reference, arcface_torch reports 96.37 (r50) and 96.85 (r100) TAR@FAR=1e-4 on IJB-C.
With `r100,softmax` its heads and losses are trained too, ArcFace here: what this project is measured against.

Not run on the real set yet: neither the data nor a GPU was available. On fewer devices lower train.batch_size and
optim.lr alike.
"""

from gif_jax import config


def get_config(form='r50', m=93_431, combined=(1.0, 0.5, 0.0), sample_rate=1.0):
  """form: a backbone, or one and ',softmax'; combined, sample_rate: arcface_torch's margins and share for the set.

  m: people of the set as it was published, for `gif-jax plan`; training counts those that it reads.
  """
  backbone = form.removesuffix(',softmax')
  c = config.default()

  c.data.source = 'records'
  c.data.held_out = 0  # every image is trained on
  c.data.identities = m
  c.data.workers = 8

  c.model.backbone = backbone

  c.joint.enabled = form == backbone
  if c.joint.enabled:
    # What won on quickstart_joint.py, but for the scale, the default: not tried at this size. An image moves its code
    # vector by joint.scale * joint.lr / train.batch_size at most, as much as in that experiment.
    c.joint.start = 'random'
    c.joint.negatives = 2048
    c.joint.embeddings = 1.0
    c.joint.lr = 8.0
    c.loss.digits = 0.1
    c.loss.digits_until = 0.7
    c.loss.sequence = 0.1  # as light as the digits; read with model.sequence alone
    c.loss.gamma = 0.0
    c.loss.margin = 0.2
  else:
    c.softmax.enabled = True
    c.softmax.margin_type = 'combined'
    c.softmax.combined = combined
    c.softmax.sample_rate = sample_rate

  c.optim.lr = 0.1
  c.optim.weight_decay = 5e-4
  c.optim.schedule = 'polynomial'
  c.optim.warmup = 0.0

  c.train.epochs = 20.0
  c.train.batch_size = 1024
  c.checkpoint.every_steps = 2000

  c.eval.targets = 'lfw,cfp_fp,agedb_30'
  c.eval.every_steps = 2000
  c.eval.validation_identities = c.eval.identities = 0
  return c
