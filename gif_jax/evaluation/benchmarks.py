"""From embeddings of a benchmark's images to its figures, whatever kind of benchmark it is."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gif_jax.evaluation.all_pairs.protocol import check_all_pairs, evaluate_all_pairs
from gif_jax.evaluation.gallery_search import check_search, evaluate_search
from gif_jax.evaluation.ijb.protocol import evaluate_templates
from gif_jax.evaluation.result import Result, check_shape
from gif_jax.evaluation.verification.protocol import check_pairs, evaluate_pairs


class Evaluator(NamedTuple):
  """How one kind of benchmark is measured."""

  evaluate: Callable  # (benchmark, embedding [n, d], norm [n] or None, replicates) -> results, the one to quote first
  check: Callable  # (benchmark), raises EvaluationError where nothing can be measured with it


# By `kind`. Files of templates are refused when they are opened, where they lack a kind of pairs.
EVALUATORS = {
  'pairs': Evaluator(evaluate_pairs, check_pairs),
  'templates': Evaluator(evaluate_templates, lambda _: None),
  'search': Evaluator(evaluate_search, check_search),
  'all_pairs': Evaluator(evaluate_all_pairs, check_all_pairs),
}


def check(benchmark: Any) -> None:
  """Says it before hours of work, not after them, if a benchmark is too small to be measured with.

  Raises EvaluationError.
  """
  EVALUATORS[benchmark.kind].check(benchmark)


def measure(
  benchmark: Any, embedding: np.ndarray, *, norm: np.ndarray | None = None, replicates: int = 1000
) -> list[Result]:
  """Results of every protocol and mode that a benchmark has.

  Args:
    benchmark: as `evaluation.registry` opens it: `kind`, `name`, `identity` int64 [n] of its images as far as
      it is known, and the arrays of its protocol.
    embedding: float [n, d], f(x) + f(flip x) of every image in order, not normalised; may be memory-mapped. Rows of
      zeros are like nobody; `result.check_embedding` refuses them, and values that are not finite.
    norm: float [n], mean length of f(x) and f(flip x); None where nobody kept it.
    replicates: of the bootstrap behind the intervals; 0 leaves them out.

  Raises:
    EvaluationError: embeddings of another shape, a benchmark that is too small, or a template whose images cancel out.
  """
  check_shape(embedding, len(benchmark.identity), benchmark.name)
  return EVALUATORS[benchmark.kind].evaluate(benchmark, embedding, norm, replicates)
