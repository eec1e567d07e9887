"""Evaluates verification sets: LFW, CFP, AgeDB, CALFW, CPLFW, RFW and their kin."""

import numpy as np

from gif_jax.evaluation.result import Result
from gif_jax.evaluation.verification import verify

_RULE = (
  'Accuracy over 10 contiguous folds, each with the threshold on the squared L2 distance that is best on the others '
  '(insightface, verification.py).'
)


def evaluate_pairs(benchmark, embedding: np.ndarray, norm: np.ndarray | None, replicates: int) -> list[Result]:
  """See `benchmarks.measure`; benchmark: `PairSet`, pair i being images 2i and 2i + 1."""
  del norm, replicates
  left = np.arange(0, len(embedding), 2)
  found = verify(embedding, left, left + 1, benchmark.same)
  counts = {'pairs': len(benchmark.same), 'genuine': int(benchmark.same.sum())}
  return [Result(benchmark.name, '10 folds', '', _RULE, counts, {'accuracy': found.accuracy, 'std': found.std})]
