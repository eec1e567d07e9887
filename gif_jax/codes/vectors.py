"""Initial code vectors: one unit vector per identity, made from encoder features."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

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
    means: float32 [m, D].
    d: size of a code vector.
    within: float64 [D, D], covariance of features around their identity's mean.
    counts: int64 [m], images behind each mean; needed with `within`.

  Returns float32 [m, d], unit rows, and the transform, None where nothing but the length changed. The same input gives
  the same signs. Raises ValueError, naming the row, for features that are not finite or leave no
  direction, and for images of an identity that are all alike (with `within`).
  """
  means = np.asarray(means, np.float32)
  _check_finite(means)
  if within is None and means.shape[1] == d:
    return _unit(means, 'has a mean feature of zero: look at its images, or leave the identity out'), None
  transform = _fit(means, d) if within is None else _fit_whitened(means, d, within, counts)
  cure = 'has the mean feature of all identities, so no direction is left: take another encoder, or its size as d'
  return _unit(transform.apply(means), cure), transform


def _check_finite(means: np.ndarray) -> None:
  if means.ndim != 2 or not means.size:
    raise ValueError(f'means must be [m, D] with m >= 1, got shape {means.shape}')
  bad = np.flatnonzero(~np.isfinite(means).all(1))
  if len(bad):
    raise ValueError(
      f'identity {bad[0]} has a mean feature that is not finite ({len(bad)} such identities): '
      f'look at its images and at the encoder, or leave the identity out'
    )


def _unit(rows: np.ndarray, complaint: str) -> np.ndarray:
  norm = np.linalg.norm(rows, axis=1, keepdims=True)
  zero = np.flatnonzero(norm == 0)
  if len(zero):
    raise ValueError(f'identity {zero[0]} {complaint}')
  return rows / norm


def _fit(means: np.ndarray, d: int) -> Transform:
  """PCA from the eigenvectors of the smaller of the two products, D x D or m x m, summed up in float64."""
  m, size = means.shape
  mean = means.mean(0, dtype=np.float64).astype(np.float32)
  tall = m >= size
  product = _gram(means, mean) if tall else _gram(means.T, mean[:, None])
  n = len(product)
  values, axes = eigh(product, subset_by_index=[max(n - d, 0), n - 1])
  axes = axes[:, values > ROUNDING * np.vdot(means, means)][:, ::-1].astype(np.float32)
  components = axes.T if tall else axes.T @ (means - mean)
  components /= np.linalg.norm(components, axis=1, keepdims=True)
  peak = np.take_along_axis(components, np.abs(components).argmax(1)[:, None], 1)
  padded = np.zeros((d, size), np.float32)
  padded[: len(components)] = components * np.sign(peak)
  return Transform(mean, padded)


def _fit_whitened(means: np.ndarray, d: int, within: np.ndarray, counts: np.ndarray) -> Transform:
  """PCA in the space where the spread within identities is the same in all directions."""
  if np.trace(within) < ALIKE * np.vdot(means, means) / len(means):
    raise ValueError(
      'the images of each identity have the same features, so there is no spread to divide by: give different images '
      'of a person, or set tokenizer.whiten=False'
    )
  sphere = np.trace(within) / len(within) * np.eye(len(within))
  spread, axes = eigh((1 - SHRINK) * within + SHRINK * sphere)
  whiten = axes / np.sqrt(spread)
  mean = means.mean(0, dtype=np.float64).astype(np.float32)
  whitened = ((means - mean) @ whiten).astype(np.float32)
  principal = _fit(whitened, d).components
  variance = np.mean(np.square(whitened @ principal.T, dtype=np.float64), 0)
  noise = np.mean(1 / counts)  # of a mean of n images, whose own variance is 1 here
  gain = np.maximum(variance - noise, 0) / np.maximum(variance, noise)
  return Transform(mean, (gain[:, None] * principal @ whiten.T).astype(np.float32))


def _gram(rows: np.ndarray, mean: np.ndarray) -> np.ndarray:
  """(rows - mean)^T (rows - mean) in float64, without a float64 copy of all rows; `mean` broadcasts to rows."""
  mean = np.broadcast_to(mean, rows.shape)
  total = np.zeros((rows.shape[1],) * 2)
  for start in range(0, len(rows), BLOCK):
    block = rows[start : start + BLOCK].astype(np.float64) - mean[start : start + BLOCK]
    total += block.T @ block
  return total
