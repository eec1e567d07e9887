"""IJB 1:1: templates, scores and TAR worked out on paper or by loops over images and pairs."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from gif_jax.evaluation import bootstrap
from gif_jax.evaluation.benchmark import measure
from gif_jax.evaluation.ijb import intervals, protocol
from gif_jax.evaluation.ijb.protocol import evaluate_templates, nearest_points, pair_scores, template_embeddings
from gif_jax.evaluation.registry import open_benchmark
from gif_jax.evaluation.result import EvaluationError
from tests.helpers.template_files import IMAGES, PAIRS, write_set

MODES = ['N1D1', 'N0D1', 'N1D0', 'N0D0']


def _looped(embedding, rows, mode):
  """{template id: unit vector} by loops over media; rows as in `IMAGES`."""
  found = {}
  for template in {row[1] for row in rows}:
    media = {}
    for x, (_, of, medium, score) in zip(embedding.astype(np.float64), rows):
      if of == template:
        x = x if mode[1] == '1' else x / np.sqrt(sum(value**2 for value in x))
        media.setdefault(medium, []).append(x * (float(np.float32(score)) if mode[3] == '1' else 1))
    z = sum(np.mean(frames, 0) for frames in media.values())
    found[template] = z / np.sqrt(sum(value**2 for value in z))
  return found


def _people(rng, subjects=30, t=120, n=600, pairs=4000, d=6):
  """A set as arrays, and its embeddings."""
  subject = rng.permutation(np.arange(t) % subjects)
  template = rng.permutation(np.append(np.arange(t), rng.integers(t, size=n - t)))
  left, right = rng.integers(t, size=(2, pairs))
  centre = rng.normal(size=(subjects, d))
  embedding = (centre[subject[template]] + rng.normal(size=(n, d))) * rng.uniform(0.2, 3, size=(n, 1))
  found = SimpleNamespace(
    search=None,
    name='ijbc',
    template=template.astype(np.int32),
    media=rng.integers(3, size=n),
    subject=subject,
    detector=rng.uniform(0.1, 1, n).astype(np.float32),
    left=left.astype(np.int32),
    right=right.astype(np.int32),
    same=subject[left] == subject[right],
  )
  return found, embedding.astype(np.float32)


def _scored(labels, scores):
  """A set of two-dimensional templates of one image whose pairs have these scores, and its embeddings."""
  angles = np.append(0, np.arccos(scores))
  p = len(labels)
  found = SimpleNamespace(
    search=None,
    name='ijbc',
    template=np.arange(p + 1, dtype=np.int32),
    media=np.zeros(p + 1, np.int64),
    subject=np.arange(p + 1),
    detector=np.ones(p + 1, np.float32),
    left=np.zeros(p, np.int32),
    right=np.arange(1, p + 1, dtype=np.int32),
    same=np.array(labels, bool),
  )
  return found, np.stack([np.cos(angles), np.sin(angles)], 1)


def test_templates_on_paper():
  """Template 1 has two frames of one video and a photograph, template 0 one image; in no order."""
  template, media = np.array([1, 0, 1, 1]), np.array([8, 8, 9, 8])
  embedding = np.array([[2, 0], [0, 5], [0, 4], [4, 0]], np.float32)
  detector = np.array([1, 0.3, 0.5, 0.25], np.float32)
  found = template_embeddings(embedding, template, media, detector)
  expected = {
    'N1D0': [3, 4],  # the mean of (2, 0) and (4, 0), and (0, 4)
    'N0D0': [1, 1],
    'N1D1': [1.5, 2],  # the mean of (2, 0) and (1, 0), and (0, 2)
    'N0D1': [0.625, 0.5],  # the mean of (1, 0) and (.25, 0), and (0, .5)
  }
  assert list(found) == MODES
  for mode, z in expected.items():
    np.testing.assert_allclose(found[mode], [[0, 1], z / np.linalg.norm(z)], atol=1e-12)
    assert found[mode].dtype == np.float64


@pytest.mark.parametrize('images', [None, 'shuffled'])
def test_a_tree_of_files_to_figures(tmp_path, images):
  """Images in another order of the lists are the same set."""
  order = np.arange(10) if images is None else np.random.default_rng(1).permutation(10)
  rows, embedding = [IMAGES[i] for i in order], np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
  pictures = np.random.default_rng(0).integers(0, 256, (10, 112, 112, 3), np.uint8)
  benchmark = open_benchmark(str(write_set(tmp_path, images=rows, pictures=pictures[order])), 112)
  np.testing.assert_array_equal(benchmark.images[:], pictures[order])
  results = measure(benchmark, embedding[order], replicates=0)
  assert [result.mode for result in results] == MODES
  for result in results:
    z = _looped(embedding, IMAGES, result.mode)
    cosine = np.array([z[left] @ z[right] for left, right, _ in PAIRS])
    same = np.array([label == 1 for *_, label in PAIRS])
    scores = pair_scores(
      template_embeddings(embedding[order], benchmark.template, benchmark.media, benchmark.detector)[result.mode],
      benchmark.left,
      benchmark.right,
    )
    np.testing.assert_allclose(scores, cosine, atol=1e-12)
    # Of five impostor pairs no FAR up to .1 can be measured.
    assert result.metrics == result.intervals == result.thresholds == {}
    assert result.counts == {'images': 10, 'templates': 5, 'pairs': 7, 'genuine': 2, 'subjects': 3}
    # Each template is shown as its image of the largest score: 1.png, 8.png, 4.png, 6.png, 9.png.
    shown = {7: '1.png', 31: '8.png', 32: '4.png', 900: '6.png', 4000: '9.png'}
    hardest = [i for i in np.argsort(cosine) if same[i]] + [i for i in np.argsort(-cosine) if not same[i]]
    names = [[rows[i][0] for i in side] for side in (result.hardest.left, result.hardest.right)]
    assert names == [[shown[PAIRS[i][side]] for i in hardest] for side in (0, 1)]
    np.testing.assert_allclose(result.hardest.cosine, cosine[hardest], atol=1e-12)
    assert result.histogram.genuine.sum() == 2 and result.histogram.impostor.sum() == 5


def test_results_say_what_they_are():
  results = evaluate_templates(*_people(np.random.default_rng(0)), 0)
  assert [(result.benchmark, result.protocol, result.mode) for result in results] == [('ijbc', '1:1', m) for m in MODES]
  assert 'arcface_torch' in results[0].rule and 'CVLface' in results[1].rule and 'with their length' in results[0].rule


@pytest.mark.slow
def test_tar_by_loops_over_the_points_of_the_curve():
  """eval_ijbc.py's rule by plain loops, and scores by loops; a threshold accepts what its point does."""
  benchmark, embedding = _people(np.random.default_rng(2), t=150, pairs=30000)
  media = list(zip(range(600), benchmark.template.tolist(), benchmark.media.tolist(), benchmark.detector.tolist()))
  for result in evaluate_templates(benchmark, embedding, 0):
    z = _looped(embedding, media, result.mode)
    score = np.array([z[i] @ z[j] for i, j in zip(benchmark.left.tolist(), benchmark.right.tolist())]).round(12)
    far, tar, threshold = roc_curve(benchmark.same, score)
    assert list(result.metrics) == [f'tar@far={far}' for far in ('1e-4', '1e-3', '1e-2', '1e-1')]
    for target in ('1e-4', '1e-3', '1e-2', '1e-1'):
      points = sorted((abs(f - float(target)), -i) for i, f in enumerate(far))
      best = -points[0][1]
      assert result.metrics[f'tar@far={target}'] == tar[best]
      following = max((one for one in score if one < threshold[best] - 1e-9), default=-1)
      assert result.thresholds[target] == pytest.approx((threshold[best] + following) / 2, abs=1e-9)
    assert set(result.curve.far) <= set(far) and set(result.curve.tar) <= set(tar)


# Labels of pairs by falling score, 1 genuine, of 20 impostors and 4 genuine pairs.
@pytest.mark.parametrize(
  ('labels', 'tar'),
  [
    # Points of impostors in a row are left out of the curve: of 0 and .15, where a genuine pair follows, the latter is
    # nearest to .1. With all points it would be .1 itself, and .25.
    ([1, 0, 0, 0, 1, 1, *[0] * 17, 1], 0.75),
    # Two FARs equally near, .05 and .15, are left: the larger TAR.
    ([1, 0, 1, 0, 0, 1, *[0] * 17, 1], 0.75),
    # One FAR, .1, with several TARs: the largest.
    ([1, 0, 0, 1, 1, 0, 1, *[0] * 17], 0.75),
    # Nothing is nearer than the point that accepts no impostor, at the end of the genuine pairs on top.
    ([1, 1, 0, 0, 0, 0, 0, *[0] * 15, 1, 1], 0.5),
  ],
)
def test_nearest_far_on_paper(labels, tar):
  score = np.linspace(0.9, -0.9, 24)
  for result in evaluate_templates(*_scored(labels, score), 0):
    assert result.metrics == {'tar@far=1e-1': tar}
    accepted = score >= result.thresholds['1e-1']
    assert np.array(labels)[accepted].sum() / 4 == tar


def test_a_far_that_accepts_nothing_has_no_threshold():
  """The five largest scores are one, all of impostors: FAR .25 is farther from .1 than 0 is."""
  labels, score = [0] * 5 + [1] * 4 + [0] * 15, np.append([0.9] * 5, np.linspace(0.8, -0.9, 19))
  result = evaluate_templates(*_scored(labels, score), 0)[0]
  assert result.metrics == {'tar@far=1e-1': 0} and result.thresholds == {}


def test_nearest_points_on_paper():
  far = np.array([0, 0, 0.25, 0.25, 0.5, 0.75, 1])
  assert nearest_points(far, [0, 0.1, 0.125, 0.25, 0.375, 0.6, 0.625, 2]) == [1, 1, 3, 3, 4, 4, 5, 6]


@pytest.mark.parametrize('dense', [0, 0.5, 9])
@pytest.mark.parametrize('rows', [1, 7, 512])
def test_scores_are_dot_products_however_they_are_made(monkeypatch, dense, rows):
  monkeypatch.setattr(protocol, '_DENSE', dense)
  monkeypatch.setattr(protocol, '_LEFT', rows)
  monkeypatch.setattr(protocol, '_GATHERED', 100)
  rng = np.random.default_rng(3)
  z = rng.normal(size=(50, 5))
  left, right = np.append(rng.integers(50, size=(2, 900)), [[4] * 300, rng.integers(50, size=300)], 1).astype(np.int32)
  found = pair_scores(z, left, right)
  np.testing.assert_allclose(found, [z[i] @ z[j] for i, j in zip(left, right)], atol=1e-12)
  z[7] = z[3]  # copies of a template score alike, to the last bit, in whatever block they are
  copied = [np.where(side == 3, 7, side) for side in (left, right)]
  np.testing.assert_array_equal(pair_scores(z, left, right), pair_scores(z, *copied))


def test_sides_and_order_mean_nothing():
  benchmark, embedding = _people(np.random.default_rng(4))
  turned = SimpleNamespace(**vars(benchmark))
  order, rows = np.random.default_rng(5).permutation(4000), np.random.default_rng(6).permutation(600)
  turned.left, turned.right, turned.same = benchmark.right[order], benchmark.left[order], benchmark.same[order]
  turned.template, turned.media, turned.detector = (
    getattr(benchmark, key)[rows] for key in ('template', 'media', 'detector')
  )
  for one, two in zip(evaluate_templates(benchmark, embedding, 20), evaluate_templates(turned, embedding[rows], 20)):
    assert one.metrics == two.metrics and one.counts == two.counts
    np.testing.assert_array_equal(one.histogram.genuine, two.histogram.genuine)
    assert one.intervals.keys() == two.intervals.keys()
    for name, interval in one.intervals.items():
      assert two.intervals[name] == pytest.approx(interval, abs=1e-12)


def test_every_image_twice_in_its_medium_changes_nothing():
  benchmark, embedding = _people(np.random.default_rng(7))
  twice = [np.append(getattr(benchmark, key), getattr(benchmark, key)) for key in ('template', 'media', 'detector')]
  one = template_embeddings(embedding, benchmark.template, benchmark.media, benchmark.detector)
  two = template_embeddings(np.append(embedding, embedding, 0), *twice)
  for mode in MODES:
    np.testing.assert_allclose(one[mode], two[mode], atol=1e-12)


class _Rows:
  """Rows on a disk: counts which are taken, and refuses many at once."""

  def __init__(self, rows):
    self.rows, self.shape, self.taken = rows, rows.shape, np.zeros(len(rows), int)

  def __len__(self):
    return len(self.rows)

  def __getitem__(self, index):
    assert len(self.rows[index]) <= 64
    self.taken[index] += 1
    return self.rows[index]


def test_embeddings_are_read_once_and_a_few_rows_at_a_time(monkeypatch):
  monkeypatch.setattr(protocol, '_ROWS', 64)
  benchmark, embedding = _people(np.random.default_rng(8))
  arrays = benchmark.template, benchmark.media, benchmark.detector
  rows = _Rows(embedding)
  few = template_embeddings(rows, *arrays)
  assert rows.taken.tolist() == [1] * 600
  monkeypatch.setattr(protocol, '_ROWS', 10**6)
  for mode, z in template_embeddings(embedding, *arrays).items():
    np.testing.assert_allclose(few[mode], z, atol=1e-12)


# Images of template 1 of two; what follows is of template 0.
@pytest.mark.parametrize(
  ('rows', 'media', 'modes'),
  [
    ([[1, 2], [-1, -2]], [1, 2], 'N1D1|N0D1'),  # two photographs
    ([[1, 2], [1, 2], [-2, -4]], [1, 1, 1], 'N1D1|N1D0'),  # frames of one video
    ([[0.3, 0.1], [-0.6, -0.2], [0.3, 0.1]], [1, 2, 3], 'N1D1|N1D0'),  # what rounding leaves has no direction
    ([[3, 1], [-6, -2]], [1, 2], 'N0D1'),
    ([[0, 0]], [1], 'N1D1'),
    ([[np.nan, 1]], [1], 'N1D1'),
    ([[np.inf, 1], [1, 1]], [1, 2], 'N1D1'),
  ],
)
@pytest.mark.parametrize('scale', [1, 1e-3, 1e6])
def test_templates_whose_images_cancel_are_named(rows, media, modes, scale):
  embedding = np.array([[3, 4], *rows]) * scale
  template = np.array([0] + [1] * len(rows))
  arrays = template, np.array([1, *media]), np.ones(len(template))
  for mode in modes.split('|'):
    with pytest.raises(EvaluationError, match=rf'^template 1: in {mode} its images cancel .*\(1 such'):
      template_embeddings(embedding.astype(np.float32), *arrays, [mode])
  if modes == 'N0D1':
    np.testing.assert_allclose(template_embeddings(embedding, *arrays, ['N1D1'])['N1D1'][1], [-(0.9**0.5), -(0.1**0.5)])


@pytest.mark.parametrize('score', [0, -0.5, np.nan, np.inf])
def test_scores_that_cannot_be_weights_are_named(score):
  """Below 0 a template points the wrong way; also where the weights add up to something."""
  detector = np.array([0.9, 0.8, score, 0.7])
  with pytest.raises(EvaluationError, match=rf'^template 1: the .* score of image 2 is {float(score)},.*above 0'):
    template_embeddings(np.eye(4, 3) + 1, np.array([0, 1, 1, 1]), np.arange(4), detector)


def test_templates_are_named_as_in_their_list():
  benchmark, embedding = _people(np.random.default_rng(14))
  benchmark.template_ids = np.arange(120) * 7
  embedding[benchmark.template == 50] = 0
  with pytest.raises(EvaluationError, match=r'^ijbc: template 350: in N1D1 its images cancel out'):
    evaluate_templates(benchmark, embedding, 0)
  benchmark.detector[np.flatnonzero(benchmark.template == 3)[0]] = -1
  with pytest.raises(EvaluationError, match=r'^ijbc: template 21: the .* is -1\.0'):
    evaluate_templates(benchmark, embedding, 0)


def test_intervals_are_of_subjects_and_hold_the_figure():
  benchmark, embedding = _people(np.random.default_rng(9), pairs=20000)
  for result in evaluate_templates(benchmark, embedding, 100):
    assert result.intervals.keys() == result.metrics.keys()
    for name, (low, high) in result.intervals.items():
      assert low <= result.metrics[name] <= high and low < high


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_a_replicate_is_a_weighted_curve_of_scikit_learn(monkeypatch, seed):
  """A genuine pair weighs as much as its subject, an impostor pair as the product of its two."""
  benchmark, embedding = _people(np.random.default_rng(13), pairs=20000)
  drawn = next(bootstrap.draws(30, 1, seed))
  monkeypatch.setattr(bootstrap, 'draws', lambda *_: iter([drawn]))
  left, right = (drawn[benchmark.subject[side]] for side in (benchmark.left, benchmark.right))
  same = benchmark.same
  z = template_embeddings(embedding, benchmark.template, benchmark.media, benchmark.detector)
  for result in evaluate_templates(benchmark, embedding, 1):
    score = pair_scores(z[result.mode], benchmark.left, benchmark.right)
    weight = np.where(same, left, left * right)
    far, tar, _ = roc_curve(same, score, sample_weight=weight, drop_intermediate=False)
    points = nearest_points(far, [float(name.split('=')[1]) for name in result.intervals])
    assert len(points) == 4
    for point, interval in zip(points, result.intervals.values()):
      assert interval == pytest.approx((tar[point], tar[point]), abs=1e-12)


def test_the_tail_is_enough_for_the_intervals(monkeypatch):
  """Intervals of the few impostors on top, weighed against a count of all, are those of all impostors."""
  benchmark, embedding = _people(np.random.default_rng(10), subjects=300, t=900, n=2000, pairs=60000)
  whole = [result.intervals for result in evaluate_templates(benchmark, embedding, 60)]
  monkeypatch.setattr(intervals, '_LEAST', 0)
  weighed, total = [], intervals.Weights.total

  def counted(self, drawn):
    weighed.append(total(self, drawn))
    return weighed[-1]

  monkeypatch.setattr(intervals.Weights, 'total', counted)
  for tail, all_of_them in zip(evaluate_templates(benchmark, embedding, 60), whole):
    assert tail.intervals.keys() == all_of_them.keys()
    for name, interval in all_of_them.items():
      assert tail.intervals[name] == pytest.approx(interval, abs=1e-12), name
  assert len(weighed) == 4 * (60 + 12)


def test_the_weight_of_all_impostors_by_a_loop():
  benchmark, _ = _people(np.random.default_rng(11))
  weights = intervals.Weights(benchmark)
  for drawn in bootstrap.draws(30, 3):
    sides = zip(benchmark.subject[benchmark.left], benchmark.subject[benchmark.right], benchmark.same)
    expected = sum(drawn[i] * drawn[j] for i, j, same in sides if not same)
    assert weights.total(drawn) == weights.total(drawn) == expected


def test_no_replicates_no_intervals():
  for result in evaluate_templates(*_people(np.random.default_rng(12)), 0):
    assert result.metrics and result.intervals == {}
