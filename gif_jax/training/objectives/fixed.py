"""`published` and `fixed`: code vectors stay as the tokeniser left them. Nothing on a device depends on m.

Here too are the losses of codes, which `joint` has in common with them.
"""

import jax.numpy as jnp

from gif_jax.models.heads import unit
from gif_jax.training.objectives import losses


class Fixed:
  """L_C + gamma L_AR (docs/method.md, section 2). See `steps.Objective`. settings: `config.loss`.

  A batch has code int32 [B, l] and code_vector float32 [B, d], looked up by the input pipeline.
  """

  def __init__(self, settings):
    self.settings = settings

  def shape(self) -> dict:
    return {}

  def place(self) -> dict:
    return {}

  def read(self, state, batch):
    del state
    return None, batch, None

  def loss(self, rows, features, cosines, batch, whole):
    del rows, whole
    return code_losses(unit(features), cosines, batch['code'], batch['code_vector'], self.settings)

  def move(self, state, rows, gradient, whole, metrics) -> dict:
    del state, rows, gradient, whole, metrics
    return {}


def code_losses(z, cosines, code, code_vector, settings):
  """L_C + gamma L_AR of a batch, and its metrics. z, code_vector float32 [B, d], unit rows; settings: `config.loss`."""
  code_loss = jnp.mean(losses.code_loss(cosines, code, settings))
  regression_loss = jnp.mean(losses.regression_loss(z, code_vector))
  return code_loss + settings.gamma * regression_loss, {
    'code_loss': code_loss,
    'regression_loss': regression_loss,
    'digit_accuracy': jnp.mean(jnp.argmax(cosines, -1) == code, axis=0, dtype=jnp.float32),
  }


def sequence_loss(cosines, code, settings):
  """L_S of a batch times its weight, and its metrics. cosines: of the sequence decoder, float32 [B, l, v], given code.

  code int32 [B, l]; settings: `config.loss`. Accuracies are of each digit where those before it are known.
  """
  loss = jnp.mean(losses.digits_loss(cosines, code, settings))
  right = jnp.argmax(cosines, -1) == code
  accuracy = jnp.mean(right, axis=0, dtype=jnp.float32)
  return settings.sequence * loss, {'sequence_loss': loss, 'sequence_accuracy': accuracy}
