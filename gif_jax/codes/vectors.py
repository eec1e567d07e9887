"""Initial code vectors: one unit vector per identity, made from encoder features."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from gif_jax.codes.blocks import blocks

SHRINK = 0.01  # of the within-identity covariance towards a sphere: rare directions are measured badly
BLOCK = 1024  # rows taken to float64 at a time
ALIKE = 1e-6  # spread within identities below this share of the features' energy is float32 rounding
ROUNDING = 1e-12  # eigenvalues below this share of the features' energy are float32 rounding, not directions


@dataclass(frozen=True)
class Transform:
  """How `initialise` brought features of size D to size d: kept in the table, for people who are enrolled later.

  mean: float32 [D], of the identity means. components: float32 [d, D], principal axes, zero rows beyond the rank.
  """

  mean: np.ndarray
  components: np.ndarray

  def apply(self, features: np.ndarray) -> np.ndarray:
    """Features float32 [n, D] -> [n, d], not normalised."""
    return (np.asarray(features, np.float32) - self.mean) @ self.components.T

  def arrays(self) -> dict[str, np.ndarray]:
    """By name, to be saved."""
    return {'mean': self.mean, 'components': self.components}


def initialise(
  means: np.ndarray, d: int, within: np.ndarray | None = None, counts: np.ndarray | None = None
) -> tuple[np.ndarray, Transform | None]:
  """Initial code vectors h from the identities' mean features (docs/method.md, 1.1).

  With D == d, the published case of CLIP, the means are only L2-normalised. Otherwise they are centred, reduced to d by
  PCA fitted on themselves (zero-padded where their rank is lower) and normalised.

  With `within` (ours) the features are first divided by their spread within identities, so that PCA keeps what differs
  between people and not what light and pose change, and each axis is scaled by the share of its variance that is not
  left over from averaging few images: the posterior mean of a person's position in a Gaussian model (Ioffe,
  "Probabilistic linear discriminant analysis", ECCV 2006).

  Args:
    means: float [m, D], read a block at a time, so they may be memory-mapped.
    d: size of a code vector.
    within: float64 [D, D], covariance of features around their identity's mean.
    counts: int64 [m], images behind each mean; needed with `within`.

  Returns float32 [m, d], unit rows, and the transform, None where nothing but the length changed. The same input gives
  the same signs. Raises ValueError, naming the row, for features that are not finite or leave no
  direction, and for images of an identity that are all alike (with `within`).
  """
  means = np.asarray(means)
  _check_finite(means)
  if within is None and means.shape[1] == d:
    return _unit(means, None, d, 'has a mean feature of zero: look at its images, or leave the identity out'), None
  if within is None:
    transform = _fit(means, d)
  elif counts is None:
    raise ValueError('counts are needed with `within`')
  else:
    transform = _fit_whitened(means, d, within, counts)
  cure = 'has the mean feature of all identities, so no direction is left: take another encoder, or its size as d'
  return _unit(means, transform, d, cure), transform


def later(means: np.ndarray, d: int, transform: Transform | None) -> np.ndarray:
  """Code vectors of people who come after a table was made: their mean features, brought to size d as its own were.

  means: float [k, D], by the encoder that the table was made with. transform: the table's, or None. Nothing is fitted
  to the newcomers, and they are not homogenised.

  Returns float32 [k, d], unit rows. Raises ValueError for means of another size, not finite, or without a direction.
  """
  means = np.asarray(means)
  _check_finite(means)
  size = len(transform.mean) if transform else d
  if means.shape[1] != size:
    raise ValueError(
      f'features of size {means.shape[1]} do not fit the table, which was made of features of size {size}: take the '
      'encoder that it was made with'
    )
  return _unit(means, transform, d, 'has no direction left: look at its images')


def _check_finite(means: np.ndarray) -> None:
  if means.ndim != 2 or not means.size:
    raise ValueError(f'means must be [m, D] with m >= 1, got shape {means.shape}')
  for part, rows in blocks(means, BLOCK):
    bad = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(bad):
      raise ValueError(
        f'identity {part.start + bad[0]} has a mean feature that is not finite: '
        f'look at its images and at the encoder, or leave the identity out'
      )


def _unit(means: np.ndarray, transform: Transform | None, d: int, complaint: str) -> np.ndarray:
  """The means, transformed where there is a transform, at unit length: float32 [m, d]."""
  unit = np.empty((len(means), d), np.float32)
  for part, rows in blocks(means, BLOCK):
    rows = transform.apply(rows) if transform else rows
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    zero = np.flatnonzero(norm == 0)
    if len(zero):
      raise ValueError(f'identity {part.start + zero[0]} {complaint}')
    unit[part] = rows / norm
  return unit


def _fit(means: np.ndarray, d: int) -> Transform:
  """PCA from the eigenvectors of the smaller of the two products, D x D or m x m, summed up in float64."""
  m, size = means.shape
  mean = _mean(means)
  energy = sum(float(np.vdot(rows, rows)) for _, rows in blocks(means, BLOCK))
  if m >= size:
    return Transform(mean, _padded(_signed(_principal(_gram(means, mean), d, energy)[1].T), d))
  centred = means.astype(np.float32) - mean
  components = _principal(_gram(centred.T, 0), d, energy)[1].T @ centred
  return Transform(mean, _padded(_signed(components / np.linalg.norm(components, axis=1, keepdims=True)), d))


def _fit_whitened(means: np.ndarray, d: int, within: np.ndarray, counts: np.ndarray) -> Transform:
  """PCA in the space where the spread within identities is the same in all directions."""
  energy = sum(float(np.vdot(rows, rows)) for _, rows in blocks(means, BLOCK)) / len(means)
  if np.trace(within) <= ALIKE * energy:
    raise ValueError(
      'the images of each identity have the same features, so there is no spread to divide by: give different images '
      'of a person, or set tokenizer.whiten=False'
    )
  sphere = np.trace(within) / len(within) * np.eye(len(within))
  spread, axes = eigh((1 - SHRINK) * within + SHRINK * sphere)
  whiten = axes / np.sqrt(spread)
  mean = _mean(means)
  between = whiten.T @ _gram(means, mean) @ whiten
  values, principal = _principal(between, d, np.trace(between))
  variance, noise = values / len(means), np.mean(1 / counts)  # of a mean of n images, whose own variance is 1 here
  gain = np.maximum(variance - noise, 0) / np.maximum(variance, noise)
  return Transform(mean, _padded(gain[:, None] * _signed(principal.T) @ whiten.T, d))


def _mean(means: np.ndarray) -> np.ndarray:
  return means.mean(0, dtype=np.float64).astype(np.float32)


def _principal(product: np.ndarray, d: int, energy: float) -> tuple[np.ndarray, np.ndarray]:
  """The d largest eigenvalues of a product [n, n], without those that are rounding, and their axes [n, r]."""
  n = len(product)
  values, axes = eigh(product, subset_by_index=[max(n - d, 0), n - 1])
  real = values > ROUNDING * energy
  return values[real][::-1], axes[:, real][:, ::-1]


def _signed(components: np.ndarray) -> np.ndarray:
  """Components [r, D] with their largest entry above zero, so that the same input gives the same signs."""
  peak = np.take_along_axis(components, np.abs(components).argmax(1)[:, None], 1)
  return (components * np.sign(peak)).astype(np.float32)


def _padded(components: np.ndarray, d: int) -> np.ndarray:
  """Zero rows beyond the rank: float32 [d, D]."""
  return np.pad(components.astype(np.float32), ((0, d - len(components)), (0, 0)))


def _gram(rows: np.ndarray, mean: np.ndarray | float) -> np.ndarray:
  """(rows - mean)^T (rows - mean) in float64, without a float64 copy of all rows."""
  total = np.zeros((rows.shape[1],) * 2)
  for _, block in blocks(rows, BLOCK):
    block = block.astype(np.float64) - mean
    total += block.T @ block
  return total
