"""The impostor pairs of the largest cosines among all pairs of a set: in blocks on the devices, never n x n.

TAR at small FARs depends on nothing else of the impostors. Devices compare in float32 and hand over what reaches a
floor; the host keeps the k best, and the k-th best of the pairs seen so far is the next floor, never above the k-th
best of all. The first floor is guessed from a sample, so that little is handed over in vain. Whether fewer than k pairs
reach it is seen at the end; then all is done again from no floor: one pass, two at most, and nothing is assumed.

What float32 sums are off by depends on the device and on the shape of blocks, but has a bound: the floor lies twice as
much lower, and what reaches it is computed again as `all_pairs.exact_cosines` does. The result is the same bits
everywhere.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from tqdm import tqdm

from gif_jax.core.distributed import gather
from gif_jax.core.distributed.mesh import batch_sharding, make_mesh
from gif_jax.evaluation.all_pairs.exact_cosines import Images, all_impostors, cosines

_TILE = 64  # rows of a tile, a piece of one column: what a device looks for and hands over
_ROWS = 16384  # of a block, at most, on each device: on a GPU they outweigh the time columns take to get there
_BLOCKS = 64  # of rows or columns, at least, if the set is large enough: half of those on the diagonal is in vain
_COLUMNS = 4096  # of a block, at most
_HANDED = 16  # one in so many tiles can be handed over; where there are more, the block comes whole
_SAMPLE = 2048  # images for the first guess: 2 million pairs, 0.1 CPU-seconds
_SPARE = 2**16  # pairs kept beyond 2 k before the best of them are picked
_BINS = 2**16  # by which processes find the k-th best of all of them


class Impostors(NamedTuple):
  """The most alike impostor pairs: left, right int32 [k], rows of the sorted images, left < right; cosine float64 [k],
  falling, of equal ones the pair of the first rows first."""

  left: np.ndarray
  right: np.ndarray
  cosine: np.ndarray


def most_alike(images: Images, k: int, *, progress: str = 'comparing all pairs') -> Impostors:
  """The `k` impostor pairs of the largest cosines, or all of them where there are fewer.

  Every process compares other blocks; all get the result. Cost: n^2 d / 2 multiplications; memory: on a device a
  block of rows, some of columns and their cosines, on the host about 60 bytes for each of the k.

  Args:
    images: n of them.
    k: pairs wanted, at least 1.
    progress: name of the progress bar (pairs/s, time left); '' shows none.
  """
  floor = _guess(images, k)
  best = _pass(images, k, floor, progress)
  if len(best.cosine) < min(k, images.impostors()) or best.cosine[-1] < floor + _margin(images):
    best = _pass(images, k, -np.inf, progress)
  return best


def _guess(images, k):
  """Twice as many pairs as wanted should reach it, going by all pairs of some images."""
  if len(images.z) < 4 * _SAMPLE:
    return -np.inf
  rising = all_impostors(images.drawn(_SAMPLE))
  rank = int(2 * k / images.impostors() * len(rising)) + 10
  return float(rising[-rank]) if rank <= len(rising) else -np.inf


def _margin(images):
  """How far a device's cosine may be from the exact one.

  Float32 sums of d products, in any order, are off by at most d 2^-24 of the lengths' product; twice that for what a
  device may do otherwise, such as products of three bfloat16 parts.
  """
  return images.z.shape[1] * 2.0**-23


def _pass(images, k, floor, progress):
  """The best k of the pairs that reach the floor; those a margin above it are complete."""
  n, best = len(images.z), _Best(images, k, floor)
  mesh = make_mesh(jax.local_devices())
  high = _tiled(min(_ROWS, -(-n // (_BLOCKS * mesh.size)))) * mesh.size
  wide = min(_COLUMNS, _tiled(-(-n // _BLOCKS)))
  jobs = [(start, first) for start in range(0, n, high) for first in range(start, n, wide)]
  jobs = jobs[jax.process_index() :: jax.process_count()]
  hidden = not progress or jax.process_index() > 0
  total = sum(_pairs(n, high, wide, *job) for job in jobs)
  with tqdm(total=total, desc=progress, unit='pair', unit_scale=True, disable=hidden) as bar:
    # Devices work asynchronously: one block is awaited only after the next one was sent off.
    for (job, block), _ in itertools.pairwise(itertools.chain(_blocks(images, jobs, high, wide, mesh, best), [None])):
      best.add(*block.pairs(best.floor, *job))
      bar.update(_pairs(n, high, wide, *job))
  pairs, cosine = best.exactly()
  return _of_all_processes(pairs, cosine, n, k)


def _tiled(size):
  return size + -size % _TILE


def _pairs(n, high, wide, start, first):
  """Comparisons of a block that are not of padding."""
  return min(high, n - start) * min(wide, n - first)


def _blocks(images, jobs, high, wide, mesh, best):
  """Yields ((first row, first column), what devices hand over) as soon as it was asked of them."""
  everywhere, held = NamedSharding(mesh, PartitionSpec()), None
  for start, first in jobs:
    if start != held:
      rows, held = jax.device_put(_padded(images.z[start : start + high], high), batch_sharding(mesh)), start
    columns = jax.device_put(_padded(images.z[first : first + wide], wide), everywhere)
    floor = jnp.float32(np.nextafter(np.float32(best.floor), np.float32(-np.inf)))
    most = -(-high // mesh.size // _TILE * wide // _HANDED)
    yield (start, first), _Block(*_compare(rows, columns, floor, mesh, most))


def _padded(vectors, size):
  return np.pad(vectors, ((0, size - len(vectors)), (0, 0)))


@functools.partial(jax.jit, static_argnames=('mesh', 'most'))
def _compare(rows, columns, floor, mesh, most):
  """Of every device: cosines [r, c]; the number of tiles that reach the floor; of the first `most` of them the strip of
  rows, the column, and the cosines [most, tile]. Looking at tiles costs a few percent of the multiplication."""

  def on_one(rows, columns, floor):
    cosine = jnp.matmul(rows, columns.T, precision='highest')
    tiles = cosine.reshape(-1, _TILE, cosine.shape[1])
    reached = tiles.max(1) >= floor
    strip, column = jnp.nonzero(reached, size=most, fill_value=0)
    return cosine, reached.sum()[None], strip, column, tiles[strip, :, column]

  split, everywhere = PartitionSpec(mesh.axis_names), PartitionSpec()
  return jax.shard_map(on_one, mesh=mesh, in_specs=(split, everywhere, everywhere), out_specs=split)(
    rows, columns, floor
  )


class _Block(NamedTuple):
  """What `_compare` gives, the devices' results one after the other."""

  cosine: jax.Array
  reached: jax.Array
  strip: jax.Array
  column: jax.Array
  tiles: jax.Array

  def pairs(self, floor: float, start: int, first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs from the floor on: rows, columns int64 [p] of the set, cosine float32 [p]; some may be no pairs at all."""
    count = np.asarray(self.reached)
    most, high = len(self.strip) // len(count), len(self.cosine) // len(count)
    if count.max() > most:
      cosine = np.asarray(self.cosine)
      place = np.flatnonzero(cosine >= floor)
      row, column = np.divmod(place, cosine.shape[1])
      return row + start, column + first, cosine.ravel()[place]
    if not count.any():
      return (np.empty(0, np.int64),) * 2 + (np.empty(0, np.float32),)
    strip, column, tiles = map(np.asarray, (self.strip, self.column, self.tiles))
    device = np.repeat(np.arange(len(count)), count)
    used = np.concatenate([np.arange(many) + most * at for at, many in enumerate(count.tolist())])
    tile, place = np.nonzero(tiles[used] >= floor)
    row = device[tile] * high + strip[used][tile] * _TILE + place
    return row + start, column[used][tile].astype(np.int64) + first, tiles[used][tile, place]


class _Best:
  """The best pairs so far, and the floor below which no pair can be one of the k best.

  A pair is known by left * n + right.
  """

  def __init__(self, images: Images, k: int, floor: float):
    self.images, self.k, self.floor, self.margin = images, k, floor, _margin(images)
    self.pairs: list[np.ndarray] = []
    self.cosine: list[np.ndarray] = []
    self.held = 0

  def add(self, row: np.ndarray, column: np.ndarray, cosine: np.ndarray) -> None:
    """Rows and columns int64 [p] of the set, with their float32 cosines; those that are no pairs are left out."""
    end = np.append(self.images.end, np.iinfo(np.int64).max)  # nobody is a partner of padding
    n = len(self.images.z)
    taken = (column >= end[np.minimum(row, n)]) & (column < n)
    if taken.any():
      self.pairs.append(row[taken] * n + column[taken])
      self.cosine.append(cosine[taken])
      self.held += len(self.pairs[-1])
    if self.held > 2 * self.k + _SPARE:
      self._raise_floor()

  def _raise_floor(self):
    pairs, cosine = self._joined()
    self._rise(float(np.partition(cosine, -self.k)[-self.k]) - self.margin)
    kept = cosine >= self.floor
    pairs, cosine = pairs[kept], cosine[kept]
    if len(pairs) > 1.5 * self.k + _SPARE:  # so many are alike that float32 cannot tell
      chosen, exact = self._best(pairs)
      pairs, cosine = pairs[chosen], cosine[chosen]
      self._rise(exact.min())
    self.pairs, self.cosine, self.held = [pairs], [cosine], len(pairs)

  def _rise(self, cosine):
    """k pairs have at least this exact cosine: in float32 others that good may seem to be a margin lower."""
    self.floor = max(self.floor, cosine - self.margin)

  def _joined(self):
    return np.concatenate([np.empty(0, np.int64), *self.pairs]), np.concatenate([np.empty(0, np.float32), *self.cosine])

  def _best(self, pairs):
    """Places of the k best in `pairs`, and their exact cosines; of those alike the first pairs, which come first."""
    order = np.argsort(pairs, kind='stable')
    cosine = cosines(self.images.z, *np.divmod(pairs[order], len(self.images.z)))
    if len(pairs) > self.k:
      least = np.partition(cosine, -self.k)[-self.k]
      taken = cosine > least
      taken[np.flatnonzero(cosine == least)[: self.k - taken.sum()]] = True
      order, cosine = order[taken], cosine[taken]
    return order, cosine

  def exactly(self) -> tuple[np.ndarray, np.ndarray]:
    """Pairs int64 [<= k] and their exact cosines float64, falling."""
    pairs, cosine = self._joined()
    if len(pairs) > self.k:
      pairs = pairs[cosine >= np.partition(cosine, -self.k)[-self.k] - 2 * self.margin]
    chosen, cosine = self._best(pairs)
    falling = np.argsort(-cosine, kind='stable')
    return pairs[chosen[falling]], cosine[falling]


def _of_all_processes(pairs, cosine, n, k):
  """The k best of those of all processes, the same everywhere."""
  processes = jax.process_count()
  if processes > 1:
    parts = [range(process, process + 1) for process in range(processes)]
    bins = np.clip((cosine + 1) * (_BINS / 2), 0, _BINS - 1).astype(np.int64)
    above = np.cumsum(gather.added(np.bincount(bins, minlength=_BINS), parts)[::-1])[::-1]  # from each bin on
    kept = bins >= np.max(np.flatnonzero(above >= k), initial=0)
    length = gather.joined(np.array([kept.sum()]), parts)
    stops = np.cumsum(length).tolist()
    parts = [range(stop - many, stop) for stop, many in zip(stops, length.tolist())]
    pairs, cosine = (gather.joined(rows[kept], parts) for rows in (pairs, cosine))
    order = np.lexsort((pairs, -cosine))[:k]
    pairs, cosine = pairs[order], cosine[order]
  left, right = np.divmod(pairs, n)
  return Impostors(left.astype(np.int32), right.astype(np.int32), cosine)
