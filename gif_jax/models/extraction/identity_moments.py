"""What the features of identities have in common, summed up in one pass over their images."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from gif_jax.core import interrupts
from gif_jax.core.distributed import gather
from gif_jax.core.errors import UserError
from gif_jax.core.storage.arrays import as_bytes
from gif_jax.core.storage.resume import Progress
from gif_jax.models.extraction.batches import Share, results

_ROWS = 4096  # identities taken to float64 at a time


class ExtractError(UserError):
  """Features that nothing can be made of; the message says whose and the cure."""


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
    ValueError: labels that do not fit the images or m, or an identity without images; before anything is encoded.
    ExtractError: features that are not finite, naming the image.
    DiskError: `state` cannot be written to.
  """
  labels = np.asarray(labels)
  counts = _count(labels, len(images), m)
  share = Share.of(images, batch_size)
  people = {'m': m, 'labels': hashlib.sha256(as_bytes(np.asarray(labels, np.int64))).hexdigest(), 'within': within}
  saved = Progress(state, 'moments', share.origin(key) | people if state else {}, jax.process_index())
  totals = _summed(encode, share, labels, m, within, saved, progress)
  totals = {name: gather.added(total, share.parts) for name, total in totals.items()}
  means = totals['sums']
  means /= counts[:, None].astype(np.float32)
  return Moments(means, counts, _around(means, counts, totals['squares']) if within else None)


def _summed(encode, share, labels, m, within, saved, progress):
  """Sums over this process's share: `sums` float32 [m, D] of features and, if wanted, `squares` float64 [D, D]."""
  done, totals = saved.load(share.own.start)
  batches = results(encode, share, done, progress)
  try:
    for start, features in batches:
      _check_finite(features, start, labels)
      size = features.shape[1]
      if not totals:
        totals = {'sums': np.zeros((m, size), np.float32)} | ({'squares': np.zeros((size, size))} if within else {})
      elif totals['sums'].shape[1] != size:
        was = totals['sums'].shape[1]
        raise ExtractError(
          f'{saved.folder} was saved with features of size {was}, these have {size}: delete it, start again.'
        )
      with interrupts.held():  # sums and `done` go together
        _add(totals, features, labels[start : start + len(features)])
        done = start + len(features)
      if saved.due() or done == share.own.stop:
        saved.save(done, totals)
  except KeyboardInterrupt:
    saved.save(done, totals)
    raise
  finally:
    batches.close()
  return totals


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
