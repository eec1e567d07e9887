"""Long tails and wrong labels: exactly as many as asked for, of whom they say, and in the training set alone."""

import numpy as np
import pytest

from gif_jax.codes import tokenizer
from gif_jax.core.errors import ConfigError
from gif_jax.data.sets import open
from gif_jax.data.sets.label_noise import Mislabelled
from gif_jax.data.sets.synthetic import SyntheticFaces, long_tail
from gif_jax.data.synthetic import FaceRenderer
from gif_jax.training.run import run
from tests.helpers import tiny


def _config(**changes):
  c = tiny.get_config()
  c.update_from_flattened_dict({key.replace('__', '.'): value for key, value in changes.items()})
  return c


@pytest.mark.parametrize(('m', 'images', 'imbalance'), [(20, 4, 3.0), (101, 50, 100.0), (7, 5, 1.0), (1, 9, 10.0)])
def test_the_profile(m, images, imbalance):
  counts = long_tail(m, images, imbalance)
  ranks = range(m)
  expected = [max(1, round(images / imbalance ** (rank / (m - 1)))) if m > 1 else images for rank in ranks]
  assert counts.tolist() == expected and counts[0] == images
  assert np.all(np.diff(counts) <= 0) and counts[-1] == max(1, round(images / (imbalance if m > 1 else 1)))


def test_a_long_tail_of_faces_is_of_the_people_its_labels_say():
  faces = SyntheticFaces(0, 32, 6, 5, first_identity=3, first_image=2, imbalance=10.0)
  counts = long_tail(6, 5, 10.0).tolist()
  pairs = [(person, image) for person, count in enumerate(counts) for image in range(count)]
  assert len(faces) == len(pairs)
  np.testing.assert_array_equal(faces.labels(), [person for person, _ in pairs])
  person, image = np.array(pairs).T
  np.testing.assert_array_equal(faces[:], FaceRenderer(0, 32).render(3 + person, 2 + image))
  index = np.array([len(pairs) - 1, 0, 7])
  np.testing.assert_array_equal(faces[index], faces[:][index])
  np.testing.assert_array_equal(faces.labels(index), faces.labels()[index])


def test_without_a_tail_faces_are_what_they_were():
  faces = SyntheticFaces(0, 32, 3, 2, imbalance=1.0)
  np.testing.assert_array_equal(faces[:], FaceRenderer(0, 32).render(np.repeat([0, 1, 2], 2), np.tile([0, 1], 3)))
  # A cache that was written before there was a tail keeps its name.
  assert faces.fingerprint() == SyntheticFaces(0, 32, 3, 2).fingerprint() == '5161271fa1196f3b'
  assert SyntheticFaces(0, 32, 3, 2, imbalance=2.0).fingerprint() != faces.fingerprint()


@pytest.mark.slow
def test_a_tail_and_wrong_labels_leave_all_other_sets_alone(tiny_faces, tmp_path):
  config = _config(data__imbalance=4.0, data__label_noise=0.2, data__cache=True)
  found = open.open_faces(config, tmp_path)
  assert found.label_space == tiny_faces.label_space
  for name in ('held_out', 'validation', 'test'):
    np.testing.assert_array_equal(getattr(found, name)[:], getattr(tiny_faces, name)[:])
    np.testing.assert_array_equal(getattr(found, name).labels(), getattr(tiny_faces, name).labels())
  np.testing.assert_array_equal(found.train[:], SyntheticFaces(0, 32, 20, 4, imbalance=4.0)[:])
  assert len(found.train) == long_tail(20, 4, 4.0).sum() < len(tiny_faces.train)


class Labels:
  """20 000 labels of 500 people, in no order."""

  label = np.random.default_rng(0).permutation(np.append(np.arange(500), np.arange(19500) ** 2 % 499))

  def __len__(self):
    return len(self.label)

  def labels(self, index=slice(None)):
    return self.label[index]


@pytest.mark.parametrize('share', [0.05, 0.3, 0.8])
def test_the_share_of_wrong_labels(share):
  clean = Labels()
  noisy, again, other = (Mislabelled(clean, 500, share, seed) for seed in (1, 1, 2))
  label = noisy.labels()
  wrong = label != clean.label
  assert abs(wrong.sum() - share * 20_000) < 4 * (share * (1 - share) * 20_000) ** 0.5
  assert label.dtype == np.int64 and label.min() >= 0 and label.max() < 500
  first = np.unique(clean.label, return_index=True)[1]
  assert not wrong[first].any()
  np.testing.assert_array_equal(again.labels(), label)
  assert np.mean(other.labels() == label) < 1 - share
  index = np.array([19_999, 4, 4, 1234])
  np.testing.assert_array_equal(noisy.labels(index), label[index])
  np.testing.assert_array_equal(noisy.labels(slice(5, 9)), label[5:9])


def test_everybody_else_is_as_likely():
  noisy = Mislabelled(Labels(), 500, 0.9, 0)
  step = (noisy.labels() - Labels.label) % 500
  counts = np.bincount(step, minlength=500)[1:]
  expected = counts.sum() / 499
  assert abs(np.square(counts - expected).sum() / expected - 499) < 5 * (2 * 499) ** 0.5  # chi squared


def test_no_wrong_labels_are_no_change():
  np.testing.assert_array_equal(Mislabelled(Labels(), 500, 0.0, 0).labels(), Labels.label)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'data__label_noise': 0.8}, r'config\.data\.label_noise=0\.8: of 80 images of 20 people a share of 0 to 0\.75'),
    ({'data__label_noise': 0.5, 'data__identities': 1}, r'label_noise=0\.5: .* of 1 people a share of 0 to 0 can'),
    ({'data__source': 'folder', 'data__imbalance': 2.0}, r"imbalance=2\.0: people of data\.source='folder' .* to 1"),
  ],
)
def test_what_cannot_be(changes, message):
  with pytest.raises(ConfigError, match=message):
    open.open_faces(_config(**changes), None)


def test_wrong_labels_in_any_source(tiny_config, photographs):
  config = _config(data__source='folder', data__path=str(photographs), data__label_noise=0.3)
  clean = open.open_faces(_config(data__source='folder', data__path=str(photographs)), None).train
  noisy = open.open_faces(config, None).train
  np.testing.assert_array_equal(noisy[:], clean[:])
  assert 0 < np.mean(noisy.labels() != clean.labels()) < 0.6


@pytest.mark.slow
def test_the_tokeniser_sees_the_wrong_labels(tiny_table, tmp_path):
  config = _config(data__label_noise=0.5)
  table = tokenizer.make_table(config, open.open_faces(config, None), tmp_path / 'table')
  assert np.mean(np.sum(table.vectors * tiny_table.vectors, axis=1)) < 0.9


@pytest.mark.slow
def test_a_run_with_everything(tmp_path):
  config = _config(data__imbalance=4.0, data__label_noise=0.2, train__neighbours=4, joint__enabled=True)
  config.train.steps = 3
  summary = run(config, tmp_path)
  assert summary['steps'] == 3 and np.isfinite(summary['verification_accuracy'])
