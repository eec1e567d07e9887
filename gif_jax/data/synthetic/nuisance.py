"""What changes from picture to picture: some eighty draws, each a function of (seed, identity, sample) alone."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np

from gif_jax.core import counter_rng
from gif_jax.data.synthetic import shapes

_STREAM = 0x5A  # keeps these draws apart from those of the identities
_GRID = 5  # control colours of the background along each side
_RANGES = {
  # pose: tangents of half the angles, so yaw reaches 35 degrees, pitch 15, roll 10
  'yaw': (-0.315, 0.315),
  'pitch': (-0.13, 0.13),
  'roll': (-0.087, 0.087),
  'scale': (0.93, 1.12),
  'shift_u': (-0.07, 0.07),
  'shift_v': (-0.08, 0.04),
  # light
  'light_u': (-1.0, 1.0),
  'light_v': (-0.9, 0.35),
  'light_w': (0.2, 1.0),
  'key': (0.7, 1.35),
  'fill': (0.1, 0.38),
  'key_warm': (-0.16, 0.2),
  'key_green': (-0.07, 0.05),
  'fill_warm': (-0.2, 0.16),
  'exposure': (0.62, 1.5),
  'curve': (-0.3, 0.8),
  # expression
  'smile': (-0.5, 1.0),
  'open': (-1.2, 1.0),
  'brow': (-0.05, 0.07),
  'blink': (-4.0, 1.0),
  'squint': (0.75, 1.1),
  'gaze_u': (-0.4, 0.4),
  'gaze_v': (-0.15, 0.15),
  # things worn or in the way: the first of each is a gate
  'glasses': (0.0, 1.0),
  'glasses_dark': (0.0, 1.0),
  'glasses_w': (0.215, 0.27),
  'glasses_h': (0.15, 0.22),
  'glasses_round': (0.0, 1.0),
  'glasses_rim': (0.018, 0.04),
  'glasses_hue': (0.0, 1.0),
  'glasses_tint': (0.0, 1.0),
  'occluder': (0.0, 1.0),
  'thing_u': (-0.6, 0.6),
  'thing_v': (-0.5, 0.75),
  'thing_turn': (-0.8, 0.8),
  'thing_size': (0.8, 1.25),
  'thing_red': (0.1, 0.9),
  'thing_green': (0.1, 0.9),
  'thing_blue': (0.1, 0.9),
  'thing_skin': (0.0, 1.0),
  'thing_fold': (2.5, 5.0),
  # picture
  'blur': (-0.2, 1.25),
  'noise': (0.0, 1.0),
  'noise_at': (0.0, 1.0),
  # scene
  'back_red': (0.08, 0.85),
  'back_green': (0.08, 0.85),
  'back_blue': (0.08, 0.85),
  'back_vary': (0.1, 0.7),
  'back_grey': (0.0, 1.0),
  'back_edge': (-1.2, 1.0),
  'back_slope': (-0.5, 0.5),
  'back_step': (0.5, 1.6),
  'back_ramp': (-0.12, 0.12),
  'cloth_red': (0.05, 0.85),
  'cloth_green': (0.05, 0.85),
  'cloth_blue': (0.05, 0.85),
  'cloth_stripe': (-1.0, 1.0),
  'cloth_neck': (0.1, 0.5),
  'shoulder': (0.16, 0.5),
}
_BLOCK = 256
_OBSTACLES = (('mask', 0.045), ('scarf', 0.075), ('hand', 0.11), ('thing', 0.15))  # each up to its end of the gate


def draw(seed: int, identities: np.ndarray, samples: np.ndarray) -> Iterator[SimpleNamespace]:
  """Yields the nuisance of every picture, int64 [n] each: a namespace of floats named as in `_RANGES`, with
  `back_grid`, float32 [3, rows, columns] in [0, 1), the control colours of the background, and `obstacle`, the name of
  what is in front of the face or an empty one."""
  count = np.arange(len(_RANGES) + 3 * _GRID * _GRID)
  for start in range(0, len(identities), _BLOCK):  # bounds the memory of the draws
    part = slice(start, start + _BLOCK)
    draws = counter_rng.uniform(seed, _STREAM, identities[part, None], samples[part, None], count)
    grids = draws[:, len(_RANGES) :].reshape(-1, 3, _GRID, _GRID)
    for sample, grid in zip(shapes.named(_RANGES, draws), grids):
      sample.back_grid = grid
      sample.obstacle = next((name for name, end in _OBSTACLES if sample.occluder < end), '')
      yield sample
