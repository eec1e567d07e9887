"""What a run measures while it trains, and at its end: people kept apart, benchmarks, the people trained on."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from gif_jax.codes.identities import LabelSpace
from gif_jax.core.errors import ConfigError
from gif_jax.data.sets.base import FaceSets
from gif_jax.evaluation.benchmark import Benchmark
from gif_jax.evaluation.closed_set import closed_set_metrics
from gif_jax.evaluation.evaluator import Embed, Evaluator
from gif_jax.evaluation.predictions import Predict, predictions
from gif_jax.evaluation.report.tables import quoted
from gif_jax.evaluation.result import Curve, Result
from gif_jax.evaluation.unseen import UnseenPeople, pixel_embedding
from gif_jax.models.extraction.cache import Embeddings
from gif_jax.models.extraction.extract import extract

_SMALLEST_FAR = 1e-4  # of people kept apart: below it so few impostor pairs are accepted that no two runs agree


class Final(NamedTuple):
  """What a trained network is measured to be.

  Attributes:
    metrics: of benchmarks (`targets`, {name: metrics}), of unseen people, of the people trained on; for summary.json.
    embedding: float32 [n, d], of unseen people, not normalised; empty where nobody was kept apart.
    identity: int64 [n], of them.
    curves: name -> ROC over all their pairs, of the network and of the baseline.
  """

  metrics: dict[str, Any]
  embedding: np.ndarray
  identity: np.ndarray
  curves: dict[str, Curve]


class RunEvaluator:
  """Everything that a run is measured on: predictions in, metrics out."""

  def __init__(self, settings: ConfigDict, faces: FaceSets, targets: Mapping[str, Benchmark]):
    """settings: `config.eval`; targets: the benchmarks it names.

    Raises ConfigError for a target without pictures, EvaluationError for a set that nothing can be measured with.
    """
    for name, target in targets.items():
      if target.images is None:
        raise ConfigError(f'config.eval.targets: {name} has no pictures to embed; leave it out.')
    self._settings, self._held_out, self._targets = settings, faces.held_out, Evaluator(targets)
    self._validation, self._test = (
      Evaluator({name: UnseenPeople(name, people, settings.pairs)} if len(people) else {})
      for name, people in (('validation', faces.validation), ('unseen people', faces.test))
    )

  def validate(self, predict: Predict) -> tuple[dict[str, float] | None, dict[str, float]]:
    """Metrics of the validation people, None without any; and all metrics as a log row. Targets pick no checkpoint."""
    embed = _embedder(predict, self._settings.batch_size)
    best = next((_unseen(results) for _, _, results in self._validation.results(embed)), None)
    row = {f'validation/{name}': value for name, value in (best or {}).items()}
    targets = {f'targets/{name}': next(iter(metrics.values())) for name, metrics in self._benchmarks(embed).items()}
    return best, row | targets

  def finish(self, predict: Predict, table: LabelSpace, vectors: np.ndarray, search: Callable | None = None) -> Final:
    """All metrics of a trained network; table, vectors, search: as of `closed_set_metrics`."""
    embed, settings = _embedder(predict, self._settings.batch_size), self._settings
    benchmarks = self._benchmarks(embed)
    metrics: dict[str, Any] = {'targets': benchmarks} if benchmarks else {}
    embedding, identity = np.zeros((0, vectors.shape[1]), np.float32), np.zeros(0, np.int64)
    curves: dict[str, Curve | None] = {}
    for people, embeddings, results in self._test.results(embed):
      metrics |= _unseen(results)
      embedding, identity, curves = embeddings.embedding, people.identity, {'this run': results[-1].curve}
    for _, _, results in self._test.results(_pixel_embedder(settings.batch_size)):
      metrics |= {f'pixel_{name}': value for name, value in _unseen(results).items()}
      curves['raw pixels'] = results[-1].curve
    metrics |= closed_set_metrics(predict, self._held_out, table, vectors, settings, search)
    return Final(metrics, embedding, identity, {name: curve for name, curve in curves.items() if curve})

  def _benchmarks(self, embed: Embed) -> dict[str, dict[str, float]]:
    """Metrics of the targets, the one to quote first: {name: metrics}.

    Further protocols and modes of a benchmark have names like 'ijbc 1:1 N0D1'. What is too small to measure anything
    with is left out.
    """
    metrics = {}
    for target, _, results in self._targets.results(embed):
      for i, result in enumerate(results):
        if best := quoted(result):
          title = f'{target.name} {result.protocol} {result.mode}'.rstrip() if i else target.name
          metrics[title] = {best: result.metrics[best]} | dict(result.metrics)
    return metrics


def _embedder(predict: Predict, batch_size: int) -> Embed:
  def embed(benchmark: Benchmark) -> Embeddings:
    out = predictions(predict, benchmark.images, batch_size, benchmark.name, 'embedding', 'norm')
    return Embeddings(out['embedding'], out['norm'])

  return embed


def _pixel_embedder(batch_size: int) -> Embed:
  """The baseline: cosine of grey, mean-subtracted pixels."""
  return lambda people: Embeddings(extract(pixel_embedding, people.images, batch_size, progress='pixel baseline'), None)


def _unseen(results: list[Result]) -> dict[str, float]:
  """Metrics of `UnseenPeople` as summary.json has them; shares are 0..1."""
  verification, all_pairs = results
  return {
    'verification_accuracy': verification.metrics['accuracy'],
    'verification_std': verification.metrics['std'],
    'verification_pairs': verification.counts['pairs'],
  } | {name: tar for name, tar in all_pairs.metrics.items() if float(name.partition('=')[2]) >= _SMALLEST_FAR}
