"""IResNet, the residual network of face recognition (Duta et al., "Improved Residual Networks", as used by ArcFace).

One block and one table make every depth. Unlike in an ImageNet ResNet the block is BN-conv-BN-PReLU-conv-BN, the stem
keeps the full resolution, and the last map is flattened, not pooled, because a face crop is aligned.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from gif_jax.models.batch_norm import BatchNorm

_conv_init = nn.initializers.normal(0.1)


class Spec(NamedTuple):
  """Shape of a network: blocks, channels and stride of each stage, and the side of the stem's patches."""

  blocks: tuple[int, ...]
  widths: tuple[int, ...] = (64, 128, 256, 512)
  strides: tuple[int, ...] = (2, 2, 2, 2)
  patch: int = 1  # 1 = the 3x3 stem of IResNet; p = p x p patches, p times fewer pixels a side from the start


SPECS = {
  'r18': Spec((2, 2, 2, 2)),
  'r34': Spec((3, 4, 6, 3)),
  'r50': Spec((3, 4, 14, 3)),
  'r100': Spec((3, 13, 30, 3)),
  'r200': Spec((6, 26, 60, 6)),
  # For CPUs: convolutions over large maps of few channels are what XLA is slowest at there; patches avoid them.
  'small': Spec((1, 1, 1), widths=(32, 64, 128), strides=(1, 2, 2), patch=4),
  'tiny': Spec((1,), widths=(64,), strides=(2,), patch=4),  # compiled in half the time of 'small': to try things out
}


class PReLU(nn.Module):
  """max(x, 0) + slope * min(x, 0), a slope for each channel (one slope for all would change the parameter count)."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    slope = self.param('slope', nn.initializers.constant(0.25), (x.shape[-1],))
    return jnp.where(x >= 0, x, jnp.broadcast_to(slope.astype(x.dtype), x.shape) * x)


class Block(nn.Module):
  """BN-conv-BN-PReLU-conv(stride)-BN plus a shortcut: [B, h, w, c] -> [B, h/stride, w/stride, width]."""

  width: int
  stride: int
  group: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    def norm(x, name):
      return BatchNorm(self.group, self.dtype, name=name)(x, train)

    def conv(size, stride, name):
      return nn.Conv(
        self.width,
        (size, size),
        stride,
        padding=size // 2,
        use_bias=False,
        kernel_init=_conv_init,
        dtype=self.dtype,
        name=name,
      )

    shortcut = x
    if self.stride != 1 or x.shape[-1] != self.width:
      shortcut = norm(conv(1, self.stride, 'shortcut_conv')(x), 'shortcut_bn')
    x = conv(3, 1, 'conv1')(norm(x, 'bn1'))
    x = conv(3, self.stride, 'conv2')(PReLU(name='prelu')(norm(x, 'bn2')))
    return norm(x, 'bn3') + shortcut


class IResNet(nn.Module):
  """Face crop -> embedding before normalisation: float [B, size, size, 3] in -1..1 -> float32 [B, d].

  group: images that batch statistics are taken over, see `BatchNorm`. remat: what goes between blocks is kept for the
  backward pass, what is within them computed again.
  """

  spec: Spec
  d: int
  dropout: float = 0.0
  group: int = 0
  dtype: jnp.dtype = jnp.float32
  remat: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    spec = self.spec
    kernel = spec.patch if spec.patch > 1 else 3
    x = nn.Conv(
      spec.widths[0],
      (kernel, kernel),
      spec.patch,
      padding=0 if spec.patch > 1 else 1,
      use_bias=False,
      kernel_init=_conv_init,
      dtype=self.dtype,
      name='stem_conv',
    )(x.astype(self.dtype))
    x = BatchNorm(self.group, self.dtype, name='stem_bn')(x, train)
    x = PReLU(name='stem_prelu')(x)
    block = nn.remat(Block, static_argnums=2) if self.remat else Block  # 0 is the module, 1 is x, 2 is train
    for i, (blocks, width, stride) in enumerate(zip(spec.blocks, spec.widths, spec.strides, strict=True)):
      for j in range(blocks):
        x = block(width, stride if j == 0 else 1, self.group, self.dtype, name=f'stage{i + 1}_block{j + 1}')(x, train)
    x = BatchNorm(self.group, self.dtype, name='bn')(x, train)
    x = nn.Dropout(self.dropout, deterministic=not train)(x.reshape(x.shape[0], -1))
    x = nn.Dense(self.d, dtype=self.dtype, name='embedding')(x).astype(jnp.float32)
    # The scale is fixed at 1 (the embedding is normalised anyway), the bias is learned, as in ArcFace's networks.
    return BatchNorm(self.group, jnp.float32, scaled=False, name='embedding_bn')(x, train)
