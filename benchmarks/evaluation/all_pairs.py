"""Exact TAR at tiny FARs over all pairs of a large set: time and memory, beside a plain matrix product.

python -m benchmarks.evaluation.all_pairs

Made-up embeddings: an identity is a direction, some lie near another one (hard impostors), and images scatter around
theirs, by more for some. A part of the same images, all of whose pairs fit into memory, is evaluated by brute force
too: NumPy in float64, nothing rounded, ranked by sorting all pairs.
"""

import argparse
import contextlib
import resource
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gif_jax.evaluation.all_pairs import protocol

_PRODUCT = 4096  # rows and columns of the plain product


def make_embeddings(n: int, m: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """Float32 [n, d] and identities int64 [n] in random order."""
  rng = np.random.default_rng(seed)
  centre = rng.standard_normal((m, d), np.float32)
  alike = rng.choice(m, (m // 20, 2), replace=False)  # a tenth of the people look like another one
  centre[alike[:, 0]] += centre[alike[:, 1]]
  identity = rng.permutation(np.arange(n) % m)
  scatter = rng.gamma(4, 0.35, (n, 1)).astype(np.float32)
  embedding = centre[identity]
  for start in range(0, n, 65536):
    rows = slice(start, start + 65536)
    embedding[rows] += scatter[rows] * rng.standard_normal(embedding[rows].shape, np.float32)
  return embedding, identity


def _product(d, rounds=20):
  """GFLOP a CPU-second and a second of a matrix product in float32."""
  rng = np.random.default_rng(0)
  a, b = (jax.device_put(rng.standard_normal((_PRODUCT, d), np.float32)) for _ in range(2))
  multiply = jax.jit(lambda a, b: jnp.matmul(a, b.T, precision='highest'))
  multiply(a, b).block_until_ready()
  cpu, wall = time.process_time(), time.perf_counter()
  for _ in range(rounds):
    multiply(a, b).block_until_ready()
  work = 2e-9 * rounds * _PRODUCT**2 * d
  return work / (time.process_time() - cpu), work / (time.perf_counter() - wall)


def _peak_gb():
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _timed(call):
  cpu, wall = time.process_time(), time.perf_counter()
  return call(), time.process_time() - cpu, time.perf_counter() - wall


@contextlib.contextmanager
def _watched(passes):
  """Adds (result, CPU-seconds, seconds) of every pass over all pairs."""
  once = protocol.most_alike

  def watched(*arguments: Any, **settings: Any) -> Any:
    passes.append(_timed(lambda: once(*arguments, **settings)))
    return passes[-1][0]

  protocol.most_alike = watched
  yield
  protocol.most_alike = once


def _evaluate(embedding, identity, replicates):
  return protocol.evaluate_all_pairs('made up', identity, embedding, replicates)


def _brute(embedding, identity, fars):
  """TAR at each FAR, and the cosine of the first impostor that is not accepted."""
  z = embedding.astype(np.float64)
  z /= np.linalg.norm(z, axis=1, keepdims=True)
  left, right = np.triu_indices(len(z), 1)
  score = (z @ z.T)[left, right]
  same = identity[left] == identity[right]
  genuine, impostor = np.sort(score[same]), np.sort(score[~same])
  following = impostor[[len(impostor) - 1 - int(far * len(impostor) * (1 + 1e-12)) for far in fars]]
  return 1 - np.searchsorted(genuine, following, side='right') / len(genuine), following


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--images', type=int, default=200_000)
  parser.add_argument('--identities', type=int, default=40_000)
  parser.add_argument('--d', type=int, default=512)
  parser.add_argument('--replicates', type=int, default=1000, help='of the bootstrap')
  parser.add_argument('--brute', type=int, default=10_000, help='images evaluated by brute force too')
  options = parser.parse_args()
  embedding, identity = make_embeddings(options.images, options.identities, options.d)
  made, before = _peak_gb(), _product(options.d)
  passes = []
  with _watched(passes):
    result, cpu_all, _ = _timed(lambda: _evaluate(embedding, identity, options.replicates))
  after, peak = _product(options.d), _peak_gb()
  (tail, cpu, wall), counts = passes[0], result.counts
  work = 1e-9 * options.images**2 * options.d  # every pair once, two operations for each of d
  print('| what | CPU-s | wall s | GFLOP per CPU-second | GFLOP/s |\n| --- | --- | --- | --- | --- |')
  print(f'| product of {_PRODUCT} x {_PRODUCT}, before | | | {before[0]:.1f} | {before[1]:.1f} |')
  print(f'| all pairs, {len(tail.cosine)} kept | {cpu:.0f} | {wall:.0f} | {work / cpu:.1f} | {work / wall:.1f} |')
  print(f'| product, after | | | {after[0]:.1f} | {after[1]:.1f} |')
  print(f'\nwhole evaluation, {options.replicates} replicates: {cpu_all:.0f} CPU-s; {counts}')
  print(f'peak memory {peak:.2f} GB, {made:.2f} GB before the evaluation, embeddings {embedding.nbytes / 1e9:.2f} GB')
  print('\n| FAR | TAR, % | 95 % | threshold |\n| --- | --- | --- | --- |')
  for name, tar in result.metrics.items():
    low, high = result.intervals.get(name, (np.nan, np.nan))
    far = name.split('=')[1]
    print(f'| {far} | {100 * tar:.3f} | {100 * low:.2f}-{100 * high:.2f} | {result.thresholds[far]:.5f} |')
  _compare(embedding, identity, options.brute)


def _compare(embedding, identity, n):
  """The first n images, which are random ones, beside brute force."""
  embedding, identity = embedding[:n], identity[:n]
  result, cpu, _ = _timed(lambda: _evaluate(embedding, identity, 0))
  fars = [float(name.split('=')[1]) for name in result.metrics]
  (tars, following), brute_cpu, _ = _timed(lambda: _brute(embedding, identity, fars))
  print(f'\n{n} images: {cpu:.1f} CPU-s, brute force {brute_cpu:.1f}; {result.counts}')
  print('| FAR | TAR, % | brute force | threshold, above the next impostor by |\n| --- | --- | --- | --- |')
  rows = zip(result.metrics.items(), tars, following, result.thresholds.values())
  for (name, tar), other, score, threshold in rows:
    print(f'| {name.split("=")[1]} | {100 * tar:.4f} | {100 * other:.4f} | {threshold - score:.1e} |')


if __name__ == '__main__':
  main()
