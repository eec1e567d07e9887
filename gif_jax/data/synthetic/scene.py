"""What surrounds the face, back to front: background, clothes, the hair behind the head, neck and ears; and what is in
the way: hands, scarves and things.

A picture is planes of linear light, float32 [3, size, size], painted in place. Positions are in the frame of the head
(x right, y down, in half pictures at scale 1), float32 [size, size].
"""

from types import SimpleNamespace

import numpy as np

from gif_jax.data.synthetic import shapes
from gif_jax.data.synthetic.head import Pose
from gif_jax.data.synthetic.shapes import Values, bump, colour, mix, rise, square, turn, unit, wave


def lay(planes: np.ndarray, rgb: np.ndarray, alpha: np.ndarray) -> None:
  """Lays `rgb` (broadcasting to planes) over `planes` with opacity `alpha`."""
  change = rgb - planes
  change *= alpha
  planes += change


def lay_at(planes: np.ndarray, pixels: np.ndarray, rgb: np.ndarray, alpha: np.ndarray) -> None:
  """Lays `rgb` [3, n] over the `pixels` (int64 [n], counted along the rows) with opacity `alpha` [n]."""
  planes = planes.reshape(3, -1)
  under = planes.take(pixels, axis=1)
  lay(under, rgb, alpha)
  for plane, values in zip(planes, under):  # several times faster than all three at once
    plane[pixels] = values


def glow(pose: Pose, x: Values, y: Values, z: Values) -> np.ndarray:
  """Light that falls on normals (x, y, z) in the frame of the picture: float32 [3, ...]."""
  lit = unit(np.asarray(x * pose.light[0] + y * pose.light[1] + z * pose.light[2]))
  broadcast = (3, *[1] * lit.ndim)
  lit = pose.key.reshape(broadcast) * lit
  lit += pose.fill.reshape(broadcast) * (0.78 - 0.3 * y)
  return lit


def _below(y, level: float) -> slice:
  """The rows of the picture that reach below `level`."""
  first = min(y[:, 0].searchsorted(level), y[:, -1].searchsorted(level))
  return slice(int(first), None)


def _around(sample, centre, reach: float, size: int) -> tuple[slice, slice]:
  """Rows and columns of a square of half side `reach` around a point of the frame of the head."""
  cosine, sine = turn(sample.roll)
  u = (centre[0] * cosine - centre[1] * sine) * sample.scale + sample.shift_u
  v = (centre[0] * sine + centre[1] * cosine) * sample.scale + sample.shift_v
  reach = reach * sample.scale
  ends = [min(max(int((at + 1) * 0.5 * size), 0), size) for at in (v - reach, v + reach, u - reach, u + reach)]
  return slice(ends[0], ends[1]), slice(ends[2], ends[3])


def background(sample: SimpleNamespace, size: int) -> np.ndarray:
  """A room out of focus: smooth patches around one colour, sometimes with the edge of a wall or door."""
  base = np.array([sample.back_red, sample.back_green, sample.back_blue], np.float32)[:, None, None]
  patches = base + (sample.back_grid - np.float32(0.5)) * sample.back_vary
  grey = (patches[0] + patches[1] + patches[2]) * np.float32(1 / 3)
  ramp = np.arange(patches.shape[1], dtype=np.float32)[:, None] * sample.back_ramp
  planes = shapes.upsample(square(unit(mix(patches, grey, sample.back_grey) + ramp)), size, size)
  if sample.back_edge > -0.7:
    axis = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / size) - 1
    edge = unit((axis[None] - sample.back_edge - axis[:, None] * sample.back_slope) * 18 + 0.5)
    planes *= mix(1.0, sample.back_step, edge)
  return planes


def clothes(
  planes: np.ndarray, face: SimpleNamespace, sample: SimpleNamespace, pose: Pose, x: np.ndarray, y: np.ndarray
) -> None:
  """Shoulders, with the neckline."""
  shoulder = pose.half_height * 1.1 + 0.06
  rows = _below(y, shoulder)
  planes, x, y = planes[:, rows], x[rows], y[rows]
  over = y - shoulder - square(x) * sample.shoulder
  cover = unit(over * 25)
  rgb = colour((sample.cloth_red, sample.cloth_green, sample.cloth_blue))[:, :, None]
  if sample.cloth_stripe > 0.3:
    rgb = rgb * (0.75 + 0.25 * unit(wave(y * (8 * sample.cloth_stripe)) * 4))
  neckline = unit((sample.cloth_neck - np.abs(x) - (y - shoulder) * 1.1) * 25)
  rgb = rgb + (colour(face.skin_rgb)[:, :, None] - rgb) * neckline
  slope = x * (1.4 * sample.shoulder)
  lay(planes, rgb * glow(pose, slope, -0.4 + 0.3 * y, 0.75), cover)


def back_hair(
  planes: np.ndarray,
  face: SimpleNamespace,
  strands: np.ndarray,
  pose: Pose,
  x: np.ndarray,
  y: np.ndarray,
  inside: np.ndarray,
) -> None:
  """The hair around and below the head, where the head (`inside` of `head.outline`) does not hide it."""
  size, reach = planes.shape[-1], 1 + face.volume
  wide, high = pose.half_width * reach * 1.25, pose.half_height * (1 + 1.2 * face.volume) + 0.08
  pixels = ((inside < 0.7) & (np.abs(x) < wide) & (y > -high) & (y < face.hair_end + 0.15)).reshape(-1).nonzero()[0]
  x, y = x.reshape(-1)[pixels], y.reshape(-1)[pixels]
  below = np.maximum(y, 0)
  taper = 1 / (pose.half_width * reach * (1 + (0.12 if face.long else -0.25) * below))
  across, up = x * taper, np.minimum(y + 0.04, 0) * (1 / (pose.half_height * (1 + 0.9 * face.volume)))
  r2 = square(across) + square(up)
  texture_row = strands.shape[0] - 1
  ragged = strands.take(np.minimum(np.abs(across) * (texture_row * 0.6), texture_row).astype(np.int32))
  edge = (1 - r2 + (ragged - 0.5) * (0.05 + 0.25 * face.curl * face.volume)) * (0.5 * pose.half_width)
  cover = unit(edge * (0.45 * size)) * rise(y + (ragged - 0.5) * 0.15, face.hair_end + 0.06, face.hair_end - 0.08)
  light = mix(1.0, 0.45 + 1.1 * ragged, face.streak) * rise(r2, 2.2, 0.2)
  rgb = colour(face.hair_rgb) * light * glow(pose, 0.7 * across, 0.7 * up, 0.55)
  lay_at(planes, pixels, rgb, cover)


def neck(planes: np.ndarray, face: SimpleNamespace, pose: Pose, x: np.ndarray, y: np.ndarray) -> None:
  """The neck, in the shadow of the chin."""
  rows = _below(y, 0.5 * pose.half_height)
  planes, x, y = planes[:, rows], x[rows], y[rows]
  across = (x + 0.12 * pose.toward[0]) * (1 / (face.neck * pose.half_width * (1 + 0.15 * unit(y - 0.5))))
  cover = unit((1 - np.abs(across)) * 14) * unit((y - 0.5 * pose.half_height) * 25)
  depth = np.sqrt(np.maximum(1 - square(across), 0.04))
  shadow = mix(0.35, 0.95, rise(y, pose.half_height * 0.9, pose.half_height * 1.4))
  lay(planes, colour(face.skin_rgb)[:, :, None] * shadow * glow(pose, across, 0.15, depth), cover)


def ears(
  planes: np.ndarray, face: SimpleNamespace, sample: SimpleNamespace, pose: Pose, x: np.ndarray, y: np.ndarray
) -> None:
  """What stands out of the ears beside the head; what is seen on the head is in the texture."""
  wide, tall = 0.055 + 0.035 * face.ear_out, face.ear * pose.axes[1] * 0.85
  skin = colour(face.skin_rgb)[:, :, None]
  for side in (-1.0, 1.0):
    beside = side * pose.axes[0] * (0.99 + 0.05 * face.ear_out)
    centre = pose.in_picture(beside, face.ear_v * pose.axes[1] * 0.75, -0.04)
    rows, columns = _around(sample, centre, 1.3 * tall, planes.shape[-1])
    r2 = square((x[rows, columns] - centre[0]) * (1 / wide)) + square((y[rows, columns] - centre[1]) * (1 / tall))
    cover = unit((1 - r2) * (0.3 * wide * planes.shape[-1]))
    light = glow(pose, np.array([[side * 0.6]], np.float32), 0.0, 0.7)
    lay(planes[:, rows, columns], skin * light * (1 - 0.5 * bump(r2 * 2.5)), cover)


def obstacle(planes: np.ndarray, sample: SimpleNamespace, pose: Pose, x: np.ndarray, y: np.ndarray) -> None:
  """Sometimes a scarf, a hand or a thing in front of the face."""
  draw = {'scarf': _scarf, 'hand': _hand, 'thing': _thing}.get(sample.obstacle)
  if draw:
    draw(planes, sample, pose, x, y)


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
  light = glow(pose, 0.85 * across, 0.85 * down, depth)
  lay(planes, rgb * light + bump((square(across + 0.3) + square(down + 0.4)) * 12) * 0.25, cover)


def _scarf(planes, sample, pose, x, y) -> None:
  """A scarf over mouth and chin, in folds."""
  top = 0.16 + 0.12 * sample.thing_v + square(x) * 0.3 + x * (0.3 * sample.thing_turn)
  down = y - top
  folds = wave(down * sample.thing_fold + x * (0.8 * sample.thing_u) + 0.15 * wave(x * 1.3))
  cover = unit(down * 25 + 0.5) * unit((pose.half_width * 1.12 + 0.35 * unit(down) - np.abs(x)) * 16)
  rgb = _thing_colour(sample) * (0.7 + 0.3 * unit(wave(down * 6 - x * 0.4) * 5 * sample.thing_skin))
  light = glow(pose, x * (0.9 / pose.half_width), 0.55 * folds, 0.7)
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
  lay(planes, rgb * glow(pose, 0.9 * side, 0.9 * along, depth), cover)
