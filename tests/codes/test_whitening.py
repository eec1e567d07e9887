"""Vectors whitened within identities: linear discriminant analysis, against scikit-learn and on planted data."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from gif_jax.codes import vectors

M, N, D = 40, 12, 10


@pytest.fixture(scope='module')
def planted():
  """People differ a little in the first three directions; light and pose a lot in the last four."""
  rng = np.random.default_rng(0)
  people = np.zeros((M, D))
  people[:, :3] = rng.normal(size=(M, 3)) * [1.5, 1.0, 0.7]
  spread = np.array([0.5] * 6 + [6.0] * 4)
  features = people[:, None] + rng.normal(size=(M, N, D)) * spread
  means = features.mean(1)
  around = (features - means[:, None]).reshape(-1, D)
  return people, features, means.astype(np.float32), around.T @ around / len(around)


def test_directions_are_those_of_linear_discriminant_analysis(planted):
  _, features, means, within = planted
  _, transform = vectors.initialise(means, 3, within, np.full(M, N))
  lda = LinearDiscriminantAnalysis(solver='eigen', shrinkage=vectors.SHRINK, n_components=3)
  expected = lda.fit(features.reshape(-1, D), np.repeat(np.arange(M), N)).transform(means)
  ours = transform.apply(means)
  for j in range(3):
    correlation = np.corrcoef(ours[:, j], expected[:, j])[0, 1]
    assert abs(correlation) > 1 - 1e-4, (j, correlation)


def test_vectors_follow_people_and_not_their_images(planted):
  people, _, means, within = planted
  directions = people[:, :3] / np.linalg.norm(people, axis=1, keepdims=True)
  truth = directions @ directions.T

  def agreement(h):
    return np.corrcoef((h @ h.T).ravel(), truth.ravel())[0, 1]

  plain, _ = vectors.initialise(means, 3)
  whitened, _ = vectors.initialise(means, 3, within, np.full(M, N))
  assert agreement(whitened) > 0.9 > 0.5 > agreement(plain)


def test_axes_that_are_noise_are_given_no_weight(planted):
  _, _, means, within = planted
  _, transform = vectors.initialise(means, D + 2, within, np.full(M, N))
  size = np.std(transform.apply(means), axis=0)
  assert size[3:].max() < 0.2 * size[2]
  assert np.all(transform.components[D:] == 0)


def test_rows_are_unit_and_the_transform_makes_them(planted):
  _, _, means, within = planted
  h, transform = vectors.initialise(means, 3, within, np.full(M, N))
  np.testing.assert_allclose(np.linalg.norm(h, axis=1), 1, atol=1e-6)
  applied = transform.apply(means)
  np.testing.assert_allclose(applied / np.linalg.norm(applied, axis=1, keepdims=True), h, atol=1e-6)
