"""Rows of identities on their way between the hosts' files and the devices, for `objectives.joint_on_host`."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from gif_jax.codes.table import CodeTable
from gif_jax.core.distributed.host_array import HostArray
from gif_jax.core.distributed.mesh import batch_sharding
from gif_jax.data.sets.base import Faces
from gif_jax.training.input_pipeline import Order
from gif_jax.training.objectives.joint import start_key, start_vectors
from gif_jax.training.objectives.joint_on_host import IN_FLIGHT, Brought, JointOnHost
from gif_jax.training.state import JointTable, TrainState

_LOG = logging.getLogger(__name__)

_AHEAD = 8  # steps whose rows the system is asked to bring from the disk
_DRAWN = 1 << 20  # identities drawn at a time, for several steps
_ROWS = 4096  # rows filled at a time


class _Moved(NamedTuple):
  """A step under way: whose rows it moves, distinct and sorted, which of its N they are, and what it returned."""

  label: np.ndarray
  first: np.ndarray
  rows: jax.Array


def new_rows(table: CodeTable, folder: Path) -> tuple[HostArray, HostArray]:
  """Vectors and codes of everybody in `table`, in files that are to be filled. Raises DiskError for want of room."""
  vectors = HostArray.on_disk(folder, 'vectors', table.m, table.d, np.float32)
  codes = HostArray.on_disk(folder, 'codes', table.m, table.l, np.uint8)
  size = (vectors.own.nbytes + codes.own.nbytes) / 1e9
  _LOG.info('code vectors and codes of %d people lie on the hosts: %.3g GB in %s', table.m, size, folder)
  return vectors, codes


class RowFeed:
  """See `feed.Feed`. labels: step -> int32 [B], of the batch in the order of its images, the same in all processes."""

  def __init__(
    self,
    init: Callable[[], TrainState],
    objective: JointOnHost,
    labels: Callable[[int], np.ndarray],
    batch_size: int,
    vectors: HostArray,
    codes: HostArray,
  ):
    """vectors, codes: float32 [m, d], uint8 [m, l], to be filled by `init` or with those of a checkpoint."""
    self.fresh, self.objective, self.labels, self.vectors, self.codes = init, objective, labels, vectors, codes
    mesh, self.n = objective.mesh, batch_size + objective.settings.negatives
    self.split_over_all, self.replicated = batch_sharding(mesh), NamedSharding(mesh, PartitionSpec())
    here = sum(device.process_index == jax.process_index() for device in mesh.devices.flat)
    self.places = here * objective.places(self.n)
    self.idle = self._put(np.zeros((self.n, vectors.shape[1]), np.float32))
    self.under_way: deque[_Moved] = deque()
    self.step, self.others, self.ahead = 0, _others(objective, 0), deque[np.ndarray]()

  def init(self) -> TrainState:
    """The state of step 0, with the rows that training begins with."""
    table, key = self.objective.table, start_key(self.objective.settings, self.objective.seed)
    vectors, codes = self.vectors, self.codes
    for first in range(0, len(vectors.own), _ROWS):
      rows = slice(first, min(first + _ROWS, len(vectors.own)))
      label = vectors.start + np.arange(rows.start, rows.stop)
      vectors.own[rows], codes.own[rows] = start_vectors(table, key, label), table.codes[label]
    return self.whole(self.fresh())

  def split(self, state: TrainState) -> TrainState:
    """The state without the rows, which are those of this feed; steps go on from it."""
    self.step = int(state.step)
    self.others, self.ahead = _others(self.objective, self.step), deque()
    return state.replace(joint=None)

  def whole(self, state: TrainState) -> TrainState:
    """The state with the rows, as the last step left them."""
    while self.under_way:
      self._write()
    return state.replace(joint=JointTable(self.vectors, self.codes, self.objective.table.m))

  def put(self, batch: Mapping[str, np.ndarray]) -> Any:
    """This process's rows of the next batch -> the batch on the devices, with the rows it compares with."""
    return {'image': self._split(batch['image']), 'rows': self.next_rows()}

  def next_rows(self) -> Brought:
    """What the hosts give to the next step."""
    while len(self.under_way) > IN_FLIGHT:
      self._write()
    return self._brought(self._next_labels())

  def take(self, moved: jax.Array) -> None:
    """Notes what a step returns: float32 [N, d], of the identities that `put` looked up for it."""
    moved.copy_to_host_async()
    self.under_way[-1] = self.under_way[-1]._replace(rows=moved)

  def close(self) -> None:
    """Removes the files: checkpoints have what is in them."""
    self.vectors.remove()
    self.codes.remove()

  def _next_labels(self) -> np.ndarray:
    """label int32 [N] of the next step; those of later steps are looked up, too, and expected from the disk."""
    while len(self.ahead) <= _AHEAD:
      label = np.concatenate([self.labels(self.step + len(self.ahead)), next(self.others)])
      self.vectors.expect(label)
      self.ahead.append(label)
    self.step += 1
    return self.ahead.popleft()

  def _brought(self, label: np.ndarray) -> Brought:
    here, own = self.vectors.own_place(label)
    place = np.full(self.places, self.n, np.int32)
    place[: len(here)] = here
    source = np.arange(self.n, dtype=np.int32)
    for i, step in enumerate(self.under_way):  # the latest last, as it has the last word
      nearest = np.minimum(np.searchsorted(step.label, label), len(step.label) - 1)
      known = step.label[nearest] == label
      source[known] = (self.n * (i + 1) + step.first[nearest])[known]
    moved = [step.rows for step in self.under_way]
    moved += [self.idle] * (IN_FLIGHT - len(moved))
    self.under_way.append(_Moved(*np.unique(label, return_index=True), self.idle))
    return Brought(
      label=self._put(label),
      place=self._split(place),
      vectors=self._split(self._packed(self.vectors, own)),
      codes=self._split(self._packed(self.codes, own)),
      source=self._put(source),
      moved=tuple(moved),
    )

  def _packed(self, rows: HostArray, own: np.ndarray) -> np.ndarray:
    """Rows of this process in the places that it has on its devices."""
    packed = np.zeros((self.places, rows.shape[1]), rows.dtype)
    packed[: len(own)] = rows.own[own]
    return packed

  def _split(self, rows: np.ndarray) -> jax.Array:
    return jax.make_array_from_process_local_data(self.split_over_all, rows)

  def _put(self, rows: np.ndarray) -> jax.Array:
    return jax.make_array_from_process_local_data(self.replicated, rows)

  def _write(self) -> None:
    """Waits for the earliest step under way, and writes what it has moved."""
    step = self.under_way.popleft()
    self.vectors.write(step.label, np.asarray(step.rows.addressable_data(0))[step.first])


def _others(objective: JointOnHost, step: int) -> Iterator[np.ndarray]:
  """`objective.others` of this step and all after it, computed for many at a time."""
  count = max(1, _DRAWN // max(1, objective.settings.negatives))
  draw = jax.jit(jax.vmap(objective.others))
  while True:
    yield from np.asarray(draw(np.arange(step, step + count, dtype=np.int32)))
    step += count


def labels_of_steps(config: ConfigDict, faces: Faces, table: CodeTable) -> Callable[[int], np.ndarray]:
  """step -> the labels int32 [B] of its batch. Raises ValueError, as `table.check`, for labels of nobody."""
  size = config.train.batch_size
  order = Order(faces, table, batch_size=size, seed=config.train.seed, neighbours=config.train.neighbours)

  def labels(step: int) -> np.ndarray:
    label = faces.labels(order.images(step * size + np.arange(size)))
    table.check(label)
    return label.astype(np.int32)

  return labels
