"""Results of every protocol, made by hand of scores that are drawn, for tests of what is done with results."""

import numpy as np

from gif_jax.evaluation.result import Result, hardest, histogram, rate_name, thinned

ABOUT = {
  'name': 'runs/quickstart',
  'fingerprint': '0123456789abcdef',
  'step': 1400,
  'input size': '112 x 112',
  'colour order': 'RGB',
  'normalisation': '(x - 127.5) / 127.5',
  'flip': True,
  'date': '2026-11-23',
  'gif_jax': '0.1.0',
  'hardware': '8 x cpu',
}


def scores(genuine, impostor, apart=0.5, seed=0):
  """Cosines float64 [p] and same bool [p], genuine pairs first."""
  rng = np.random.default_rng(seed)
  some = np.concatenate([rng.normal(apart, 0.13, genuine), rng.normal(0.02, 0.08, impostor)])
  return np.clip(some, -1, 1), np.arange(genuine + impostor) < genuine


def roc(cosine, same):
  """FAR, TAR and threshold of every distinct score, rising FAR, the point (0, .) too."""
  order = np.argsort(-cosine, kind='stable')
  last = np.flatnonzero(np.append(np.diff(cosine[order]) != 0, True))
  far = np.cumsum(~same[order])[last] / np.count_nonzero(~same)
  tar = np.cumsum(same[order])[last] / np.count_nonzero(same)
  return np.append(0, far), np.append(0, tar), np.append(np.inf, cosine[order][last])


def rates(far, tar, threshold, fars):
  """Figures, intervals and thresholds at each FAR."""
  place = {rate_name(rate): np.searchsorted(far, rate, side='right') - 1 for rate in fars}
  figures = {f'tar@far={name}': float(tar[i]) for name, i in place.items()}
  intervals = {name: (max(0, value - 0.01), min(1, value + 0.008)) for name, value in figures.items()}
  return figures, intervals, {name: float(threshold[i]) for name, i in place.items()}


def pair_set(name='lfw', pairs=600, apart=0.5, seed=0) -> Result:
  """A .bin set of `pairs` pairs, pair i being images 2i and 2i + 1."""
  cosine, same = scores(pairs // 2, pairs // 2, apart, seed)
  far, tar, threshold = roc(cosine, same)
  figures, intervals, thresholds = rates(far, tar, threshold, [r for r in (1e-3, 1e-2, 1e-1) if r * pairs >= 2])
  accuracy = float(np.maximum.reduce((tar + 1 - far) / 2))
  left = 2 * np.arange(pairs)
  return Result(
    name,
    '10 folds',
    '',
    'Accuracy over 10 contiguous folds, threshold by the others (insightface, verification.py).',
    {'pairs': pairs, 'genuine': pairs // 2},
    {'accuracy': accuracy, 'std': 0.0042, 'val@far=1e-3': 0.91, 'val_std': 0.013, 'val_far': 0.001, 'xnorm': 21.37}
    | figures,
    {'accuracy': (accuracy - 0.006, min(1.0, accuracy + 0.004))} | intervals,
    thresholds,
    thinned(far, tar),
    histogram(cosine, same),
    hardest(cosine, same, left, left + 1),
  )


def templates(name='ijbc', impostors=20_000, apart=0.55, seed=0) -> list[Result]:
  """1:1 of templates, four modes, no pictures."""
  found = []
  for i, mode in enumerate(('N1D1', 'N0D1', 'N1D0', 'N0D0')):
    cosine, same = scores(max(20, impostors // 100), impostors, apart - 0.02 * i, seed + i)
    far, tar, threshold = roc(cosine, same)
    fars = [rate for rate in 10.0 ** np.arange(-6, 0) if rate * impostors >= 1]
    rule = 'TAR at the FAR nearest to the target, scores of templates (eval_ijbc.py).'
    counts = {'templates': 500, 'pairs': len(cosine), 'genuine': int(same.sum())}
    measured = rates(far, tar, threshold, fars)
    found.append(Result(name, '1:1', mode, rule, counts, *measured, thinned(far, tar), histogram(cosine, same)))
  return found


def galleries(name='ijbc') -> list[Result]:
  """1:N of templates, four modes, nothing but figures."""
  rule = 'TPIR where 1 % of the probes without a mate are answered; mean over both galleries.'
  figures = {f'tpir@fpir={rate_name(10.0**i)}': 0.7 + 0.06 * (4 + i) for i in range(-4, 0)}
  figures |= {'rank1': 0.954, 'rank5': 0.97, 'rank10': 0.976}
  counts = {'probes': 19593, 'gallery': 3531}
  intervals = {'rank1': (0.951, 0.957)}
  return [Result(name, '1:N', mode, rule, counts, figures, intervals) for mode in ('N1D1', 'N0D1', 'N1D0', 'N0D0')]


def search(name='tinyface') -> Result:
  """Search in a gallery, with wrong answers among the hardest pairs but no threshold."""
  cosine, same = scores(40, 400, 0.3, 7)
  figures = {'rank1': 0.641, 'rank5': 0.699, 'rank20': 0.74, 'map': 0.602}
  rule = 'Share of the probes whose mate is among the k nearest of the gallery.'
  some = np.arange(440)
  counts = {'probes': 3728, 'gallery': 157871}
  return Result(name, 'search', '', rule, counts, figures, hardest=hardest(cosine, same, some, (some + 200) % 440))


def all_pairs(name='mfr', impostors=50_000) -> Result:
  """All pairs of a set."""
  cosine, same = scores(impostors // 50, impostors, 0.45, 3)
  far, tar, threshold = roc(cosine, same)
  fars = [rate for rate in 10.0 ** np.arange(-9, 0) if rate * impostors >= 1]
  left = np.arange(len(same)) % 97
  counts = {'images': 340, 'people': 40, 'genuine': int(same.sum()), 'impostor': impostors}
  return Result(
    name,
    'all pairs',
    '',
    'TAR over all pairs of images.',
    counts,
    *rates(far, tar, threshold, fars),
    thinned(far, tar),
    histogram(cosine, same),
    hardest(cosine, same, left, left + 97),
  )


def everything() -> list[Result]:
  """Every protocol, as a command measures several benchmarks."""
  sets = [pair_set('lfw', apart=0.7), pair_set('cfp_fp', apart=0.5, seed=1), pair_set('agedb_30', apart=0.45, seed=2)]
  return [*sets, *templates(), *galleries(), search(), all_pairs()]


class Pictures:
  """Images as benchmarks have them: [rows] gives uint8 [k, size, size, 3]. `calls` counts the readings."""

  def __init__(self, size=32):
    self.size, self.calls = size, 0

  def name(self, index):
    return f'someone/{index}.jpg'

  def __getitem__(self, rows):
    self.calls += 1
    y, x = np.mgrid[: self.size, : self.size]
    colour = np.stack([np.asarray(rows) * 37 % 256, np.asarray(rows) * 91 % 256, np.full(len(rows), 128)], -1)
    shade = 1 - ((y - self.size / 2) ** 2 + (x - self.size / 2) ** 2) / self.size**2
    return (colour[:, None, None, :] * shade[None, :, :, None]).astype(np.uint8)
