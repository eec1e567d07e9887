"""The state that is trained and the pure functions over it. Jit, shardings and donation belong to the loop."""

import hashlib

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from gif_jax.models import gif
from gif_jax.models.heads import unit
from gif_jax.training import joint, losses
from gif_jax.training.gather import in_blocks
from gif_jax.training.joint import JointTable


@flax.struct.dataclass
class TrainState:
  """What a checkpoint holds."""

  step: jax.Array  # int32 [], steps taken
  params: dict
  batch_stats: dict
  opt_state: optax.OptState
  joint: JointTable | None = None  # the form `joint` alone


def named_key(seed: int, name: str) -> jax.Array:
  """A random key for one use, a function of (seed, name) alone."""
  return jax.random.fold_in(jax.random.key(seed), int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], 'little'))


def make_init(model, tx, size: int, seed: int):
  """Returns init() -> TrainState at step 0 for crops of `size` pixels a side."""

  def init():
    variables = model.init(named_key(seed, 'init'), jnp.zeros((2, size, size, 3), jnp.uint8), train=False)
    params = variables['params']
    return TrainState(jnp.zeros((), jnp.int32), params, variables['batch_stats'], tx.init(params))

  return init


def make_train_step(model, tx, config, vector_rate, mesh):
  """Returns train_step(state, batch) -> (state, metrics), pure. vector_rate: step -> learning rate of code vectors.

  batch: image uint8 [B, size, size, 3] with code int32 [B, l] and code_vector float32 [B, d]; in the form `joint` with
  label int32 [B], codes and vectors being part of the state. metrics: float32 scalars `loss`, `code_loss`,
  `regression_loss`, `grad_norm`, with `joint` `in_batch_loss`, and `digit_accuracy` [l].
  Apart from the rows of `joint`, of which a step touches B, nothing here depends on the number of identities m.
  """
  settings, trained = config.loss, config.joint

  def loss_fn(params, vectors, state, batch):
    rng = jax.random.fold_in(named_key(config.train.seed, 'dropout'), state.step)
    (z, cosines), mutated = model.apply(
      {'params': params, 'batch_stats': state.batch_stats},
      batch['image'], train=True, mutable=['batch_stats'], rngs={'dropout': rng},
    )  # fmt: skip
    code_loss = jnp.mean(losses.code_loss(cosines, batch['code'], settings))
    # One row stands for all examples of an identity, so that the gradients of all of them meet in it.
    h = unit(vectors)[batch['first']] if trained.enabled else vectors
    regression_loss = jnp.mean(losses.regression_loss(z, h))
    loss = code_loss + settings.gamma * regression_loss
    metrics = {
      'code_loss': code_loss,
      'regression_loss': regression_loss,
      'digit_accuracy': jnp.mean(jnp.argmax(cosines, -1) == batch['code'], axis=0, dtype=jnp.float32),
    }
    if trained.enabled:
      metrics['in_batch_loss'] = jnp.mean(losses.in_batch_loss(z, h, batch['first'], trained))
      loss += trained.weight * metrics['in_batch_loss']
      if trained.uniformity:
        loss += trained.uniformity * losses.batch_uniformity(h, batch['first'])
    metrics['loss'] = loss
    return loss, (mutated['batch_stats'], metrics)

  def train_step(state, batch):
    if trained.enabled:
      rows = joint.read(state.joint, batch['label'], mesh)
      first = joint.first_of_same(batch['label'])
      batch = batch | {'code': rows.codes.astype(jnp.int32), 'code_vector': rows.vectors, 'first': first}
    gradient = jax.grad(loss_fn, argnums=(0, 1), has_aux=True)
    (gradients, row_gradients), (batch_stats, metrics) = gradient(state.params, batch['code_vector'], state, batch)
    updates, opt_state = tx.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics['grad_norm'] = optax.global_norm(gradients)
    table = state.joint
    if trained.enabled:
      rate = vector_rate(state.step)
      table = joint.move(table, rows.vectors, row_gradients, batch['label'], first, rate, mesh)
    return TrainState(state.step + 1, params, batch_stats, opt_state, table), metrics

  return train_step


def make_predict(model, scale: float):
  """Returns predict(state, images uint8 [B, size, size, 3]) -> {'embedding' [B, d], 'norm' [B], 'log_probs' [B, l, v]}.

  All float32, of the image and its mirror image: embedding and norm are those of `gif.Embedded`, digit probabilities
  follow from the mean cosine.
  """

  def predict(state, images):
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    found = gif.embed(model, variables, images)
    cosines = sum(model.apply(variables, f, method='read') for f in found.features) / len(found.features)
    log_probs = jax.nn.log_softmax(scale * cosines)
    return {'embedding': found.embedding, 'norm': found.norm, 'log_probs': log_probs}

  return predict


def state_sha256(state: TrainState) -> str:
  """SHA-256 over parameters, batch statistics and `joint`'s rows: equal only if training ended bit for bit alike."""
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves((state.params, state.batch_stats)):
    for block in in_blocks(leaf):
      digest.update(np.ascontiguousarray(block))
  for leaf in jax.tree.leaves(state.joint):
    for block in in_blocks(leaf, state.joint.m):
      digest.update(np.ascontiguousarray(block))
  return digest.hexdigest()
