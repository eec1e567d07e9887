"""Batch normalisation over groups of images, so that the number of devices changes nothing and sends nothing."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

_EPSILON, _MOMENTUM = 1e-5, 0.9


def group_of(size: int, most: int) -> int:
  """How many images statistics are taken over: the largest divisor of a batch of `size` that is at most `most`.

  most 0: the full batch.
  """
  return next(group for group in range(min(most or size, size), 0, -1) if size % group == 0)


class BatchNorm(nn.Module):
  """[B, ..., c] -> the same shape in `dtype`: mean 0 and variance 1 in each channel, then a scale and a bias.

  train: statistics are those of a group of `group_of(B, group)` images, neighbours in the batch (Ioffe & Szegedy, 2015,
  in groups as Hoffer et al., "Train longer, generalize better", 2017), and the running ones take a step towards their
  mean over groups. Otherwise the running ones are used. float32 within, whatever the type of x.
  """

  group: int
  dtype: Any
  scaled: bool = True

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    c = x.shape[-1]
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, c)
    running_var = self.variable('batch_stats', 'var', jnp.ones, c)
    scale = self.param('scale', nn.initializers.ones, (c,)) if self.scaled else jnp.ones(c)
    bias = self.param('bias', nn.initializers.zeros, (c,))
    if not train:
      factor = scale * jax.lax.rsqrt(running_var.value + _EPSILON)
      centred = x - _spread(running_mean.value, x)
      return (centred * _spread(factor, x) + _spread(bias, x)).astype(self.dtype)
    group = group_of(len(x), self.group)
    y, mean, var = _normalised(x.reshape(len(x) // group, group, *x.shape[1:]), scale, bias, self.dtype)
    if not self.is_initializing():
      for running, new in ((running_mean, mean), (running_var, var)):
        running.value = _MOMENTUM * running.value + (1 - _MOMENTUM) * jnp.mean(new, axis=0)
    return y.reshape(x.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalised(x, scale, bias, dtype):
  """x [G, g, ..., c] -> ([G, g, ..., c], means [G, c], variances [G, c]), the last two without gradient.

  Differentiated automatically it would keep float32 copies of x for the backward pass: twice the memory traffic, which
  is what a step of these networks takes its time for.
  """
  return _forward(x, scale, bias, dtype)[0]


def _forward(x, scale, bias, dtype):
  within = tuple(range(1, x.ndim - 1))
  wide = x.astype(jnp.float32)
  mean = jnp.mean(wide, axis=within)
  var = jnp.maximum(jnp.mean(wide * wide, axis=within) - mean * mean, 0.0)
  inverse = jax.lax.rsqrt(var + _EPSILON)
  y = (wide - _spread(mean, x)) * _spread(inverse * scale[None], x) + _spread(bias, x)
  return (y.astype(dtype), mean, var), (x, mean, inverse, scale)


def _backward(dtype, saved, gradients):
  del dtype
  (x, mean, inverse, scale), (gradient, *_) = saved, gradients
  within = tuple(range(1, x.ndim - 1))
  gradient = gradient.astype(jnp.float32)
  normal = (x.astype(jnp.float32) - _spread(mean, x)) * _spread(inverse, x)
  of_bias, of_scale = jnp.sum(gradient, axis=within), jnp.sum(gradient * normal, axis=within)
  count = x.size // of_bias.size
  of_x = gradient - _spread(of_bias / count, x) - normal * _spread(of_scale / count, x)
  of_x *= _spread(inverse * scale[None], x)
  return of_x.astype(x.dtype), jnp.sum(of_scale, axis=0), jnp.sum(of_bias, axis=0)


def _spread(values, x):
  """[c], or [G, c] of groups, with axes of length 1 put in, to be taken with x [..., c] or [G, ..., c]."""
  groups = len(values) if values.ndim == 2 else 1
  return values.reshape(groups, *(1,) * (x.ndim - 2), -1)


_normalised.defvjp(_forward, _backward)
