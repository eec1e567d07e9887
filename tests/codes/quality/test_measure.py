"""Quality of codes: figures by hand and by brute force, planted trees beside their controls, bounded memory."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from gif_jax.codes.quality import measure as quality_module
from gif_jax.codes.quality import neighbours as neighbours_module
from gif_jax.codes.quality.measure import Level, explained_alone, measure, measure_balance, tree_metrics
from gif_jax.codes.quality.neighbours import ROWS, neighbours
from gif_jax.codes.quality.text import near_chance
from gif_jax.codes.tree import build_codes, random_codes

SQUARE = np.array([[3, 1], [3, -1], [-3, 1], [-3, -1]], np.float32)
PAIRS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.uint8)


def _vectors(m, d, seed=0):
  rows = np.random.default_rng(seed).standard_normal((m, d))
  return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _measure(codes, vectors, **options):
  return measure(codes, vectors, progress=False, **options)


def _planted(l, v, d=64, noise=0.02):
  """A full tree whose digits mean one direction everywhere, half as long at each level, but for noise."""
  rng = np.random.default_rng(0)
  codes = np.stack(np.unravel_index(np.arange(v**l), (v,) * l), 1).astype(np.uint8)
  direction = rng.standard_normal((l, v, d))
  vectors = sum(direction[j, codes[:, j]] / 2**j for j in range(l)) + noise * rng.standard_normal((v**l, d))
  shuffled = rng.permutation(v**l)  # identities are in no order
  return codes[shuffled], vectors[shuffled].astype(np.float32)


def test_figures_by_hand():
  figures = tree_metrics(PAIRS, SQUARE)
  np.testing.assert_allclose(figures.explained, [0.9, 1])  # 4 * 9 of 4 * (9 + 1)
  np.testing.assert_allclose(figures.consistency, [np.nan, 1])  # (0, 1) and (0, -1) under both parents
  swapped = PAIRS[[0, 1, 3, 2]]
  np.testing.assert_allclose(tree_metrics(swapped, SQUARE).consistency, [np.nan, 0])


def _centroid(codes, vectors, prefix):
  return vectors[(codes[:, : len(prefix)] == prefix).all(1)].astype(np.float64).mean(0)


def _by_brute_force(codes, vectors):
  """Variance explained and consistency, from their definitions."""
  explained, consistency = [], []
  total = np.square(vectors - vectors.mean(0, dtype=np.float64)).sum()
  for j in range(1, codes.shape[1] + 1):
    within = sum(np.square(h - _centroid(codes, vectors, code[:j])).sum() for code, h in zip(codes, vectors))
    explained.append(1 - within / total)
    children = np.unique(codes[:, :j], axis=0)
    residual = np.array([_centroid(codes, vectors, c) - _centroid(codes, vectors, c[:-1]) for c in children])
    children, residual = (array[np.linalg.norm(residual, axis=1) > 1e-9] for array in (children, residual))
    residual /= np.linalg.norm(residual, axis=1, keepdims=True)
    mean = np.array([residual[children[:, -1] == digit].mean(0) for digit in children[:, -1]])
    cosine = (residual * mean).sum(1) / np.linalg.norm(mean, axis=1)
    consistency.append(cosine.mean() if j > 1 else np.nan)
  return explained, consistency


@pytest.mark.parametrize('rows', [5, 64, 4096])
@pytest.mark.parametrize(('m', 'l', 'v'), [(60, 3, 4), (64, 3, 4), (100, 2, 30), (50, 6, 2), (20, 1, 20)])
def test_figures_match_their_definitions_whatever_the_blocks(monkeypatch, rows, m, l, v):
  monkeypatch.setattr(quality_module, 'ROWS', rows)
  codes, vectors = random_codes(m, l, v), _vectors(m, 5)
  figures = tree_metrics(codes, vectors)
  explained, consistency = _by_brute_force(codes, vectors)
  np.testing.assert_allclose(figures.explained, explained, atol=1e-6)
  np.testing.assert_allclose(figures.consistency, consistency, atol=1e-6)


def test_what_each_digit_explains_alone_from_its_definition():
  vectors = _vectors(300, 8)
  codes = build_codes(vectors, 3, 7, progress=False)
  quality = _measure(codes, vectors)
  total = ((vectors - vectors.mean(0)) ** 2).sum()
  for digit, explained in zip(codes.T, quality.alone):
    groups = [vectors[digit == value] for value in np.unique(digit)]
    within = sum(((group - group.mean(0)) ** 2).sum() for group in groups)
    assert explained == pytest.approx(1 - within / total, abs=1e-6)
  np.testing.assert_allclose(quality.alone_chance, 6 / 299, atol=0.02)
  assert np.isnan(explained_alone(codes, np.ones((300, 8)))).all()


def test_names_of_a_planted_tree_are_consistent_and_renamed_ones_are_not():
  codes, vectors = _planted(3, 6)
  figures = tree_metrics(codes, vectors)
  assert np.all(figures.consistency[1:] > 0.95)
  renamed = codes.copy()
  rng = np.random.default_rng(1)
  for j in (1, 2):
    for prefix in np.unique(codes[:, :j], axis=0):
      below = (codes[:, :j] == prefix).all(1)
      renamed[below, j] = rng.permutation(6)[codes[below, j]]
  found = tree_metrics(renamed, vectors)
  np.testing.assert_allclose(found.explained, figures.explained, atol=1e-9)  # the tree is the same
  np.testing.assert_allclose(found.consistency[1:], found.consistency_chance[1:], atol=0.1)
  np.testing.assert_allclose(found.consistency_chance[1:], figures.consistency_chance[1:], atol=0.1)


def test_dealt_codes_explain_what_chance_explains():
  quality = _measure(random_codes(2000, 3, 13), _vectors(2000, 16))
  nodes = np.array([13, 169, 2000])
  for explained in (quality.explained, quality.explained_chance):
    np.testing.assert_allclose(explained, (nodes - 1) / 1999, atol=0.005)
  assert near_chance(quality)
  codes, vectors = _planted(3, 6)
  quality = _measure(codes, vectors)
  assert quality.explained[0] > 0.6 > 0.1 > quality.explained_chance[0] and not near_chance(quality)


@pytest.mark.parametrize('block', [1, 500, 2**22])
@pytest.mark.parametrize('sample', [40, 4096])
def test_neighbours_match_brute_force(monkeypatch, block, sample):
  monkeypatch.setattr(neighbours_module, 'BLOCK', block)
  codes, vectors = random_codes(300, 3, 7), 3 * _vectors(300, 6)
  found = neighbours(codes, vectors, sample=sample, progress=False)
  label = found.label
  assert len(np.unique(label)) == min(sample, 300)
  distance, nearest = NearestNeighbors(metric='cosine', algorithm='brute').fit(vectors).kneighbors(vectors[label], 2)
  np.testing.assert_array_equal(found.nearest, nearest[:, 1])
  np.testing.assert_allclose(found.cosine, 1 - distance[:, 1], atol=1e-5)
  unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
  cosine = unit[label] @ unit.T
  related = codes[label][:, None, 0] == codes[None, :, 0]
  np.testing.assert_array_equal(found.stranger, np.where(related, -2, cosine).argmax(1))
  np.testing.assert_allclose(found.stranger_cosine, np.where(related, -2, cosine).max(1), atol=1e-5)
  cosine[np.arange(len(label)), label] = np.nan
  extremes = [np.nanmin(cosine), np.nanmean(cosine), np.nanmax(cosine)]
  np.testing.assert_allclose([found.smallest, found.mean, found.largest], extremes, atol=1e-5)
  within = cosine[:, label]
  expected, _ = np.histogram(within[~np.isnan(within)], neighbours_module.BINS)
  assert np.abs(found.histogram - expected).sum() <= 4  # a cosine on an edge may fall to either side
  same = (codes[label][:, None] == codes[None]).cumprod(2).astype(float)
  np.testing.assert_allclose(found.shared, same[np.arange(len(label)), nearest[:, 1]].mean(0))
  same[np.arange(len(label)), label] = 0
  np.testing.assert_allclose(found.chance, same.mean(0).sum(0) / 299)


def test_neighbours_share_the_prefix_of_a_planted_tree():
  codes, vectors = _planted(3, 6)
  near = _measure(codes, vectors).neighbours
  assert np.all(near.shared[:2] > 0.9) and np.all(near.chance[:2] < 0.17) and near.shared[2] == near.chance[2] == 0


class _Mapped:
  """Vectors that can only be read a block at a time."""

  def __init__(self, rows):
    self.rows, self.shape = rows, rows.shape

  def __getitem__(self, index):
    assert len(index) <= ROWS
    return self.rows[index]


def test_only_blocks_are_read_and_half_precision_will_do():
  codes, vectors = random_codes(2 * ROWS, 4, 12), _vectors(2 * ROWS, 4)
  quality = _measure(codes, _Mapped(vectors.astype(np.float16)), sample=100)
  exact = _measure(codes, vectors, sample=100)
  np.testing.assert_allclose(quality.explained, exact.explained, atol=1e-3)
  np.testing.assert_allclose(quality.consistency, exact.consistency, atol=1e-2)
  np.testing.assert_allclose(quality.neighbours.mean, exact.neighbours.mean, atol=1e-3)


def test_the_same_seed_gives_the_same_figures():
  codes, vectors = random_codes(200, 3, 6), _vectors(200, 6)
  first, again, other = (_measure(codes, vectors, seed=seed, sample=50) for seed in (3, 3, 4))
  for one, two in zip([*first[:4], *first.neighbours], [*again[:4], *again.neighbours]):
    np.testing.assert_array_equal(one, two)
  assert not np.array_equal(first.neighbours.label, other.neighbours.label)


def test_one_identity():
  quality = _measure(random_codes(1, 2, 5), _vectors(1, 4))
  assert all(np.isnan(figures).all() for figures in quality[:4]) and quality.neighbours is None


def test_two_identities():
  quality = _measure(np.array([[0, 1], [2, 1]], np.uint8), _vectors(2, 4))
  np.testing.assert_allclose(quality.explained, 1)
  assert np.isnan(quality.consistency).all() and np.isnan(quality.neighbours.shared).all()
  assert set(quality.neighbours.nearest) == set(quality.neighbours.stranger) == {0, 1}


@pytest.mark.parametrize('vector', [_vectors(1, 4), np.zeros((1, 4), np.float32)])
def test_equal_vectors(vector):
  quality = _measure(random_codes(125, 3, 5), np.repeat(vector, 125, 0))
  assert all(np.isnan(figures).all() for figures in quality[:4]) and np.isnan(quality.neighbours.shared).all()


def test_nobody_without_a_common_prefix():
  near = _measure(np.array([[1, 0], [1, 1], [1, 2]], np.uint8), _vectors(3, 4)).neighbours
  assert (near.stranger == -1).all() and near.shared[0] == near.chance[0] == 1


def test_balance_by_hand():
  codes = np.array([[0, 0], [0, 1], [0, 2], [2, 0]], np.uint8)
  figures = measure_balance(codes, 3)
  np.testing.assert_allclose(figures.share, [[0.75, 0, 0.25], [0.5, 0.25, 0.25]])
  np.testing.assert_allclose(figures.entropy, [2 - 0.75 * np.log2(3), 1.5])
  assert figures.levels == [Level(2, 3, 1, 3, 1, 1), Level(4, 1, 1, 1, 4, 2)]


def test_a_full_tree_is_balanced():
  figures = measure_balance(random_codes(125, 3, 5), 5)
  np.testing.assert_allclose(figures.share, 0.2)
  np.testing.assert_allclose(figures.entropy, np.log2(5))
  assert figures.levels == [Level(5**j, 5 ** (3 - j), 5 ** (3 - j), 5 ** (3 - j), 5**j, 0) for j in (1, 2, 3)]


def test_balance_of_codes_beyond_64_bits():
  codes = np.random.default_rng(0).integers(0, 256, (9, 12)).astype(np.uint8)
  assert measure_balance(codes, 256).levels[0] == Level(9, 256**11, 1, 1, 0, 247)
