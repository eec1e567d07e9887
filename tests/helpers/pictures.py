"""Small pictures of noise as files, good and bad, for tests of conversion."""

import io

import cv2
import numpy as np
from PIL import Image

SIZE = 24


def picture(seed, size=SIZE):
  """A smooth picture: uint8 [size, size, 3]."""
  coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
  return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def encode(image, kind='JPEG', **options):
  image = image if isinstance(image, Image.Image) else Image.fromarray(image)
  file = io.BytesIO()
  image.save(file, kind, **options)
  return file.getvalue()


def write(root, people):
  """Files of a folder of people: {name: [bytes]}, all called .jpg."""
  for name, images in people.items():
    (root / name).mkdir(parents=True)
    for i, content in enumerate(images):
      (root / name / f'{i:02}.jpg').write_bytes(content)
  return root


def several(root, people=5, images=6):
  return write(root, {f'p{p}': [encode(picture((p, i))) for i in range(images)] for p in range(people)})
