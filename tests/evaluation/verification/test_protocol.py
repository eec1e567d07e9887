"""Figures of verification sets: by hand, beside plain loops, and intervals against sets that are really new."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from sklearn.metrics import roc_curve
from sklearn.model_selection import KFold

from gif_jax.evaluation.benchmark import measure
from gif_jax.evaluation.bootstrap import draws
from gif_jax.evaluation.result import EvaluationError
from gif_jax.evaluation.verification import folds
from gif_jax.evaluation.verification.dataset import PairSet
from gif_jax.evaluation.verification.folds import Folds
from gif_jax.evaluation.verification.protocol import accepted_from


def _folds(genuine, impostor, number=2):
  """Folds of pairs given by their distances: lists of one list a fold."""
  distance, same = [], []
  for some, others in zip(genuine, impostor):
    distance += [*some, *others]
    same += [True] * len(some) + [False] * len(others)
  return Folds(np.array(distance, float), np.array(same), number)


def test_equally_good_thresholds_the_first_one_is_taken():
  # Each fold: genuine at .405, impostor at .605. On the other fold .41 .. .60 are all right twice: .41 is the first.
  accuracy, threshold = _folds([[0.405], [0.405]], [[0.605], [0.605]]).accuracy(np.ones(4))
  assert accuracy.tolist() == [1, 1] and threshold.tolist() == [folds.THRESHOLDS[41]] * 2
  # All genuine at 0: threshold 0 accepts none of them, since 0 < 0 is false, .01 is the first that is right.
  assert _folds([[0], [0]], [[3], [3]]).accuracy(np.ones(4))[1].tolist() == [folds.THRESHOLDS[1]] * 2
  # Nothing is ever better than rejecting everything: the first of all thresholds, 0.
  assert _folds([[3], [3]], [[1, 1], [1, 1]]).accuracy(np.ones(6))[1].tolist() == [0, 0]


def test_a_distance_at_a_threshold_is_rejected():
  # Fold 2 has its genuine pair exactly at THRESHOLDS[41], which fold 1 (genuine .405, impostor .605) chooses for it.
  at = folds.THRESHOLDS[41]
  accuracy, threshold = _folds([[0.405], [at]], [[0.605], [0.605]]).accuracy(np.ones(4))
  assert threshold.tolist() == [folds.THRESHOLDS[42], at]
  assert accuracy.tolist() == [1, 0.5]  # .405 < .42 and .605 >= .42; at < at is false, the impostor is right
  just_below = _folds([[0.405], [np.nextafter(at, 0)]], [[0.605], [0.605]])
  assert just_below.accuracy(np.ones(4))[0].tolist() == [1, 1]


def test_folds_of_unequal_size():
  # 5 pairs in 2 folds: 3 and 2. Fold 1: genuine .1, .1, .9; fold 2: impostors .5, .7.
  some = _folds([[0.1, 0.1, 0.9], []], [[], [0.5, 0.7]])
  assert some.fold.tolist() == [0, 0, 0, 1, 1]
  # Fold 1 is measured at 0, where fold 2 is right (the first): 0 of 3. Fold 2 at .91, where all of fold 1 are: 0 of 2.
  accuracy, threshold = some.accuracy(np.ones(5))
  assert accuracy.tolist() == [0, 0] and threshold.tolist() == [0, folds.THRESHOLDS[91]]


@pytest.mark.parametrize('pairs', [10, 47, 600])
def test_folds_are_those_of_scikit_learn(pairs):
  found = Folds(np.zeros(pairs), np.ones(pairs, bool)).fold
  expected = [test.tolist() for _, test in KFold(10).split(np.arange(pairs))]
  assert [np.flatnonzero(found == fold).tolist() for fold in range(10)] == expected


def test_val_by_hand():
  # The other fold has impostors at 1.0003, 2.0003, 3.0003 and 3.5003: its FAR is 0 up to threshold 1.000, 1/4 from
  # 1.001 to 2.000, 1/2 from 2.001 on. FAR .375 is halfway between the last threshold of 1/4 and the first of 1/2:
  # 2.0005, which accepts the impostor at 2.0003. FAR .25 belongs to a thousand thresholds: the last is meant, 2.000.
  impostors = [1.0003, 2.0003, 3.0003, 3.5003]
  some = _folds([[1.5, folds.FINE[2000]], [1.9999, 2.0001]], [impostors, impostors])
  val, far, threshold = some.val(np.ones(12), 0.375)
  assert threshold == pytest.approx([2.0005, 2.0005], abs=1e-12)
  assert val.tolist() == [1.0, 1.0] and far.tolist() == [0.5, 0.5]
  val, far, threshold = some.val(np.ones(12), 0.25)
  assert threshold.tolist() == [folds.FINE[2000]] * 2  # where one pair is, which is not below it
  assert val.tolist() == [0.5, 0.5] and far.tolist() == [0.25, 0.25]


def test_a_far_that_is_never_reached_accepts_nothing():
  # Impostors at 4: no threshold up to 3.999 accepts one. Where one fold has an impostor at 1, only the other uses it.
  val, far, threshold = _folds([[0.1], [0.1]], [[4, 4], [4, 4]]).val(np.ones(6), 0.1)
  assert (val.tolist(), far.tolist(), threshold.tolist()) == ([0, 0], [0, 0], [0, 0])
  val, far, threshold = _folds([[0.1], [0.1]], [[4, 1], [4, 4]]).val(np.ones(6), 0.1)
  assert threshold[0] == 0 and 1 < threshold[1] < 1.002
  assert (val.tolist(), far.tolist()) == ([0, 1], [0, 0])


def test_identical_images():
  """Distance 0: no threshold of 0 accepts it, every other one does; a wrong label of them is an error at each."""
  some = _folds([[0], [0]], [[0, 2], [2, 2]])
  accuracy, threshold = some.accuracy(np.ones(6))
  assert threshold.tolist() == [folds.THRESHOLDS[1], 0]  # fold 1 has as much right at 0 as at .01: 0 is the first
  assert accuracy.tolist() == [2 / 3, 2 / 3]


def _slinear(x, y, at):
  """interp1d(x, y, kind='slinear')(at) of SciPy up to 1.9.2: a spline of degree 1 through points sorted stably."""
  order = np.argsort(x, kind='stable')
  x, y = x[order], y[order]
  return float(BSpline.construct_fast(np.r_[x[0], x, x[-1]], y, 1)(at))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 12), min_size=2, max_size=9), st.floats(0, 1), st.integers(0, 12))
def test_crossing_is_that_of_scipy(steps, target, exactly):
  """Also where the target is one of the FARs, or the largest one, repeated or not."""
  far = np.cumsum([0, *[step % 4 for step in steps]]) / 30.0
  if exactly < len(far):
    target = far[-1 - exactly]
  expected = _slinear(far, folds.FINE[: len(far)], target) if far.max() >= target else 0.0
  if far.max() == 0:
    expected = 0.0  # a spline between equal points
  assert folds._crossing(far[None], target)[0] == expected


def _plain(distance, same, parts, target):
  """The protocol, loop by loop: parts are lists of pairs, each pair as often as it weighs."""
  accuracies, vals, fars = [], [], []
  for part in parts:
    train = np.concatenate([other for other in parts if other is not part])
    right = [np.sum((distance[train] < t) == same[train]) for t in folds.THRESHOLDS]
    accuracies.append(np.mean((distance[part] < folds.THRESHOLDS[np.argmax(right)]) == same[part]))
    far = np.array([np.mean(distance[train][~same[train]] < t) for t in folds.FINE])
    threshold = _slinear(far, folds.FINE, target) if far.max() >= target else 0.0
    taken = distance[part] < threshold
    vals.append(np.mean(taken[same[part]]))
    fars.append(np.mean(taken[~same[part]]))
  return accuracies, vals, fars


@pytest.mark.parametrize(('seed', 'coarse'), [(0, False), (1, True), (2, False)])
def test_weights_count_like_pairs_that_are_there_so_often(seed, coarse):
  rng = np.random.default_rng(seed)
  same = np.resize([True, False], 83)
  distance = np.clip(np.where(same, 1, 2) + 0.5 * rng.normal(size=83), 0, 4)
  distance = np.round(distance, 1) if coarse else distance
  some = Folds(distance, same, 4)
  for weight in (np.ones(83, int), rng.integers(0, 4, 83)):
    parts = [np.repeat(part, weight[part]) for part in np.array_split(np.arange(83), 4)]
    expected = _plain(distance, same, parts, 0.05)
    val, far, _ = some.val(weight.astype(float), 0.05)
    for found, wanted in zip((some.accuracy(weight.astype(float))[0], val, far), expected):
      np.testing.assert_allclose(found, wanted, rtol=1e-13)


def _set(rng, people, pairs, d=16, images=4):
  """A verification set of people some of whom are harder than others: benchmark, embedding."""
  noise = 0.8 * np.exp(0.7 * rng.normal(size=(people, 1, 1)))
  z = rng.normal(size=(people, 1, d)) + noise * rng.normal(size=(people, images, d))
  left, same = rng.integers(people, size=pairs), np.tile(np.repeat([True, False], pairs // 20), 10)
  right = np.where(same, left, (left + rng.integers(1, people, size=pairs)) % people)
  first = rng.integers(images, size=pairs)
  second = (first + rng.integers(1, images, size=pairs)) % images
  person = np.stack([left, right], 1).ravel()
  embedding = z[person, np.stack([first, second], 1).ravel()]
  return PairSet('some', None, same, person), embedding.astype(np.float32)


def test_tar_threshold_curve_and_counts_beside_scikit_learn():
  benchmark, z = _set(np.random.default_rng(4), 50, 3000)
  (result,) = measure(benchmark, z, norm=np.arange(6000.0), replicates=0)
  z = z.astype(np.float64) / np.linalg.norm(z.astype(np.float64), axis=1, keepdims=True)
  cosine, same = (z[::2] * z[1::2]).sum(1), benchmark.same
  fpr, tpr, _ = roc_curve(same, cosine, drop_intermediate=False)
  assert set(result.thresholds) == {'1e-1', '1e-2', '1e-3'}
  for name, threshold in result.thresholds.items():
    place = np.searchsorted(fpr, float(name), side='right') - 1
    assert result.metrics[f'tar@far={name}'] == tpr[place]
    for dtype in (np.float64, np.float32):  # the threshold gives what is printed, in any precision
      accepted = cosine.astype(dtype) >= dtype(threshold)
      assert accepted[same].mean() == tpr[place] and accepted[~same].mean() == fpr[place]
  np.testing.assert_allclose(np.interp(result.curve.far, fpr, fpr), result.curve.far, atol=1e-12)
  assert result.counts == {'pairs': 3000, 'genuine': 1500, 'impostor': 1500, 'identities': 50}
  assert result.metrics['xnorm'] == 2999.5 and result.intervals == {}
  assert result.histogram.genuine.sum() == result.histogram.impostor.sum() == 1500
  hardest = result.hardest
  assert (hardest.left % 2 == 0).all() and (hardest.right == hardest.left + 1).all()
  assert hardest.left[0] == 2 * np.flatnonzero(same)[np.argmin(cosine[same])]
  np.testing.assert_allclose(hardest.cosine, cosine[hardest.left // 2], atol=1e-12)


def test_accepted_from_by_hand():
  # Falling impostors .8 .6 .6 .4 .2; genuine .9 .7 .5. At FAR .2 one impostor may pass; .6 has to be rejected, .7 is
  # the smallest above: .65. At .4 too, since both of .6 pass or none. At .6 three pass: .4 is rejected, .5 accepted.
  impostor = np.array([0.8, 0.6, 0.6, 0.4, 0.2])
  cosine = np.append(impostor, [0.9, 0.7, 0.5])
  assert [accepted_from(cosine, impostor, far) for far in (0.2, 0.4, 0.6)] == pytest.approx([0.65, 0.65, 0.45])
  assert accepted_from(cosine, impostor, 0.1) == pytest.approx(0.85)
  # Nothing above the largest impostor: halfway to 1; above 1, where that impostor is two equal images.
  assert accepted_from(impostor, impostor, 0.1) == pytest.approx(0.9)
  assert accepted_from(np.ones(3), np.ones(2), 0.1) > 1
  between = np.array([0.5, np.nextafter(0.5, 1)])  # no number lies between
  assert accepted_from(between, between[:1], 0.1) == between[1]


def test_the_figures_of_a_set_are_those_of_its_folds():
  benchmark, z = _set(np.random.default_rng(5), 30, 400)
  (result,) = measure(benchmark, 7 * z.astype(np.float64), replicates=0)
  z = z.astype(np.float64) / np.linalg.norm(z.astype(np.float64), axis=1, keepdims=True)
  distance = ((z[::2] - z[1::2]) ** 2).sum(1)
  accuracy, val, far = _plain(distance, benchmark.same, np.array_split(np.arange(400), 10), 1e-3)
  expected = {
    'accuracy': np.mean(accuracy),
    'std': np.std(accuracy),
    'val@far=1e-3': np.mean(val),
    'val_std': np.std(val),
    'val_far': np.mean(far),
  }
  assert {name: result.metrics[name] for name in expected} == pytest.approx(expected, abs=1e-12)
  assert set(result.metrics) == {*expected, 'tar@far=1e-1', 'tar@far=1e-2'}  # 200 impostors say nothing of FAR 1e-3


def test_val_is_left_out_where_a_fold_has_no_pairs_of_one_kind():
  benchmark, z = _set(np.random.default_rng(6), 30, 3000)
  order = np.argsort(~benchmark.same, kind='stable')  # all genuine pairs first
  rows = np.stack([2 * order, 2 * order + 1], 1).ravel()
  benchmark = replace(benchmark, same=benchmark.same[order], identity=benchmark.identity[rows])
  (result,) = measure(benchmark, z[rows], replicates=20)
  tars = {'tar@far=1e-1', 'tar@far=1e-2', 'tar@far=1e-3'}
  assert set(result.metrics) == {'accuracy', 'std', *tars} and set(result.intervals) == {'accuracy', *tars}


@pytest.mark.parametrize('same', [np.ones(20, bool), np.zeros(20, bool), np.resize([True, False], 9)])
def test_sets_that_cannot_be_measured(same):
  benchmark = PairSet('bad', None, same, np.arange(2 * len(same)))
  with pytest.raises(EvaluationError, match=r'bad: \d+ genuine and \d+ impostor pairs, wanted both and at least 10'):
    measure(benchmark, np.ones((2 * len(same), 3)), replicates=3)


def test_no_interval_of_val_where_nine_folds_hold_fewer_than_1000_impostors():
  for pairs, there in ((2200, False), (2240, True)):  # 1100 impostors, of which 990; 1120, of which 1008
    (result,) = measure(*_set(np.random.default_rng(10), 40, pairs), replicates=2)
    assert 'val@far=1e-3' in result.metrics and ('val@far=1e-3' in result.intervals) == there


def test_intervals_know_nothing_of_the_numbers_of_identities():
  benchmark, z = _set(np.random.default_rng(7), 40, 2400)
  (first,) = measure(benchmark, z, replicates=50)
  assert set(first.intervals) == {'accuracy', 'val@far=1e-3', 'tar@far=1e-1', 'tar@far=1e-2', 'tar@far=1e-3'}
  assert all(low <= high for low, high in first.intervals.values())
  benchmark = replace(benchmark, identity=1000 * benchmark.identity + 5)
  assert measure(benchmark, z, replicates=50)[0].intervals == first.intervals


@pytest.mark.parametrize(('people', 'pairs', 'empty'), [(25, 200, False), (4, 20, True)])
def test_intervals_are_of_the_weighted_figures(people, pairs, empty):
  """Replicates worked out pair by pair: genuine w, impostor w w'; a fold that weighs nothing is left out."""
  benchmark, z = _set(np.random.default_rng(8), people, pairs)
  (result,) = measure(benchmark, z, replicates=6)
  assert set(result.intervals) <= {'accuracy', 'tar@far=1e-1', 'tar@far=1e-2'}  # no threshold has FAR 1e-3 here
  z = z.astype(np.float64) / np.linalg.norm(z.astype(np.float64), axis=1, keepdims=True)
  distance = ((z[::2] - z[1::2]) ** 2).sum(1)
  found, weighed = [], []
  for drawn in draws(people, 6):
    left, right = drawn[benchmark.identity[::2]], drawn[benchmark.identity[1::2]]
    weight = np.where(benchmark.same, left, left * right)
    parts = [np.repeat(part, weight[part]) for part in np.array_split(np.arange(pairs), 10)]
    found.append(np.mean([*_accuracies(distance, benchmark.same, parts)]))
    weighed += map(len, parts)
  assert (min(weighed) == 0) == empty
  assert result.intervals['accuracy'] == pytest.approx(np.quantile(found, [0.025, 0.975]), abs=1e-12)


def _accuracies(distance, same, parts):
  for part in filter(len, parts):
    train = np.concatenate([other for other in parts if other is not part])
    right = [np.sum((distance[train] < t) == same[train]) for t in folds.THRESHOLDS]
    yield np.mean((distance[part] < folds.THRESHOLDS[np.argmax(right)]) == same[part])


@pytest.mark.slow
def test_intervals_hold_the_figure_of_the_population():
  """95 % intervals of sets of 60 people beside the mean over all sets: most must hold it, and not by being wide."""
  results = [measure(*_set(np.random.default_rng(seed), 60, 400), replicates=80)[0] for seed in range(40)]
  for name, most in (('accuracy', 2.0), ('tar@far=1e-1', 1.7)):
    value = np.array([result.metrics[name] for result in results])
    low, high = np.array([result.intervals[name] for result in results]).T
    assert np.mean((low <= value.mean()) & (value.mean() <= high)) >= 0.88, name
    assert np.mean(high - low) / (2 * 1.96 * value.std()) < most, name


def test_people_in_many_pairs_widen_intervals():
  """20 people of 600 pairs, of very different difficulty: whoever draws pairs anew pretends to know much more."""
  benchmark, z = _set(np.random.default_rng(9), 20, 600)
  low, high = measure(benchmark, z, replicates=200)[0].intervals['accuracy']
  z = z.astype(np.float64) / np.linalg.norm(z.astype(np.float64), axis=1, keepdims=True)
  some, rng = Folds(((z[::2] - z[1::2]) ** 2).sum(1), benchmark.same), np.random.default_rng(0)
  by_pairs = [
    some.accuracy(np.bincount(rng.integers(600, size=600), minlength=600).astype(float))[0].mean() for _ in range(200)
  ]
  assert high - low > 1.5 * np.subtract(*np.quantile(by_pairs, [0.975, 0.025]))
