"""TAR over all pairs: the same bits whatever computes it, and those of scikit-learn's ROC of all pairs at once."""

import contextlib

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from gif_jax.evaluation.all_pairs import exact_cosines, impostors, protocol
from gif_jax.evaluation.all_pairs.dataset import LabelledSet
from gif_jax.evaluation.benchmark import measure
from gif_jax.evaluation.result import EvaluationError

BLOCKS = [
  {},
  {'_ROWS': 8, '_COLUMNS': 12, '_TILE': 4, '_SPARE': 10},
  {'_ROWS': 24, '_COLUMNS': 7, '_TILE': 1, '_SPARE': 0},
]


def people(rng, m=30, d=16, noise=1.0):
  """Embeddings of m people with one to seven images each, in any order: float32 [n, d], int64 [n]."""
  identity = rng.permutation(np.repeat(rng.permutation(1000)[:m], rng.integers(1, 8, m)))
  centre = rng.normal(size=(1000, d))
  return (5 * (centre[identity] + noise * rng.normal(size=(len(identity), d)))).astype(np.float32), identity


def brute(embedding, identity):
  """Exact cosines of all pairs i < j, whether they are of one person, and the pairs."""
  z = embedding.astype(np.float64)
  z = np.rint(z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-300) * 2**24) / 2**24
  left, right = np.triu_indices(len(z), 1)
  return (z @ z.T)[left, right], identity[left] == identity[right], left, right


def expected(score, same, far):
  """TAR by scikit-learn, at the largest FAR not above the target."""
  fpr, tpr, _ = roc_curve(same, score, drop_intermediate=False)
  return tpr[np.searchsorted(fpr, far * (1 + 1e-12), side='right') - 1]


def evaluated(embedding, identity, replicates=0):
  return measure(LabelledSet('made up', None, identity), embedding, replicates=replicates)[0]


@contextlib.contextmanager
def blocks(**sizes):
  with pytest.MonkeyPatch.context() as patch:
    for name, size in sizes.items():
      patch.setattr(impostors, name, size)
    yield


@pytest.fixture(params=[1, 8])
def devices(request, monkeypatch):
  some = jax.local_devices()[: request.param]
  monkeypatch.setattr(jax, 'local_devices', lambda: some)
  return request.param


@pytest.mark.slow
@pytest.mark.parametrize('sizes', BLOCKS)
@pytest.mark.parametrize('k', [1, 40, 10**6])
def test_the_most_alike_are_those_of_all_pairs_to_the_last_bit(devices, k, sizes):
  embedding, identity = people(np.random.default_rng(0))
  embedding[::3] = embedding[0]  # equal cosines: ties
  score, same, left, right = brute(embedding, identity)
  images = exact_cosines.sorted_images(embedding, identity)
  with blocks(**sizes):
    found = impostors.most_alike(images, k, progress='')
  np.testing.assert_array_equal(found.cosine, np.sort(score[~same])[::-1][:k])
  assert (found.left < found.right).all() and (images.person[found.left] != images.person[found.right]).all()
  table = np.zeros((len(identity),) * 2)
  table[left, right] = table[right, left] = score
  np.testing.assert_array_equal(table[images.order[found.left], images.order[found.right]], found.cosine)
  ties = np.diff(found.cosine) == 0
  pairs = found.left.astype(np.int64) * len(identity) + found.right
  assert (np.diff(pairs)[ties] > 0).all() and len(np.unique(pairs)) == len(pairs)


@pytest.mark.parametrize('order', ['rising', 'falling'])
def test_whatever_comes_first_the_floor_is_never_too_high(order):
  """The first blocks hold the best pairs of all, or the worst: 1-d directions, cosines from 1 down to -1."""
  angle = np.linspace(0, np.pi, 120) ** 2 / np.pi
  angle = angle if order == 'rising' else angle[::-1]
  embedding = np.stack([np.cos(angle), np.sin(angle)], 1)
  identity = np.arange(120)
  score, same, *_ = brute(embedding, identity)
  floors = []
  with blocks(_ROWS=4, _COLUMNS=4, _TILE=4, _SPARE=0), pytest.MonkeyPatch.context() as patch:
    rise = impostors._Best._rise
    patch.setattr(impostors._Best, '_rise', lambda best, cosine: (rise(best, cosine), floors.append(best.floor)))
    found = impostors.most_alike(exact_cosines.sorted_images(embedding, identity), 50, progress='')
  best = np.sort(score[~same])[::-1][:50]
  np.testing.assert_array_equal(found.cosine, best)
  assert len(floors) > (order == 'falling') and floors == sorted(floors) and floors[-1] <= best[-1]


@pytest.mark.parametrize(('off', 'passes'), [(0.0, 1), (-0.3, 1), (0.01, 2), (0.5, 2), (5, 2)])
def test_a_first_floor_that_is_too_high_is_seen(monkeypatch, off, passes):
  embedding, identity = people(np.random.default_rng(7))
  score, same, *_ = brute(embedding, identity)
  best = np.sort(score[~same])[::-1][:200]
  guess = best[-1] + off - 16 * 2.0**-23 - 1e-9
  monkeypatch.setattr(impostors, '_guess', lambda *_: guess)
  once, floors = impostors._pass, []
  monkeypatch.setattr(impostors, '_pass', lambda *all_of: (floors.append(all_of[2]), once(*all_of))[1])
  found = impostors.most_alike(exact_cosines.sorted_images(embedding, identity), 200, progress='')
  np.testing.assert_array_equal(found.cosine, best)
  assert floors == [guess, -np.inf][:passes]


@pytest.mark.parametrize('sample', [20, 64])
def test_the_first_floor_comes_from_a_sample(monkeypatch, sample):
  embedding, identity = people(np.random.default_rng(8), m=100)
  monkeypatch.setattr(impostors, '_SAMPLE', sample)
  images = exact_cosines.sorted_images(embedding, identity)
  score, same, *_ = brute(embedding, identity)
  guess, rising = impostors._guess(images, 300), np.sort(score[~same])
  assert 20 < len(rising) - np.searchsorted(rising, guess) < len(rising) / 4
  np.testing.assert_array_equal(impostors.most_alike(images, 300, progress='').cosine, rising[::-1][:300])
  assert impostors._guess(images, len(rising)) == -np.inf


def test_a_network_that_says_the_same_of_everybody_fills_no_memory():
  """All cosines tie: float32 cannot tell pairs apart, so that the best are picked exactly, again and again."""
  images = exact_cosines.sorted_images(np.ones((90, 3)), np.arange(90) // 2)
  held = []
  with blocks(_ROWS=8, _COLUMNS=8, _TILE=4, _SPARE=0), pytest.MonkeyPatch.context() as patch:
    add = impostors._Best.add
    patch.setattr(impostors._Best, 'add', lambda best, *rows: (add(best, *rows), held.append(best.held)))
    found = impostors.most_alike(images, 20, progress='')
  assert max(held) <= 40
  pairs = [(i, j) for i in range(90) for j in range(i + 1, 90) if i // 2 != j // 2][:20]
  assert [*zip(found.left.tolist(), found.right.tolist())] == pairs


@pytest.mark.slow
@pytest.mark.parametrize('sizes', BLOCKS)
def test_figures_are_those_of_scikit_learn(devices, sizes):
  embedding, identity = people(np.random.default_rng(1))
  score, same, *_ = brute(embedding, identity)
  with blocks(**sizes):
    found = evaluated(embedding, identity)
  impostor = np.sum(~same)
  assert list(found.metrics) == [f'tar@far=1e-{i}' for i in range(1, 6) if impostor * 10.0**-i >= 1]
  for (name, tar), threshold in zip(found.metrics.items(), found.thresholds.values()):
    far = float(name.split('=')[1])
    assert tar == expected(score, same, far)
    accepted = score >= threshold
    assert accepted[same].mean() == tar and accepted[~same].mean() <= far
  assert found.counts == {'images': len(identity), 'identities': 30, 'genuine': same.sum(), 'impostor': impostor}
  np.testing.assert_array_equal(found.histogram.genuine, np.histogram(score[same], found.histogram.edges)[0])
  np.testing.assert_array_equal(found.histogram.impostor, np.histogram(score[~same], found.histogram.edges)[0])
  half = found.hardest.same
  np.testing.assert_array_equal(found.hardest.cosine[half], np.sort(score[same])[:12])
  np.testing.assert_array_equal(found.hardest.cosine[~half], np.sort(score[~same])[::-1][:12])
  np.testing.assert_array_equal(identity[found.hardest.left] == identity[found.hardest.right], half)


def test_all_of_a_result_is_the_same_bits_in_any_blocks_on_any_devices(monkeypatch):
  embedding, identity = people(np.random.default_rng(2))
  embedding[3::7] = embedding[3]
  alone = evaluated(embedding, identity, replicates=20)
  some = jax.local_devices()[:3]
  monkeypatch.setattr(jax, 'local_devices', lambda: some)
  with blocks(**BLOCKS[1]):
    other = evaluated(embedding, identity, replicates=20)
  assert alone[:8] == other[:8] and alone.intervals
  for mine, theirs in zip(alone[8:11], other[8:11]):
    for a, b in zip(mine, theirs):
      np.testing.assert_array_equal(a, b)


def test_by_hand():
  """Identity 0 has x, x, y; 1 has x and (3, 4) / 5; 2 has y alone.

  Genuine: 1 0 0 | .6. Impostors with x, x, y of 0: x 1 1 0, (3, 4) .6 .6 .8; y of 2 with them 0 0 1, with x 0, (3, 4)
  .8. So 1: three; .8: two; .6: two; 0: four; 11 in all, and FAR .1 accepts one: none, three being alike.
  """
  embedding = np.array([[1, 0], [1, 0], [0, 1], [1, 0], [3, 4], [0, 1]], np.float32)
  found = evaluated(embedding, np.array([0, 0, 0, 1, 1, 2]))
  assert found.counts == {'images': 6, 'identities': 3, 'genuine': 4, 'impostor': 11}
  assert found.metrics == {'tar@far=1e-1': 0.0} and found.thresholds['1e-1'] > 1
  far, tar = found.curve
  np.testing.assert_array_equal(far, np.array([0, 3, 5, 7, 11]) / 11)
  np.testing.assert_array_equal(tar, [0, 0.25, 0.25, 0.5, 1])


def test_what_cannot_be_measured(monkeypatch):
  with pytest.raises(EvaluationError, match='two or more identities'):
    evaluated(np.eye(3), np.arange(3))
  with pytest.raises(EvaluationError, match='two or more identities'):
    evaluated(np.eye(3), np.zeros(3, int))
  with pytest.raises(EvaluationError, match='2 impostor pairs cannot resolve a FAR of 1e-1'):
    evaluated(np.eye(3), np.array([0, 0, 1]))
  monkeypatch.setattr(protocol, '_GENUINE', 2)
  with pytest.raises(EvaluationError, match='take fewer images of each identity'):
    evaluated(np.eye(4), np.array([0, 0, 0, 1]))


def test_a_larger_set_is_exact_as_far_as_pairs_are_kept(monkeypatch):
  embedding, identity = people(np.random.default_rng(3), m=150)
  score, same, *_ = brute(embedding, identity)
  complete = evaluated(embedding, identity)
  monkeypatch.setattr(protocol, '_FEW', 1000)
  monkeypatch.setattr(protocol, '_SAMPLE', 200)
  monkeypatch.setattr(protocol, '_TAIL', 5000)
  found = evaluated(embedding, identity)
  assert list(found.metrics) == list(complete.metrics)[1:]
  assert found.metrics.items() <= complete.metrics.items() and found.thresholds.items() <= complete.thresholds.items()
  assert found.curve.far[-1] < 0.02 and 'estimated from 200 random images' in found.rule
  np.testing.assert_array_equal(found.histogram.genuine, complete.histogram.genuine)
  counted = found.histogram.edges[:-1] >= float(found.rule.split('cosine of ')[1].split()[0])
  assert 0 < complete.histogram.impostor[counted].sum() < 5000
  np.testing.assert_array_equal(found.histogram.impostor[counted], complete.histogram.impostor[counted])
  assert found.histogram.impostor.sum() == np.sum(~same) and (found.histogram.impostor >= 0).all()
  off = np.abs(np.cumsum(found.histogram.impostor) - np.cumsum(complete.histogram.impostor)).max() / np.sum(~same)
  assert off < 0.03
  assert (np.diff(found.curve.far) > 0).all() and (np.diff(found.curve.tar) >= 0).all()
  for far in (1e-2, 1e-3, 1e-9):
    assert found.curve.tar_at([far])[0] == expected(score, same, far)


@pytest.mark.slow
@given(st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_small_set(data):
  n = data.draw(st.integers(6, 14))
  identity = np.array(data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)))
  values = st.lists(st.integers(-2, 2), min_size=2, max_size=2)
  embedding = np.array([data.draw(values) for _ in range(n)], np.float32)
  score, same, *_ = brute(embedding, identity)
  if same.all() or not same.any():
    return
  if np.sum(~same) >= 10:
    curve = evaluated(embedding, identity).curve
    for far in (1, 0.5, 0.1, 0.01):
      assert curve.tar_at([far])[0] == expected(score, same, far)
  k = data.draw(st.integers(1, len(score)))
  with blocks(**BLOCKS[1]):
    found = impostors.most_alike(exact_cosines.sorted_images(embedding, identity), k, progress='')
  np.testing.assert_array_equal(found.cosine, np.sort(score[~same])[::-1][:k])


@pytest.mark.parametrize('d', [1, 3, 512, 3000])
def test_cosines_are_the_same_bits_in_any_order_and_within_a_margin_of_the_truth(d):
  rng = np.random.default_rng(4)
  embedding = rng.normal(size=(40, d)) * np.exp(rng.normal(size=(40, d)))
  images = exact_cosines.sorted_images(embedding, np.arange(40))
  z = images.z.astype(np.float64)
  left, right = np.triu_indices(40, 1)
  found = exact_cosines.cosines(images.z, left, right)
  some = np.sort(rng.permutation(len(left))[:9])  # few of many: one by one
  np.testing.assert_array_equal(exact_cosines.cosines(images.z, left[some], right[some]), found[some])
  np.testing.assert_array_equal(exact_cosines._one_by_one(images.z, left, right), found)
  shuffled = rng.permutation(d)
  np.testing.assert_array_equal((z @ z.T)[left, right], found)
  np.testing.assert_array_equal(np.cumsum(z[left][:, shuffled] * z[right][:, shuffled], 1)[:, -1], found)
  unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
  np.testing.assert_allclose(found, (unit @ unit.T)[left, right], atol=2e-7)
  np.testing.assert_allclose((images.z @ images.z.T)[left, right], found, rtol=0, atol=d * 2.0**-23)


def test_the_order_of_images_does_not_matter():
  embedding, identity = people(np.random.default_rng(5))
  order = np.random.default_rng(6).permutation(len(identity))
  before, after = evaluated(embedding, identity), evaluated(embedding[order], identity[order])
  assert before.metrics == after.metrics and before.thresholds == after.thresholds
  np.testing.assert_array_equal(before.curve, after.curve)


def test_pairs_far_apart_in_a_large_set():
  """A block of all of them would have more cosines than int32 can count."""
  z = np.repeat(np.array([[1, 0], [0.5, 0.5]], np.float32), 25_000, axis=0)
  left, right = (np.array(rows, np.int32) for rows in ([0, 1, 49_998], [49_999, 2, 49_999]))
  assert exact_cosines.cosines(z, left, right).tolist() == [0.5, 1, 0.5]
