"""Runs a network over a whole set of images: the one place where embeddings of a set are made.

Used by tokenize, evaluate, embed and enrol alike. The network arrives as a function and the images as anything with a
length that can be sliced, so arrays in memory, memory-mapped files and faces rendered on demand are all the same here.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm


def extract(embed: Callable, images: Any, batch_size: int, *, progress: str = 'embedding') -> Any:
  """Applies `embed` to all images, in order.

  Args:
    embed: uint8 [batch_size, h, w, 3] -> [batch_size, d], or a pytree of arrays with that leading axis (embedding and
      digit log-probabilities, say). It always sees full batches: the last one is padded and the padding dropped again.
    images: n images; `len(images)` and `images[start:stop]` giving uint8 [b, h, w, 3].
    batch_size: images per call of `embed`.
    progress: name of the progress bar (images/s, time left); '' shows none.

  Returns:
    float32 [n, d], or the pytree with leaves [n, ...]; floating leaves are float32, integer leaves keep their dtype.

  Raises:
    ValueError: no images, or a batch size below 1.
  """
  total = None
  for start, result in _results(embed, images, batch_size, progress):
    if total is None:
      total = jax.tree.map(lambda leaf: np.empty((len(images), *leaf.shape[1:]), leaf.dtype), result)
    for whole, leaf in zip(jax.tree.leaves(total), jax.tree.leaves(result)):
      whole[start : start + len(leaf)] = leaf
  return total


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
) -> Moments:
  """Moments of the features, in one pass and with memory for one batch and the result.

  Args:
    encode: uint8 [batch_size, h, w, 3] -> [batch_size, D].
    images: n images, as for `extract`.
    labels: int64 [n], identity of every image, 0..m-1, in any order.
    m: number of identities.
    batch_size: images per call of `encode`.
    within: whether to measure the covariance within identities, at a cost of D^2 per image.
    progress: name of the progress bar; '' shows none.

  Raises:
    ValueError: labels that do not fit the images or m, or an identity without images. Found before anything is encoded.
  """
  labels = np.asarray(labels)
  counts = _count(labels, len(images), m)
  sums = squares = None
  for start, features in _results(encode, images, batch_size, progress):
    if sums is None:
      sums = np.zeros((m, features.shape[1]), np.float32)
      squares = np.zeros((features.shape[1],) * 2) if within else None
    batch = labels[start : start + len(features)]
    order = np.argsort(batch, kind='stable')
    present, first = np.unique(batch[order], return_index=True)
    sums[present] += np.add.reduceat(features[order], first, axis=0)
    if within:
      features = features.astype(np.float64)
      squares += features.T @ features
  sums /= counts[:, None].astype(np.float32)
  if within:
    weighted = sums * counts[:, None]
    squares = (squares - sums.T.astype(np.float64) @ weighted) / len(images)
  return Moments(sums, counts, squares)


def _results(embed: Callable, images: Any, batch_size: int, progress: str) -> Iterator[tuple[int, Any]]:
  """Yields (start, host result without padding) batch by batch, in order."""
  if batch_size < 1 or len(images) == 0:
    raise ValueError(f'nothing to embed: {len(images)} images in batches of {batch_size}; both must be at least 1')
  with tqdm.tqdm(total=len(images), desc=progress, unit='image', disable=not progress) as bar:
    pending = None
    for start in range(0, len(images), batch_size):
      batch = np.asarray(images[start : min(start + batch_size, len(images))])
      current = start, len(batch), embed(_pad(batch, batch_size))
      # Devices work asynchronously: the result of one batch is awaited only after the next one was read and sent off.
      if pending:
        yield _collect(pending, bar)
      pending = current
    yield _collect(pending, bar)


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
