"""Records for tests: in memory, in .rec files, in the training format."""

import zlib

import numpy as np

from gif_jax.data.formats.bin_pairs import write_pairs
from gif_jax.data.formats.packed import Packed, write_index
from gif_jax.data.formats.recordio import RecordWriter, framing
from gif_jax.data.formats.records import Person
from tests.helpers.pictures import encode


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
    return [Person(str(label), '') for label in range(self.own.max() + 1)]

  def name(self, index):
    return ''


class Called(Given):
  """Records in memory whose people and images have names."""

  def __init__(self, people, names, labels):
    super().__init__([f'image {i}'.encode() for i in range(len(names))], labels)
    self.who, self.called = people, names

  def people(self):
    return self.who

  def name(self, index):
    return self.called[index]


def content(records):
  return [records[i] for i in range(len(records))]


def names_of(records):
  return [records.name(i) for i in range(len(records))]


def write(path, *records):
  """A .rec file of (key, label or labels, image)."""
  with RecordWriter(path) as writer:
    for key, label, image in records:
      writer.write(key, framing.pack(image, label, key))
  return path


def write_records(folder, images, labels, names=None, origin='test', size=0):
  """A folder in the training format from encoded images and their labels; names default to the labels."""
  folder.mkdir(parents=True)
  (folder / 'images.bin').write_bytes(b''.join(images))
  lengths = np.array([len(image) for image in images])
  crcs = [zlib.crc32(image) for image in images]
  names = names or [str(label) for label in range(max(labels) + 1)]
  people = [Person(name, f'{origin}:{name}') for name in names]
  write_index(folder, np.cumsum(lengths) - lengths, lengths, labels, crcs, people, size=size, origin='a test')
  return Packed(folder)


def packed_faces(folder, faces, people=None, origin='test', size=0):
  """The first `people` of rendered faces, in the training format."""
  chosen = np.arange(len(faces) if people is None else people * faces.images)
  images = [encode(image, quality=95) for image in faces[chosen]]
  return write_records(folder, images, faces.labels(chosen).tolist(), origin=origin, size=size)


def six_people(path, faces):
  """A verification set of six people with four faces each: 4 genuine pairs of each, as many impostors."""
  pairs, same = [], []
  for person in range(6):
    for i, j in ((0, 1), (1, 2), (2, 3), (3, 0)):
      pairs += [4 * person + i, 4 * person + j, 4 * person + i, (4 * person + 4 + j) % 24]
      same += [True, False]
  write_pairs(path, [encode(image) for image in faces[np.array(pairs)]], same)
