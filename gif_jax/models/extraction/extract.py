"""Runs a network over a set of images: the one place where embeddings of a set are made.

Used to tokenise and to evaluate alike. The network arrives as a function and the images as anything with a
length that can be sliced, so arrays in memory, memory-mapped files and faces rendered on demand are all the same here.

Every process does its own share of the images on its own devices, a batch split over them; only the results meet. With
a folder for `state` an extraction that was killed goes on where it was, bit-identical to an uninterrupted one.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gif_jax.core.distributed import gather
from gif_jax.core.storage.arrays import load_array
from gif_jax.core.storage.resume import Progress, open_rows
from gif_jax.models.extraction.batches import Share, results


def extract(
  embed: Callable,
  images: Any,
  batch_size: int,
  *,
  progress: str = 'embedding',
  state: Path | None = None,
  key: str = '',
) -> Any:
  """Applies `embed` to all images, in order.

  Args:
    embed: uint8 [B, h, w, 3], split over the devices of this process -> [B, d], or a pytree of arrays with that leading
      axis (embedding and digit log-probabilities, say). It always sees full batches: the last one is padded and the
      padding dropped again.
    images: n images; `len(images)` and `images[start:stop]` giving uint8 [b, h, w, 3].
    batch_size: images per call of `embed`, rounded up to B, a multiple of the devices.
    progress: name of the progress bar (images/s, time left); '' shows none.
    state: folder of this extraction's own, where results are kept while they are made, for a run that was killed to go
      on; delete it when they have been used. None keeps nothing.
    key: names the images and the network, so that no results of anything else are continued. Their number, the first of
      them, batches and processes are compared besides.

  Returns:
    float32 [n, d], or the pytree with leaves [n, ...]; floating leaves are float32, integer leaves keep their dtype.
    Values that are not finite are returned as they are. With `state` and one process the leaves are memory-mapped from
    it, read-only, and take no memory.

  Raises:
    ValueError: no images, or a batch size below 1.
    DiskError: `state` cannot be written to.
  """
  share = Share.of(images, batch_size)
  saved = Progress(state, 'rows', share.origin(key) if state else {}, jax.process_index())
  done, _ = saved.load(share.own.start)
  total = _made(embed, share, saved, done, progress)
  if total is None:  # what was saved is damaged
    total = _made(embed, share, saved, share.own.start, progress)
  return jax.tree.map(lambda rows: gather.joined(_finished(rows), share.parts), total)


def _made(embed, share, saved, done, progress):
  """The results of this process's images, those before `done` as they were saved; None where these are damaged."""
  resume, total = done > share.own.start, None
  # Of a finished share the last batch is run again: no file says what tree its arrays are the leaves of.
  done = min(done, share.own[:: share.size][-1])
  batches = results(embed, share, done, progress)
  try:
    for start, result in batches:
      if total is None:
        total = _allocate(result, share.own, saved, resume)
        if not saved.is_intact(jax.tree.leaves(total)):
          saved.forget('is of rows that were damaged')
          return None
      first = start - share.own.start
      for rows, leaf in zip(jax.tree.leaves(total), jax.tree.leaves(result)):
        rows[first : first + len(leaf)] = leaf
      done = min(start + share.size, share.own.stop)  # last: a Ctrl-C may come between
      if saved.due() or done == share.own.stop:
        saved.save(done, filled=jax.tree.leaves(total), rows=done - share.own.start)
  except KeyboardInterrupt:
    if total is not None:
      saved.save(done, filled=jax.tree.leaves(total), rows=done - share.own.start)
    raise
  finally:
    batches.close()
  return total


def _allocate(result, own, saved, resume):
  """Arrays for the results of all images in `own`: in memory, or files in the folder of `saved`."""
  leaves, tree = jax.tree.flatten(result)
  shapes = [(len(own), *leaf.shape[1:]) for leaf in leaves]
  if not saved.folder:
    return jax.tree.unflatten(tree, [np.empty(shape, leaf.dtype) for shape, leaf in zip(shapes, leaves)])
  paths = [saved.folder / f'{saved.stem}-{i}.npy' for i in range(len(leaves))]
  rows = [open_rows(path, shape, leaf.dtype, resume=resume) for path, shape, leaf in zip(paths, shapes, leaves)]
  return jax.tree.unflatten(tree, rows)


def _finished(rows):
  return load_array(rows.filename) if isinstance(rows, np.memmap) and rows.filename else rows
