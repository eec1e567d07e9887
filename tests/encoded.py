"""Encoded images and data sets in the training format, for tests."""

import cv2
import numpy as np

from gif_jax.data.records import Packed, Person, write_index


def encode(image, suffix='.jpg', quality=95):
  """One RGB image uint8 [h, w, 3] as bytes."""
  found, encoded = cv2.imencode(suffix, image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
  assert found
  return encoded.tobytes()


def write_records(folder, images, labels, names=None, origin='test'):
  """A folder in the training format from encoded images and their labels; names default to the labels."""
  folder.mkdir(parents=True)
  (folder / 'images.bin').write_bytes(b''.join(images))
  lengths = np.array([len(image) for image in images])
  names = names or [str(label) for label in range(max(labels) + 1)]
  people = [Person(name, f'{origin}:{name}') for name in names]
  write_index(folder, np.cumsum(lengths) - lengths, lengths, labels, people, size=0, origin='a test')
  return Packed(folder)


def packed_faces(folder, faces, people=None, origin='test'):
  """The first `people` of rendered faces, in the training format."""
  chosen = np.arange(len(faces) if people is None else people * faces.images)
  images = [encode(image) for image in faces[chosen]]
  return write_records(folder, images, faces.labels(chosen).tolist(), origin=origin)
