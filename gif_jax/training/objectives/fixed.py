"""`published` and `fixed`: code vectors stay as the tokeniser left them. Nothing on a device depends on m.

Here too are the losses of codes, which `joint` has in common with them.
"""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gif_jax.core.distributed.mesh import batch_sharding
from gif_jax.models.heads import unit
from gif_jax.training.objectives import losses
from gif_jax.training.state import Batch, Metrics, TrainState


class Fixed:
  """L_C + gamma L_AR (docs/method.md, section 2). See `train_step.Objective`. settings: `config.loss`.

  A batch has code int32 [B, l] and code_vector float32 [B, d], looked up by the input pipeline.
  """

  def __init__(self, settings: ConfigDict, l: int, d: int, mesh: jax.sharding.Mesh):
    self.settings, self.l, self.d, self.mesh = settings, l, d, mesh

  def abstract(self) -> dict[str, Any]:
    return {}

  def init(self) -> dict[str, Any]:
    return {}

  def gather(self, state: TrainState, batch: Batch) -> tuple[None, Batch, None]:
    del state
    return None, batch, None

  def loss(
    self, rows: None, features: jax.Array, cosines: jax.Array, batch: Batch, context: None
  ) -> tuple[jax.Array, Metrics]:
    del rows, context
    return code_losses(unit(features), cosines, batch['code'], batch['code_vector'], self.settings)

  def update(
    self, state: TrainState, rows: None, gradient: None, context: None, metrics: Metrics
  ) -> tuple[dict[str, Any], None]:
    del state, rows, gradient, context, metrics
    return {}, None

  def inputs(self, size: int) -> dict[str, Any]:
    split = batch_sharding(self.mesh)
    return {
      'code': jax.ShapeDtypeStruct((size, self.l), jnp.int32, sharding=split),
      'code_vector': jax.ShapeDtypeStruct((size, self.d), jnp.float32, sharding=split),
    }


def code_losses(
  z: jax.Array, cosines: jax.Array, code: jax.Array, code_vector: jax.Array, settings: ConfigDict
) -> tuple[jax.Array, Metrics]:
  """L_C + gamma L_AR of a batch, and its metrics. z, code_vector float32 [B, d], unit rows; settings: `config.loss`."""
  code_loss = jnp.mean(losses.code_loss(cosines, code, settings))
  regression_loss = jnp.mean(losses.regression_loss(z, code_vector))
  return code_loss + settings.gamma * regression_loss, {
    'code_loss': code_loss,
    'regression_loss': regression_loss,
    'digit_accuracy': jnp.mean(jnp.argmax(cosines, -1) == code, axis=0, dtype=jnp.float32),
  }


def sequence_loss(cosines: jax.Array, code: jax.Array, settings: ConfigDict) -> tuple[jax.Array, Metrics]:
  """L_S of a batch times its weight, and its metrics. cosines: of the sequence decoder, float32 [B, l, v], given code.

  code int32 [B, l]; settings: `config.loss`. Accuracies are of each digit given those before it.
  """
  loss = jnp.mean(losses.digits_loss(cosines, code, settings))
  right = jnp.argmax(cosines, -1) == code
  accuracy = jnp.mean(right, axis=0, dtype=jnp.float32)
  return settings.sequence * loss, {'sequence_loss': loss, 'sequence_accuracy': accuracy}
