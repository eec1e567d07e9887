"""Crops brought to the size that a network was made for, with the filter that published image pipelines use."""

import jax
import jax.numpy as jnp
import numpy as np


def bicubic(images: jax.Array, size: int) -> jax.Array:
  """Pillow's bicubic resize of square crops: wider when it shrinks, against aliasing; levels rounded after each axis.

  images uint8 [B, s, s, 3] -> float32 [B, size, size, 3], whole levels 0..255. About one value in ten thousand is a
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
