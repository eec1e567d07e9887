"""The model that is trained: backbone and code heads."""

import flax.linen as nn
import jax.numpy as jnp

from gif_jax.models.heads import CodeHeads, unit
from gif_jax.models.iresnet import SPECS, IResNet


class GIF(nn.Module):
  """Face crops uint8 [B, size, size, 3] (RGB) -> (z float32 [B, d] unit rows, cosines float32 [B, l, v]).

  Pixels are normalised here, (x - 127.5) / 127.5, so that uint8 travels to the device.
  """

  backbone: nn.Module
  heads: nn.Module

  def __call__(self, images, train: bool = False):
    z = self.embed(images, train)
    return z, self.heads(z)

  def embed(self, images, train: bool = False):
    """z alone, float32 [B, d]: all that verification needs."""
    return unit(self.backbone((images.astype(jnp.float32) - 127.5) / 127.5, train))


def build(settings, l: int, v: int) -> GIF:
  """The model for `config.model` and a table of l digits in 0..v-1."""
  backbone = IResNet(SPECS[settings.backbone], settings.d, settings.dropout, jnp.dtype(settings.dtype))
  return GIF(backbone, CodeHeads(l, v, settings.projection))
