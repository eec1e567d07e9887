"""The training state, which a step changes and a checkpoint holds, and what goes into a step and comes out of it."""

import hashlib
from typing import Any, NamedTuple

import flax.struct
import jax
import numpy as np
import optax
from jax.experimental import multihost_utils

from gif_jax.core.distributed.gather import in_blocks
from gif_jax.core.distributed.host_array import HostArray

Batch = dict[str, jax.Array]  # {name: [B, ...]}, on the devices
Metrics = dict[str, jax.Array]  # {name: float32}, means over a batch


class HostRows(NamedTuple):
  """The rows of a JointTable in the host's memory, without padding."""

  vectors: np.ndarray  # float32 [m, d]
  codes: np.ndarray  # uint8 [m, l]


class JointTable(flax.struct.PyTreeNode):
  """What a joint run knows of every identity; a part of the training state.

  vectors: float32 [M, d], code vectors h, unit rows. codes: uint8 [M, l], what the heads learn to read. On hosts M = m;
  on devices it is rounded up to a multiple of these, and rows from m on stay zero and are never read.
  """

  vectors: jax.Array | HostArray
  codes: jax.Array | HostArray
  m: int = flax.struct.field(pytree_node=False, default=0)

  def on_host(self) -> HostRows:
    """The rows of all m identities as NumPy arrays. Needs memory for all of them in every process: for tests and use.

    Training writes and hashes rows a block at a time: see `core.distributed.gather`.
    """
    return HostRows(*(np.concatenate(list(in_blocks(rows, self.m))) for rows in (self.vectors, self.codes)))


class SoftmaxTable(flax.struct.PyTreeNode):
  """What a baseline keeps of every identity; a part of the training state.

  centres: float32 [M, d], rows of any length, M as in `JointTable`. opt_state: of their optimiser, with rows like them.
  norms: float32 [2], AdaFace's running mean and deviation of |f(x)|.
  """

  centres: jax.Array
  opt_state: optax.OptState
  norms: jax.Array
  m: int = flax.struct.field(pytree_node=False, default=0)

  def on_host(self) -> np.ndarray:
    """The centres float32 [m, d] as a NumPy array. Needs memory for all of them in every process."""
    return np.asarray(multihost_utils.process_allgather(self.centres, tiled=True))[: self.m]


class TrainState(flax.struct.PyTreeNode):
  """What a checkpoint holds."""

  step: jax.Array  # int32 [], steps taken
  params: dict[str, Any]
  batch_stats: dict[str, Any]
  opt_state: optax.OptState
  joint: JointTable | None = None  # the form `joint` alone; None in a step where hosts keep it
  softmax: SoftmaxTable | None = None  # a baseline alone
  ema: dict[str, Any] | None = None  # {'params', 'batch_stats'}, their moving average; with train.ema alone

  @property
  def variables(self) -> dict[str, Any]:
    """What the network is used with: the moving average if there is one."""
    return self.ema or {'params': self.params, 'batch_stats': self.batch_stats}


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
      digest.update(np.ascontiguousarray(block).data)
  return digest.hexdigest()
