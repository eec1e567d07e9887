"""How much arithmetic a training image is, and how much the devices can do: what utilisation is made of."""

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gif_jax.core.distributed.mesh import batch_sharding, make_mesh

_BACKWARD = 2  # a gradient by the input and one by the weights, each as many products as the forward pass


def multiply_adds(function: Callable, *arguments: Any) -> int:
  """Multiply-adds of the convolutions and matrix products in function(*arguments), in which nothing is computed.

  arguments: arrays or their shapes (jax.ShapeDtypeStruct). Pixels that pad a convolution count, as in the numbers that
  papers give for networks. A branch counts as its largest, a `while` loop as one round.
  """
  return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Any) -> int:
  return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: Any) -> int:
  name, params = equation.primitive.name, equation.params
  if name == 'dot_general':
    (contracted, _), _ = params['dimension_numbers']
    shape = equation.invars[0].aval.shape
    return equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
  if name == 'conv_general_dilated':
    kernel = equation.invars[1].aval  # its input channels are those of one group
    return equation.outvars[0].aval.size * kernel.size // kernel.shape[params['dimension_numbers'].rhs_spec[0]]
  if name == 'cond':
    return max(_count(branch.jaxpr) for branch in params['branches'])
  times = params.get('length', 1)  # of a scan
  if name == 'shard_map':
    times = params['mesh'].size  # shapes within are those of a device
  inner = [getattr(value, 'jaxpr', value) for value in params.values()]  # functions called: jit, remat, scan, ...
  return times * sum(_count(jaxpr) for jaxpr in inner if hasattr(jaxpr, 'eqns'))


def training_flops(model: nn.Module, size: int) -> int:
  """Model FLOPs of one training image of `size` pixels a side: two a multiply-add, backward twice the forward pass.

  model: flax module of images uint8 [B, size, size, 3]. Elementwise work does not count, nor does what `remat` computes
  twice: it is the work that the method asks for, not what a program makes of it. As in Chowdhery et al., "PaLM", 2022,
  appendix B, so that utilisation is what others call model FLOPs utilisation.
  """
  image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8)
  variables = jax.eval_shape(lambda image: model.init(jax.random.key(0), image), image)
  return 2 * (1 + _BACKWARD) * multiply_adds(model.apply, variables, image)


@functools.cache
def matrix_peak(devices: tuple[jax.Device, ...], dtype: str, seconds: float = 0.1) -> float:
  """FLOP/s of square matrix products in `dtype`, one on each of `devices` (of this process) at the same time.

  The best of some rounds that take about `seconds` together, after one that compiles. Numbers are random: products of
  zeros run faster than any that are of use.
  """
  side = 1024 if devices[0].platform == 'cpu' else 8192  # well past the time that a launch takes
  rows, shape = batch_sharding(make_mesh(devices)), (len(devices), side, side)
  draw = jax.jit(lambda key: jax.random.uniform(key, shape, jnp.dtype(dtype), -1, 1), out_shardings=rows)
  left, right = draw(jax.random.key(0)), draw(jax.random.key(1))
  product = jax.jit(jnp.matmul, in_shardings=rows, out_shardings=rows)
  jax.block_until_ready(product(left, right))
  best, until = math.inf, time.perf_counter() + seconds
  while time.perf_counter() < until:
    best = min(best, _seconds(product, left, right))
  return 2 * len(devices) * side**3 / best


def _seconds(product: Callable, left: jax.Array, right: jax.Array, times: int = 4) -> float:
  """Of one product, where several follow each other so that a device does not wait for the host."""
  started = time.perf_counter()
  jax.block_until_ready([product(left, right) for _ in range(times)])
  return (time.perf_counter() - started) / times
