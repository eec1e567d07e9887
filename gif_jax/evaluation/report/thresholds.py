"""thresholds.json: from which cosine on two images count as one person, for those who use a model.

    from gif_jax.evaluation.thresholds import read_thresholds
    thresholds = read_thresholds('thresholds.json', fingerprint)
    accept = cosine >= thresholds['ijbc']['fars']['1e-4']['cosine']

`cosine` is the one of the file's `metric`: embed both images as f(x) + f(flip x), divide each embedding by its length,
multiply. (Templates of several images: as the benchmark's rule in evaluation.md says.)

Which benchmark: the one whose impostors are most like yours. A FAR is a share of impostor pairs, and how alike
impostors are depends on who is compared, how photographs were taken and how faces were aligned: LFW's impostors are
mostly of different sex, age and skin, so that its threshold for 1e-3 lets many more than 1 in 1000 pass among people
who look alike, of one family or one group. A threshold from one data set does not promise its FAR on another. Before
a decision depends on it, measure impostor pairs of your own (`python -m gif_jax evaluate` takes a folder of people)
and take the threshold from those. A FAR with few impostor pairs behind it is uncertain: below ten of them, take the
next larger one.
"""

import logging
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gif_jax.core.storage.files import read_json, write_json
from gif_jax.evaluation.result import EvaluationError, Result

_LOG = logging.getLogger(__name__)

METRIC = 'cosine of f(x) + f(flip x)'  # of --noflip: 'cosine of f(x)'
_FORMAT = 1
_USE = 'two images count as one person if cosine >= threshold; FARs hold for impostors like those of the benchmark'
_CURE = 'evaluate the model again to write it anew'


def write_thresholds(path: str | Path, results: Iterable[Result], about: Mapping[str, Any]) -> bool:
  """Writes the thresholds of each benchmark's first result that has any; False, and no file, if none has.

  Those of other benchmarks, measured before with the same model, stay in the file. Those of a benchmark that shows what
  the model was trained on are not for people it has never seen: they are left out, also where the file has them.

  The file: {'format': 1, 'model': about['fingerprint'], 'metric': ..., 'use': ..., 'benchmarks': {name: {'protocol',
  'mode', 'fars': {FAR: {'cosine', 'tar', 'interval'}}}}}; TAR is a share or null, its interval [low, high] or null.

  Args:
    path: of the file, to lie beside the model's weights.
    results: of all benchmarks.
    about: of the model, see `page.write_report`; its fingerprint is what `read_thresholds` compares; its `embedding`,
      'f(x) + f(flip x)' unless it says otherwise, is what the cosines are of.
  """
  metric = f'cosine of {about["embedding"]}' if 'embedding' in about else METRIC
  benchmarks: dict[str, Any] = {}
  results = list(results)
  tainted = {result.benchmark for result in results if result.overlap and result.overlap.tainted}
  for result in results:
    if result.thresholds and result.benchmark not in {*benchmarks, *tainted}:
      fars = {far: _at(result, far) for far in result.thresholds}
      benchmarks[result.benchmark] = {'protocol': result.protocol, 'mode': result.mode, 'fars': fars}
  earlier = _earlier(path, about['fingerprint'], metric) if benchmarks or tainted else {}
  stay = {name: noted for name, noted in earlier.items() if name not in tainted}
  if benchmarks or len(stay) < len(earlier):
    head = {'format': _FORMAT, 'model': about['fingerprint'], 'metric': metric, 'use': _USE}
    write_json(path, head | {'benchmarks': stay | benchmarks}, checksum=True)
  return bool(benchmarks)


def _earlier(path, fingerprint, metric):
  """The benchmarks that the file has of this model; {} where it is another's, damaged or missing."""
  try:
    return read_thresholds(path, fingerprint, metric)
  except EvaluationError as error:
    if Path(path).exists():
      _LOG.warning('%s Thresholds of earlier benchmarks are left out.', error)
    return {}


def read_thresholds(path: str | Path, fingerprint: str | None = None, metric: str = METRIC) -> dict[str, dict]:
  """Reads the benchmarks that `write_thresholds` wrote: {name: {'protocol', 'mode', 'fars': {FAR: {'cosine' ...}}}}.

  Args:
    path: of the file.
    fingerprint: of the model in use; None compares nothing.
    metric: the cosine in use.

  Raises:
    EvaluationError: the file is missing, damaged or of another model; the message names it, what is wrong, the cure.
  """
  content = read_json(path, EvaluationError, _CURE)
  for key in ('format', 'model', 'metric', 'benchmarks'):
    if key not in content:
      raise EvaluationError(f'{path} has no {key!r}: it is no file of thresholds, or cut short; {_CURE}.')
  if content['format'] != _FORMAT or content['metric'] != metric:
    raise EvaluationError(
      f'{path} has format {content["format"]!r} and metric {content["metric"]!r}, wanted '
      f'{_FORMAT!r} and {metric!r}: {_CURE}.'
    )
  if fingerprint is not None and content['model'] != fingerprint:
    raise EvaluationError(
      f'{path} has thresholds of the model {content["model"]}, this one is {fingerprint}: thresholds of one model mean '
      f'nothing for another; {_CURE}, or take the file that lies beside its weights.'
    )
  fault = _fault(content['benchmarks'])
  if fault:
    raise EvaluationError(f'{path}: {fault}; {_CURE}.')
  return content['benchmarks']


def _at(result, far):
  name = f'tar@far={far}'
  return {'cosine': result.thresholds[far], 'tar': result.metrics.get(name), 'interval': result.intervals.get(name)}


def _fault(benchmarks) -> str:
  """What is wrong with the part that has the thresholds; '' if nothing is."""
  if not isinstance(benchmarks, dict):
    return "'benchmarks' is no object"
  for name, noted in benchmarks.items():
    for key, kind in (('protocol', str), ('mode', str), ('fars', dict)):
      if not isinstance(noted, dict) or not isinstance(noted.get(key), kind):
        return f'{key!r} of {name!r} is missing or of the wrong kind'
    for far, at in noted['fars'].items():
      if not isinstance(at, dict) or not _is_cosine(at.get('cosine')):
        return f'{name!r} has no cosine at FAR {far!r}'
      if not {'tar', 'interval'} <= at.keys():
        return f'{name!r} has no tar or interval at FAR {far!r}'
  return ''


def _is_cosine(value):
  return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
