"""Rendered faces as JPEGs of the size that photographs have: 112x112, quality 95, 6.4 kB."""

import cv2
import numpy as np
from tqdm import tqdm

from gif_jax.core.workers import on_all_cores
from gif_jax.data.sets.synthetic import SyntheticFaces

SIZE = 112  # pixels a side
PEOPLE, IMAGES = 400, 10  # rendered, and of each person


def encode(faces: SyntheticFaces) -> list[np.ndarray]:
  """JPEGs of rendered faces, with the noise that makes them as large as those of photographs."""
  pixels = faces[:]
  noise = np.random.default_rng(faces.first_identity).normal(0, 4, pixels.shape)
  noisy = np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)
  return [cv2.imencode('.jpg', cv2.cvtColor(x, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])[1] for x in noisy]


def render() -> list[bytes]:
  """All of them, the images of a person one after the other."""
  jobs = [SyntheticFaces(0, SIZE, 20, IMAGES, first_identity=first) for first in range(0, PEOPLE, 20)]
  batches = tqdm(on_all_cores(encode, jobs), total=len(jobs), desc='rendering', unit='job')
  return [image.tobytes() for images in batches for image in images]
