"""Batches filled with people who have like codes: for a softmax within a batch, strangers are easily told apart."""

import numpy as np

from gif_jax.codes.similar_identities import Alike
from gif_jax.codes.table import CodeTable
from gif_jax.core import counter_rng
from gif_jax.core.errors import ConfigError, DataError
from gif_jax.data.sets.base import Faces

_STREAM = 4 << 40  # of random numbers, apart from those of epochs and augmentation
_WHO, _WHICH = 0, 1
_SPARE = 2  # people to choose from for every one that is taken, so that it is not always the same few who meet


class Groups:
  """Groups of `size` images of as many people: position p of the stream is in group p // size.

  The first of a group is what the plain stream gives for that group's number: every image is the first of a group once
  in `size` epochs, an epoch (train.epochs) being as many images as the set has, whoever is drawn. The others are random
  images of people drawn among the 2 (size - 1) most like the first one's by the table (`codes.similar_identities`),
  everybody at most once. People are drawn before images: images of people who have few, or who are like many others,
  are seen more often than in the plain stream.

  All is a function of (seed, position) and the table, which is the one a run began with also where `joint` trains
  vectors and codes further. The index from people to images needs 8 bytes an image, and one sort of all labels when it
  is made.
  """

  def __init__(self, faces: Faces, table: CodeTable, size: int, seed: int):
    """Raises ConfigError for fewer people than a group has, DataError for people without images, TableError as rows."""
    if table.m < size:
      raise ConfigError(f'config.train.neighbours={size} are more than the {table.m} people: give at most {table.m}.')
    labels = faces.labels()
    table.check(labels)
    self.images_of = np.argsort(labels, kind='stable')
    self.count = np.bincount(labels, minlength=table.m)
    if not self.count.all():
      raise DataError(f'person {self.count.argmin()} has no training image: config.train.neighbours must then be 1.')
    self.start = np.cumsum(self.count) - self.count
    self.faces, self.size, self.seed = faces, size, seed
    self.alike = Alike(table.codes, table.vectors, min(_SPARE * (size - 1), table.m - 1), table.v - 1)

  def images(self, position: np.ndarray) -> np.ndarray:
    """position int64 [k] -> which image of the set: int64 [k]."""
    group, place = np.divmod(position, self.size)
    index = counter_rng.shuffled(group, len(self.faces), self.seed)
    later = np.flatnonzero(place)
    alike = self.alike.of(self.faces.labels(index[later]))
    seed = int(counter_rng.bits(self.seed, _STREAM, _WHO))
    which = counter_rng.permuted(place[later] - 1, alike.shape[1], seed, group[later])
    person = alike[np.arange(len(later)), which]
    drawn = counter_rng.bits(self.seed, _STREAM, _WHICH, position[later]) % self.count[person].astype(np.uint64)
    index[later] = self.images_of[self.start[person] + drawn.astype(np.int64)]
    return index
