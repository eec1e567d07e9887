"""What is worn on the face, in face coordinates: glasses and masks."""

from types import SimpleNamespace

import numpy as np

from gif_jax.data.synthetic import shapes, texture
from gif_jax.data.synthetic.shapes import mix, rise, square, unit, wave

_GLASSES = 0.16  # share of the pictures


def lay_on_face(
  face: SimpleNamespace, sample: SimpleNamespace, surface: np.ndarray, u: np.ndarray, v: np.ndarray, texel: float
) -> None:
  """Changes `surface` (planes as the columns of the texels) where something worn covers the skin.

  Args:
    face: `identity.draw`.
    sample: `nuisance.draw`.
    surface: float32 [8, pixels], changed in place.
    u, v: face coordinates of the pixels, before any expression: float32 [pixels].
    texel: how soft edges are to be.
  """
  if sample.glasses < _GLASSES:
    _glasses(face, sample, surface, u, v, 1 / max(0.022, 0.9 * texel))
  if sample.obstacle == 'mask':
    _mask(face, sample, surface, u, v)


def _cover(surface, pixels, rgb, alpha, gloss: float) -> None:
  part = surface[:, pixels]
  part[:3] = mix(part[:3], np.array(rgb, np.float32)[:, None], alpha)
  part[texture.SLOPE_U : texture.SLOPE_V + 1] *= 1 - alpha
  part[texture.GLOSS] = mix(part[texture.GLOSS], gloss, alpha)
  surface[:, pixels] = part


def _glasses(face, sample, surface, u, v, sharp: float) -> None:
  near = (np.abs(v - face.eye_v) < 0.35).nonzero()[0]
  side, down = np.abs(u[near]), v[near] - face.eye_v - 0.02
  x, y = square((side - face.eye_u - 0.01) * (1 / sample.glasses_w)), square(down * (1 / sample.glasses_h))
  # Between an ellipse and a rounded box.
  r = np.sqrt(mix(np.sqrt(x * x + y * y), x + y, sample.glasses_round))
  width = sample.glasses_rim / sample.glasses_h
  lens = unit((1 - r) * (sharp * sample.glasses_h) + 0.5)
  if sample.glasses_tint > 0.6:
    dark = 0.55 if sample.glasses_tint < 0.8 else 0.93
    _cover(surface, near, (0.02, 0.02, 0.025), lens * dark, 0.5)
  else:
    surface[texture.GLOSS, near] += lens * 0.3
  rim = unit((0.5 * width - np.abs(r - 1)) * (sharp * sample.glasses_h) + 0.5)
  line = unit((0.5 * sample.glasses_rim - np.abs(down + 0.04)) * sharp + 0.5)
  bridge = line * unit((face.eye_u - sample.glasses_w - side) * sharp + 0.5)
  temple = line * unit((side - face.eye_u - sample.glasses_w) * sharp + 0.5) * unit((1.6 - side) * 20)
  hue, bright = sample.glasses_hue, square(sample.glasses_dark * 0.6)
  rgb = (bright * (0.6 + hue), bright * (1.2 - hue * 0.5), bright * (1.3 - hue))
  _cover(surface, near, rgb, np.maximum(rim, np.maximum(bridge, temple)), 0.5)


def _mask(face, sample, surface, u, v) -> None:
  """A pleated surgical mask with its straps."""
  top = face.nose_v - 0.16 + square(u) * 0.3
  side = np.abs(u)
  body = unit((v - top) * 40 + 0.5) * unit((1.02 - 0.18 * np.abs(v - 0.7) - side) * 40 + 0.5)
  strap = unit((0.02 - np.abs(v - top - 0.08 + 0.30 * (side - 1.0))) * 40 + 0.5) * unit((side - 1.0) * 20)
  tone = 0.75 if sample.thing_skin < 0.7 else 0.14
  rgb = [square(tone + 0.25 * (c - 0.5)) for c in (sample.thing_red, sample.thing_green, sample.thing_blue)]
  _cover(surface, slice(None), rgb, np.maximum(body, strap), 0.05)
  pleats = wave(v * 4 + 0.1 * wave(u)) * body
  surface[texture.SLOPE_V] += pleats * 0.22 * rise(side, 1.0, 0.7)
  surface[texture.SLOPE_U] -= shapes.bump(square(u * 3.2)) * body * u * 1.2
