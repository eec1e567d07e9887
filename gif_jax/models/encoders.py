"""What turns face crops into features for the tokeniser, when no trained network is at hand."""

import numpy as np


def pixels(images: np.ndarray) -> np.ndarray:
  """The embedded default, no download: colours on a coarse grid, the mean over the image and its mirror image.

  images uint8 [n, size, size, 3] -> features float32 [n, 3 * 14 * 14].
  """
  n, size = images.shape[:2]
  edges = np.arange(14) * size // 14
  grid = np.add.reduceat(np.add.reduceat(images.astype(np.float32), edges, axis=1), edges, axis=2)
  grid /= np.diff(np.append(edges, size))[:, None, None] * np.diff(np.append(edges, size))[:, None]
  return ((grid + grid[:, :, ::-1]) / (2 * 255)).reshape(n, -1)


ENCODERS = {'pixels': pixels}
