"""The parts of a result: curves with fewer points, histograms, hardest pairs, names of rates."""

import numpy as np
import pytest

from gif_jax.evaluation.result import (
  Curve,
  EvaluationError,
  check_embedding,
  hardest,
  histogram,
  rate_name,
  resolvable,
  thinned,
)


@pytest.mark.parametrize(('rate', 'name'), [(1e-4, '1e-4'), (1e-10, '1e-10'), (0.1, '1e-1'), (3e-3, '3e-3'), (1, '1')])
def test_names_of_rates_read_back(rate, name):
  assert rate_name(rate) == name and float(name) == rate


def test_a_thinned_curve_keeps_its_ends_and_stays_near_everywhere():
  far = np.concatenate([np.zeros(500), np.arange(1, 100_001) / 100_000])
  tar = np.concatenate([np.linspace(0, 0.5, 500), 0.5 + 0.5 * np.sqrt(np.arange(1, 100_001) / 100_000)])
  for points in (2000, 200):
    curve = thinned(far, tar, points)
    assert len(curve.far) <= points and (curve.far[0], curve.tar[0]) == (0, 0) and curve.far[-1] == curve.tar[-1] == 1
    assert curve.tar[np.searchsorted(curve.far, 0, side='right') - 1] == 0.5  # TAR at FAR 0
    assert set(zip(curve.far, curve.tar)) <= set(zip(far, tar))
    at = np.geomspace(1e-5, 1, 97)
    there, here = (y[np.searchsorted(x, at, side='right') - 1] for x, y in ((far, tar), (curve.far, curve.tar)))
    assert np.abs(there - here).max() < (0.005 if points > 1000 else 0.03)


def test_a_short_curve_stays_as_it_is():
  far, tar = np.array([0, 0.5, 1]), np.array([0, 1, 1])
  assert [values.tolist() for values in thinned(far, tar)] == [far.tolist(), tar.tolist()]


def test_histograms_count_every_pair_once():
  cosine, same = np.array([-1, 1, 1 + 1e-9, 0.5, 0.5]), np.array([False, True, True, True, False])
  found = histogram(cosine, same)
  assert found.genuine.sum() == 3 and found.impostor.sum() == 2
  assert found.genuine[-1] == 2 and found.impostor[0] == 1
  assert found.edges[0] == -1 and found.edges[-1] == 1


def test_hardest_pairs_of_both_kinds_worst_first():
  rng = np.random.default_rng(0)
  cosine, same, left = rng.uniform(-1, 1, 500), rng.random(500) < 0.3, rng.permutation(500)
  found = hardest(cosine, same, left, left + 1000)
  genuine = sorted(cosine[same])[:12]
  impostor = sorted(cosine[~same], reverse=True)[:12]
  assert found.cosine.tolist() == genuine + impostor and found.same.tolist() == [True] * 12 + [False] * 12
  by_cosine = dict(zip(cosine.tolist(), left.tolist()))
  assert found.left.tolist() == [by_cosine[one] for one in found.cosine.tolist()]
  assert (found.right == found.left + 1000).all()


def test_hardest_of_few():
  found = hardest(np.array([0.5, 0.2]), np.array([True, True]), np.array([3, 5]), np.array([4, 6]))
  assert found.left.tolist() == [5, 3] and found.same.all()


def test_a_far_needs_one_impostor_pair():
  assert resolvable((1e-1, 1e-2, 1e-3), 100) == [1e-1, 1e-2]


def test_embeddings_are_looked_at_in_blocks(tmp_path):
  z = np.ones((70_000, 2), np.float32)
  check_embedding(z, 70_000, 'ones')
  z[69_000, 1] = np.inf
  np.save(tmp_path / 'z.npy', z)
  with pytest.raises(EvaluationError, match='ones: the embedding of image 69000 is not finite'):
    check_embedding(np.load(tmp_path / 'z.npy', mmap_mode='r'), 70_000, 'ones')


def test_tar_of_a_curve_by_hand():
  curve = Curve(np.array([0, 0, 0.2, 1]), np.array([0, 0.3, 0.3, 1]))
  np.testing.assert_array_equal(curve.tar_at((1, 0.999, 0.2, 0.1, 1e-9)), [1, 0.3, 0.3, 0.3, 0.3])
