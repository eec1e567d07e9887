"""Searches among images: by hand, against scikit-learn, and the law of the bootstrap."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, precision_recall_curve

from gif_jax.evaluation import bootstrap
from gif_jax.evaluation.benchmark import measure
from gif_jax.evaluation.result import EvaluationError
from gif_jax.evaluation.tinyface import protocol
from gif_jax.evaluation.tinyface.dataset import TinyFaceSet
from tests.helpers.scores import unit, with_scores


def _set(probe_person, gallery_person):
  q, g = len(probe_person), len(gallery_person)
  identity = np.array([*probe_person, *gallery_person])
  return TinyFaceSet('tiny', None, identity, np.arange(q), q + np.arange(g))


def _embedding(score):
  """Embeddings of probes, then of the gallery, of lengths 1, 2, 3 .., whose cosines are score[i][j]."""
  vectors = with_scores(score)
  g = np.shape(score)[1]
  vectors = np.concatenate([vectors[g:], vectors[:g]])
  return vectors * np.arange(1, len(vectors) + 1)[:, None]


def _metrics(score, probe_person, gallery_person):
  return measure(_set(probe_person, gallery_person), _embedding(score), replicates=0)[0].metrics


def test_ranks_with_several_images_and_distractors_by_hand():
  gallery = [1, 1, 2, -1, -1, -1, -1]
  score = [
    [0.1, 0.5, 0.4, 0, 0, 0, 0],  # second image of its person is nearest: first; the other at place 3
    [0.1, 0.2, 0.3, 0, 0, 0, 0.25],  # nearest is another's, then a distractor: places 3 and 4
    [0.3, 0, 0.02, 0.4, 0.1, 0.2, 0.1],  # person 2: place 6
  ]
  metrics = _metrics(score, [1, 1, 2], gallery)
  assert [metrics[f'rank{k}'] for k in (1, 5, 20)] == [1 / 3, 2 / 3, 1]
  # Trapezia: place r of the j-th image, its precision j / r and that one place earlier.
  expected = [((1 + 1) + (1 / 2 + 2 / 3)) / 4, ((0 + 1 / 3) + (1 / 3 + 2 / 4)) / 4, (0 + 1 / 6) / 2]
  assert metrics['map'] == pytest.approx(np.mean(expected))


def test_ties_count_against_in_a_search():
  metrics = _metrics([[0.3, 0.3, 0.1]], [1], [1, -1, -1])
  assert metrics['rank1'] == 0 and metrics['rank5'] == 1 and metrics['map'] == pytest.approx((0 + 1 / 2) / 2)
  metrics = _metrics([[0.3, 0.3, 0.1]], [1], [1, 1, -1])  # with an image of the same person there is nothing to lose
  assert metrics['rank1'] == 1 and metrics['map'] == 1


def test_probes_of_nobody_do_not_count():
  benchmark = _set([1, 5, -1], [1, -1])
  found = measure(benchmark, _embedding([[0.5, 0.1], [0.5, 0.1], [0.1, 0.5]]), replicates=10)[0]
  assert found.metrics['rank1'] == 1 and found.counts['probes'] == 1 and found.counts['probes of nobody'] == 2
  with pytest.raises(EvaluationError, match='tiny: no probe is of a person of the gallery'):
    measure(_set([5], [1, -1]), _embedding([[0.5, 0.1]]))


def _random_set(rng, people=40, d=6):
  probe, gallery = rng.integers(people, size=150), np.append(rng.integers(people, size=90), np.full(400, -1))
  centre = rng.normal(size=(people, d))
  everyone = np.append(probe, gallery)
  noise = rng.normal(size=(len(everyone), d))
  return _set(probe, gallery), (np.where(everyone[:, None] < 0, 0, centre[everyone]) + noise).astype(np.float32)


@pytest.mark.parametrize('seed', range(3))
def test_a_search_against_scikit_learn(seed, monkeypatch):
  """Without ties the area under scikit-learn's curve, by trapezia, is ours, and average precision is above it."""
  monkeypatch.setattr(protocol, '_BLOCK', 490 * 7)
  monkeypatch.setattr(protocol, '_ROWS', 64)
  benchmark, embedding = _random_set(np.random.default_rng(seed))
  z = unit(embedding.astype(np.float64))
  area, above, first = [], [], []
  for probe in benchmark.probe:
    same = benchmark.identity[benchmark.gallery] == benchmark.identity[probe]
    if same.any():
      score = z[benchmark.gallery] @ z[probe]
      precision, recall, _ = precision_recall_curve(same, score)
      area.append(auc(recall, precision))
      above.append(average_precision_score(same, score))
      first.append(np.flatnonzero(same[np.argsort(-score)])[0] + 1)
  found = measure(benchmark, embedding, replicates=0)[0]
  assert found.counts['probes'] == len(area) < 150
  assert found.metrics['map'] == pytest.approx(np.mean(area), abs=1e-9)
  assert found.metrics['map'] < np.mean(above)
  for k in (1, 5, 20):
    assert found.metrics[f'rank{k}'] == np.mean(np.array(first) <= k)


def test_a_replicate_of_a_search_is_of_the_people_drawn():
  benchmark, embedding = _random_set(np.random.default_rng(5))
  person = benchmark.identity[benchmark.probe]
  people = np.intersect1d(person, benchmark.identity[benchmark.gallery])
  weights = next(bootstrap.draws(len(people), 1))
  intervals = measure(benchmark, embedding, replicates=1)[0].intervals
  drawn = np.concatenate([np.flatnonzero(person == one) for one in np.repeat(people, weights)])
  expected = measure(dataclasses.replace(benchmark, probe=drawn), embedding, replicates=0)[0].metrics
  for name, value in expected.items():
    assert intervals[name] == pytest.approx((value, value)), name


def test_the_length_of_embeddings_does_not_matter_and_files_do(tmp_path):
  benchmark, embedding = _random_set(np.random.default_rng(6))
  np.save(tmp_path / 'z.npy', embedding)
  mapped = np.load(tmp_path / 'z.npy', mmap_mode='r')
  longer = embedding * 2.0 ** np.random.default_rng(0).integers(-3, 4, (len(embedding), 1))
  metrics = [measure(benchmark, z, replicates=20)[0] for z in (embedding, mapped, longer)]
  assert metrics[0].metrics == metrics[1].metrics == metrics[2].metrics
  assert metrics[0].intervals == metrics[1].intervals


def test_hardest_of_a_search():
  gallery = [1, 1, 2, -1]
  score = [[0.1, 0.5, 0.4, 0], [0.2, 0.1, 0.1, 0.6], [0.3, 0.1, 0.05, 0.2]]
  worst = measure(_set([1, 1, 2], gallery), _embedding(score), replicates=0)[0].hardest
  # Images 0..2 are probes, 3..6 the gallery. Genuine by rising cosine; of the two missed, the nearest by falling.
  assert worst.same.tolist() == [True] * 3 + [False] * 2
  assert worst.left.tolist() == [2, 1, 0, 1, 2]
  assert worst.right.tolist() == [5, 3, 4, 6, 3]
  np.testing.assert_allclose(worst.cosine, [0.05, 0.2, 0.5, 0.6, 0.3], atol=1e-6)
