"""What turns face crops into features: the form of an encoder, crops of its size, and one that needs no weights."""

import functools
import hashlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jax.sharding import NamedSharding, PartitionSpec

from gif_jax.core.storage.arrays import as_bytes

_SIDE = 56  # pixels a side that features are measured at
_DIRECTIONS = 8
_GRADIENT_WEIGHT = 3.0  # brings the two halves of the features to a similar spread


class Encoder(NamedTuple):
  """An image encoder, as the tokeniser uses it.

  encode: uint8 [B, s, s, 3] RGB crops -> float32 [B, D]. A batch that is split over devices stays split.
  name: which encoder with which weights; a table says what it was made with by this name.
  """

  encode: Callable
  name: str


def with_weights(apply: Callable, weights: Any, what: str) -> Encoder:
  """The encoder images -> apply(weights, images), jitted.

  apply: pure, (weights, uint8 [B, s, s, 3]) -> float32 [B, D]. weights: nested dict of NumPy arrays. what: the name,
  which gets the checksum of the weights.
  """
  run = jax.jit(apply)

  @functools.cache
  def placed(sharding):  # once, and not with every batch
    return jax.device_put(weights, sharding)

  def encode(images):
    if isinstance(images, jax.core.Tracer):  # in another jitted function: the weights become constants of it
      return apply(weights, images)
    images = jnp.asarray(images)
    where = images.sharding
    if isinstance(where, NamedSharding):
      where = NamedSharding(where.mesh, PartitionSpec())  # all weights on every device that has images
    return run(placed(where), images)

  return Encoder(encode, f'{what}, weights {_sha256(weights)[:8]}')


def _sha256(weights: Any) -> str:
  """Of the numbers and their names, so that it does not depend on how a file lays them out."""
  digest = hashlib.sha256()
  for name, array in sorted(flatten_dict(weights, sep='/').items()):
    digest.update(f'{name} {array.dtype.str} {array.shape}'.encode())
    digest.update(as_bytes(array))
  return digest.hexdigest()


def bicubic(images: jax.Array, size: int) -> jax.Array:
  """Crops at the size that a network was made for, by the filter that published image pipelines use.

  Pillow's bicubic resize of square crops: wider when it shrinks, against aliasing; levels rounded after each axis.

  images uint8 [B, s, s, 3] -> float32 [B, size, size, 3], integer levels 0..255. About one value in ten thousand is a
  level off, where Pillow's integers and float32 round to two sides. Raises ValueError for crops that are not square.
  """
  _, height, width, _ = images.shape
  if height != width:
    raise ValueError(f'images are {height}x{width}: crops must be square, pad or cut them first')
  x = images.astype(jnp.float32)
  if width == size:
    return x
  taps = _taps(width, size)
  x = _levels(jnp.einsum('bhwc,ow->bhoc', x, taps, precision='highest'))
  return _levels(jnp.einsum('bhwc,oh->bowc', x, taps, precision='highest'))


def _levels(x):
  return jnp.clip(jnp.floor(x + 0.5), 0, 255)


def _taps(s, size):
  """Share of every old pixel in every new one, float32 [size, s]: Keys' cubic with a = -1/2, in steps of 1/2^22."""
  scale = s / size
  centre = (np.arange(size)[:, None] + 0.5) * scale
  x = np.abs(np.arange(s) + 0.5 - centre) / max(scale, 1)
  near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
  taps = np.where(x < 1, near, np.where(x < 2, far, 0))
  return (np.round(taps / taps.sum(1, keepdims=True) * 2**22) / 2**22).astype(np.float32)


@jax.jit
def pixels(images: jax.Array) -> jax.Array:
  """The embedded default, no download: colours on a 7x7 grid, edge directions on an 8x8 grid, mirror images averaged.

  The edge half is a histogram of oriented gradients (Dalal and Triggs, CVPR 2005) over the full crop.
  images uint8 [B, size, size, 3] RGB -> features float32 [B, 659].
  """
  b = len(images)
  x = images.astype(jnp.float32) / 255
  if x.shape[1] != _SIDE:
    x = jax.image.resize(x, (b, _SIDE, _SIDE, 3), 'linear', antialias=True)
  colours = x.reshape(b, 7, 8, 7, 8, 3).mean((2, 4))
  colours = (colours + colours[:, :, ::-1]) / 2
  edges = _edges(x.mean(3))
  # Mirrored, an edge in direction a has direction pi - a.
  mirrored = jnp.roll(edges[:, ::-1, :, ::-1], _DIRECTIONS // 2 + 1, axis=1)
  edges = (edges + mirrored) / 2
  return jnp.concatenate([colours.reshape(b, -1), _GRADIENT_WEIGHT * edges.reshape(b, -1)], axis=1)


def _edges(grey):
  """Square root of the share of all edges in each direction and cell: [B, 56, 56] -> [B, 8, 8, 8]."""
  dx = jnp.pad(grey[:, :, 2:] - grey[:, :, :-2], ((0, 0), (0, 0), (1, 1)))
  dy = jnp.pad(grey[:, 2:] - grey[:, :-2], ((0, 0), (1, 1), (0, 0)))
  angles = [2 * math.pi * k / _DIRECTIONS for k in range(_DIRECTIONS)]
  strength = jnp.stack([jnp.maximum(dx * math.cos(a) + dy * math.sin(a), 0) for a in angles], 1)
  cells = strength.reshape(len(grey), _DIRECTIONS, 8, 7, 8, 7).sum((3, 5))
  return jnp.sqrt(cells / jnp.maximum(cells.sum((1, 2, 3), keepdims=True), 1e-6))
