"""A network that a run has trained, as encoder of the tokeniser: known by the run's working directory alone."""

from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gif_jax.models import gif
from gif_jax.models.encoders import Encoder, with_weights
from gif_jax.models.heads import unit
from gif_jax.models.resize import bicubic
from gif_jax.training.checkpoint import OTHER, CheckpointError, read_newest


def open_backbone(workdir: str | Path) -> Encoder:
  """The backbone of the newest checkpoint in `workdir`: uint8 [B, s, s, 3] square crops -> z float32 [B, d], unit rows.

  z is that of the image and its mirror image together. The network is rebuilt from what the checkpoint says of it, so
  the run's config and table are not needed. Crops of another size than it was trained with are resized: a network for
  small crops can tokenise for one of large crops; one for large crops sees small ones blurred.
  Raises CheckpointError where there is no checkpoint, or one that cannot be read.
  """
  newest = read_newest(Path(workdir))
  try:
    settings, size = ConfigDict(newest.origin['config.model']), newest.origin['config.data.size']
    model = gif.build(settings, l=1, v=1)  # its heads are not used, so they may have any size
  except (KeyError, AttributeError) as error:
    raise CheckpointError(f'{workdir}: the newest checkpoint {OTHER}') from error

  def init():
    variables = model.init(jax.random.key(0), jnp.zeros((1, size, size, 3), jnp.uint8))
    return {kind: {'backbone': variables[kind]['backbone']} for kind in ('params', 'batch_stats')}

  def embed(variables, images):
    x = bicubic(images, size)
    return unit(model.apply(variables, x, method='embed') + model.apply(variables, x[:, :, ::-1], method='embed'))

  variables = newest.read(jax.eval_shape(init))
  what = f'backbone {settings.backbone}, d={settings.d}, at {size} pixels, step {newest.step}'
  return with_weights(embed, variables, what)
