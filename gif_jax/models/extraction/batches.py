"""The images of a process in batches through a network: read ahead by threads, padded, split over its devices."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from gif_jax.core.distributed import gather
from gif_jax.core.distributed.mesh import batch_sharding, make_mesh
from gif_jax.core.storage.arrays import as_bytes

_THREADS = 8  # that read images; more batches would be held in memory than devices can wait for


class Share(NamedTuple):
  """The images that this process has to do."""

  images: Any
  parts: list[range]  # images of every process
  own: range  # of this one
  size: int  # B, images in a batch
  place: jax.sharding.Sharding  # of a batch on this process's devices

  @classmethod
  def of(cls, images: Any, batch_size: int) -> Self:
    """Of n images in batches of `batch_size`, rounded up to a multiple of the devices. Raises ValueError for none."""
    if batch_size < 1 or len(images) == 0:
      raise ValueError(f'nothing to embed: {len(images)} images in batches of {batch_size}; both must be at least 1')
    parts = gather.shares(len(images))
    mesh = make_mesh(jax.local_devices())
    own = parts[jax.process_index() % len(parts)]
    return cls(images, parts, own, batch_size + -batch_size % mesh.size, batch_sharding(mesh))

  def origin(self, key: str) -> dict:
    """All that decides which bits a result has; JSON values."""
    first = hashlib.sha256(as_bytes(self.images[self.own.start : self.own.start + 1])).hexdigest()
    share = [self.own.start, self.own.stop]
    return {'key': key, 'images': len(self.images), 'first image': first, 'batch_size': self.size, 'share': share}


def results(embed: Callable, share: Share, start: int, progress: str) -> Generator[tuple[int, Any], None, None]:
  """Yields (start, host result without padding) for this process's batches from `start` on, in order."""
  own = share.own
  hidden = not progress or jax.process_index() > 0
  with tqdm.tqdm(total=len(own), initial=start - own.start, desc=progress, unit='image', disable=hidden) as bar:
    pending = None
    for first, batch in _read(share, start):
      current = first, len(batch), embed(jax.device_put(_pad(batch, share.size), share.place))
      # Devices work asynchronously: the result of one batch is awaited only after the next one was read and sent off.
      if pending:
        yield _collect(pending, bar)
      pending = current
    if pending:
      yield _collect(pending, bar)


def _read(share: Share, start: int) -> Iterator[tuple[int, np.ndarray]]:
  """Yields (first image, batch) from `start` on, in order, read by several threads a few batches ahead."""
  threads = min(_THREADS, os.cpu_count() or 1)
  ahead: deque[tuple[int, Future]] = deque()
  with ThreadPoolExecutor(threads) as pool:
    try:
      for first in range(start, share.own.stop, share.size):
        rows = slice(first, min(first + share.size, share.own.stop))
        ahead.append((first, pool.submit(lambda rows: np.asarray(share.images[rows]), rows)))
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
