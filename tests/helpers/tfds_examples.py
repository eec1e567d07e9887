"""Examples that tests have tfds prepare."""

import io

import cv2
import numpy as np
import tensorflow_datasets as tfds

TEXT, IMAGE = tfds.features.Text(), tfds.features.Image(shape=(8, 8, 3), encoding_format='png')


def encoded(n, side=8):
  pixels = np.random.default_rng(0).integers(0, 256, (n, side, side, 3), np.uint8)
  return [cv2.imencode('.png', image)[1].tobytes() for image in pixels]


def examples(labels, name='label'):
  return [{'image': io.BytesIO(image), name: label} for image, label in zip(encoded(len(labels)), labels)]
