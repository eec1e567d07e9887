"""Verification pairs drawn among images of known people."""

import logging
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from gif_jax.core.pair_counts import too_few_pairs, usable_pairs

_LOG = logging.getLogger(__name__)


def balanced_pairs(
  identity: np.ndarray, pairs: int = 6000, folds: int = 10, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Draws pairs of images, half genuine and half impostor in each contiguous fold; no pair occurs twice.

  Args:
    identity: int64 [n], identity of every image.
    pairs: number of pairs, a multiple of 2 * folds.
    folds: number of folds.
    seed: the draw is a function of (identity, pairs, folds, seed).

  Returns:
    left, right int64 [pairs]: image numbers; same bool [pairs].

  Raises:
    ValueError: `pairs` does not divide into folds, or too few genuine or impostor pairs exist.
  """
  if pairs < 1 or pairs % (2 * folds):
    raise ValueError(f'{pairs} pairs cannot be halved in {folds} folds: take a positive multiple of {2 * folds}')
  # With images sorted by identity the genuine partners after position i end, and the impostors begin, at end[i].
  order = np.argsort(identity, kind='stable')
  ranked = np.asarray(identity)[order]
  position, end = np.arange(len(ranked)), np.searchsorted(ranked, ranked, side='right')
  rng = np.random.default_rng(seed)
  genuine = _draw(rng, 'genuine', position + 1, end, pairs // 2)
  impostor = _draw(rng, 'impostor', end, np.full_like(end, len(ranked)), pairs // 2)
  # [2, folds, half a fold] each, joined fold by fold.
  joined = np.concatenate([genuine.reshape(2, folds, -1), impostor.reshape(2, folds, -1)], axis=2)
  left, right = order[joined.reshape(2, pairs)]
  half = np.repeat([True, False], pairs // (2 * folds))
  return left, right, np.tile(half, folds)


def _draw(rng: np.random.Generator, kind: str, first: np.ndarray, end: np.ndarray, count: int) -> np.ndarray:
  """`count` different pairs (i, j) with first[i] <= j < end[i], uniformly: int64 [2, count]."""
  until = np.cumsum(end - first)
  exist = int(until[-1]) if len(until) else 0
  if exist < count:
    raise ValueError(
      f'{count} {kind} pairs are wanted but only {exist} exist: ask for at most {2 * exist} pairs, '
      + ('or hold out more images per identity' if kind == 'genuine' else 'or hold out more identities')
    )
  rank = rng.choice(exist, count, replace=False)
  i = np.searchsorted(until, rank, side='right')
  return np.stack([i, end[i] - (until[i] - rank)])


def check_pairs(images: Sequence[int], settings: ConfigDict, key: str) -> None:
  """Says it before training, not after it, if people with so many images each give fewer pairs than eval.pairs.

  settings: `config.eval`; key: how many people it wanted. Raises ConfigError where not even 20 pairs exist.
  """
  pairs = usable_pairs(images, settings.pairs)
  if not pairs:
    raise too_few_pairs(images, key)
  if pairs < settings.pairs:
    _LOG.info(
      'config.eval.%s: %d people with %d images give %d verification pairs, fewer than config.eval.pairs=%d',
      key,
      len(images),
      sum(images),
      pairs,
      settings.pairs,
    )
