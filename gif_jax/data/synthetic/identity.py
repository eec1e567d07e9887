"""Who a face is: some seventy parameters, each a function of (seed, identity) alone.

Lengths on the head are in face coordinates (u to the right of the picture, v down; see `texture`), where the pupils lie
near v = 0, the mouth near 0.63 and the chin near 1.3. Colours are display colours.
"""

from types import SimpleNamespace

import numpy as np

from gif_jax.core import counter_rng
from gif_jax.data.synthetic import shapes

_STREAM = 0x1D  # keeps these draws apart from those of the samples
NOISE = (44, 36)  # control values of the finest noise field
_DRAWS = 2400

_RANGES = {
  # head
  'height': (0.68, 0.79),
  'aspect': (0.66, 0.82),
  'depth': (0.95, 1.2),
  'jaw': (-0.13, 0.17),
  'chin': (-0.2, 0.14),
  'cheek': (-0.05, 0.07),
  'forehead': (-0.08, 0.08),
  'neck': (0.58, 0.82),
  # skin
  'tone': (0.0, 1.0),
  'hue': (-1.0, 1.0),
  'gloss': (0.05, 0.4),
  'mottle': (0.0, 1.0),
  'red': (0.0, 1.0),
  'freckles': (-1.6, 1.0),
  'age': (-0.6, 1.0),
  'dark_eyes': (0.0, 1.0),
  # hair
  'woman': (0.0, 1.0),
  'hair_colour': (0.0, 1.0),
  'hair_light': (0.75, 1.2),
  'style': (0.0, 1.0),
  'hairline': (-0.82, -0.5),
  'temple': (0.0, 1.0),
  'fringe': (-1.0, 1.0),
  'part': (-0.3, 0.3),
  'peak': (-0.1, 0.12),
  'volume': (0.05, 0.2),
  'curl': (0.0, 1.0),
  'side': (0.92, 1.14),
  'length': (0.0, 1.0),
  'streak': (0.3, 1.0),
  # eyes and brows
  'eye_u': (0.335, 0.455),
  'eye_v': (-0.07, 0.08),
  'eye_w': (0.155, 0.215),
  'eye_h': (0.065, 0.115),
  'eye_tilt': (-0.24, 0.24),
  'eye_low': (0.45, 0.8),
  'crease': (0.0, 1.0),
  'lash': (0.2, 1.0),
  'socket': (0.2, 1.0),
  'iris_colour': (0.0, 1.0),
  'iris_light': (0.8, 1.2),
  'iris': (0.46, 0.58),
  'brow_v': (0.15, 0.27),
  'brow_w': (0.19, 0.29),
  'brow_h': (0.022, 0.06),
  'brow_tilt': (-0.25, 0.3),
  'brow_arch': (0.0, 0.11),
  'brow_dark': (0.35, 0.95),
  'brow_shift': (-0.05, 0.05),
  'ridge': (0.0, 1.0),
  # nose
  'nose_v': (0.27, 0.44),
  'nose_w': (0.11, 0.21),
  'nose_out': (0.14, 0.27),
  'bridge_w': (0.06, 0.12),
  'bridge_out': (0.25, 0.75),
  'nostril': (0.3, 1.0),
  'tip': (0.08, 0.15),
  # mouth, chin, cheeks
  'mouth_gap': (0.19, 0.33),
  'mouth_w': (0.25, 0.42),
  'lip_up': (0.03, 0.085),
  'lip_low': (0.045, 0.11),
  'lip_red': (0.0, 1.0),
  'lip_dark': (0.55, 0.95),
  'mouth_bend': (-0.05, 0.06),
  'bow': (0.0, 1.0),
  'chin_out': (0.0, 1.0),
  'dimple': (-1.0, 1.0),
  'cheek_out': (0.0, 1.0),
  'fold': (0.0, 1.0),
  # ears, beard
  'ear': (0.17, 0.27),
  'ear_v': (-0.02, 0.22),
  'ear_out': (0.0, 1.0),
  'beard': (-0.9, 1.0),
  'beard_line': (0.0, 1.0),
  'moustache': (0.0, 1.0),
  'beard_light': (0.8, 1.3),
}

_SKIN = (
  (0.96, 0.80, 0.72),
  (0.90, 0.70, 0.57),
  (0.78, 0.57, 0.43),
  (0.60, 0.41, 0.29),
  (0.43, 0.28, 0.20),
  (0.33, 0.21, 0.16),
)
_HAIR = (
  (0.07, 0.06, 0.06),
  (0.12, 0.08, 0.06),
  (0.24, 0.15, 0.09),
  (0.37, 0.22, 0.12),
  (0.55, 0.25, 0.10),
  (0.67, 0.47, 0.25),
  (0.82, 0.68, 0.43),
  (0.70, 0.68, 0.66),
  (0.45, 0.44, 0.44),
  (0.10, 0.09, 0.10),
)
_IRIS = (
  (0.18, 0.10, 0.06),
  (0.33, 0.19, 0.09),
  (0.45, 0.33, 0.14),
  (0.36, 0.45, 0.22),
  (0.28, 0.47, 0.50),
  (0.30, 0.48, 0.70),
  (0.52, 0.58, 0.62),
)


def draw(seed: int, identity: int) -> SimpleNamespace:
  """All that one identity is.

  Args:
    seed: seed of the world of faces.
    identity: any integer from 0 to 2**63 - 1.

  Returns:
    A namespace of floats named as in `_RANGES` with colours `skin_rgb`, `hair_rgb`, `iris_rgb`, `lip_rgb` (display
    colours, tuples of 3), the moles (rows of u, v, radius) and `noise`, float32 [control values] in [0, 1).
  """
  draws = counter_rng.uniform(seed, _STREAM, identity, np.arange(_DRAWS))
  face = shapes.named(_RANGES, draws[None])[0]
  face.noise = draws[len(_RANGES) + 12 :]
  face.moles = _moles(draws[len(_RANGES) : len(_RANGES) + 12].tolist())
  _choose_hair(face)
  _choose_colours(face)
  face.mouth_v = face.nose_v + face.mouth_gap
  face.beard = max(face.beard, 0.0) if face.woman < 0.5 else 0.0
  return face


def _moles(draws: list[float]) -> list[tuple[float, float, float]]:
  """Up to three moles; each is in every other face."""
  moles = zip(draws[0::4], draws[1::4], draws[2::4], draws[3::4])
  return [(1.5 * u - 0.75, 1.35 * v - 0.35, 0.014 + 0.018 * size) for u, v, size, gate in moles if gate < 0.5]


def _choose_hair(face: SimpleNamespace) -> None:
  """Turns `style` into how far hair reaches down (`hair_low`, in face coordinates) and how bald the crown is."""
  face.bald = 1.0 if face.style < 0.14 and face.woman < 0.5 else 0.0
  face.long = 1.0 if (face.style > 0.35 if face.woman > 0.5 else face.style > 0.9) else 0.0
  if face.style > 0.75 and face.curl > 0.5:
    face.volume = face.volume * 1.8
  face.hair_low = 1.6 if face.long else -0.1 + 0.4 * face.length
  # The lowest hair below the middle of the head, in head heights.
  face.hair_end = 0.75 + 0.9 * face.length if face.long else 0.05 + 0.35 * face.length
  if face.fringe < -0.4 and not face.bald:  # cut straight across the forehead
    face.hairline, face.temple = face.hairline + 0.2, 0.0


def _choose_colours(face: SimpleNamespace) -> None:
  red, green, blue = shapes.palette(_SKIN, face.tone)
  face.skin_rgb = (red * (1 + 0.03 * face.hue), green, blue * (1 - 0.08 * face.hue))
  # Dark skin comes with dark hair and eyes more often than not: it does among people.
  dark = max(face.tone - 0.45, 0.0) * 1.4
  face.hair_rgb = tuple(c * face.hair_light for c in shapes.palette(_HAIR, face.hair_colour * (1 - dark)))
  face.iris_rgb = tuple(c * face.iris_light for c in shapes.palette(_IRIS, face.iris_colour * (1 - dark)))
  red, green, blue = face.skin_rgb
  paint = face.lip_red * (1.0 if face.woman > 0.5 else 0.5)
  face.lip_rgb = tuple(
    face.lip_dark * shapes.mix(a, b, 0.35 + 0.65 * paint)
    for a, b in ((red, red), (green, 0.55 * green), (blue, 0.62 * blue))
  )
