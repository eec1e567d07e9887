"""Writes align_golden.json: similarity transforms by scikit-image, which follows Umeyama's SVD, for noisy landmarks.

The tests read the file alone: pip install scikit-image==0.26.0 && python tests/golden/make_align_golden.py
"""

import json
from pathlib import Path

import numpy as np
from skimage.transform import SimilarityTransform

TEMPLATE = np.array(
  [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


def cases():
  """Points of turned, scaled and moved faces with more and more noise, up to points that lie anywhere: [5, 2] each."""
  rng = np.random.default_rng(0)
  for noise in (0.5, 2, 8, 40, 200):
    for _ in range(6):
      angle, scale = rng.uniform(-np.pi, np.pi), np.exp(rng.uniform(-1.5, 2))
      turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
      points = TEMPLATE @ turn + rng.uniform(-500, 3000, 2) + scale * rng.normal(scale=noise, size=(5, 2))
      yield points.round(4)


if __name__ == '__main__':
  fitted = [
    {'points': points.tolist(), 'matrix': SimilarityTransform.from_estimate(points, TEMPLATE).params[:2].tolist()}
    for points in cases()
  ]
  lines = ',\n'.join(json.dumps(case) for case in fitted)
  Path(__file__).with_name('align_golden.json').write_text(f'[\n{lines}\n]\n')
