"""What may make the step faster or show what a part of it costs: flags of XLA, and changes of the network.

Only for benchmarks.throughput, which starts a process for each; a change is made before the network is built.
Variants marked `other` compute another function: they say what a part costs, not what to switch on.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from gif_jax.models import gif, iresnet


class Variant(NamedTuple):
  """flags: for XLA_FLAGS; change: called before the network is built; other: computes another function."""

  flags: str = ''
  change: Callable = lambda: None
  other: bool = False


class _Flax(nn.Module):
  """Batch statistics as flax has them, of the full batch, differentiated automatically."""

  dtype: jnp.dtype
  scaled: bool = True

  @nn.compact
  def __call__(self, x, train):
    return nn.BatchNorm(not train, momentum=0.9, dtype=self.dtype, use_scale=self.scaled)(x)


def _flax_normalisation():
  iresnet.BatchNorm = lambda _, *arguments, **keywords: _Flax(*arguments, **keywords)


class _Bypass(nn.Module):
  """In place of a normalisation: a constant factor, one with which numbers stay finite from layer to layer."""

  @nn.compact
  def __call__(self, x, train):
    del train
    self.variable('batch_stats', 'unused', jnp.zeros, ())
    return x / (0.1 * (9 * x.shape[-1]) ** 0.5)  # weights have a spread of .1


def _no_normalisation():
  iresnet.BatchNorm = lambda *_, name=None, **__: _Bypass(name=name)


def _relu():
  iresnet.PReLU = lambda name=None: nn.relu


class _Padded(gif.GIF):
  """Crops get five more channels of zeros, so that the stem's convolution has eight: tensor cores want multiples."""

  def features(self, images, train: bool = False):
    x = (images.astype(jnp.float32) - 127.5) / 127.5
    return self.backbone(jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, 5))), train)


def _padded_stem():
  gif.GIF = _Padded


class _NarrowInput(gif.GIF):
  """Pixels are brought to -1..1 in the network's dtype."""

  def features(self, images, train: bool = False):
    return self.backbone((images.astype(self.backbone.dtype) - 127.5) / 127.5, train)


def _narrow_input():
  gif.GIF = _NarrowInput


class _Space2Depth(nn.Module):
  """The stem on 2x2 pixels at a time: a 3x3 convolution of 12 channels to 4 * 64, laid out as 64 channels again.

  Its kernel could hold the stem's (each of the four places in a patch sees the 3x3 around it), at four times the sums.
  """

  features: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x):
    b, h, w, c = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)
    x = nn.Conv(4 * self.features, (3, 3), use_bias=False, dtype=self.dtype)(x)
    x = x.reshape(b, h // 2, w // 2, 2, 2, self.features).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h, w, self.features)


def _space2depth():
  plain = nn.Conv

  def conv(features, *arguments, name=None, **keywords):
    if name == 'stem_conv':
      return _Space2Depth(features, keywords['dtype'], name=name)
    return plain(features, *arguments, name=name, **keywords)

  iresnet.nn = type('nn', (), dict(vars(nn)) | {'Conv': staticmethod(conv)})


VARIANTS = {
  'base': Variant(),
  'conv-nhwc': Variant('--xla_gpu_force_conv_nhwc=true'),
  'conv-nchw': Variant('--xla_gpu_force_conv_nchw=true'),
  'conv-fusion': Variant('--xla_gpu_experimental_enable_conv_fusion=true'),
  'cudnn-gemm-fusion': Variant('--xla_gpu_cudnn_gemm_fusion_level=3'),
  'no-triton-gemm': Variant('--xla_gpu_enable_triton_gemm=false'),
  'no-autotuning': Variant('--xla_gpu_autotune_level=0'),
  'no-command-buffers': Variant('--xla_gpu_enable_command_buffer='),
  'latency-hiding': Variant('--xla_gpu_enable_latency_hiding_scheduler=true'),
  'stem-padded': Variant(change=_padded_stem),
  'stem-s2d': Variant(change=_space2depth, other=True),
  'input-narrow': Variant(change=_narrow_input, other=True),
  'bn-flax': Variant(change=_flax_normalisation),
  'no-bn': Variant(change=_no_normalisation, other=True),
  'relu': Variant(change=_relu, other=True),
}
