"""The model that is trained: backbone, code heads and, beside them, the sequence decoder."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gif_jax.models.heads import CodeHeads, SequenceDecoder, unit
from gif_jax.models.iresnet import SPECS, IResNet

# What the network takes, stored with every checkpoint: weights made for another input are of no use.
INPUT = {'colour': 'RGB', 'normalisation': '(x - 127.5) / 127.5'}

# Settings of a network that change what it does in training alone, and nothing of what it has learnt.
TRAINING_ALONE = 'remat', 'batch_norm_group'


class Output(NamedTuple):
  """What the network says of a batch."""

  features: jax.Array  # f(x), float32 [B, d]
  cosines: jax.Array | None  # of the heads, float32 [B, l, v]
  sequence: jax.Array | None  # cosines of the sequence decoder, float32 [B, l, v]


class GIF(nn.Module):
  """Face crops uint8 [B, size, size, 3] (RGB) -> Output.

  z is f(x) at length 1. Pixels are normalised here, (x - 127.5) / 127.5, so that uint8 travels to the device. A network
  for a softmax over identities (`config.softmax`) has no heads, and None for cosines: centres are no part of it.
  code int [B, l]: what the sequence decoder is told of earlier digits; without it, what it reads itself. reach: share
  in 0..1 of the gradient of the digits, by heads and sequence decoder alike, that goes on into the features.
  """

  backbone: nn.Module
  heads: CodeHeads | None
  sequence: SequenceDecoder | None = None

  def __call__(
    self, images: jax.Array, train: bool = False, code: jax.Array | None = None, reach: float | jax.Array = 1.0
  ) -> Output:
    features = self.features(images, train)
    seen = _reached(features, reach)
    sequence = None if self.sequence is None else self.sequence(unit(seen), code)
    return Output(features, self.read(seen), sequence)

  def features(self, images: jax.Array, train: bool = False) -> jax.Array:
    """f(x), float32 [B, d]: the embedding at the length that the backbone gives it."""
    return self.backbone((images.astype(jnp.float32) - 127.5) / 127.5, train)

  def read(self, features: jax.Array) -> jax.Array | None:
    """Cosines float32 [B, l, v] of the heads for f(x) [B, d]; None without heads."""
    return None if self.heads is None else self.heads(unit(features))

  def first_state(self, features: jax.Array) -> jax.Array:
    """State float32 [B, p] that the sequence decoder begins with for f(x) [B, d]."""
    return self._decoder().first(unit(features))

  def read_digit(self, state: jax.Array, before: jax.Array, j: int) -> tuple[jax.Array, jax.Array]:
    """One digit by the sequence decoder, see `SequenceDecoder.read`."""
    return self._decoder().read(state, before, j)

  def _decoder(self) -> SequenceDecoder:
    if self.sequence is None:
      raise ValueError('this network has no sequence decoder')
    return self.sequence


@jax.custom_vjp
def _reached(features, reach):
  """The features themselves, whose gradient is multiplied with reach."""
  del reach
  return features


_reached.defvjp(lambda features, reach: (features, reach), lambda reach, gradient: (reach * gradient, None))


class Embedded(NamedTuple):
  """Images and their mirror images, as the field's benchmarks measure networks."""

  features: tuple[jax.Array, ...]  # f(x) and, unless it was left out, f(flip x); float32 [B, d] each

  @property
  def embedding(self) -> jax.Array:
    """f(x) + f(flip x), float32 [B, d], not normalised: its length tells how sure the network is of a face."""
    first, *others = self.features
    return sum(others, 0 + first)  # from 0 on, so that -0 becomes 0

  @property
  def norm(self) -> jax.Array:
    """Mean length of f(x) and f(flip x): float32 [B]."""
    return sum(jnp.linalg.norm(f, axis=-1) for f in self.features) / len(self.features)


def embed(model: GIF, variables: dict, images: jax.Array, *, flip: bool = True) -> Embedded:
  """The one way from images uint8 [B, size, size, 3] to embeddings, for evaluation, identification and tokenising."""
  views = (images, images[:, :, ::-1]) if flip else (images,)
  return Embedded(tuple(_features(model, variables, view) for view in views))


def _features(model: GIF, variables: dict, images: jax.Array) -> jax.Array:
  features: Any = model.apply(variables, images, method='features')  # alone: no variables change
  return features


def build(settings: ConfigDict, l: int, v: int) -> GIF:
  """The model for `config.model` and a table of l digits in 0..v-1; where l is 0, nothing that reads any."""
  spec, dtype = SPECS[settings.backbone], jnp.dtype(settings.dtype)
  backbone = IResNet(spec, settings.d, settings.dropout, settings.batch_norm_group, dtype, settings.remat)
  if not l:
    return GIF(backbone, None)
  sequence = SequenceDecoder(l, v, settings.sequence) if settings.sequence else None
  return GIF(backbone, CodeHeads(l, v, settings.projection), sequence)
