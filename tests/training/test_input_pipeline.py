"""The stream of batches is a function of (seed, step) alone."""

import inspect

import numpy as np
import pytest
from grain._src.python.dataset.transformations import process_prefetch

from gif_jax.codes.table import TableError
from gif_jax.data.augment import PLAIN, Chances
from gif_jax.training import input_pipeline

FLIP = Chances(flip=0.5)


def _take(faces, table, count, **options):
  options = {'batch_size': 8, 'seed': 3, 'chances': FLIP} | options
  iterator = input_pipeline.batches(faces, table, **options)
  try:
    return [next(iterator) for _ in range(count)]
  finally:
    iterator.close()


def _same(left, right):
  return all(np.array_equal(left[name], right[name]) for name in left.keys() | right.keys())


def _rows(batches):
  """The examples of some batches as a multiset of bytes."""
  return sorted(image.tobytes() + code.tobytes() for b in batches for image, code in zip(b['image'], b['code']))


def test_shapes_and_types(tiny_faces, tiny_table):
  (batch,) = _take(tiny_faces.train, tiny_table, 1)
  assert batch['image'].shape == (8, 32, 32, 3) and batch['image'].dtype == np.uint8
  assert batch['code'].shape == (8, tiny_table.l) and batch['code'].dtype == np.int32
  assert batch['code_vector'].shape == (8, 16) and batch['code_vector'].dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize('workers', [1, 2])
def test_workers_change_nothing(tiny_faces, tiny_table, workers):
  plain = _take(tiny_faces.train, tiny_table, 5)
  worked = _take(tiny_faces.train, tiny_table, 5, workers=workers)
  assert all(_same(a, b) for a, b in zip(plain, worked))


@pytest.mark.slow
@pytest.mark.parametrize('start', [1, 7, 12, 25])
def test_a_stream_can_start_at_any_step(tiny_faces, tiny_table, start):
  uninterrupted = _take(tiny_faces.train, tiny_table, start + 3)
  resumed = _take(tiny_faces.train, tiny_table, 3, start=start)
  assert all(_same(a, b) for a, b in zip(uninterrupted[start:], resumed))


def test_a_stream_can_end_at_any_step(tiny_faces, tiny_table):
  uninterrupted = _take(tiny_faces.train, tiny_table, 13)
  batches = input_pipeline.batches(tiny_faces.train, tiny_table, batch_size=8, seed=3, start=9, stop=13, chances=FLIP)
  part = list(batches)
  assert len(part) == 4 and all(_same(a, b) for a, b in zip(uninterrupted[9:], part))


def test_processes_share_the_same_global_batch(tiny_faces, tiny_table):
  alone = _take(tiny_faces.train, tiny_table, 4)
  shares = [_take(tiny_faces.train, tiny_table, 4, rows=rows) for rows in np.arange(8).reshape(4, 2)]
  for step in range(4):
    for name, rows in alone[step].items():
      np.testing.assert_array_equal(rows, np.concatenate([share[step][name] for share in shares]))


def test_batch_size_changes_no_example(tiny_faces, tiny_table):
  assert _rows(_take(tiny_faces.train, tiny_table, 4)) == _rows(_take(tiny_faces.train, tiny_table, 2, batch_size=16))


@pytest.mark.slow
def test_an_epoch_holds_every_example_once_and_the_next_in_another_order(tiny_faces, tiny_table):
  epochs = _take(tiny_faces.train, tiny_table, 20, chances=PLAIN)  # 80 images, batches of 8
  everything = sorted(image.tobytes() for image in tiny_faces.train[:])
  for half in (epochs[:10], epochs[10:]):
    assert sorted(image.tobytes() for b in half for image in b['image']) == everything
  assert not _same(epochs[0], epochs[10])


@pytest.mark.slow
def test_batches_straddle_epochs(tiny_faces, tiny_table):
  # 80 images, batches of 32: two and a half to an epoch; five batches are two full epochs.
  batches = _take(tiny_faces.train, tiny_table, 5, batch_size=32, chances=PLAIN)
  once = sorted(image.tobytes() for image in tiny_faces.train[:])
  assert sorted(image.tobytes() for b in batches for image in b['image']) == sorted(once * 2)


@pytest.mark.slow
def test_flip_mirrors_about_half_of_the_images(tiny_faces, tiny_table):
  plain = _take(tiny_faces.train, tiny_table, 10, chances=PLAIN)
  flipped = _take(tiny_faces.train, tiny_table, 10)
  count = 0
  for a, b in zip(plain, flipped):
    for x, y in zip(a['image'], b['image']):
      assert np.array_equal(x, y) or np.array_equal(x[:, ::-1], y)
      count += not np.array_equal(x, y)
  assert 20 < count < 60


def test_codes_belong_to_the_images(tiny_faces, tiny_table):
  faces = tiny_faces.train
  code_of = {image.tobytes(): tiny_table.codes[label] for image, label in zip(faces[:], faces.labels())}
  for batch in _take(faces, tiny_table, 3, chances=PLAIN):
    for image, code in zip(batch['image'], batch['code']):
      assert np.array_equal(code_of[image.tobytes()], code)


def test_seeds_differ(tiny_faces, tiny_table):
  assert not _same(_take(tiny_faces.train, tiny_table, 1)[0], _take(tiny_faces.train, tiny_table, 1, seed=4)[0])


def test_labels_instead_of_table_rows(tiny_faces, tiny_table):
  looked_up, labelled = (_take(tiny_faces.train, tiny_table, 3, labels=labels) for labels in (False, True))
  for rows, batch in zip(looked_up, labelled):
    assert batch.keys() == {'image', 'label'} and batch['label'].dtype == np.int32
    np.testing.assert_array_equal(batch['image'], rows['image'])
    np.testing.assert_array_equal(tiny_table.codes[batch['label']], rows['code'])


def test_labels_the_table_does_not_have(tiny_faces, tiny_table):
  class More:
    def __len__(self):
      return len(tiny_faces.train)

    def __getitem__(self, index):
      return tiny_faces.train[index]

    def labels(self, index=slice(None)):
      return tiny_faces.train.labels(index) + 1

  for labels in (False, True):
    with pytest.raises(TableError, match='label 20 is outside'):
      _take(More(), tiny_table, 10, labels=labels)


def test_grain_still_has_the_setting_that_it_does_not_offer():
  """Without it a run that is stopped waits half a minute for each worker process."""
  assert '_PROCESS_KILL_TIMEOUT_S' in inspect.getsource(process_prefetch.ProcessPrefetchDatasetIterator)
