"""From embeddings of a benchmark's images to its figures, whatever kind of benchmark it is."""

from typing import Any

import numpy as np

from gif_jax.evaluation.all_pairs import evaluate_all_pairs
from gif_jax.evaluation.pairs import evaluate_pairs
from gif_jax.evaluation.result import Result, check_shape
from gif_jax.evaluation.search import evaluate_search
from gif_jax.evaluation.templates import evaluate_templates

# By `kind`. Each: (benchmark, embedding [n, d], norm [n] or None, replicates) -> results, the one to quote first.
EVALUATORS = {
  'pairs': evaluate_pairs, 'templates': evaluate_templates, 'search': evaluate_search, 'all_pairs': evaluate_all_pairs,
}  # fmt: skip


def measure(
  benchmark: Any, embedding: np.ndarray, *, norm: np.ndarray | None = None, replicates: int = 1000
) -> list[Result]:
  """Results of every protocol and mode that a benchmark has.

  Args:
    benchmark: as `data.benchmarks.opening` opens it: `kind`, `name`, `identity` int64 [n] of its images as far as
      it is known, and the arrays of its protocol.
    embedding: float [n, d], f(x) + f(flip x) of every image in order, not normalised; may be memory-mapped. Rows of
      zeros are like nobody; `result.check_embedding` refuses them, and values that are not finite.
    norm: float [n], mean length of f(x) and f(flip x); None where nobody kept it.
    replicates: of the bootstrap behind the intervals; 0 leaves them out.

  Raises:
    EvaluationError: embeddings of another shape.
  """
  check_shape(embedding, len(benchmark.identity), benchmark.name)
  return EVALUATORS[benchmark.kind](benchmark, embedding, norm, replicates)
