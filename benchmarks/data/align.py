"""Photographs that are not aligned, made of a folder of frontal faces, and how exactly detectors find the faces again.

python -m benchmarks.data.align --path=ORL --output=scenes [--detector_path=YUNET.onnx]

Every face is turned by up to 25 degrees, enlarged 1.5 to 5 times and laid somewhere onto 1200x900 pixels of coloured
clouds. `scenes` gets these pictures, for `python -m gif_jax align` and configs/folder.py. The error of a detector is
how far the template moves, in pixels of a crop of 112, between the crop of the original and that of the scene.
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from gif_jax.data.alignment.detectors import find_face, open_detector
from gif_jax.data.alignment.geometry import similarity, template
from gif_jax.data.images import read_full_size
from gif_jax.data.listing import list_people

WIDTH, HEIGHT = 1200, 900
LOST = 20  # pixels of error from which it is not the same face


def _clouds(rng):
  """Noise of several grains: uint8 [900, 1200, 3]."""
  grains = [rng.uniform(0, 255, (3 * 4**i, 4 * 4**i, 3)).astype(np.float32) for i in range(4)]
  return sum(cv2.resize(grain, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for grain in grains) / 4


def scene(face: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
  """A picture uint8 [900, 1200, 3] with the face in it, and where: the matrix float64 [2, 3]."""
  back = np.clip(_clouds(rng), 0, 255).astype(np.uint8)
  height, width = face.shape[:2]
  matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-25, 25), rng.uniform(1.5, 5))
  matrix[:, 2] += [WIDTH * rng.uniform(0.35, 0.65) - width / 2, HEIGHT * rng.uniform(0.4, 0.6) - height / 2]
  inside = cv2.warpAffine(np.full_like(face, 255), matrix, (WIDTH, HEIGHT)) > 127
  return np.where(inside, cv2.warpAffine(face, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC), back), matrix


def _moved(original, matrix, points):
  """How far the template moves, root of the mean square, from the crop of the original to that of the scene."""
  to_crop, to_scene, to_other = (
    np.vstack([part, [0, 0, 1]])
    for part in (similarity(original, template(112)), matrix, similarity(points, template(112)))
  )
  way = to_crop @ np.linalg.inv(to_scene) @ np.linalg.inv(to_other)
  return np.sqrt(np.square(template(112) @ way[:2, :2].T + way[:2, 2] - template(112)).sum(1).mean())


def _line(name, errors, seconds):
  exact = [error for error in errors if error is not None and error < LOST]
  return (
    f'{name}: {errors.count(None)} of {len(errors)} not found, {len(errors) - errors.count(None) - len(exact)} wrong; '
    f'error {np.median(exact):.2f} px, 90 % below {np.quantile(exact, 0.9):.2f}; {1000 * seconds / len(errors):.0f} ms'
  )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--path', type=Path, required=True)
  parser.add_argument('--output', type=Path, required=True)
  parser.add_argument('--detector_path', default='')
  options = parser.parse_args()
  detectors = {'mtcnn': open_detector('mtcnn')}
  if options.detector_path:
    detectors['yunet'] = open_detector('yunet', options.detector_path)
  errors, seconds = {name: [] for name in detectors}, dict.fromkeys(detectors, 0.0)
  rng = np.random.default_rng(0)
  for photo in (photo for own in list_people(options.path).people.values() for photo in own):
    face = read_full_size(options.path / photo.name)
    picture, matrix = scene(face, rng)
    path = (options.output / photo.name).with_suffix('.jpg')
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    for name, detector in detectors.items():
      original, start = find_face(face, detector), time.process_time()
      points = find_face(picture, detector)
      seconds[name] += time.process_time() - start
      errors[name].append(None if points is None or original is None else _moved(original, matrix, points))
  for name in detectors:
    print(_line(name, errors[name], seconds[name]))


if __name__ == '__main__':
  main()
