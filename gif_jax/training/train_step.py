"""The state that is trained and the pure functions over it. Jit, shardings and donation belong to the program."""

import hashlib
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from gif_jax.core.distributed.gather import in_blocks
from gif_jax.core.jax_keys import named_key
from gif_jax.models import gif
from gif_jax.training import sharding
from gif_jax.training.objectives.fixed import sequence_loss
from gif_jax.training.objectives.joint import JointTable
from gif_jax.training.objectives.softmax import SoftmaxTable


@flax.struct.dataclass
class TrainState:
  """What a checkpoint holds."""

  step: jax.Array  # int32 [], steps taken
  params: dict
  batch_stats: dict
  opt_state: optax.OptState
  joint: JointTable | None = None  # the form `joint` alone
  softmax: SoftmaxTable | None = None  # a baseline alone
  ema: dict | None = None  # {'params', 'batch_stats'}, their moving average; with train.ema alone

  @property
  def variables(self) -> dict:
    """What the network is used with: the moving average where there is one."""
    return self.ema or {'params': self.params, 'batch_stats': self.batch_stats}


class Objective(Protocol):
  """What embeddings are trained for, and what that keeps of every identity: `fixed`, `joint` or a softmax over all.

  shape, place: its parts of a TrainState, {field: arrays}, as shapes and in their places on the devices.
  read(state, batch) -> (rows, batch, whole): rows is what is trained beside the network in this step, batch has what
    `loss` wants of every example, whole what it wants of the batch as a whole.
  loss(rows, features, cosines, batch, whole) -> (loss, metrics), means over the examples of `batch`, which may be a
    part of the batch that was read.
  move(state, rows, gradient, whole, metrics) -> its parts of the next state.
  """

  def shape(self) -> dict: ...
  def place(self) -> dict: ...
  def read(self, state: TrainState, batch: dict) -> tuple[Any, dict, Any]: ...
  def loss(self, rows, features, cosines, batch, whole) -> tuple[jax.Array, dict]: ...
  def move(self, state: TrainState, rows, gradient, whole, metrics: dict) -> dict: ...


def make_init(model, tx, config):
  """Returns init() -> TrainState at step 0, without what an objective keeps."""

  def init():
    size = config.data.size
    variables = model.init(named_key(config.train.seed, 'init'), jnp.zeros((2, size, size, 3), jnp.uint8), train=False)
    params, batch_stats = variables['params'], variables['batch_stats']
    ema = {'params': params, 'batch_stats': batch_stats} if config.train.ema else None
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, tx.init(params), ema=ema)

  return init


def make_train_step(model, tx, objective: Objective, config, total_steps: int, mesh):
  """Returns train_step(state, batch) -> (state, metrics), pure.

  batch: image uint8 [B, size, size, 3] and what the objective reads. metrics: float32 scalars `loss`, `grad_norm` and
  the objective's own. Apart from the rows that the objective reads nothing here depends on the number of identities m.

  With train.accumulate = k the network sees k parts of the batch one after the other, and a step is one step on the
  mean of their gradients: memory for B / k images. The loss is that of the whole batch; BatchNorm knows B / k images at
  a time, and its running statistics take one step, towards the mean of the parts'.
  """
  k, decay = config.train.accumulate, config.train.ema
  digits_until = config.loss.digits_until * total_steps

  def loss_fn(params, rows, batch_stats, batch, whole, key, reach):
    variables = {'params': sharding.gathered(params, mesh), 'batch_stats': batch_stats}
    (features, cosines, sequence), mutated = model.apply(
      variables, batch['image'], True, batch.get('code'), reach, mutable=['batch_stats'], rngs={'dropout': key}
    )
    loss, metrics = objective.loss(rows, features, cosines, batch, whole)
    if model.sequence:  # beside the objective, whichever it is: it learns the codes that the heads learn
      further, found = sequence_loss(sequence, batch['code'], config.loss)
      loss, metrics = loss + further, metrics | found
    return loss, (mutated['batch_stats'], metrics | {'loss': loss})

  def gradients(state, rows, batch, whole, key):
    reach = jnp.maximum(0.0, 1.0 - state.step / digits_until) if digits_until else 1.0
    gradient = jax.grad(loss_fn, argnums=(0, 1), has_aux=True)
    (of_params, of_rows), aux = gradient(state.params, rows, state.batch_stats, batch, whole, key, reach)
    return (sharding.split_again(of_params, mesh), of_rows), aux

  def accumulated(state, rows, batch, whole, key):
    """The mean over parts of the batch: gradients and metrics of the same, batch statistics one step on."""
    parts = sharding.parts(batch, k, mesh)

    def one(i, part):
      return gradients(state, rows, part, whole, jax.random.fold_in(key, i))

    def add(total, numbered):
      return jax.tree.map(jnp.add, total, one(*numbered)), None

    shapes = jax.eval_shape(one, jnp.int32(0), jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, (jnp.arange(k), parts))
    return jax.tree.map(lambda x: x / k, total)

  def train_step(state, batch):
    rows, batch, whole = objective.read(state, batch)
    key = jax.random.fold_in(named_key(config.train.seed, 'dropout'), state.step)
    find = accumulated if k > 1 else gradients
    (gradient, of_rows), (batch_stats, metrics) = find(state, rows, batch, whole, key)
    updates, opt_state = tx.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics['grad_norm'] = optax.global_norm(gradient)
    kept = objective.move(state, rows, of_rows, whole, metrics)
    ema = state.ema
    if decay:
      # Shorter while there is little to average: initial weights would be most of it for 1 / (1 - decay) steps.
      rate = 1 - jnp.minimum(decay, (1 + state.step) / (10 + state.step))
      now = {'params': params, 'batch_stats': batch_stats}
      ema = jax.tree.map(lambda old, new: old + rate * (new - old), state.ema, now)
    return state.replace(
      step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state, ema=ema, **kept
    ), metrics

  return train_step


def make_predict(model, scale: float):
  """Returns predict(variables, images uint8 [B, size, size, 3]) -> {name: array}.

  'embedding' [B, d], 'norm' [B], 'log_probs' [B, l, v], all float32, of images uint8 [B, size, size, 3] and of their
  mirror images: embedding and norm are those of `gif.Embedded`, digit probabilities follow from the mean cosine; a
  network without heads gives none. With a sequence decoder there is 'first_state' [B, p], for `make_read_digit`: the
  mean of both. As a first state is linear in z, that is the one of the mean z, and one search does for both views.
  """

  def predict(variables, images):
    found = gif.embed(model, variables, images)
    out = {'embedding': found.embedding, 'norm': found.norm}
    if model.heads:
      cosines = sum(model.apply(variables, f, method='read') for f in found.features) / len(found.features)
      out['log_probs'] = jax.nn.log_softmax(scale * cosines)
    if model.sequence:
      states = [model.apply(variables, f, method='first_state') for f in found.features]
      out['first_state'] = sum(states) / len(states)
    return out

  return predict


def make_read_digit(model, scale: float):
  """Returns read_digit(variables, state [n, p], before int32 [n], j) -> (next state, log-probabilities [n, v]).

  The score of digit j for `identification.beam_search.decode_sequence`, see `SequenceDecoder.read`.
  """

  def read_digit(variables, state, before, j):
    state, cosines = model.apply(variables, state, before, j, method='read_digit')
    return state, jax.nn.log_softmax(scale * cosines)

  return read_digit


def state_sha256(state: TrainState) -> str:
  """SHA-256 of all that is trained or evaluated: equal only if training ended bit for bit alike.

  The step, weights, batch statistics, the optimiser's state, the moving average, and what is kept of every identity,
  padding left out.
  """
  m = next((table.m for table in (state.joint, state.softmax) if table), None)
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    rows = leaf.ndim == 2 and path[0].name in ('joint', 'softmax')  # one for every identity
    for block in in_blocks(leaf, m if rows else None):
      digest.update(np.ascontiguousarray(block))
  return digest.hexdigest()
