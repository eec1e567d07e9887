"""Cost of the identification protocols at full size, on made-up embeddings: CPU-seconds and peak memory.

OMP_NUM_THREADS=1 python -m benchmarks.evaluation.search ijbc
OMP_NUM_THREADS=1 python -m benchmarks.evaluation.search tinyface
"""

import argparse
import resource
import time
from types import SimpleNamespace

import numpy as np

from gif_jax.evaluation.ijb.search import evaluate_galleries
from gif_jax.evaluation.tinyface.protocol import Search, evaluate_search

_KNOWN, _PROBES = (1772, 1759), 19593  # IJB-C: templates of the galleries, templates searched for
_SEARCH = (3728, 4443, 153428, 2569)  # TinyFace: probes, matches, distractors, people


def _images(person, d, noise):
  """Float32 [n, d]; people in a direction of their own, -1 in none."""
  rng = np.random.default_rng(0)
  centre = rng.normal(size=(person.max() + 1, d)).astype(np.float32)
  images = noise * rng.standard_normal((len(person), d), np.float32)
  images[person >= 0] += centre[person[person >= 0]]
  return images


def _ijbc(d, replicates):
  people, rng = sum(_KNOWN), np.random.default_rng(1)
  probe_subject = rng.integers(people, size=_PROBES)
  vectors = _images(np.concatenate([np.arange(people), probe_subject]), d, 2).astype(np.float64)
  vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
  first, second = np.split(np.arange(people), [_KNOWN[0]])
  known, probe = [('G1', first, first), ('G2', second, second)], people + np.arange(_PROBES)
  galleries = SimpleNamespace(galleries=known, probe=probe, probe_subject=probe_subject)
  return lambda: evaluate_galleries('ijbc', vectors, galleries, 'N1D1', replicates)


def _tinyface(d, replicates):
  probes, matches, distractors, people = _SEARCH
  rng = np.random.default_rng(1)
  person = np.concatenate([rng.integers(people, size=probes), np.arange(matches) % people, np.full(distractors, -1)])
  number = np.arange(len(person))
  benchmark = Search('tinyface', person, number[:probes], number[probes:])
  embedding = _images(person, d, 2)
  return lambda: evaluate_search(benchmark, embedding, replicates)


def _peak_mb():
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('benchmark', choices=['ijbc', 'tinyface'])
  parser.add_argument('--d', type=int, default=512)
  options = parser.parse_args()
  for replicates in (0, 1000):
    evaluate = {'ijbc': _ijbc, 'tinyface': _tinyface}[options.benchmark](options.d, replicates)
    before, cpu, wall = _peak_mb(), time.process_time(), time.perf_counter()
    result = evaluate()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(f'{replicates} replicates: {cpu:.1f} CPU-s, {wall:.1f} s, peak {_peak_mb():.0f} MB, {before:.0f} MB before')
  for name, value in result.metrics.items():
    print(f'{name} {value:.4f} {np.round(result.intervals.get(name, ()), 4).tolist()}')


if __name__ == '__main__':
  main()
