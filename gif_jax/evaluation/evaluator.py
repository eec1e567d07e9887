"""The one object that measures: benchmarks, and whatever embeds their images, to results."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from gif_jax.evaluation.benchmark import Benchmark, measure
from gif_jax.evaluation.result import Result
from gif_jax.models.extraction.cache import Embeddings

Embed = Callable[[Benchmark], Embeddings]


class Measured(NamedTuple):
  """A benchmark, its embeddings and what they are worth: the result to quote first."""

  benchmark: Benchmark
  embeddings: Embeddings
  results: list[Result]


class Evaluator:
  """Benchmarks, each known to be large enough, to be measured as often as one likes."""

  def __init__(self, benchmarks: Mapping[str, Benchmark]):
    """Raises EvaluationError for a benchmark that nothing can be measured with: now, not after hours of embedding."""
    for benchmark in benchmarks.values():
      benchmark.check()
    self.benchmarks = dict(benchmarks)

  def results(self, embed: Embed, replicates: int = 0) -> Iterator[Measured]:
    """Every benchmark, one after the other; replicates: see `benchmark.measure`.

    Raises EvaluationError for embeddings of another shape, or of which nothing can be said.
    """
    for benchmark in self.benchmarks.values():
      embeddings = embed(benchmark)
      results = measure(benchmark, embeddings.embedding, norm=embeddings.norm, replicates=replicates)
      yield Measured(benchmark, embeddings, results)
