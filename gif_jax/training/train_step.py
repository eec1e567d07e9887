"""The pure functions over the training state. Jit, shardings and donation belong to the program."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from gif_jax.core.jax_keys import named_key
from gif_jax.models import gif
from gif_jax.training import sharding
from gif_jax.training.objectives.fixed import sequence_loss
from gif_jax.training.state import Batch, Metrics, TrainState

# (state, rows, batch, context, key) -> ((of parameters, of rows), (batch statistics, metrics))
_Gradients = Callable[[TrainState, Any, Batch, Any, jax.Array], tuple[tuple[Any, Any], tuple[Any, Metrics]]]


class Objective(Protocol):
  """What embeddings are trained for, and what that keeps of every identity: `fixed`, `joint` or a softmax over all.

  abstract, init: its parts of a TrainState, {field: arrays}, as shapes and in their places on the devices.
  gather(state, batch) -> (rows, batch, context): rows is what is trained beside the network in this step, batch has
    what `loss` wants of every example, context what it wants of the batch as a unit.
  loss(rows, features, cosines, batch, context) -> (loss, metrics), means over the examples of `batch`, which may be a
    part of the batch that was gathered; cosines: of the heads, None without any.
  update(state, rows, gradient, context, metrics) -> (its parts of the next state, what goes back to the hosts or None).
  inputs(size) -> what a batch of so many images has beside them, as shapes in their places on the devices.
  """

  def abstract(self) -> dict[str, Any]: ...
  def init(self) -> dict[str, Any]: ...
  def gather(self, state: TrainState, batch: Batch) -> tuple[Any, Batch, Any]: ...
  def loss(
    self, rows: Any, features: jax.Array, cosines: Any, batch: Batch, context: Any
  ) -> tuple[jax.Array, Metrics]: ...
  def update(
    self, state: TrainState, rows: Any, gradient: Any, context: Any, metrics: Metrics
  ) -> tuple[dict[str, Any], Any]: ...
  def inputs(self, size: int) -> dict[str, Any]: ...


def make_init(model: gif.GIF, tx: optax.GradientTransformation, config: ConfigDict) -> Callable[[], TrainState]:
  """Returns init() -> TrainState at step 0, without what an objective keeps."""

  def init() -> TrainState:
    size = config.data.size
    variables = model.init(named_key(config.train.seed, 'init'), jnp.zeros((2, size, size, 3), jnp.uint8), train=False)
    params, batch_stats = variables['params'], variables['batch_stats']
    ema = {'params': params, 'batch_stats': batch_stats} if config.train.ema else None
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, tx.init(params), ema=ema)

  return init


def make_train_step(
  model: gif.GIF,
  tx: optax.GradientTransformation,
  objective: Objective,
  config: ConfigDict,
  total_steps: int,
  mesh: jax.sharding.Mesh,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics, Any]]:
  """Returns train_step(state, batch) -> (state, metrics, moved), pure.

  batch: image uint8 [B, size, size, 3] and what the objective gathers by. metrics: float32 scalars `loss`, `grad_norm`
  and the objective's own. moved: what the objective has for the hosts, or None. Apart from the rows that it gathers
  nothing here depends on the number of identities m.

  With train.accumulate = k the network sees k parts of the batch one after the other, and a step is one step on the
  mean of their gradients: memory for B / k images. The loss is that of the full batch; groups of BatchNorm
  are of images in one part, and its running statistics take one step, towards the mean of the parts'.
  """
  k, decay = config.train.accumulate, config.train.ema
  gradients = _make_gradients(model, objective, config, total_steps, mesh)
  if k > 1:
    gradients = _accumulated(gradients, k, mesh)

  def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics, Any]:
    rows, batch, context = objective.gather(state, batch)
    key = jax.random.fold_in(named_key(config.train.seed, 'dropout'), state.step)
    (of_params, of_rows), (batch_stats, metrics) = gradients(state, rows, batch, context, key)
    updates, opt_state = tx.update(of_params, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics['grad_norm'] = optax.global_norm(of_params)
    kept, moved = objective.update(state, rows, of_rows, context, metrics)
    ema = _averaged(state, {'params': params, 'batch_stats': batch_stats}, decay) if decay else state.ema
    state = state.replace(
      step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state, ema=ema, **kept
    )
    return state, metrics, moved

  return train_step


def _make_gradients(
  model: gif.GIF, objective: Objective, config: ConfigDict, total_steps: int, mesh: jax.sharding.Mesh
) -> _Gradients:
  """The gradients of the loss of a batch that the network sees at once."""
  digits_until = config.loss.digits_until * total_steps

  def loss_fn(params, rows, batch_stats, batch, context, key, reach):
    variables = {'params': sharding.gathered(params, mesh), 'batch_stats': batch_stats}
    (features, cosines, sequence), mutated = model.apply(
      variables, batch['image'], True, batch.get('code'), reach, mutable=['batch_stats'], rngs={'dropout': key}
    )
    loss, metrics = objective.loss(rows, features, cosines, batch, context)
    if model.sequence:  # beside the objective, whichever it is: it learns the codes that the heads learn
      of_sequence, sequence_metrics = sequence_loss(sequence, batch['code'], config.loss)
      loss, metrics = loss + of_sequence, metrics | sequence_metrics
    return loss, (mutated['batch_stats'], metrics | {'loss': loss})

  def gradients(state, rows, batch, context, key):
    reach = jnp.maximum(0.0, 1.0 - state.step / digits_until) if digits_until else 1.0
    gradient = jax.grad(loss_fn, argnums=(0, 1), has_aux=True)
    (of_params, of_rows), aux = gradient(state.params, rows, state.batch_stats, batch, context, key, reach)
    return (sharding.split_again(of_params, mesh), of_rows), aux

  return gradients


def _accumulated(gradients: _Gradients, k: int, mesh: jax.sharding.Mesh) -> _Gradients:
  """The mean over k parts of the batch: gradients and metrics of the same, batch statistics one step on."""

  def accumulated(state, rows, batch, context, key):
    parts = sharding.parts(batch, k, mesh)

    def one(i, part):
      return gradients(state, rows, part, context, jax.random.fold_in(key, i))

    def add(total, numbered):
      return jax.tree.map(jnp.add, total, one(*numbered)), None

    shapes = jax.eval_shape(one, jnp.int32(0), jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, (jnp.arange(k), parts))
    return jax.tree.map(lambda x: x / k, total)

  return accumulated


def _averaged(state: TrainState, variables: dict[str, Any], decay: float) -> dict[str, Any]:
  """The moving average one step on."""
  # Shorter while there is little to average: initial weights would be most of it for 1 / (1 - decay) steps.
  rate = 1 - jnp.minimum(decay, (1 + state.step) / (10 + state.step))
  return jax.tree.map(lambda old, new: old + rate * (new - old), state.ema, variables)


def make_predict(model: gif.GIF, scale: float) -> Callable[[dict[str, Any], jax.Array], dict[str, jax.Array]]:
  """Returns predict(variables, images uint8 [B, size, size, 3]) -> {name: array}.

  'embedding' [B, d], 'norm' [B], 'log_probs' [B, l, v], all float32, of images uint8 [B, size, size, 3] and of their
  mirror images: embedding and norm are those of `gif.Embedded`, digit probabilities follow from the mean cosine; a
  network without heads gives none. With a sequence decoder there is 'first_state' [B, p], for `make_read_digit`: the
  mean of both. As a first state is linear in z, that is the one of the mean z, and one search does for both views.
  """

  def predict(variables: dict[str, Any], images: jax.Array) -> dict[str, jax.Array]:
    embedded = gif.embed(model, variables, images)
    out = {'embedding': embedded.embedding, 'norm': embedded.norm}
    if model.heads:
      cosines: list[Any] = [model.apply(variables, f, method='read') for f in embedded.features]
      out['log_probs'] = jax.nn.log_softmax(scale * (sum(cosines) / len(cosines)))
    if model.sequence:
      states: list[Any] = [model.apply(variables, f, method='first_state') for f in embedded.features]
      out['first_state'] = sum(states) / len(states)
    return out

  return predict


def make_read_digit(
  model: gif.GIF, scale: float
) -> Callable[[dict[str, Any], jax.Array, jax.Array, int], tuple[jax.Array, jax.Array]]:
  """Returns read_digit(variables, state [n, p], before int32 [n], j) -> (next state, log-probabilities [n, v]).

  The score of digit j for `identification.beam_search.decode_sequence`, see `SequenceDecoder.read`.
  """

  def read_digit(variables: dict[str, Any], state: jax.Array, before: jax.Array, j: int) -> tuple[jax.Array, jax.Array]:
    read: Any = model.apply(variables, state, before, j, method='read_digit')
    following, cosines = read
    return following, jax.nn.log_softmax(scale * cosines)

  return read_digit
