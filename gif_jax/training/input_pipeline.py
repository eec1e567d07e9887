"""From a set of faces and an identity-code table to the stream of batches a step takes."""

import cv2
import grain
import numpy as np
from absl import flags
from grain._src.python.dataset.transformations import process_prefetch

from gif_jax.codes.identities import LabelSpace
from gif_jax.codes.table import CodeTable
from gif_jax.core import counter_rng
from gif_jax.core.memory import keep_freed
from gif_jax.core.workers import prepare_worker
from gif_jax.data.augment import PLAIN, Chances, augment
from gif_jax.data.sets.base import Faces
from gif_jax.training.neighbour_batches import Groups

_ENDLESS = 1 << 40  # steps
_NEVER = 1 << 62  # bytes of an array that would go through shared memory
# Seconds that a worker process has to end. It waits until all its batches are taken, and whoever stops in the middle
# takes no more of them.
_LEAVE = 1


class Order:
  """Which images a step takes: a function of (seed, step) alone."""

  def __init__(self, faces: Faces, table: LabelSpace, *, batch_size: int, seed: int, neighbours: int = 1):
    """Arguments as of `batches`."""
    self.count, self.batch_size, self.seed = len(faces), batch_size, seed
    self.groups = _groups(faces, table, neighbours, seed) if neighbours > 1 else None

  def images(self, position: np.ndarray) -> np.ndarray:
    """position int64 [k] in the stream, in which a batch follows the other -> which images of the set: int64 [k]."""
    return self.groups.images(position) if self.groups else counter_rng.shuffled(position, self.count, self.seed)


class _Assemble:
  """step -> batch. Randomness is drawn from (seed, position), so no batch, process or worker count changes it."""

  def __init__(self, faces: Faces, table: LabelSpace, order: Order, chances: Chances, labels: bool, rows: np.ndarray):
    self.faces, self.table, self.order, self.chances = faces, table, order, chances
    self.labels, self.rows = labels, rows

  def __call__(self, step: int) -> dict[str, np.ndarray]:
    position = step * self.order.batch_size + self.rows
    index = self.order.images(position)
    images = self.faces[index]
    augment(images, self.order.seed, position, self.chances)
    label = self.faces.labels(index)
    if self.labels:
      self.table.check(label)
      return {'image': images, 'label': label.astype(np.int32)}
    assert isinstance(self.table, CodeTable)  # without codes, labels are asked for
    code, code_vector = self.table.rows(label)
    return {'image': images, 'code': code, 'code_vector': code_vector}


def batches(
  faces: Faces,
  table: LabelSpace,
  *,
  batch_size: int,
  seed: int,
  start: int = 0,
  stop: int | None = None,
  workers: int = 0,
  chances: Chances = PLAIN,
  labels: bool = False,
  neighbours: int = 1,
  rows: np.ndarray | None = None,
) -> grain.DatasetIterator[dict[str, np.ndarray]]:
  """The batches of steps `start` to `stop` - 1 (None: without end), or of each the rows that a process brings.

  The global batch of a step is a set of examples that is a function of (seed, step) alone; every epoch is a new
  permutation, and batches straddle epochs so that no example is lost. Yields 'image' uint8 [b, size, size, 3], 'code'
  int32 [b, l] and 'code_vector' float32 [b, d]; with `labels` 'label' int32 [b] instead of the last two, which are then
  on the devices. rows: int64 [b], of `mesh.own_rows`; None: all B. chances: of every kind of augmentation. neighbours:
  above 1, images in a row that are of people with like codes, see `neighbour_batches.Groups`. workers: threads, or
  processes for faces that are `in_processes`; 0 = one thread. Close the iterator when done with it.
  """
  order = Order(faces, table, batch_size=batch_size, seed=seed, neighbours=neighbours)
  assemble = _Assemble(faces, table, order, chances, labels, np.arange(batch_size) if rows is None else rows)
  steps = grain.MapDataset.range(start, _ENDLESS if stop is None else stop).map(assemble)
  keep_freed()
  cv2.setNumThreads(0)  # crops are far too small to be shared among OpenCV's own threads
  # Decoding leaves the interpreter's lock to others, so threads do it, and pass batches on without a copy.
  apart = getattr(faces, 'in_processes', False)
  threads = 1 if apart else max(1, workers)
  iterable = steps.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1))
  if workers and apart:
    if not flags.FLAGS.is_parsed():  # grain's workers insist, also where no command line was parsed (notebooks, tests)
      flags.FLAGS.mark_as_parsed()
    options = grain.MultiprocessingOptions(num_workers=workers)
    process_prefetch._PROCESS_KILL_TIMEOUT_S = _LEAVE  # grain has no setting for it
    # Batches come through pipes: grain sometimes loses the race to free shared memory, and leaves it behind.
    through_pipes = grain.experimental.DatasetOptions(min_shm_size=_NEVER)
    iterable = iterable.mp_prefetch(options, worker_init_fn=prepare_worker)
    iterable = grain.experimental.WithOptionsIterDataset(iterable, through_pipes)
  return iter(iterable)


def _groups(faces: Faces, table: LabelSpace, neighbours: int, seed: int) -> Groups:
  assert isinstance(table, CodeTable)  # validation keeps neighbours from runs without codes
  return Groups(faces, table, neighbours, seed)
