"""The figures of a state: what it says of unseen people, and of training identities."""

import logging
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from gif_jax.core.distributed.mesh import make_mesh
from gif_jax.core.pair_counts import usable_pairs
from gif_jax.data.drawn_pairs import balanced_pairs
from gif_jax.evaluation.all_pairs.protocol import roc_of_all_pairs
from gif_jax.evaluation.benchmarks import measure
from gif_jax.evaluation.report.tables import quoted
from gif_jax.evaluation.result import Curve
from gif_jax.evaluation.verification.roc import pixel_embedding, tar_of_roc, verify
from gif_jax.identification.metrics import digit_accuracy, rank_rates
from gif_jax.identification.routes import FIRST, ClosedSet
from gif_jax.models.extraction.extract import extract

_LOG = logging.getLogger(__name__)

FARS = {1: 1e-1, 2: 1e-2, 3: 1e-3, 4: 1e-4}  # by the exponent in their names


def embed(predict, faces, settings, name) -> np.ndarray:
  """Embeddings z of a set of faces: float32 [n, d]. settings: `config.eval`; predict: see training.steps."""
  return _predict(predict, faces, settings, name, 'embedding')['embedding']


def target_figures(predict, targets, settings) -> dict[str, dict[str, float]]:
  """Figures of the benchmarks of eval.targets, by their names in `evaluation.result.Result`, the one to quote first.

  {name of the benchmark: figures}; further protocols and modes of one have names like 'ijbc 1:1 N0D1'. What is too
  small to measure anything with is left out.
  """
  found = {}
  for name, target in targets.items():
    out = _predict(predict, target.images, settings, name, 'embedding', 'norm')
    for i, result in enumerate(measure(target, out['embedding'], norm=out['norm'], replicates=0)):
      if best := quoted(result):
        title = f'{name} {result.protocol} {result.mode}'.rstrip() if i else name
        found[title] = {best: result.figures[best]} | result.figures
  return found


def _predict(predict, faces, settings, name, *parts):
  """Parts of the predictions for a set of faces, `embedding` among them; the others never leave the devices.

  Where the network overflows, z is 0 and every digit equally likely, with a warning. A deep network does that in its
  first steps, while the running statistics are still far from those of a batch.
  """

  def some(images):
    out = predict(images)
    return {part: out[part] for part in parts}

  out = extract(some, faces, settings.batch_size, progress=name)
  bad = ~np.isfinite(out['embedding']).all(1)
  if bad.any():
    _LOG.warning(
      '%s: %d of %d embeddings are not finite and count as unknown faces; after the first few hundred '
      'steps this means the network has diverged',
      name,
      bad.sum(),
      len(bad),
    )
    for part, values in out.items():
      values[bad] = -np.log(values.shape[2]) if part == 'log_probs' else 0
  return out


class VerificationFigures(NamedTuple):
  """What embeddings say of unseen people."""

  # 10-fold verification accuracy on balanced pairs and their number, TAR at fixed FARs over all pairs; shares are 0..1.
  figures: dict
  curve: Curve  # over all pairs


def verification_figures(embedding, identity, settings) -> VerificationFigures:
  """Figures of embeddings float32 [n, d] with identities int64 [n]. settings: `config.eval`.

  Takes as many of eval.pairs as exist, and leaves out FARs of less than one impostor pair, which cannot be measured.
  """
  images = np.unique(identity, return_counts=True)[1].tolist()
  pairs = usable_pairs(images, settings.pairs)
  left, right, same = balanced_pairs(identity, pairs)
  result = verify(embedding, left, right, same)
  curve = roc_of_all_pairs(embedding, identity)
  figures = {'verification_accuracy': result.accuracy, 'verification_std': result.std, 'verification_pairs': pairs}
  impostors = (sum(images) ** 2 - sum(count**2 for count in images)) // 2
  tars = {f'tar@far=1e-{i}': float(tar_of_roc(*curve, [far])[0]) for i, far in FARS.items() if impostors * far >= 1}
  return VerificationFigures(figures | tars, curve)


def pixel_figures(faces, settings) -> VerificationFigures:
  """The same of the baseline: cosine of grey, mean-subtracted pixels."""
  embedding = extract(pixel_embedding, faces, settings.batch_size, progress='pixel baseline')
  return verification_figures(embedding, faces.labels(), settings)


class _Selected:
  """Some images of a set, as `extract` reads them."""

  def __init__(self, faces, chosen):
    self.faces, self.chosen = faces, chosen

  def __len__(self):
    return len(self.chosen)

  def __getitem__(self, rows):
    return self.faces[self.chosen[rows]]


def closed_set_figures(predict, held_out, table, vectors, settings, search=None) -> dict:
  """Which training identity is on a held-out image, by every route there is: rates of the first and five best, 0..1.

  vectors [m, d]: code vectors, or a softmax's centres, of which the nearest by angle is taken. Figures are ROUTE_top1
  and ROUTE_top5 for each of `ClosedSet.routes`; 'fused_weights' are those of `ClosedSet.fused`. search: of a sequence
  decoder, see `training.program.make_search`.
  """
  if not len(held_out):
    return {}
  chosen = np.unique(np.linspace(0, len(held_out) - 1, settings.closed_set).astype(np.int64))
  parts = ('embedding', *(('log_probs',) if table.l else ()), *(('first_state',) if search else ()))
  out = _predict(predict, _Selected(held_out, chosen), settings, 'closed set', *parts)
  labels, widths = held_out.labels(chosen), (settings.beam, settings.trees_up_to)
  in_order = (lambda index: sequence(search, out['first_state'], index, settings)) if search else None
  seen = ClosedSet(out['embedding'], out.get('log_probs'), labels, table, vectors, *widths, in_order)
  found = {}
  if table.l:
    found = {'digit_accuracy': digit_accuracy(seen.log_probs, table.codes[labels]), 'fused_weights': seen.weights}
  for name, route in seen.routes().items():
    rates = rank_rates(route(), labels)
    found |= {f'{name}_top{rank}': rates[rank] for rank in (1, 5)}
  return found


def sequence(search, first, index, settings) -> np.ndarray:
  """Candidates int32 [n, 5] by the sequence decoder, best first. first float32 [n, p]: see `steps.make_predict`."""
  everywhere = NamedSharding(make_mesh(jax.local_devices()), PartitionSpec())
  index = jax.device_put(index, everywhere)  # once, and not with every batch

  def candidates(first):
    return search(index, first, settings.beam, FIRST)[0]

  return extract(candidates, first, settings.batch_size, progress='closed set, digits in order')
