"""IJB 1:N: by hand, against loops, and the law of the bootstrap."""

from types import SimpleNamespace

import numpy as np
import pytest

from gif_jax.evaluation import bootstrap
from gif_jax.evaluation.ijb import search
from tests.helpers.scores import unit, with_scores


def _galleries(known, probe_subject):
  """Templates: those of the galleries, one after another, then the probes. known: subjects of each gallery."""
  ends = np.cumsum([0] + [len(subjects) for subjects in known])
  parts = [
    (f'G{i + 1}', np.arange(ends[i], ends[i + 1], dtype=np.int32), np.array(subjects))
    for i, subjects in enumerate(known)
  ]
  probe = ends[-1] + np.arange(len(probe_subject), dtype=np.int32)
  return SimpleNamespace(galleries=parts, probe=probe, probe_subject=np.array(probe_subject))


def test_threshold_and_strictness_by_hand():
  """Gallery: subjects 1, 2. Probes of 3 and 4 (nobody) have the best scores .6, .5, .4, .3, .2; so n = 5."""
  nobody = [[0.6, 0], [0, 0.5], [0.4, 0.4], [0.3, 0], [0.1, 0.2]]
  mated = [[0.7, 0.1], [0.6, 0.1], [0.45, 0.1], [0.1, 0.2], [0.5, 0.5], [0.3, 0.25]]
  subject = [3, 4, 3, 4, 3, 1, 1, 1, 2, 1, 2]
  galleries = _galleries([[1, 2]], subject)
  metrics, intervals = search.search_galleries(with_scores(nobody + mated), galleries, 0)
  # Found first, strictly: .7, .6, .45 of subject 1 and .2 of subject 2; the tie at .5 is not, nor is .25 below .3.
  assert metrics['rank1'] == 4 / 6 and metrics['rank5'] == metrics['rank10'] == 1
  # int(5 * 1e-4) - 1 and so on down to 1e-1 are below 0: the threshold is .6 and the genuine .6 is not above it.
  assert [metrics[f'tpir@fpir=1e-{i}'] for i in (4, 3, 2, 1)] == [1 / 6] * 4
  # int(5 * 1) - 1 = 4: the threshold is .2, and the genuine .2 is not above it.
  assert metrics['tpir@fpir=1'] == 3 / 6
  assert intervals == {}


def test_threshold_index_by_hand():
  """n = 40 others with best scores .40, .39 .. .01; FPIR .1 takes index 3, .37; 1e-2 index 0, .40."""
  others = [[0.4 - 0.01 * i] for i in range(40)]
  mated = [[0.405], [0.395], [0.375], [0.365], [0.005]]
  galleries = _galleries([[7]], [8] * 40 + [7] * 5)
  metrics, _ = search.search_galleries(with_scores(others + mated), galleries, 0)
  assert metrics['tpir@fpir=1e-1'] == 3 / 5
  assert metrics['tpir@fpir=1e-2'] == metrics['tpir@fpir=1e-3'] == metrics['tpir@fpir=1e-4'] == 1 / 5
  assert metrics['tpir@fpir=1'] == 4 / 5


def test_galleries_are_averaged_and_joined_by_hand():
  """A probe of one gallery is nobody's in the other; G2 has one mated probe and weighs as much as G1 with three."""
  galleries = _galleries([[1, 2], [3]], [1, 1, 2, 3])
  score = [[0.6, 0.1, 0.5], [0.5, 0.1, 0.6], [0.3, 0.2, 0.1], [0.1, 0.2, 0.7]]
  metrics, _ = search.search_galleries(with_scores(score), galleries, 0)
  # G1: found first .6, .5, not .2; the other probe has .2, above which both are. G2: .7, above .6, .5, .1.
  assert metrics['rank1'] == pytest.approx((2 / 3 + 1) / 2)
  assert metrics['tpir@fpir=1'] == pytest.approx((2 / 3 + 1) / 2)
  assert metrics['tpir@fpir=1e-1'] == pytest.approx((2 / 3 + 1) / 2)
  # Joined: .6 beats .5; .5 is behind .6 of G2; .2 behind .3; .7 is first.
  assert metrics['rank1@joined'] == 2 / 4 and metrics['rank5@joined'] == 1


def test_ties_count_against_at_every_rank():
  galleries = _galleries([list(range(12))], [0, 20])
  metrics, _ = search.search_galleries(with_scores([[0.1] * 12, [0.01] * 12]), galleries, 0)
  assert [metrics[f'rank{k}'] for k in (1, 5, 10)] == [0, 0, 0]  # behind 11 others
  score = [[0.1] * 5 + [0.05] * 7, [0.01] * 12]
  metrics, _ = search.search_galleries(with_scores(score), galleries, 0)
  assert [metrics[f'rank{k}'] for k in (1, 5, 10)] == [0, 1, 1]  # fifth of five


def test_what_cannot_be_measured_is_left_out():
  all_known, _ = search.search_galleries(with_scores([[0.5, 0.1]]), _galleries([[1, 2]], [1]), 5)
  assert all_known == {name: 1 for name in all_known} and not any('tpir' in name for name in all_known)
  nobody, intervals = search.search_galleries(with_scores([[0.5, 0.1]]), _galleries([[1, 2]], [3]), 5)
  assert nobody == intervals == {}
  # The first subject is drawn in no replicate, and G2 has no other.
  assert next(bootstrap.draws(3, 1))[0] == 0
  score = [[0.1, 0.2, 0.5], [0.1, 0.5, 0.1], [0.5, 0.1, 0.1]]
  metrics, intervals = search.search_galleries(with_scores(score), _galleries([[3, 2], [1]], [1, 2, 3]), 1)
  assert metrics['rank1'] == 1 and set(intervals) == {'rank1@joined', 'rank5@joined', 'rank10@joined'}


def _made_up(rng, known=(30, 20), subjects=80, probes=400, d=8, coarse=False):
  """Templates of subjects, some in each gallery, some in none."""
  centre = rng.normal(size=(subjects, d))
  who = rng.permutation(subjects)
  parts = [who[: known[0]], who[known[0] : sum(known)]]
  probe_subject = rng.integers(subjects, size=probes)
  of = np.concatenate([*parts, probe_subject])
  vectors = unit(centre[of] + 0.7 * rng.normal(size=(len(of), d)))
  return (np.round(vectors, 1) if coarse else vectors), _galleries(parts, probe_subject)


def _by_loops(vectors, galleries, fpirs):
  """The same metrics, a probe and a gallery template at a time."""
  tpir, ranks = [], []
  for _, template, subject in galleries.galleries:
    others, genuine = [], []
    for probe, person in zip(galleries.probe, galleries.probe_subject):
      score = {who: float(vectors[number] @ vectors[probe]) for number, who in zip(template, subject)}
      if person in score:
        own = score.pop(person)
        genuine.append((own, 1 + sum(other >= own for other in score.values())))
      else:
        others.append(max(score.values()))
    others.sort(reverse=True)
    threshold = [others[max(int(len(others) * fpir) - 1, 0)] for fpir in fpirs]
    tpir.append([sum(rank == 1 and own > t for own, rank in genuine) / len(genuine) for t in threshold])
    ranks.append([sum(rank <= k for _, rank in genuine) / len(genuine) for k in (1, 5, 10)])
  return np.mean(tpir, 0), np.mean(ranks, 0)


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('coarse', [False, True])
def test_galleries_against_loops(seed, coarse, monkeypatch):
  monkeypatch.setattr(search, '_BLOCK', 50 * 37)  # probes in several blocks
  vectors, galleries = _made_up(np.random.default_rng(seed), coarse=coarse)
  if coarse:  # whole numbers, so that equal scores are equal in any order of summation
    vectors = np.rint(vectors * 10)
  metrics, _ = search.search_galleries(vectors, galleries, 0)
  tpir, ranks = _by_loops(vectors, galleries, (1e-4, 1e-3, 1e-2, 1e-1, 1))
  names = [f'tpir@fpir={rate}' for rate in ('1e-4', '1e-3', '1e-2', '1e-1', '1')]
  np.testing.assert_allclose([metrics[name] for name in names], tpir, rtol=1e-12)
  np.testing.assert_allclose([metrics[f'rank{k}'] for k in (1, 5, 10)], ranks, rtol=1e-12)
  known = _galleries([np.concatenate([subject for _, _, subject in galleries.galleries])], galleries.probe_subject)
  _, joined = _by_loops(vectors, known, ())
  np.testing.assert_allclose([metrics[f'rank{k}@joined'] for k in (1, 5, 10)], joined, rtol=1e-12)
  assert 0 < tpir[2] < ranks[0] < ranks[2]


def test_a_replicate_is_the_search_for_the_probes_drawn():
  """Weights of subjects against every probe being there as often as its subject was drawn; metrics of one replicate
  are its interval."""
  vectors, galleries = _made_up(np.random.default_rng(7))
  subjects, person = np.unique(galleries.probe_subject, return_inverse=True)
  weights = next(bootstrap.draws(len(subjects), 1))
  _, intervals = search.search_galleries(vectors, galleries, 1)
  galleries.probe = np.repeat(galleries.probe, weights[person])
  galleries.probe_subject = np.repeat(galleries.probe_subject, weights[person])
  expected, _ = search.search_galleries(vectors, galleries, 0)
  assert set(expected) - set(intervals) == {'tpir@fpir=1e-4', 'tpir@fpir=1e-3'}
  for name, ends in intervals.items():
    assert ends == pytest.approx((expected[name], expected[name])), name


def test_a_result_of_galleries():
  vectors, galleries = _made_up(np.random.default_rng(8))
  found = search.evaluate_galleries('ijbc', vectors, galleries, 'N1D1', 100)
  assert (found.benchmark, found.protocol, found.mode) == ('ijbc', '1:N', 'N1D1')
  assert found.counts['gallery G1'] == 30 and found.counts['gallery G2'] == 20 and found.counts['probes'] == 400
  for i in '12':
    assert found.counts[f'mated G{i}'] + found.counts[f'not mated G{i}'] == 400
  assert len(found.metrics) == 11
  # 400 probes: of less than 2 per cent the threshold is the best score of all.
  assert set(found.metrics) - set(found.intervals) == {'tpir@fpir=1e-4', 'tpir@fpir=1e-3'}
  for name, (low, high) in found.intervals.items():
    assert low <= found.metrics[name] <= high and (high - low < 0.5 or name == 'tpir@fpir=1e-2'), name
  assert found.intervals['rank1'][0] < found.metrics['rank1'] < found.intervals['rank1'][1]
