"""A network that a run has trained, known by the run's working directory alone: to tokenise with, to be measured."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gif_jax.models import gif
from gif_jax.models.checkpoint.reader import OTHER, CheckpointError, read_saved
from gif_jax.models.clip import open_clip
from gif_jax.models.encoders import Encoder, bicubic, pixels, with_weights
from gif_jax.models.heads import unit


class Network(NamedTuple):
  """A trained backbone.

  Attributes:
    model: without the weights.
    variables: its weights, NumPy arrays.
    size: pixels a side of the crops that it takes.
    step: of the checkpoint.
    what: backbone, size and step in words.
  """

  model: gif.GIF
  variables: dict
  size: int
  step: int
  what: str

  def encoder(self, *, flip: bool = True) -> Encoder:
    """uint8 [B, size, size, 3] -> {'embedding': float32 [B, d], 'norm': float32 [B]}, see `gif.Embedded`."""

    def embed(variables, images):
      embedded = gif.embed(self.model, variables, images, flip=flip)
      return {'embedding': embedded.embedding, 'norm': embedded.norm}

    return with_weights(embed, self.variables, self.what)


def open_network(workdir: str | Path, step: int | None = None) -> Network:
  """The backbone of a checkpoint in `workdir`, the newest or that of `step`.

  The network is rebuilt from what the checkpoint says of it, so the run's config and table are not needed.
  Raises CheckpointError where there is no such checkpoint, or one that cannot be read.
  """
  saved = read_saved(Path(workdir), step)
  try:
    settings = ConfigDict(saved.origin['config.model'] | {'sequence': 0} | dict.fromkeys(gif.TRAINING_ALONE, 0))
    size = saved.origin['config.data.size']
    model = gif.build(settings, l=1, v=1)  # its heads are not used, so they may have any size
    if saved.origin['input'] != gif.INPUT:
      raise CheckpointError(f'{workdir}: its network takes {saved.origin["input"]}, this version gives {gif.INPUT}.')
  except (KeyError, AttributeError) as error:
    raise CheckpointError(f'{workdir}: the checkpoint of step {saved.step} {OTHER}') from error

  def init():
    variables = model.init(jax.random.key(0), jnp.zeros((1, size, size, 3), jnp.uint8))
    return {kind: {'backbone': variables[kind]['backbone']} for kind in ('params', 'batch_stats')}

  like = jax.eval_shape(init)
  variables = saved.read({'ema': like})['ema'] if saved.origin['config.train.ema above 0'] else saved.read(like)
  what = f'backbone {settings.backbone}, d={settings.d}, at {size} pixels, step {saved.step}'
  return Network(model, variables, size, saved.step, what)


def open_backbone(workdir: str | Path) -> Encoder:
  """The newest backbone in `workdir` for the tokeniser: uint8 [B, s, s, 3] square crops -> float32 [B, d], unit rows.

  Crops of another size than it was trained with are resized: a network for small crops can tokenise for one of large
  crops; one for large crops sees small ones blurred. Raises CheckpointError as `open_network` does.
  """
  network = open_network(workdir)

  def embed(variables, images):
    return unit(gif.embed(network.model, variables, bicubic(images, network.size)).embedding)

  return with_weights(embed, network.variables, network.what)


def open_encoder(kind: str, path: str | Path) -> Encoder:
  """An encoder for the tokeniser: 'pixels', 'clip' with weights in the folder `path`, or 'backbone' of the run there.

  Raises WeightsError or CheckpointError where weights cannot be used.
  """
  opening = {'pixels': lambda _: Encoder(pixels, 'pixels'), 'clip': open_clip, 'backbone': open_backbone}
  return opening[kind](path)
