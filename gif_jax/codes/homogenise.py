"""Homogenisation: spreads code vectors over the hypersphere, so that no identity is crowded by others."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from gif_jax.core.storage.resume import Draft

T = 2.0  # t of L_GP
SAMPLE = 4096  # vectors that the report looks at
WATCH_SECONDS = 10  # between looks at the loss while a run is under way
SAVE_SECONDS = 120  # between drafts

_Step = Callable[[np.ndarray, np.float32], jax.Array]


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
  vectors: np.ndarray,
  *,
  epochs: int,
  lr: float,
  subset: int,
  scaled: bool,
  seed: int,
  progress: bool = True,
  draft: Draft | None = None,
) -> tuple[np.ndarray, HomogenizeReport]:
  """Spreads code vectors over the sphere by SGD on L_GP, re-normalising after every step (docs/method.md, 1.2).

  Every epoch cuts a fresh permutation of the identities into subsets of m_hat = min(subset, m); the last one is filled
  up from the permutation's beginning, so each identity moves in every epoch. A step moves one subset on every local
  device. Subsets of an epoch do not meet, so the number of devices changes nothing but the speed; and vectors stay on
  the host, so what a device holds does not grow with m.

  Args:
    vectors: float [m, d], unit rows; left as they are.
    epochs: passes over the identities; 0 only reports.
    lr, subset: of the paper: 0.1 and 2048.
    scaled: True: a step of lr * m_hat (ours), whose length does not depend on m_hat. False: lr itself, as published:
      rows move by about lr / m_hat a step, which is little.
    seed: of the permutations.
    progress: show a bar over identities times epochs.
    draft: where a run that is killed finds its vectors again.

  Returns float32 [m, d], unit rows, and the report.
  Raises ValueError, naming `tokenizer.homogenize_lr`, as soon as the loss has risen or is not finite.
  """
  vectors = np.asarray(vectors)
  m = len(vectors)
  m_hat = min(subset, m)
  _check_settings(m, epochs, lr, subset)
  sample = np.sort(np.random.default_rng(seed).permutation(m)[:SAMPLE])
  before = after = _measure(vectors[sample].astype(np.float32))
  done, saved = (draft and draft.load('homogenised')) or (0, vectors)
  h = np.array(saved, np.float32)
  mesh = _local_mesh()
  step, rate = _stepper(mesh), lr * m_hat if scaled else lr
  looked = written = time.monotonic()
  with tqdm(
    desc='homogenise', total=epochs * m, initial=done * m, unit='id', unit_scale=True, disable=not progress
  ) as bar:
    for epoch in range(done, epochs):
      order = np.random.default_rng([seed, epoch]).permutation(m)
      for moved in _epoch(h, order, m_hat, mesh.size, step, rate):
        bar.update(moved)
      if epoch in (0, epochs - 1) or time.monotonic() - looked > WATCH_SECONDS:
        after, looked = _measure(h[sample]), time.monotonic()
        _check_fall(before[0], after[0], lr)
        bar.set_postfix_str(f'loss {after[0]:.3f}, mean cosine {after[1]["mean"]:.3f}')
      if draft and (epoch == epochs - 1 or time.monotonic() - written > SAVE_SECONDS):
        draft.save('homogenised', epoch + 1, h)
        written = time.monotonic()
  if done == epochs:
    after = _measure(h[sample])
  return h, HomogenizeReport(epochs, len(sample), before[0], after[0], before[1], after[1])


def _check_settings(m: int, epochs: int, lr: float, subset: int) -> None:
  if min(subset, m) < 1 or epochs < 0 or not lr > 0:
    raise ValueError(
      f'homogenisation of {m} vectors needs tokenizer.homogenize_epochs >= 0, homogenize_lr > 0 and '
      f'homogenize_subset >= 1, got {epochs}, {lr} and {subset}'
    )


def _local_mesh() -> Mesh:
  return jax.make_mesh((jax.local_device_count(),), ('data',), (AxisType.Auto,), devices=jax.local_devices())


def gaussian_potential(h: jax.Array) -> jax.Array:
  """L_GP of docs/method.md for h float32 [m_hat, d]; the sum includes i = j, as written. Returns a float32 scalar."""
  norms = jnp.sum(h * h, 1)
  # Full precision: a distance between neighbours is a small difference of large terms.
  distances = norms[:, None] + norms[None] - 2 * jnp.matmul(h, h.T, precision='highest')
  return jnp.log(jnp.sum(jnp.exp(-T * distances)) / len(h))


def _stepper(mesh: Mesh) -> _Step:
  """A step of SGD on every device's own subset: rows float32 [devices, m_hat, d] and the rate to the rows moved."""
  spec = PartitionSpec('data')

  @jax.jit
  @partial(jax.shard_map, mesh=mesh, in_specs=(spec, PartitionSpec()), out_specs=spec)
  def step(rows: jax.Array, rate: jax.Array) -> jax.Array:
    rows = rows[0] - rate * jax.grad(gaussian_potential)(rows[0])
    return (rows / jnp.linalg.norm(rows, axis=1, keepdims=True))[None]

  return lambda rows, rate: step(jax.device_put(rows, NamedSharding(mesh, spec)), rate)


def _epoch(h: np.ndarray, order: np.ndarray, m_hat: int, devices: int, step: _Step, rate: float) -> Iterator[int]:
  """One pass over the subsets of `order`, a permutation int64 [m]; h float32 [m, d] changes in place.

  Yields how many identities have moved, again and again.
  """
  full = len(order) // m_hat  # subsets without a gap
  subsets = order[: full * m_hat].reshape(full, m_hat)
  pending: tuple[np.ndarray, jax.Array] | None = None
  for start in range(0, full, devices):
    index = subsets[start : start + devices]
    padded = index if len(index) == devices else np.resize(index, (devices, m_hat))
    sent = index, step(h[padded], np.float32(rate))
    # Devices work asynchronously: rows are fetched back only after the next ones were sent.
    if pending:
      yield _store(h, *pending)
    pending = sent
  if pending:
    yield _store(h, *pending)
  rest = order[full * m_hat :]
  if len(rest):  # filled up with identities that were moved before, so it has to wait for them
    index = np.concatenate([rest, order[: m_hat - len(rest)]])[None]
    _store(h, index, step(h[np.repeat(index, devices, 0)], np.float32(rate)))
    yield len(rest)


def _store(h: np.ndarray, index: np.ndarray, moved: jax.Array) -> int:
  h[index] = np.asarray(moved)[: len(index)]
  return index.size


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
