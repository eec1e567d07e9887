"""Records for tests: some in memory, and .rec files of them."""

import numpy as np

from gif_jax.data.recordio import RecordWriter, framing
from gif_jax.data.records import Person


class Given:
  """Records in memory: image i is of person labels[i]."""

  skipped = ()

  def __init__(self, images, labels, size=8):
    self.images, self.own, self.size = images, np.array(labels), size

  def __len__(self):
    return len(self.images)

  def __getitem__(self, index):
    return self.images[index]

  def labels(self):
    return self.own

  def people(self):
    return [Person(str(label), 'given') for label in range(self.own.max() + 1)]


def content(records):
  return [records[i] for i in range(len(records))]


def write(path, *records):
  """A .rec file of (key, label or labels, image)."""
  with RecordWriter(path) as writer:
    for key, label, image in records:
      writer.write(key, framing.pack(image, label, key))
  return path
