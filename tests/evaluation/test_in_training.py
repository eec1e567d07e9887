"""What a run measures, from predictions that are known."""

import logging

import numpy as np
import pytest

from gif_jax.codes.identities import Identities
from gif_jax.evaluation.all_pairs.dataset import LabelledSet
from gif_jax.evaluation.benchmark import measure
from gif_jax.evaluation.closed_set import closed_set_metrics
from gif_jax.evaluation.evaluator import Evaluator
from gif_jax.evaluation.in_training import RunEvaluator
from gif_jax.evaluation.unseen import UnseenPeople, pixel_embedding
from gif_jax.identification.routes import ClosedSet
from gif_jax.models.extraction.cache import Embeddings


@pytest.fixture
def settings(tiny_config):
  return tiny_config.eval


def _perfect(faces, table):
  """Predictions that know every training image: its code vector and its code."""
  label_of = {image.tobytes(): label for image, label in zip(faces[:], faces.labels())}

  def predict(images):
    labels = np.array([label_of[image.tobytes()] for image in np.asarray(images)])
    code, vector = table.rows(labels)
    return {'embedding': vector, 'log_probs': np.log(np.where(np.arange(table.v) == code[..., None], 0.9, 0.01))}

  return predict


@pytest.mark.slow
def test_perfect_predictions_score_everything(tiny_faces, tiny_table, settings):
  predict = _perfect(tiny_faces.held_out, tiny_table)
  found = closed_set_metrics(predict, tiny_faces.held_out, tiny_table, tiny_table.vectors, settings)
  assert found.pop('digit_accuracy') == [1.0] * tiny_table.l
  assert len(found.pop('fused_weights')) == 2
  routes = ('decode', 'rerank', 'fused', 'tree', 'vector')
  assert found == {f'{route}_top{rank}': 1.0 for route in routes for rank in (1, 5)}


def test_a_softmax_has_routes_without_digits(tiny_faces, tiny_table, settings):
  predict = _perfect(tiny_faces.held_out, tiny_table)
  people = Identities(tiny_faces.m, '')
  found = closed_set_metrics(predict, tiny_faces.held_out, people, 3 * tiny_table.vectors, settings)
  assert found == {f'{route}_top{rank}': 1.0 for route in ('tree', 'centre') for rank in (1, 5)}


def _noisy(table, beam, trees_up_to=1000, n=400):
  """A `ClosedSet` of predictions that are right more often than not."""
  rng = np.random.default_rng(0)
  label = rng.integers(table.m, size=n)
  code, vector = table.rows(label)
  right = np.where(np.arange(table.v) == code[..., None], 3.0, 0.0) + rng.normal(size=(n, table.l, table.v))
  log_probs = right - np.log(np.exp(right).sum(2, keepdims=True))
  z = vector + 0.4 * rng.normal(size=vector.shape)
  return ClosedSet(z, log_probs.astype(np.float32), label, table, table.vectors, beam, trees_up_to)


@pytest.mark.slow
def test_routes_as_wide_as_the_table_reach_brute_force(tiny_table):
  seen = _noisy(tiny_table, tiny_table.m)
  np.testing.assert_array_equal(seen.tree(), seen.nearest())
  np.testing.assert_array_equal(seen.rerank(), seen.nearest())
  rates = {name: (getattr(seen, name)()[:, 0] == seen.labels).mean() for name in ('decode', 'fused', 'nearest')}
  assert rates['fused'] > max(rates['decode'], rates['nearest']) + 0.02


def test_too_many_people_for_clustering_have_the_trie_of_their_codes(tiny_faces, tiny_table, settings, monkeypatch):
  monkeypatch.setattr('gif_jax.identification.vector_tree.build_codes', None)
  seen = _noisy(tiny_table, tiny_table.m, trees_up_to=tiny_table.m - 1)
  np.testing.assert_array_equal(seen.tree(), seen.nearest())
  settings = settings.copy_and_resolve_references()
  settings.trees_up_to = 0
  predict, people = _perfect(tiny_faces.held_out, tiny_table), Identities(tiny_faces.m, '')
  found = closed_set_metrics(predict, tiny_faces.held_out, people, tiny_table.vectors, settings)
  assert found == {'centre_top1': 1.0, 'centre_top5': 1.0}


def test_no_image_has_a_say_in_the_weight_it_is_judged_with(tiny_table):
  seen, again = _noisy(tiny_table, tiny_table.m), _noisy(tiny_table, tiny_table.m)
  again.labels = np.where(np.arange(len(again.labels)) % 2, again.labels, -1)  # nothing is known of even images
  np.testing.assert_array_equal(seen.fused()[::2], again.fused()[::2])
  assert seen.weights[1] == again.weights[1]


@pytest.mark.slow
def test_the_closed_set_can_be_a_sample(tiny_faces, tiny_table, settings):
  settings = settings.copy_and_resolve_references()
  settings.closed_set = 7
  seen = []

  def predict(images):
    seen.append(images)
    return _perfect(tiny_faces.held_out, tiny_table)(images)

  closed_set_metrics(predict, tiny_faces.held_out, tiny_table, tiny_table.vectors, settings)
  assert len({image.tobytes() for batch in seen for image in batch}) == 7


def _evaluator(faces, settings, **sets):
  return RunEvaluator(settings, faces._replace(**sets), {})


class _People:
  """Faces whose pixels say who they are."""

  def __init__(self, identity):
    self.identity = identity

  def __len__(self):
    return len(self.identity)

  def __getitem__(self, index):
    return np.asarray(self.identity[index], np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)

  def labels(self, index=slice(None)):
    return self.identity[index]


def _know(people):
  def predict(images):
    z = np.eye(people, dtype=np.float32)[np.asarray(images)[:, 0, 0, 0]]
    return {'embedding': z, 'norm': np.ones(len(z), np.float32)}

  return predict


def test_people_known_by_their_identity_verify_perfectly(tiny_faces, settings):
  people = _People(tiny_faces.test.labels())
  best, row = _evaluator(tiny_faces, settings, validation=people).validate(_know(6))
  assert best['verification_accuracy'] == 1 and best['tar@far=1e-2'] == 1
  assert row == {f'validation/{name}': value for name, value in best.items()}
  assert _evaluator(tiny_faces, settings, validation=_People(np.zeros(0, int))).validate(_know(6)) == (None, {})


@pytest.mark.parametrize(
  ('people', 'images', 'pairs', 'rates'),
  [(2, 6, 60, 1), (5, 5, 80, 2), (10, 5, 80, 3)],  # 36, 250 and 1125 impostor pairs; 30, 50 and 100 genuine ones
)
def test_what_few_images_cannot_say_is_left_out(tiny_faces, settings, people, images, pairs, rates):
  settings = settings.copy_and_resolve_references()
  settings.pairs = 80
  unseen = _People(np.repeat(np.arange(people), images))
  metrics, _ = _evaluator(tiny_faces, settings, validation=unseen).validate(_know(people))
  assert metrics['verification_pairs'] == pairs and metrics['verification_accuracy'] == 1
  assert [name for name in metrics if name.startswith('tar')] == [f'tar@far=1e-{i + 1}' for i in range(rates)]


def test_people_kept_apart_are_measured_as_any_set_is(tiny_faces, settings):
  """What a run says of unseen people is what `evaluate` says of all pairs of a labelled set of them."""
  rng = np.random.default_rng(0)
  identity = np.repeat(np.arange(12), 6)
  z = (rng.normal(size=(12, 8))[identity] + rng.normal(size=(72, 8))).astype(np.float32)
  unseen = UnseenPeople('unseen', _People(identity), 100)
  (measured,) = Evaluator({'unseen': unseen}).results(lambda _: Embeddings(z, None), replicates=10)
  (expected,) = measure(LabelledSet('unseen', None, identity), z, replicates=10)
  assert measured.results[1].metrics == expected.metrics and measured.results[1].intervals == expected.intervals


def test_an_overflowing_network_is_reported_and_counts_as_knowing_nobody(tiny_faces, tiny_table, settings, caplog):
  def predict(images):
    n = len(images)
    return {
      'embedding': np.full((n, 16), np.nan, np.float32),
      'norm': np.full(n, np.nan, np.float32),
      'log_probs': np.full((n, tiny_table.l, tiny_table.v), np.nan, np.float32),
    }

  with caplog.at_level(logging.WARNING):
    final = RunEvaluator(settings, tiny_faces, {}).finish(predict, tiny_table, tiny_table.vectors)
  assert 'unseen people: 24 of 24 embeddings are not finite' in caplog.text
  assert final.metrics['verification_accuracy'] == 0.5 and final.metrics['decode_top1'] <= 0.1
  assert not final.embedding.any() and final.identity.tolist() == tiny_faces.test.labels().tolist()


def test_pixel_embedding_ignores_brightness_and_contrast():
  rng = np.random.default_rng(4)
  image = rng.integers(0, 100, (1, 8, 6, 3), np.uint8)
  z = pixel_embedding(np.concatenate([image, image + 50, image * 2, np.full_like(image, 9)]))
  assert z.shape == (4, 48) and z.dtype == np.float32
  np.testing.assert_allclose(z[1:3], z[[0, 0]], atol=1e-5)
  np.testing.assert_allclose(np.linalg.norm(z, axis=1), [1, 1, 1, 0], atol=1e-5)
  np.testing.assert_allclose(z.sum(1), 0, atol=1e-4)
