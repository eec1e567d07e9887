"""Batches of people with like codes: a function of (seed, step) alone, and of like people."""

import numpy as np
import pytest

from gif_jax import config
from gif_jax.codes import product
from gif_jax.codes.table import CodeTable
from gif_jax.core import counter_rng
from gif_jax.core.errors import DataError
from gif_jax.data.augment import Chances
from gif_jax.training import input_pipeline
from gif_jax.training.neighbour_batches import Groups
from gif_jax.validation import validate


class Numbers:
  """Images that say which image they are: n of m people, in no order, everybody with one at least."""

  def __init__(self, n, m):
    self.label = np.append(np.arange(m), np.random.default_rng(0).integers(0, m, n - m))

  def __len__(self):
    return len(self.label)

  def __getitem__(self, index):
    pixels = np.zeros((len(index), 2, 2, 3), np.uint8)
    pixels[:, 0, :, 0] = np.stack((index // 256, index % 256), axis=1)
    return pixels

  def labels(self, index=slice(None)):
    return self.label[index]


def _index(batch):
  return batch['image'][:, 0, 0, 0].astype(int) * 256 + batch['image'][:, 0, 1, 0]


@pytest.fixture(scope='module')
def table(tmp_path_factory):
  """500 people with product codes."""
  vectors = np.random.default_rng(0).normal(size=(500, 16)).astype(np.float32)
  vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
  codes = product.build_codes(vectors, 3, 8, progress=False)
  path = tmp_path_factory.mktemp('groups') / 'table'
  return CodeTable.write(path, codes, vectors, v=8, encoder='', seed=0, label_space='', settings={})


@pytest.fixture(scope='module')
def faces():
  return Numbers(3000, 500)


def _take(faces, table, count, **options):
  options = {'batch_size': 24, 'seed': 3, 'neighbours': 4, 'labels': True} | options
  iterator = input_pipeline.batches(faces, table, **options)
  try:
    return [next(iterator) for _ in range(count)]
  finally:
    iterator.close()


def test_groups_begin_with_the_plain_stream(faces, table):
  batches = _take(faces, table, 10)
  np.testing.assert_array_equal(
    np.concatenate([_index(batch)[::4] for batch in batches]), counter_rng.shuffled(np.arange(60), 3000, 3)
  )
  for batch in batches:
    np.testing.assert_array_equal(faces.label[_index(batch)], batch['label'])


@pytest.mark.parametrize('size', [2, 4, 12])
def test_people_of_a_group_are_distinct_and_alike(faces, table, size):
  labels = np.concatenate([batch['label'] for batch in _take(faces, table, 40, neighbours=size)]).reshape(-1, size)
  assert all(len(set(group)) == size for group in labels.tolist())
  _, vectors = table.rows(np.arange(500))
  codes = table.codes
  by_chance = (codes[:, None] == codes).mean(where=~np.eye(500, dtype=bool)[..., None])
  shared = (codes[labels[:, :1]] == codes[labels[:, 1:]]).mean()
  cosine = np.einsum('gd,gnd->gn', vectors[labels[:, 0]], vectors[labels[:, 1:]]).mean()
  assert shared > 2 * by_chance and cosine > 0.3


def test_all_who_are_most_alike_and_all_their_images_are_drawn(faces, table):
  groups = Groups(faces, table, 2, 0)
  index = groups.images(np.arange(2 * 3000 * 40)).reshape(-1, 2)
  leader, other = faces.label[index].T
  near = groups.alike.of(np.arange(500))
  assert {(y, x) for y, row in enumerate(near.tolist()) for x in row} == set(zip(leader.tolist(), other.tolist()))
  first = near[leader, 0] == other
  assert abs(first.mean() - 0.5) < 4 * 0.5 / len(first) ** 0.5
  drawn = np.bincount(index[other == near[0, 0], 1], minlength=3000)
  own = drawn[faces.label == near[0, 0]]
  assert drawn.sum() == own.sum() and np.all(np.abs(own - own.mean()) < 5 * own.mean() ** 0.5)


SHARES = np.arange(24).reshape(3, 8)


def test_batches_are_a_function_of_seed_and_step(faces, table):
  batches = _take(faces, table, 9, chances=Chances(flip=0.5))
  for options in ({'start': 6}, {'start': 6, 'workers': 2}):
    for a, b in zip(batches[6:], _take(faces, table, 3, chances=Chances(flip=0.5), **options), strict=True):
      assert all(np.array_equal(a[name], b[name]) for name in a)
  shares = [_take(faces, table, 9, chances=Chances(flip=0.5), rows=rows) for rows in SHARES]
  for step, batch in enumerate(batches):
    for share, rows in zip(shares, SHARES):
      np.testing.assert_array_equal(share[step]['image'], batch['image'][rows])
  assert not np.array_equal(_take(faces, table, 1, seed=4)[0]['label'], batches[0]['label'])


@pytest.mark.slow
def test_worker_processes_change_nothing(tiny_faces, tiny_table):
  plain, worked = (_take(tiny_faces.train, tiny_table, 3, workers=workers, labels=False) for workers in (0, 2))
  for a, b in zip(plain, worked):
    assert all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'train.neighbours': 5}, r'config\.train\.neighbours=5 does not divide config\.train\.batch_size=16: give a div'),
    ({'train.neighbours': 0}, r'config\.train\.neighbours=0 is too small'),
    ({'train.neighbours': 4, 'softmax.enabled': True}, r'config\.train\.neighbours=4 needs codes, .* set it to 1'),
  ],
)
def test_settings_that_cannot_work(tiny_config, changes, message):
  c = tiny_config.copy_and_resolve_references()
  c.update_from_flattened_dict(changes)
  with pytest.raises(config.ConfigError, match=message):
    validate(c)


def test_people_who_are_too_few_or_without_images(faces, table):
  with pytest.raises(config.ConfigError, match=r'config\.train\.neighbours=501 are more than the 500 people'):
    Groups(faces, table, 501, 0)
  missing = Numbers(3000, 500)
  missing.label[missing.label == 7] = 8
  with pytest.raises(DataError, match='person 7 has no training image'):
    Groups(missing, table, 2, 0)
