"""Code vectors: the published start, its reduction to d, and homogenisation."""

import jax
import numpy as np
import pytest
from sklearn.decomposition import PCA

from gif_jax.codes.homogenise import gaussian_potential, homogenise
from gif_jax.codes.vectors import initialise


def _unit(x):
  return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def _features(m, size, seed=0):
  """Gaussian with a spectrum that falls and a mean that is not zero."""
  rng = np.random.default_rng(seed)
  return (rng.standard_normal((m, size)) * 0.8 ** np.arange(size) + 1).astype(np.float32)


def _cone(m, d, seed=0):
  """Unit vectors that crowd around one direction: a mean cosine of about .6, as CLIP features have."""
  rng = np.random.default_rng(seed)
  return _unit(rng.standard_normal((m, d)) + 1.25 * rng.standard_normal(d))


def _spread(vectors, **kwargs):
  settings = {'epochs': 10, 'lr': 0.1, 'subset': 128, 'scaled': True, 'seed': 0, 'progress': False}
  return homogenise(vectors, **(settings | kwargs))


def test_equal_sizes_only_normalise():
  means = _features(20, 8)
  vectors, transform = initialise(means, 8)
  assert transform is None and vectors.dtype == np.float32
  np.testing.assert_allclose(vectors, _unit(means), atol=1e-6)


@pytest.mark.parametrize('m', [200, 12])
def test_reduction_is_pca(m):
  means = _features(m, 16)
  vectors, transform = initialise(means, 5)
  pca = PCA(5, svd_solver='full').fit(means.astype(np.float64))
  sign = np.sign((pca.components_ * transform.components).sum(1))
  np.testing.assert_allclose(transform.components, pca.components_ * sign[:, None], atol=1e-4)
  np.testing.assert_allclose(transform.mean, pca.mean_, atol=1e-5)
  np.testing.assert_allclose(vectors, _unit(pca.transform(means) * sign), atol=1e-4)
  np.testing.assert_allclose(_unit(transform.apply(means)), vectors, atol=1e-6)


@pytest.mark.parametrize(('m', 'size', 'd'), [(6, 40, 16), (60, 4, 16)])
def test_low_rank_is_padded_with_zeros_and_keeps_all_distances(m, size, d):
  means = _features(m, size)
  vectors, transform = initialise(means, d)
  rank = min(m - 1, size)
  assert vectors.shape == (m, d) and transform.components.shape == (d, size)
  assert not transform.components[rank:].any() and not vectors[:, rank:].any()
  assert transform.components[:rank].any(1).all()
  centred = _unit(means - means.mean(0))
  np.testing.assert_allclose(vectors @ vectors.T, centred @ centred.T, atol=1e-4)


def test_initialise_is_deterministic_in_sign():
  vectors, transform = initialise(_features(30, 10), 4)
  again, _ = initialise(_features(30, 10)[::-1], 4)
  np.testing.assert_allclose(vectors, again[::-1], atol=1e-4)
  assert (np.take_along_axis(transform.components, np.abs(transform.components).argmax(1)[:, None], 1) > 0).all()


def _with_row(row, value):
  means = _features(8, 6)
  means[row] = value
  return means


@pytest.mark.parametrize(
  ('means', 'd', 'names'),
  [
    (_with_row(3, np.nan), 6, 'identity 3 .*not finite'),
    (_with_row(4, np.inf), 4, 'identity 4 .*not finite'),
    (_with_row(5, 0), 6, 'identity 5 .*zero'),
    (np.ones((7, 6), np.float32) / 3, 4, 'identity 0 .*no direction'),
    (np.ones((0, 6)), 4, 'must be'),
  ],
)
def test_bad_features_are_named(means, d, names):
  with pytest.raises(ValueError, match=names):
    initialise(means, d)


@pytest.mark.slow
def test_potential_is_the_published_sum():
  h = _cone(7, 5).astype(np.float64)
  total = sum(np.exp(-2 * ((a - b) ** 2).sum()) for a in h for b in h)
  assert float(gaussian_potential(h)) == pytest.approx(np.log(total / 7), abs=1e-5)


def _step(h, rate):
  """One step of SGD on L_GP as written, by hand: d L / d h_i = -4t / S * sum_j e^(-t |h_i - h_j|^2) (h_i - h_j)."""
  h = h.astype(np.float64)
  difference = h[:, None] - h[None]
  weight = np.exp(-2 * (difference**2).sum(-1))
  gradient = -8 / weight.sum() * (weight[..., None] * difference).sum(1)
  moved = h - rate * gradient
  return moved / np.linalg.norm(moved, axis=1, keepdims=True)


@pytest.mark.slow
@pytest.mark.parametrize(('scaled', 'rate'), [(False, 0.1), (True, 0.1 * 24)])
def test_one_step_is_the_one_by_hand(scaled, rate):
  vectors = _cone(24, 12)
  moved, _ = _spread(vectors, epochs=1, subset=100, scaled=scaled)
  np.testing.assert_allclose(moved, _step(vectors, rate), atol=1e-5)


@pytest.mark.parametrize('m', [96, 150])
def test_subsets_spread_over_devices_move_as_one_after_the_other(m):
  """The tests have 8 devices; by hand there is one. 150 is not a multiple of 8: the last subset is filled up."""
  vectors = _cone(m, 12)
  moved, _ = _spread(vectors, epochs=2, subset=8)
  expected = vectors.astype(np.float64)
  for epoch in range(2):
    order = np.random.default_rng([0, epoch]).permutation(m)
    for start in range(0, m, 8):
      index = np.concatenate([order, order])[start : start + 8]
      expected[index] = _step(expected[index], 0.8)
  np.testing.assert_allclose(moved, expected, atol=1e-5)


def test_every_identity_moves_in_every_epoch():
  vectors = _cone(50, 12)
  moved, _ = _spread(vectors, epochs=1, subset=16)  # 50 is not a multiple of 16
  assert (np.abs(moved - vectors).max(1) > 1e-4).all()


def test_scaled_form_opens_the_cone():
  vectors = _cone(1000, 64)
  spread, report = _spread(vectors, epochs=20, subset=256)
  np.testing.assert_allclose(np.linalg.norm(spread, axis=1), 1, atol=1e-5)
  assert report.cosine_before['mean'] > 0.5
  assert abs(report.cosine_after['mean']) < 0.01
  assert report.loss_after < report.loss_before
  assert report.cosine_after['neighbour'] < report.cosine_before['neighbour']
  assert report.sample == 1000 and report.epochs == 20


def test_literal_form_falls_slowly():
  vectors = _cone(500, 32)
  spread, report = _spread(vectors, epochs=10, subset=500, scaled=False)
  assert report.loss_before - 0.1 < report.loss_after < report.loss_before
  assert (spread * vectors).sum(1).min() > 0.99


def test_report_by_hand():
  vectors = _cone(40, 8)
  _, report = _spread(vectors, epochs=0)
  cosine = (vectors @ vectors.T)[~np.eye(40, dtype=bool)].reshape(40, 39)
  expected = {'min': cosine.min(), 'mean': cosine.mean(), 'max': cosine.max(), 'neighbour': cosine.max(1).mean()}
  assert report.cosine_before == pytest.approx(expected, abs=1e-5)
  assert report.loss_before == pytest.approx(float(gaussian_potential(vectors)), abs=1e-5)


def test_no_epochs_change_nothing():
  vectors = _cone(40, 8)
  same, report = _spread(vectors, epochs=0)
  assert np.array_equal(same, vectors)
  assert report.loss_before == report.loss_after


def test_a_function_of_the_seed():
  vectors = _cone(60, 8)
  first, again, other = (_spread(vectors, epochs=2, subset=16, seed=seed)[0] for seed in (1, 1, 2))
  assert np.array_equal(first, again)
  assert not np.array_equal(first, other)


def test_one_identity_stays():
  vectors = _cone(1, 8)
  spread, _ = _spread(vectors)
  np.testing.assert_allclose(spread, vectors, atol=1e-6)


def _triangle():
  angle = np.arange(3) * 2 * np.pi / 3
  return np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)  # the optimum of three points on a circle


@pytest.mark.parametrize(('vectors', 'lr'), [(_triangle(), 50.0), (_cone(40, 8), 1e38)])
def test_divergence_raises_and_names_the_cure(vectors, lr):
  with pytest.raises(ValueError, match=r'did not fall.*tokenizer\.homogenize_lr.*homogenize_epochs=0'):
    _spread(vectors, lr=lr, subset=2)


@pytest.mark.parametrize('setting', [{'lr': 0.0}, {'epochs': -1}, {'subset': 0}])
def test_settings_out_of_range(setting):
  with pytest.raises(ValueError, match='homogenize_lr > 0'):
    _spread(_cone(10, 4), **setting)


def test_input_is_left_alone():
  vectors = _cone(30, 8)
  kept = vectors.copy()
  _spread(jax.numpy.asarray(vectors))
  _spread(vectors)
  assert np.array_equal(vectors, kept)
