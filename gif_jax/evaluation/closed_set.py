"""Which training identity is on a held-out image: rates of every route there is."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from gif_jax.codes.identities import LabelSpace
from gif_jax.codes.table import CodeTable
from gif_jax.core.distributed.mesh import make_mesh
from gif_jax.data.sets.base import Faces
from gif_jax.evaluation.predictions import Predict, predictions
from gif_jax.identification.beam_search import DecodeIndex
from gif_jax.identification.metrics import digit_accuracy, rank_rates
from gif_jax.identification.routes import FIRST, ClosedSet
from gif_jax.models.extraction.extract import extract


class _Selected:
  """Some images of a set, as `extract` reads them."""

  def __init__(self, faces: Faces, chosen: np.ndarray):
    self.faces, self.chosen = faces, chosen

  def __len__(self) -> int:
    return len(self.chosen)

  def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
    return self.faces[self.chosen[rows]]


def closed_set_metrics(
  predict: Predict,
  held_out: Faces,
  table: LabelSpace,
  vectors: np.ndarray,
  settings: ConfigDict,
  search: Callable | None = None,
) -> dict[str, Any]:
  """Rates of the first and the five best, 0..1: ROUTE_top1 and ROUTE_top5 for each of `ClosedSet.routes`.

  'fused_weights' are those of `ClosedSet.fused`, 'digit_accuracy' of each digit; {} without held-out images.

  Args:
    predict: see `train_step.make_predict`.
    held_out: further images of the training identities.
    table: of codes, or whom a softmax tells apart.
    vectors: float [m, d], code vectors, or a softmax's centres, of which the nearest by angle is taken.
    settings: `config.eval`.
    search: of a sequence decoder, see `training.program.make_search`.
  """
  if not len(held_out):
    return {}
  chosen = np.unique(np.linspace(0, len(held_out) - 1, settings.closed_set).astype(np.int64))
  parts = ('embedding', *(('log_probs',) if table.l else ()), *(('first_state',) if search else ()))
  out = predictions(predict, _Selected(held_out, chosen), settings.batch_size, 'closed set', *parts)
  labels, widths = held_out.labels(chosen), (settings.beam, settings.trees_up_to)
  in_order = None if search is None else partial(sequence, search, out['first_state'], settings=settings)
  seen = ClosedSet(out['embedding'], out.get('log_probs'), labels, table, vectors, *widths, in_order)
  metrics: dict[str, Any] = {}
  if isinstance(table, CodeTable):
    digits = digit_accuracy(out['log_probs'], table.codes[labels])
    metrics = {'digit_accuracy': digits, 'fused_weights': seen.weights}
  for name, route in seen.routes().items():
    rates = rank_rates(route(), labels)
    metrics |= {f'{name}_top{rank}': rates[rank] for rank in (1, 5)}
  return metrics


def sequence(search: Callable, first: np.ndarray, index: DecodeIndex, *, settings: ConfigDict) -> np.ndarray:
  """Candidates int32 [n, 5] by the sequence decoder, best first.

  first float32 [n, p]: see `train_step.make_predict`; index: `DecodeIndex` of the codes.
  """
  everywhere = NamedSharding(make_mesh(jax.local_devices()), PartitionSpec())
  held = jax.device_put(index, everywhere)  # once, and not with every batch

  def candidates(first):
    return search(held, first, settings.beam, FIRST)[0]

  return extract(candidates, first, settings.batch_size, progress='closed set, digits in order')
