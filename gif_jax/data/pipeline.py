"""From a set of faces and an identity-code table to the stream of batches a step takes."""

import grain
import numpy as np
from absl import flags

from gif_jax.codes.table import CodeTable
from gif_jax.data import counter
from gif_jax.data.workers import prepare_worker


def _keep_position(position, index):
  return position, index


class _Assemble:
  """[(position, index)] -> batch. Randomness is drawn from (seed, position), so no batch or worker count changes it."""

  def __init__(self, faces, table, seed, flip, labels):
    self.faces, self.table, self.seed, self.flip, self.labels = faces, table, seed, flip, labels

  def __call__(self, pairs):
    position, index = np.array(pairs, np.int64).T
    images = self.faces[index]
    if self.flip:
      mirrored = counter.uniform(self.seed, position) < 0.5
      images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    label = self.faces.labels(index)
    if self.labels:
      self.table.check(label)
      return {'image': images, 'label': label.astype(np.int32)}
    code, code_vector = self.table.rows(label)
    return {'image': images, 'code': code, 'code_vector': code_vector}


def batches(
  faces, table: CodeTable, *, batch_size, seed, start=0, stop=None, workers=0, flip=True, labels=False, process=0,
  processes=1,
):
  """The batches of steps `start` to `stop` - 1 (None: without end), this process's share of each.

  The global batch of a step is a set of examples that is a function of (seed, step) alone; every epoch is a new
  permutation, and batches straddle epochs so that no example is lost. Yields 'image' uint8 [b, size, size, 3], 'code'
  int32 [b, l] and 'code_vector' float32 [b, d], b = B / processes; with `labels` 'label' int32 [b] instead of the last
  two, which are then on the devices. Close the iterator when done with it.
  """
  dataset = (
    grain.MapDataset.range(len(faces))
    .seed(seed)
    .shuffle()
    .repeat()
    .map_with_index(_keep_position)[process::processes]
    .batch(batch_size // processes, batch_fn=list)
    .map(_Assemble(faces, table, seed, flip, labels))[start:stop]
  )
  iterable = dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
  if workers:
    if not flags.FLAGS.is_parsed():  # grain's workers insist, also where no command line was parsed (notebooks, tests)
      flags.FLAGS.mark_as_parsed()
    options = grain.MultiprocessingOptions(num_workers=workers)
    iterable = iterable.mp_prefetch(options, worker_init_fn=prepare_worker)
  return iter(iterable)
