"""`joint` with its rows on the hosts: no device holds anything that grows with m.

A step is given the rows that it compares with, and returns them moved (docs/method.md, section 2). Which they are is a
function of (seed, step), so `training.row_feed` reads them while earlier steps run. What a step that is not written
back yet has moved is taken from its result, on the devices.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from gif_jax.core.distributed.mesh import batch_sharding, processes_of
from gif_jax.training.objectives.joint import Compared
from gif_jax.training.state import Batch, TrainState

IN_FLIGHT = 2  # steps that may be under way when the rows of the next are read


class Brought(NamedTuple):
  """What the hosts give to a step, of N identities. D devices have C places each, on every host N or more in all.

  label: int32 [N], the batch's in the order of its images, then the others drawn; the same on all devices.
  place: int32 [D C], which of the N each row is; N for a place that is not used.
  vectors, codes: float32 [D C, d], uint8 [D C, l], the rows of the hosts that have them.
  source: int32 [N], where each vector is newest: its own number in what the hosts brought, or N + i in `moved`.
  moved: IN_FLIGHT times float32 [N, d], what the latest steps returned.
  """

  label: Any
  place: Any
  vectors: Any
  codes: Any
  source: Any
  moved: tuple[Any, ...]


class JointOnHost(Compared):
  """See `train_step.Objective` and `Joint`. A batch has rows: Brought. The state has nothing of any identity."""

  def abstract(self) -> dict[str, Any]:
    return {}

  def init(self) -> dict[str, Any]:
    return {}

  def places(self, n: int) -> int:
    """C, for the rows of n identities."""
    return -(-n // (self.mesh.size // processes_of(self.mesh)))

  def inputs(self, size: int) -> dict[str, Any]:
    n, l, d = size + self.settings.negatives, self.table.l, self.table.d
    split, places = batch_sharding(self.mesh), self.mesh.size * self.places(n)
    replicated = NamedSharding(self.mesh, PartitionSpec())
    brought = Brought(
      label=jax.ShapeDtypeStruct((n,), jnp.int32, sharding=replicated),
      place=jax.ShapeDtypeStruct((places,), jnp.int32, sharding=split),
      vectors=jax.ShapeDtypeStruct((places, d), jnp.float32, sharding=split),
      codes=jax.ShapeDtypeStruct((places, l), jnp.uint8, sharding=split),
      source=jax.ShapeDtypeStruct((n,), jnp.int32, sharding=replicated),
      moved=(jax.ShapeDtypeStruct((n, d), jnp.float32, sharding=replicated),) * IN_FLIGHT,
    )
    return {'rows': brought}

  def gather(self, state: TrainState, batch: Batch) -> tuple[jax.Array, Batch, tuple[jax.Array, jax.Array]]:
    del state
    brought: Any = batch['rows']
    vectors, codes = self._put_together(brought)
    newest = jnp.concatenate([vectors, *brought.moved])[brought.source]
    return self.compared(newest, codes, brought.label, {name: rows for name, rows in batch.items() if name != 'rows'})

  def _put_together(self, brought: Brought) -> tuple[jax.Array, jax.Array]:
    """The rows of all hosts: float32 [N, d], uint8 [N, l], a copy on every device."""
    axes = self.mesh.axis_names

    def local(place, *parts):
      rows = [jnp.zeros((n, part.shape[1]), part.dtype).at[place].set(part, mode='drop') for part in parts]
      return tuple(jax.lax.psum(part, axes) for part in rows)  # one device has a row, the others add zeros

    n, split = len(brought.label), PartitionSpec(axes)
    together = jax.shard_map(local, mesh=self.mesh, in_specs=split, out_specs=PartitionSpec())
    return together(brought.place, brought.vectors, brought.codes)

  def update(
    self, state: TrainState, rows: jax.Array, gradient: jax.Array, context: Any, metrics: dict[str, jax.Array]
  ) -> tuple[dict[str, Any], jax.Array]:
    del context, metrics
    return {}, self.moved(state, rows, gradient)
