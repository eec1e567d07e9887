"""Runs a network over a whole set of images: the one place where embeddings of a set are made.

Used by tokenize, evaluate, embed and enrol alike. The network arrives as a function and the images as anything with a
length that can be sliced, so arrays in memory, memory-mapped files and faces rendered on demand are all the same here.

Every process does its own share of the images on its own devices, a batch split over them; only the results meet. With
a folder for `state` an extraction that was killed goes on where it was and ends with the same bits.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from gif_jax.core import interrupts
from gif_jax.core.distributed import gather
from gif_jax.core.distributed.mesh import batch_sharding, make_mesh
from gif_jax.core.errors import UserError
from gif_jax.core.storage.arrays import load_array
from gif_jax.core.storage.resume import Progress, open_rows

_ROWS = 4096  # identities taken to float64 at a time
_THREADS = 8  # that read images; more batches would be held in memory than devices can wait for


class ExtractError(UserError):
  """Features that nothing can be made of; the message says whose and the cure."""


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
  work = _Work.of(images, batch_size)
  saved = Progress(state, 'rows', work.origin(key) if state else {}, jax.process_index())
  done, _ = saved.load(work.own.start)
  total = _made(embed, work, saved, done, progress)
  if total is None:  # what was saved is damaged
    total = _made(embed, work, saved, work.own.start, progress)
  return jax.tree.map(lambda rows: gather.joined(_finished(rows), work.parts), total)


def _made(embed, work, saved, done, progress):
  """The results of this process's images, those before `done` as they were saved; None where these are damaged."""
  resume, total = done > work.own.start, None
  # Of a finished share the last batch is run again: no file says what tree its arrays are the leaves of.
  done = min(done, work.own[:: work.size][-1])
  results = _results(embed, work, done, progress)
  try:
    for start, result in results:
      if total is None:
        total = _allocate(result, work.own, saved, resume)
        if not saved.whole(jax.tree.leaves(total)):
          saved.forget('is of rows that were damaged')
          return None
      first = start - work.own.start
      for rows, leaf in zip(jax.tree.leaves(total), jax.tree.leaves(result)):
        rows[first : first + len(leaf)] = leaf
      done = min(start + work.size, work.own.stop)  # last: a Ctrl-C may come between
      if saved.due() or done == work.own.stop:
        saved.save(done, filled=jax.tree.leaves(total), rows=done - work.own.start)
  except KeyboardInterrupt:
    if total is not None:
      saved.save(done, filled=jax.tree.leaves(total), rows=done - work.own.start)
    raise
  finally:
    results.close()
  return total


def _allocate(result, own, saved, resume):
  """Arrays for the results of all images in `own`: in memory, or files in the folder of `saved`."""
  leaves, tree = jax.tree.flatten(result)
  shapes = [(len(own), *leaf.shape[1:]) for leaf in leaves]
  if not saved.folder:
    return tree.unflatten(np.empty(shape, leaf.dtype) for shape, leaf in zip(shapes, leaves))
  paths = [saved.folder / f'{saved.stem}-{i}.npy' for i in range(len(leaves))]
  return tree.unflatten(
    open_rows(path, shape, leaf.dtype, resume=resume) for path, shape, leaf in zip(paths, shapes, leaves)
  )


def _finished(rows):
  return load_array(rows.filename) if isinstance(rows, np.memmap) else rows


class Moments(NamedTuple):
  """What the features of a set of identities have in common.

  Attributes:
    means: float32 [m, D], mean feature of every identity, not normalised.
    counts: int64 [m], images of every identity.
    within: float64 [D, D], covariance of the features around their identity's mean; None unless asked for.
  """

  means: np.ndarray
  counts: np.ndarray
  within: np.ndarray | None


def identity_moments(
  encode: Callable,
  images: Any,
  labels: np.ndarray,
  m: int,
  batch_size: int,
  *,
  within: bool,
  progress: str = 'encoding',
  state: Path | None = None,
  key: str = '',
) -> Moments:
  """Moments of the features, in one pass and with memory for one batch and the result.

  Features are summed up in float32: after 10 000 images of an identity that is off by 2e-6 of the mean, as a running
  mean would be. Their squares are summed up in float64.

  Args:
    encode: uint8 [B, h, w, 3], split over the devices of this process -> [B, D].
    images: n images, as for `extract`.
    labels: int64 [n], identity of every image, 0..m-1, in any order.
    m: number of identities.
    batch_size: images per call of `encode`, rounded up to B, a multiple of the devices.
    within: whether to measure the covariance within identities, at a cost of D^2 per image.
    progress: name of the progress bar; '' shows none.
    state: folder where the sums are saved about once a minute, for a run that was killed to go on; None saves nothing.
    key: as for `extract`; labels are compared too.

  Raises:
    ValueError: labels that do not fit the images or m, or an identity without images. Found before anything is encoded.
    ExtractError: features that are not finite, naming the image.
    DiskError: `state` cannot be written to.
  """
  labels = np.asarray(labels)
  counts = _count(labels, len(images), m)
  work = _Work.of(images, batch_size)
  people = {'m': m, 'labels': hashlib.sha256(np.ascontiguousarray(labels, np.int64)).hexdigest(), 'within': within}
  saved = Progress(state, 'moments', work.origin(key) | people if state else {}, jax.process_index())
  done, totals = saved.load(work.own.start)
  results = _results(encode, work, done, progress)
  try:
    for start, features in results:
      _check_finite(features, start, labels)
      size = features.shape[1]
      if not totals:
        totals = {'sums': np.zeros((m, size), np.float32)} | ({'squares': np.zeros((size, size))} if within else {})
      elif totals['sums'].shape[1] != size:
        was = totals['sums'].shape[1]
        raise ExtractError(f'{state} was saved with features of size {was}, these have {size}: delete it, start again.')
      with interrupts.held():  # sums and `done` go together
        _add(totals, features, labels[start : start + len(features)])
        done = start + len(features)
      if saved.due() or done == work.own.stop:
        saved.save(done, **totals)
  except KeyboardInterrupt:
    saved.save(done, **totals)
    raise
  finally:
    results.close()
  totals = {name: gather.added(total, work.parts) for name, total in totals.items()}
  means = totals['sums']
  means /= counts[:, None].astype(np.float32)
  return Moments(means, counts, _around(means, counts, totals['squares']) if within else None)


def _check_finite(features, start, labels):
  bad = np.flatnonzero(~np.isfinite(features).all(1))
  if len(bad):
    image = start + bad[0]
    raise ExtractError(
      f'the features of image {image}, of identity {labels[image]}, are not finite ({len(bad)} such images in its '
      'batch): look at this image; if there is nothing wrong with it, at the weights of the encoder'
    )


def _add(totals, features, labels):
  """Adds a batch, at a cost that does not depend on the number of identities."""
  order = np.argsort(labels, kind='stable')
  present, first = np.unique(labels[order], return_index=True)
  totals['sums'][present] += np.add.reduceat(features[order], first, axis=0)
  if 'squares' in totals:
    features = features.astype(np.float64)
    totals['squares'] += features.T @ features


def _around(means, counts, squares):
  """Covariance around the means, from the sum of squares around 0; without a float64 copy of all means."""
  for start in range(0, len(means), _ROWS):
    block, weights = means[start : start + _ROWS], counts[start : start + _ROWS]
    squares = squares - block.T.astype(np.float64) @ (block * weights[:, None])
  return squares / counts.sum()


class _Work(NamedTuple):
  """What this process has to do."""

  images: Any
  parts: list[range]  # images of every process
  own: range  # of this one
  size: int  # B, images in a batch
  place: jax.sharding.Sharding  # of a batch on this process's devices

  @classmethod
  def of(cls, images, batch_size) -> '_Work':
    if batch_size < 1 or len(images) == 0:
      raise ValueError(f'nothing to embed: {len(images)} images in batches of {batch_size}; both must be at least 1')
    parts = gather.shares(len(images))
    mesh = make_mesh(jax.local_devices())
    own = parts[jax.process_index() % len(parts)]
    return cls(images, parts, own, batch_size + -batch_size % mesh.size, batch_sharding(mesh))

  def origin(self, key) -> dict:
    """All that decides which bits a result has; JSON values."""
    first = hashlib.sha256(np.ascontiguousarray(self.images[self.own.start : self.own.start + 1])).hexdigest()
    share = [self.own.start, self.own.stop]
    return {'key': key, 'images': len(self.images), 'first image': first, 'batch_size': self.size, 'share': share}


def _results(embed: Callable, work: _Work, start: int, progress: str) -> Iterator[tuple[int, Any]]:
  """Yields (start, host result without padding) for this process's batches from `start` on, in order."""
  own = work.own
  hidden = not progress or jax.process_index() > 0
  with tqdm.tqdm(total=len(own), initial=start - own.start, desc=progress, unit='image', disable=hidden) as bar:
    pending = None
    for first, batch in _read(work, start):
      current = first, len(batch), embed(jax.device_put(_pad(batch, work.size), work.place))
      # Devices work asynchronously: the result of one batch is awaited only after the next one was read and sent off.
      if pending:
        yield _collect(pending, bar)
      pending = current
    if pending:
      yield _collect(pending, bar)


def _read(work: _Work, start: int) -> Iterator[tuple[int, np.ndarray]]:
  """Yields (first image, batch) from `start` on, in order, read by several threads a few batches ahead."""
  threads = min(_THREADS, os.cpu_count() or 1)
  ahead = deque()
  with ThreadPoolExecutor(threads) as pool:
    try:
      for first in range(start, work.own.stop, work.size):
        rows = slice(first, min(first + work.size, work.own.stop))
        ahead.append((first, pool.submit(lambda rows: np.asarray(work.images[rows]), rows)))
        if len(ahead) > threads:
          first, batch = ahead.popleft()
          yield first, batch.result()
      for first, batch in ahead:
        yield first, batch.result()
    finally:  # whoever stops early has no use for the rest
      for _, batch in ahead:
        batch.cancel()


def _pad(batch: np.ndarray, size: int) -> np.ndarray:
  """Fills `batch` up to `size` rows by repeating its last row: black frames could be unlike anything trained on."""
  return np.pad(batch, ((0, size - len(batch)), *[(0, 0)] * (batch.ndim - 1)), mode='edge')


def _collect(pending: tuple[int, int, Any], bar: tqdm.tqdm) -> tuple[int, Any]:
  start, size, result = pending

  def host(leaf):
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    return np.asarray(leaf)[:size].astype(np.float32 if floating else leaf.dtype, copy=False)

  result = jax.tree.map(host, result)
  bar.update(size)
  return start, result


def _count(labels: np.ndarray, n: int, m: int) -> np.ndarray:
  """Images per identity, int64 [m]; raises where `labels` [n] cannot be the labels of n images of m identities."""
  if labels.shape != (n,):
    raise ValueError(f'{n} images need labels of shape ({n},), got {labels.shape}')
  if n and (labels.min() < 0 or labels.max() >= m):
    raise ValueError(f'labels must lie in 0..{m - 1}, found {labels.min()}..{labels.max()}: renumber them without gaps')
  counts = np.bincount(labels, minlength=m)
  if not counts.all():
    raise ValueError(
      f'identity {np.argmin(counts > 0)} has no images ({np.sum(counts == 0)} of {m} have none): '
      'renumber the labels without gaps, or add the missing images'
    )
  return counts
