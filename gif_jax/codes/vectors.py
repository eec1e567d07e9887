"""Code vectors: one unit vector per identity, made from encoder features and spread over the hypersphere."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import eigh
from tqdm import tqdm

T = 2.0  # t of L_GP
SAMPLE = 4096  # vectors that the report of `homogenise` looks at
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


def later(means: np.ndarray, d: int, transform: Transform | None) -> np.ndarray:
  """Code vectors of people who come after a table was made: their mean features, brought to size d as its own were.

  means: float [k, D], by the encoder that the table was made with. transform: the table's, or None. Nothing is fitted
  to the newcomers, and they are not homogenised.

  Returns float32 [k, d], unit rows. Raises ValueError for means of another size, not finite, or without a direction.
  """
  means = np.asarray(means, np.float32)
  _check_finite(means)
  size = len(transform.mean) if transform else d
  if means.shape[1] != size:
    raise ValueError(
      f'features of size {means.shape[1]} do not fit the table, which was made of features of size {size}: take the '
      'encoder that it was made with'
    )
  return _unit(transform.apply(means) if transform else means, 'has no direction left: look at its images')


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


@dataclass(frozen=True)
class HomogenizeReport:
  """What `homogenise` changed, all measured on one fixed sample of the identities.

  sample: identities in the sample, at most 4096. loss: L_GP over the sample (its value grows with the sample). cosine:
  smallest, mean and largest over all pairs, and `neighbour`, the mean over identities of the largest one.
  """

  epochs: int
  sample: int
  loss_before: float
  loss_after: float
  cosine_before: dict[str, float]
  cosine_after: dict[str, float]


def homogenise(
  vectors: np.ndarray, *, epochs: int, lr: float, subset: int, scaled: bool, seed: int, progress: bool = True
) -> tuple[np.ndarray, HomogenizeReport]:
  """Spreads code vectors over the sphere by SGD on L_GP, re-normalising after every step (docs/method.md, 1.2).

  Every epoch cuts a fresh permutation of the identities into subsets of m_hat = min(subset, m); the last one is filled
  up from the permutation's beginning, so each identity moves in every epoch.

  Args:
    vectors: float32 [m, d], unit rows.
    epochs: passes over the identities; 0 only reports.
    lr, subset: of the paper: 0.1 and 2048.
    scaled: True: a step of lr * m_hat (ours), whose length does not depend on m_hat. False: lr itself, as published:
      rows move by about lr / m_hat a step, which is little.
    seed: of the permutations.
    progress: show a bar over epochs.

  Returns float32 [m, d], unit rows, and the report.
  Raises ValueError, naming `tokenizer.homogenize_lr`, where the loss rose or is not finite.
  """
  vectors = np.asarray(vectors, np.float32)
  m = len(vectors)
  m_hat = min(subset, m)
  if m_hat < 1 or epochs < 0 or not lr > 0:
    raise ValueError(
      f'homogenisation of {m} vectors needs tokenizer.homogenize_epochs >= 0, homogenize_lr > 0 and '
      f'homogenize_subset >= 1, got {epochs}, {lr} and {subset}'
    )
  sample = np.sort(np.random.default_rng(seed).permutation(m)[:SAMPLE])
  before = _measure(vectors[sample])
  h, key = jnp.array(vectors), jax.random.key(seed)
  for epoch in tqdm(range(epochs), desc='homogenise', unit='epoch', disable=not progress):
    h = _epoch(h, jax.random.fold_in(key, epoch), lr * m_hat if scaled else lr, m_hat).block_until_ready()
  spread = np.asarray(h) if epochs else vectors
  with np.errstate(invalid='ignore'):  # what is not finite is reported below
    after = _measure(spread[sample])
  _check_fall(before[0], after[0], lr)
  return spread, HomogenizeReport(epochs, len(sample), before[0], after[0], before[1], after[1])


def gaussian_potential(h: jax.Array) -> jax.Array:
  """L_GP of docs/method.md for h float32 [m_hat, d]; the sum includes i = j, as written. Returns a float32 scalar."""
  norms = jnp.sum(h * h, 1)
  # Full precision: a distance between neighbours is a small difference of large terms.
  distances = norms[:, None] + norms[None] - 2 * jnp.matmul(h, h.T, precision='highest')
  return jnp.log(jnp.sum(jnp.exp(-T * distances)) / len(h))


@partial(jax.jit, static_argnames='m_hat', donate_argnames='h')
def _epoch(h: jax.Array, key: jax.Array, rate: float, m_hat: int) -> jax.Array:
  """One pass of SGD over all subsets of a fresh permutation: h float32 [m, d] -> [m, d]."""
  m = len(h)
  subsets = -(-m // m_hat)
  order = jnp.resize(jax.random.permutation(key, m), (subsets, m_hat))  # repeats from the start to fill the last one

  def step(i, h):
    rows = h[order[i]]
    rows -= rate * jax.grad(gaussian_potential)(rows)
    rows /= jnp.linalg.norm(rows, axis=1, keepdims=True)
    return h.at[order[i]].set(rows, unique_indices=True)

  return jax.lax.fori_loop(0, subsets, step, h)


def _measure(vectors: np.ndarray) -> tuple[float, dict[str, float]]:
  """L_GP and cosines of unit vectors [n, d], the loss summed in float64."""
  cosine = vectors @ vectors.T
  n = len(vectors)
  loss = float(np.log(np.exp(-T * (2 - 2 * cosine)).sum(dtype=np.float64) / n))
  if n == 1:
    return loss, dict.fromkeys(('min', 'mean', 'max', 'neighbour'), 0.0)
  mean = (cosine.sum(dtype=np.float64) - np.trace(cosine)) / (n * (n - 1))
  np.fill_diagonal(cosine, -np.inf)
  nearest = cosine.max(1)
  np.fill_diagonal(cosine, np.inf)
  return loss, {
    'min': float(cosine.min()),
    'mean': float(mean),
    'max': float(nearest.max()),
    'neighbour': float(nearest.mean(dtype=np.float64)),
  }


def _check_fall(before: float, after: float, lr: float) -> None:
  """An equal loss passes: vectors that are spread evenly, or all equal, have nowhere to go but rounding."""
  if not after <= before + 1e-5:
    raise ValueError(
      f'the uniformity loss did not fall: {before:.4f} before, {after:.4f} after. '
      f'Lower tokenizer.homogenize_lr (now {lr}), or set tokenizer.homogenize_epochs=0 to keep the vectors as they are'
    )
