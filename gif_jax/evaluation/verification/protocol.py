"""Evaluates verification sets: LFW, CFP, AgeDB, CALFW, CPLFW, RFW and their kin."""

import numpy as np
from sklearn.metrics import roc_curve

from gif_jax.evaluation.bootstrap import Tail, draws, interval, tar_intervals, tars
from gif_jax.evaluation.result import EvaluationError, Result, hardest, histogram, rate_name, resolvable, thinned
from gif_jax.evaluation.verification.folds import Folds, pair_distances

_FOLDS = 10
_FARS = (1e-1, 1e-2, 1e-3)
_VAL_FAR = 1e-3
_VAL = f'val@far={rate_name(_VAL_FAR)}'
_RULE = (
  'Accuracy over 10 contiguous folds, each with the threshold on the squared L2 distance that is best on the others; '
  'VAL of each fold at the threshold where the others have FAR 1e-3, by linear interpolation (insightface, '
  'arcface_torch/eval/verification.py). TAR over all pairs at the largest FAR not above the target.'
)


def evaluate_pairs(
  name: str, same: np.ndarray, identity: np.ndarray, embedding: np.ndarray, norm: np.ndarray | None, replicates: int
) -> Result:
  """The protocol of .bin sets; same bool [N], identity int64 [2N] as of `PairSet`, the rest as of `benchmark.measure`.

  Metrics: accuracy, std; val@far=1e-3, val_std and val_far, means over the folds and the population standard deviation,
  left out where a fold lacks genuine or impostor pairs; tar@far= of 1e-1, 1e-2, 1e-3, as far as there are impostor
  pairs enough; xnorm, the mean of `norm`. insightface prints VAL of small sets too, and so do we, but where the other
  folds hold fewer than 1000 impostor pairs no threshold has that FAR (val_far says what it was): no interval is given.

  Intervals: identities are drawn again; a genuine pair weighs w, an impostor pair w w', each in the fold where it is,
  and all thresholds are chosen again under these weights. Identities are what the file tells.
  Impostor pairs that share nobody vary three times as much under such weights as they should (Owen, "The pigeonhole
  bootstrap", Annals of Applied Statistics 2007), so that intervals of sets like LFW are rather too wide than too
  narrow (benchmarks/README.md). They speak of other people in the same folds, not of a network trained again.

  Raises:
    EvaluationError: fewer than 10 pairs, or none of one kind.
  """
  check_pairs(name, same)
  identities, person = np.unique(identity, return_inverse=True)
  left = np.arange(0, 2 * len(same), 2)
  distance = pair_distances(embedding, left, left + 1)
  # Of unit vectors. A dot product would round otherwise, and equal images would not all have one cosine.
  cosine = 1 - distance / 2
  folds, tail = Folds(distance, same, _FOLDS), _tail(cosine, same, person)
  by_tar, tar_bounds, thresholds = _tars(tail, cosine, len(identities), replicates)
  metrics = _fold_metrics(folds) | by_tar
  intervals = _fold_intervals(folds, person, replicates) | tar_bounds
  if norm is not None:
    metrics['xnorm'] = float(np.mean(norm, dtype=np.float64))
  counts = {'pairs': len(same), 'genuine': len(tail.genuine), 'impostor': len(tail.impostor)}
  return Result(
    name,
    f'{_FOLDS} folds',
    '',
    _RULE,
    counts | {'identities': len(identities)},
    metrics,
    {name: bounds for name, bounds in intervals.items() if name in metrics},
    thresholds,
    thinned(*roc_curve(same, cosine, drop_intermediate=False)[:2]),
    histogram(cosine, same),
    hardest(cosine, same, left, left + 1),
  )


def accepted_from(cosine: np.ndarray, impostor: np.ndarray, far: float) -> float:
  """The cosine from which on a pair is accepted, at the largest FAR not above `far`, below 1.

  It lies halfway between the largest cosine that has to be rejected, that of an impostor pair, and the smallest one
  above it, of any pair: whoever works cosines out in float32 or rounds the threshold accepts the same pairs. Where no
  pair lies above, halfway to 1.

  Args:
    cosine: float64 [pairs], of all pairs.
    impostor: float64 [k], those of impostor pairs, falling.
  """
  rejected = impostor[int(far * len(impostor) * (1 + 1e-12))]  # the margin is for 1e-2 * 700, which is not 7
  middle = (rejected + np.min(cosine[cosine > rejected], initial=1)) / 2
  return float(middle if middle > rejected else np.nextafter(rejected, np.inf))


def check_pairs(name: str, same: np.ndarray) -> None:
  """Raises EvaluationError for a set that has too few pairs for anything to be measured with it."""
  if len(same) < _FOLDS or same.all() or not same.any():
    raise EvaluationError(
      f'{name}: {same.sum()} genuine and {(~same).sum()} impostor pairs, wanted both and at least {_FOLDS} '
      'together, one for each fold: make a set of more pairs.'
    )


def _tail(cosine, same, person):
  falling = np.flatnonzero(~same)[np.argsort(-cosine[~same], kind='stable')]
  left, right = person[::2], person[1::2]
  return Tail(cosine[same], left[same], cosine[falling], left[falling], right[falling])


def _tars(tail, cosine, identities, replicates):
  """Metrics, intervals and thresholds at those of _FARS that can be measured."""
  fars = resolvable(_FARS, len(tail.impostor))
  metrics = {f'tar@far={rate_name(far)}': float(tar) for far, tar in zip(fars, tars(tail, fars, identities))}
  bounds = tar_intervals(tail, fars, identities, replicates)
  return (
    metrics,
    {f'tar@far={rate_name(far)}': bound for far, bound in bounds.items()},
    {rate_name(far): accepted_from(cosine, tail.impostor, far) for far in fars},
  )


def _fold_metrics(folds):
  once = np.ones(len(folds.same))
  accuracy, _ = folds.accuracy(once)
  metrics = {'accuracy': float(accuracy.mean()), 'std': float(accuracy.std())}
  val, far, _ = folds.val(once, _VAL_FAR)
  if np.isfinite(val + far).all():
    metrics |= {_VAL: float(val.mean()), 'val_std': float(val.std()), 'val_far': float(far.mean())}
  return metrics


def _fold_intervals(folds, person, replicates):
  """Intervals of accuracy and VAL; person: int [2N], which identity every image is."""
  if not replicates:
    return {}
  left, right = person[::2], person[1::2]
  measured = []
  for drawn in draws(person.max() + 1, replicates):
    weight = (drawn[left] * np.where(folds.same, 1, drawn[right])).astype(np.float64)
    measured.append([_mean(folds.accuracy(weight)[0]), _mean(folds.val(weight, _VAL_FAR)[0])])
  accuracy, val = np.array(measured).T
  others = np.count_nonzero(~folds.same) - np.bincount(folds.fold[~folds.same]).max()
  of_val = {_VAL: interval(val)} if resolvable([_VAL_FAR], others) else {}
  return {'accuracy': interval(accuracy)} | of_val


def _mean(shares):
  """Over the folds that weigh anything in a replicate; NaN where none does."""
  measured = shares[~np.isnan(shares)]
  return measured.mean() if len(measured) else np.nan
