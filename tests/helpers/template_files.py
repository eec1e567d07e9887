"""A small set in the files of IJB-C: ten images of five templates of three people, and the pairs of the templates."""

import cv2
import numpy as np

# Image, template, media, score of the detector; in the order of the files, which is no order of templates.
IMAGES = (
  ('5.png', 900, 11, 0.5),
  ('1.png', 7, 1, 0.9),
  ('8.png', 31, 4, 1.0),
  ('2.png', 7, 2, 0.8),
  ('9.png', 4000, 5, 0.3),
  ('3.png', 7, 1, 0.4),
  ('6.png', 900, 11, 0.7),
  ('4.png', 32, 1, 0.6),
  ('7.png', 900, 12, 0.2),
  ('10.png', 31, 4, 0.1),
)
PAIRS = ((7, 900, 1), (31, 7, 0), (7, 4000, 0), (31, 32, 1), (900, 32, 0), (4000, 31, 0), (900, 4000, 0))


def write_set(folder, name='ijbc', images=IMAGES, pairs=PAIRS, points=None, pictures=None, size=112):
  """points: [n, 5, 2], else they are in their places; pictures: uint8 [n, height, width, 3] RGB, else no loose_crop."""
  (folder / 'meta').mkdir(parents=True)
  if points is None:
    # In pixels of a crop of 112, as InsightFace's `arcface_dst` has them.
    points = [[[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]]
    points = np.repeat(np.array(points) * size / 112, len(images), 0)
  write(folder, f'{name}_face_tid_mid', [row[:3] for row in images])
  write(folder, f'{name}_name_5pts_score', [(row[0], *xy.ravel().tolist(), row[3]) for row, xy in zip(images, points)])
  write(folder, f'{name}_template_pair_label', pairs)
  if pictures is not None:
    (folder / 'loose_crop').mkdir()
    for row, picture in zip(images, pictures):
      assert cv2.imwrite(str(folder / 'loose_crop' / row[0]), picture[..., ::-1])
  return folder


def write(folder, which, rows):
  (folder / 'meta' / f'{which}.txt').write_text(''.join(' '.join(map(str, row)) + '\n' for row in rows))
