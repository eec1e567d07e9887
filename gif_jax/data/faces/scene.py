"""What surrounds the face, back to front: background, clothes, the hair behind the head, neck and ears; and what is in
the way: hands, scarves and things.

A picture is planes of linear light, float32 [3, size, size], painted in place. Positions are in the frame of the head
(x right, y down, in half pictures at scale 1), float32 [size, size].
"""

from types import SimpleNamespace

import numpy as np

from gif_jax.data.faces import nuisance, shapes
from gif_jax.data.faces.shapes import bump, colour, mix, rise, square, turn, unit, wave

SCARF, HAND, THING = 0.075, 0.11, 0.15  # upper ends of their shares of the `occluder` gate, after masks


def lay(planes: np.ndarray, rgb: np.ndarray, alpha: np.ndarray) -> None:
  """Lays `rgb` (broadcasting to planes) over `planes` with opacity `alpha`."""
  planes += (rgb - planes) * alpha


def glow(sample, pose, x, y, z) -> np.ndarray:
  """Light that falls on normals (x, y, z) in the frame of the picture: float32 [3, ...]."""
  key, fill = nuisance.lights(sample)
  lit = unit(x * pose.light[0] + y * pose.light[1] + z * pose.light[2])
  return lit * key[:, :, None] + fill[:, :, None] * (0.78 - 0.3 * y)


def background(sample: SimpleNamespace, size: int) -> np.ndarray:
  """A room out of focus: smooth patches around one colour, sometimes with the edge of a wall or door."""
  base = np.array([sample.back_red, sample.back_green, sample.back_blue], np.float32)[:, None, None]
  patches = sample.back_grid - np.float32(0.5)
  grey = (patches[0] + patches[1] + patches[2]) * np.float32(1 / 3)
  base = mix(base, (base[0] + base[1] + base[2]) * np.float32(1 / 3), sample.back_grey)
  grid = base + mix(patches, grey, sample.back_grey) * sample.back_vary
  planes = shapes.upsample(grid, size, size)
  axis = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / size) - 1
  planes += (axis * sample.back_ramp)[:, None]
  if sample.back_edge > -0.7:
    edge = unit((axis[None] - sample.back_edge - axis[:, None] * sample.back_slope) * 18 + 0.5)
    planes *= mix(1.0, sample.back_step, edge)
  return square(unit(planes))


def clothes(planes, face, sample, pose, x, y) -> None:
  """Shoulders, with the neckline."""
  shoulder = pose.half_height * 1.12 + 0.1
  over = y - shoulder - square(x) * sample.shoulder
  cover = unit(over * 25)
  rgb = colour((sample.cloth_red, sample.cloth_green, sample.cloth_blue))[:, :, None]
  if sample.cloth_stripe > 0.3:
    rgb = rgb * (0.75 + 0.25 * unit(wave(y * (8 * sample.cloth_stripe)) * 4))
  neckline = unit((sample.cloth_neck - np.abs(x) - (y - shoulder) * 1.1) * 25)
  rgb = rgb + (colour(face.skin_rgb)[:, :, None] - rgb) * neckline
  slope = x * (1.4 * sample.shoulder)
  lay(planes, rgb * glow(sample, pose, slope, -0.4 + 0.3 * y, 0.75), cover)


def back_hair(planes, face, strands, sample, pose, x, y) -> None:
  """The hair seen around and below the head."""
  reach = 1 + face.volume
  below = np.maximum(y, 0)
  taper = 1 / (pose.half_width * reach * (1 + (0.12 if face.long else -0.25) * below))
  across, up = x * taper, np.minimum(y + 0.04, 0) * (1 / (pose.half_height * (1 + 0.9 * face.volume)))
  r2 = square(across) + square(up)
  size = planes.shape[-1]
  texture_row = strands.shape[0] - 1
  ragged = np.take(strands, np.minimum(np.abs(across) * (texture_row * 0.6), texture_row).astype(np.int32), axis=0)
  edge = (1 - r2 + (ragged - 0.5) * (0.05 + 0.25 * face.curl * face.volume)) * (0.5 * pose.half_width)
  cover = unit(edge * (0.45 * size)) * rise(y + (ragged - 0.5) * 0.15, face.hair_end + 0.06, face.hair_end - 0.08)
  light = mix(1.0, 0.45 + 1.1 * ragged, face.streak) * rise(r2, 2.2, 0.2)
  lay(planes, colour(face.hair_rgb)[:, :, None] * light * glow(sample, pose, 0.7 * across, 0.7 * up, 0.55), cover)


def neck(planes, face, sample, pose, x, y) -> None:
  """The neck, in the shadow of the chin."""
  across = (x + 0.12 * pose.toward[0]) * (1 / (face.neck * pose.half_width * (1 + 0.15 * unit(y - 0.5))))
  cover = unit((1 - np.abs(across)) * 14) * unit((pose.half_height * 1.25 + 0.12 - y) * 12) * (y > 0)
  depth = np.sqrt(np.maximum(1 - square(across), 0.04))
  shadow = mix(0.35, 0.95, rise(y, pose.half_height * 0.9, pose.half_height * 1.4))
  lay(planes, colour(face.skin_rgb)[:, :, None] * shadow * glow(sample, pose, across, 0.15, depth), cover)


def ears(planes, face, sample, pose, x, y) -> None:
  """What stands out of the ears beside the head; what is seen on the head is in the texture."""
  wide, tall = 0.055 + 0.035 * face.ear_out, face.ear * pose.axes[1] * 0.85
  for side in (-1.0, 1.0):
    centre = pose.in_picture(side * pose.axes[0] * (0.99 + 0.05 * face.ear_out), face.ear_v * pose.axes[1] * 0.75, -0.04)
    r2 = square((x - centre[0]) * (1 / wide)) + square((y - centre[1]) * (1 / tall))
    cover = unit((1 - r2) * (0.15 * wide * planes.shape[-1] * 2))
    hollow = 1 - 0.5 * bump(r2 * 2.5)
    lay(planes, colour(face.skin_rgb)[:, :, None] * hollow * glow(sample, pose, side * 0.6, 0.0, 0.7), cover)


def obstacle(planes, face, sample, pose, x, y) -> None:
  """Sometimes a scarf, a hand or a thing in front of the face."""
  if sample.occluder >= THING:
    return
  if sample.occluder >= HAND:
    _thing(planes, sample, pose, x, y)
  elif sample.occluder >= SCARF:
    _hand(planes, sample, pose, x, y)
  elif sample.occluder >= 0.045:
    _scarf(planes, sample, pose, x, y)


def _thing_colour(sample) -> np.ndarray:
  return colour((sample.thing_red, sample.thing_green, sample.thing_blue))[:, :, None]


def _turned(sample, x, y):
  cosine, sine = turn(sample.thing_turn)
  x, y = x - sample.thing_u, y - sample.thing_v
  return x * cosine + y * sine, y * cosine - x * sine


def _thing(planes, sample, pose, x, y) -> None:
  """A rounded thing, between a ball and a cup, with a band around it."""
  across, down = _turned(sample, x, y)
  across, down = across * (1 / (0.27 * sample.thing_size)), down * (1 / (0.36 * sample.thing_size))
  x2, y2 = square(across), square(down)
  r2 = mix(x2 + y2, np.sqrt(x2 * x2 + y2 * y2), sample.thing_skin)
  cover = unit((1 - r2) * 10)
  rgb = _thing_colour(sample) * (1 - 0.5 * unit((0.18 - np.abs(down - 0.3)) * 12))
  depth = np.sqrt(np.maximum(1 - r2, 0.03))
  light = glow(sample, pose, 0.85 * across, 0.85 * down, depth)
  lay(planes, rgb * light + bump((square(across + 0.3) + square(down + 0.4)) * 12) * 0.25, cover)


def _scarf(planes, sample, pose, x, y) -> None:
  """A scarf over mouth and chin, in folds."""
  top = 0.16 + 0.12 * sample.thing_v + square(x) * 0.3 + x * (0.3 * sample.thing_turn)
  down = y - top
  folds = wave(down * sample.thing_fold + x * (0.8 * sample.thing_u) + 0.15 * wave(x * 1.3))
  cover = unit(down * 25 + 0.5) * unit((pose.half_width * 1.12 + 0.35 * unit(down) - np.abs(x)) * 16)
  rgb = _thing_colour(sample) * (0.7 + 0.3 * unit(wave(down * 6 - x * 0.4) * 5 * sample.thing_skin))
  light = glow(sample, pose, x * (0.9 / pose.half_width), 0.55 * folds, 0.7)
  lay(planes, rgb * light, cover)


def _hand(planes, sample, pose, x, y) -> None:
  """A hand: four fingers and the palm, each a rounded bar."""
  across, down = _turned(sample, x, y)
  cover, side, along = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
  bars = [(-0.21, -0.30, 0.060), (-0.075, -0.40, 0.065), (0.065, -0.38, 0.065), (0.20, -0.26, 0.058), (0.0, 0.18, 0.26)]
  for centre, tip, half in bars:
    half = half * sample.thing_size
    dx = (across - centre * sample.thing_size) * (1 / half)
    dy = np.minimum(down - tip * sample.thing_size, 0) * (1 / half) + np.maximum(down - 1.0, 0)
    r2 = dx * dx + dy * dy
    part = unit((1 - r2) * 5)
    cover, side, along = np.maximum(cover, part), mix(side, dx, part), mix(along, dy, part)
  skin = ((0.93, 0.75, 0.65), (0.80, 0.58, 0.45), (0.55, 0.36, 0.26), (0.34, 0.22, 0.17))
  rgb = colour(shapes.palette(skin, sample.thing_skin))[:, :, None]
  depth = np.sqrt(np.maximum(1 - side * side - along * along, 0.06))
  lay(planes, rgb * glow(sample, pose, 0.9 * side, 0.9 * along, depth), cover)
