"""Verification against independent, straightforward implementations and cases worked out by hand."""

import numpy as np
import pytest
from sklearn.model_selection import KFold
from sklearn.preprocessing import normalize

from gif_jax.data.drawn_pairs import balanced_pairs
from gif_jax.evaluation.verification.folds import pair_distances, verify


def unit(rows):
  return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def faces(rng, identities=40, images=6, d=16, noise=0.4):
  """Noisy unit embeddings float32 [n, d] around one direction per identity, and their identities [n]."""
  identity = np.repeat(np.arange(identities), images)
  centres = unit(rng.normal(size=(identities, d)))
  return unit(centres[identity] + noise * rng.normal(size=(len(identity), d))).astype(np.float32), identity


@pytest.mark.parametrize(('pairs', 'folds'), [(600, 10), (40, 2)])
def test_pairs_are_balanced_in_every_fold_and_never_repeat(pairs, folds):
  identity = np.random.default_rng(0).permutation(np.repeat(np.arange(30), 8))
  left, right, same = balanced_pairs(identity, pairs, folds, seed=3)
  np.testing.assert_array_equal(identity[left] == identity[right], same)
  assert same.dtype == bool and (same.reshape(folds, -1).mean(1) == 0.5).all()
  assert len({frozenset(pair) for pair in zip(left.tolist(), right.tolist())}) == pairs
  for first, second in zip((left, right, same), balanced_pairs(identity, pairs, folds, seed=3)):
    np.testing.assert_array_equal(first, second)
  assert (balanced_pairs(identity, pairs, folds, seed=4)[0] != left).any()


def test_all_pairs_can_be_drawn():
  left, right, same = balanced_pairs(np.array([7, 5, 7, 5, 9]), pairs=4, folds=1, seed=0)
  genuine = {frozenset(pair) for pair in zip(left[same].tolist(), right[same].tolist())}
  assert genuine == {frozenset({0, 2}), frozenset({1, 3})}


def test_pairs_that_cannot_be_drawn():
  identity = np.repeat(np.arange(10), 2)
  with pytest.raises(ValueError, match=r'only 10 exist: ask for at most 20 pairs, or hold out more images'):
    balanced_pairs(identity, 40, 2)
  with pytest.raises(ValueError, match='impostor pairs are wanted but only 0 exist'):
    balanced_pairs(np.zeros(30, int), 40, 2)
  with pytest.raises(ValueError, match='multiple of 20'):
    balanced_pairs(identity, 50, 10)


@pytest.mark.slow
@pytest.mark.parametrize('pairs', [600, 47])
def test_verify_agrees_with_a_plain_implementation(pairs):
  rng = np.random.default_rng(1)
  z, identity = faces(rng)
  left, right, same = balanced_pairs(identity, 600)
  chosen = rng.permutation(600)[:pairs]
  left, right, same = left[chosen], right[chosen], same[chosen]
  distance = [float(np.sum((z[a] - z[b]) ** 2)) for a, b in zip(left, right)]

  def accuracy(members, threshold):
    return np.mean([(distance[i] < threshold) == same[i] for i in members])

  expected = []
  for train, test in KFold(10, shuffle=False).split(np.arange(pairs)):
    best = max(np.arange(0, 4, 0.01), key=lambda threshold, train=train: accuracy(train, threshold))
    expected.append((accuracy(test, best), best))
  result = verify(z, left, right, same)
  np.testing.assert_allclose(result.fold_accuracies, [fold for fold, _ in expected], rtol=1e-12)
  np.testing.assert_array_equal(result.thresholds, [best for _, best in expected])
  assert result.accuracy == pytest.approx(np.mean(result.fold_accuracies))
  assert result.std == pytest.approx(np.std(result.fold_accuracies))


def test_verify_by_hand():
  # Distances: 0 and 2 genuine, 2 and 4 impostor. Fold 1 learns from (2, genuine), (4, impostor): the first threshold
  # above 2 is 2.01, which accepts both of its own pairs. Fold 2 learns from (0, genuine), (2, impostor): 0.01.
  z = np.array([[1, 0], [0, 1], [-3, 0]])
  left, right, same = np.array([0, 0, 0, 0]), np.array([0, 1, 1, 2]), np.array([True, False, True, False])
  result = verify(z, left, right, same, folds=2)
  np.testing.assert_allclose(result.thresholds, [2.01, 0.01])
  assert result.fold_accuracies.tolist() == [0.5, 0.5]
  assert (result.accuracy, result.std) == (0.5, 0)
  with pytest.raises(ValueError, match='take 2 to 4 folds'):
    verify(z, left, right, same, folds=5)


def test_distances_are_to_the_bit_those_of_insightface(monkeypatch, tmp_path):
  """scikit-learn's normalize on float64, pairs taken as every second row; in blocks, and of a file that is mapped."""
  z = (20 * np.random.default_rng(5).normal(size=(600, 512))).astype(np.float32)
  z[7] = z[6]
  unit64 = normalize(z.astype(np.float64))
  expected = np.sum(np.square(np.subtract(unit64[0::2], unit64[1::2])), 1)
  np.save(tmp_path / 'z.npy', z)
  left = np.arange(0, 600, 2)
  for block in (4096, 7):
    monkeypatch.setattr('gif_jax.evaluation.verification.folds._PAIRS', block)
    for rows in (z, np.load(tmp_path / 'z.npy', mmap_mode='r')):
      np.testing.assert_array_equal(pair_distances(rows, left, left + 1), expected)
  assert expected[3] == 0 and expected.max() < 4


def test_distance_of_rows_of_zeros():
  z = np.array([[0, 0], [0, 0], [3, 4]], np.float32)
  assert pair_distances(z, np.array([0, 0, 2]), np.array([1, 2, 2])).tolist() == pytest.approx([0, 1, 0])
