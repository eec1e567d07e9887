"""The model that is trained: backbone and code heads."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from gif_jax.models.heads import CodeHeads, unit
from gif_jax.models.iresnet import SPECS, IResNet

# What the network takes, stored with every checkpoint: weights made for another input are of no use.
INPUT = {'colour': 'RGB', 'normalisation': '(x - 127.5) / 127.5'}


class GIF(nn.Module):
  """Face crops uint8 [B, size, size, 3] (RGB) -> (f(x) float32 [B, d], cosines float32 [B, l, v]).

  z is f(x) at length 1. Pixels are normalised here, (x - 127.5) / 127.5, so that uint8 travels to the device. A network
  for a softmax over identities (`config.softmax`) has no heads, and None for cosines: centres are no part of it.
  """

  backbone: nn.Module
  heads: nn.Module | None

  def __call__(self, images, train: bool = False):
    features = self.features(images, train)
    return features, self.read(features)

  def features(self, images, train: bool = False):
    """f(x), float32 [B, d]: the embedding at the length that the backbone gives it."""
    return self.backbone((images.astype(jnp.float32) - 127.5) / 127.5, train)

  def read(self, features):
    """Cosines float32 [B, l, v] of the heads for f(x) [B, d]; None without heads."""
    return self.heads and self.heads(unit(features))


class Embedded(NamedTuple):
  """Images and their mirror images, as the field's benchmarks measure networks."""

  features: tuple[jax.Array, ...]  # f(x) and, unless it was left out, f(flip x); float32 [B, d] each

  @property
  def embedding(self) -> jax.Array:
    """f(x) + f(flip x), float32 [B, d], not normalised: its length tells how sure the network is of a face."""
    return sum(self.features)

  @property
  def norm(self) -> jax.Array:
    """Mean length of f(x) and f(flip x): float32 [B]."""
    return sum(jnp.linalg.norm(f, axis=-1) for f in self.features) / len(self.features)


def embed(model: GIF, variables: dict, images: jax.Array, *, flip: bool = True) -> Embedded:
  """The one way from images uint8 [B, size, size, 3] to embeddings, for evaluation, identification and tokenising."""
  views = (images, images[:, :, ::-1]) if flip else (images,)
  return Embedded(tuple(model.apply(variables, view, method='features') for view in views))


def build(settings, l: int, v: int) -> GIF:
  """The model for `config.model` and a table of l digits in 0..v-1; without heads where l is 0."""
  spec, dtype = SPECS[settings.backbone], jnp.dtype(settings.dtype)
  backbone = IResNet(spec, settings.d, settings.dropout, dtype, settings.remat)
  return GIF(backbone, CodeHeads(l, v, settings.projection) if l else None)
