"""What goes into a step besides the state, and what comes out of it for the hosts."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from ml_collections import ConfigDict

from gif_jax.codes.identities import LabelSpace
from gif_jax.codes.table import CodeTable
from gif_jax.data.sets.base import Faces
from gif_jax.training import sharding
from gif_jax.training.objectives.joint_on_host import JointOnHost
from gif_jax.training.program import Program
from gif_jax.training.row_feed import RowFeed, labels_of_steps, new_rows
from gif_jax.training.state import TrainState


class Feed(Protocol):
  """Brings batches to the devices, and what hosts keep of every identity there and back.

  A step's state is `split(state)`, which holds what the devices have. `whole` adds what the hosts have, once all steps
  under way are written back: that is what is saved, restored, evaluated. `init` makes a whole state of step 0.
  """

  def init(self) -> TrainState: ...
  def split(self, state: TrainState) -> TrainState: ...
  def whole(self, state: TrainState) -> TrainState: ...
  def put(self, batch: Mapping[str, np.ndarray]) -> Any:
    """This process's rows of the next batch -> the step's second argument."""

  def take(self, moved: Any) -> None:
    """What the step has returned for the hosts."""

  def close(self) -> None: ...


class PlainFeed:
  """Batches alone: nothing is kept on hosts."""

  def __init__(self, init: Callable[[], TrainState], mesh: jax.sharding.Mesh):
    self.init, self.mesh = init, mesh

  def split(self, state: TrainState) -> TrainState:
    return state

  def whole(self, state: TrainState) -> TrainState:
    return state

  def put(self, batch: Mapping[str, np.ndarray]) -> Any:
    return sharding.put_batch(batch, self.mesh)

  def take(self, moved: Any) -> None:
    del moved

  def close(self) -> None:
    pass


def open_feed(
  config: ConfigDict, program: Program, faces: Faces, table: LabelSpace, mesh: jax.sharding.Mesh, workdir: Path
) -> Feed:
  """The feed of a run. Rows that hosts keep lie in joint.rows_folder, or WORKDIR/rows. Raises DiskError."""
  if not isinstance(program.objective, JointOnHost):
    return PlainFeed(program.init, mesh)
  assert isinstance(table, CodeTable)  # validation keeps `joint` from runs without codes
  folder = Path(config.joint.rows_folder or workdir / 'rows')
  labels = labels_of_steps(config, faces, table)
  return RowFeed(program.init, program.objective, labels, config.train.batch_size, *new_rows(table, folder))
