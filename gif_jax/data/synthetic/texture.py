"""What an identity looks like, baked once: colour, relief and gloss over the surface of the head.

Face coordinates (u, v) are Lambert's equal-area map of the unit sphere the head is a stretched copy of, centred on the
middle of the face: u = x * sqrt(2 / (1 + z)), v = y * sqrt(2 / (1 + z)), y and v downwards. The front half of the head
lies within radius 1.414. Heights are in units of the sphere's radius, colours in linear light.
"""

from types import SimpleNamespace

import numpy as np

from gif_jax.data.synthetic import identity, shapes
from gif_jax.data.synthetic.shapes import bump, colour, hill, mix, rise, square, unit

HALF_U, TOP_V, BOTTOM_V = 1.75, -1.75, 1.65
SLOPE_U, SLOPE_V, GLOSS, HAIR = 3, 4, 5, 6  # columns of a texel; colour comes first


class Texture:
  """The baked face.

  Attributes:
    texels: float32 [rows * columns, 8], one row a texel so that a pixel costs one gather: linear RGB, slope of the
      relief along u and v, gloss, share of hair, and one unused to fill 32 bytes.
    height: float32 [rows * columns], the relief.
    texel: height of a texel in face coordinates.
  """

  def __init__(self, face: SimpleNamespace, size: int) -> None:
    """Bakes `face` (`identity.draw`) for images of `size` pixels; the texels are slightly finer than the pixels."""
    self.rows, self.columns = 3 * size // 2, 5 * size // 4
    self.scale_u, self.scale_v = self.columns / (2 * HALF_U), self.rows / (BOTTOM_V - TOP_V)
    canvas = _Canvas(self.rows, self.columns)
    self.texel = canvas.texel
    _skin(canvas, face)
    for feature in (_sockets, _nose, _mouth, _cheeks, _ears, _beard, _brows, _moles, _hair):
      feature(canvas, face)
    self.texels = self._pack(canvas)
    self.height = canvas.height.reshape(-1)

  def _pack(self, canvas: '_Canvas') -> np.ndarray:
    height = canvas.height
    texels = np.zeros((self.rows, self.columns, 8), np.float32)
    texels[:, 1:-1, SLOPE_U] = (height[:, 2:] - height[:, :-2]) * (0.5 * self.scale_u)
    texels[1:-1, :, SLOPE_V] = (height[2:] - height[:-2]) * (0.5 * self.scale_v)
    # Hollows see less of the sky.
    reach = max(self.rows // 32, 1)
    around = (
      height[: -2 * reach, reach:-reach]
      + height[2 * reach :, reach:-reach]
      + height[reach:-reach, : -2 * reach]
      + height[reach:-reach, 2 * reach :]
    )
    shade = 1 - unit((around * 0.25 - height[reach:-reach, reach:-reach]) * 9) * 0.75
    canvas.rgb[:, reach:-reach, reach:-reach] *= shade
    texels[:, :, :3] = canvas.rgb.transpose(1, 2, 0)
    texels[:, :, GLOSS] = canvas.gloss
    texels[:, :, HAIR] = canvas.hair
    return texels.reshape(-1, 8)

  def index(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Row of `texels` nearest to each face coordinate (float32 [n] each); outside, the nearest edge: int32 [n]."""
    column = np.minimum(np.maximum(u * self.scale_u + 0.5 * self.columns, 0), self.columns - 1).astype(np.int32)
    row = np.minimum(np.maximum((v - TOP_V) * self.scale_v, 0), self.rows - 1).astype(np.int32)
    return row * self.columns + column


class _Canvas:
  """A texture being painted: planes `rgb` [3, rows, columns], `height`, `gloss`, `hair`; axes `u`, `v`."""

  def __init__(self, rows: int, columns: int):
    self.u = (np.arange(columns, dtype=np.float32) + np.float32(0.5)) * np.float32(2 * HALF_U / columns) - np.float32(
      HALF_U
    )
    self.v = (
      (np.arange(rows, dtype=np.float32) + np.float32(0.5)) * np.float32((BOTTOM_V - TOP_V) / rows) + np.float32(TOP_V)
    )[:, None]
    self.texel = (BOTTOM_V - TOP_V) / rows
    self.rgb = np.empty((3, rows, columns), np.float32)
    self.height = np.zeros((rows, columns), np.float32)
    self.gloss = np.empty((rows, columns), np.float32)
    self.hair = np.zeros((rows, columns), np.float32)

  def window(self, u0: float, u1: float, v0: float, v1: float) -> 'SimpleNamespace':
    """The part of the canvas within these bounds, as views: features are small, and most of the cost is area."""
    rows, columns = self.height.shape
    left, right = (min(max(int((u + HALF_U) * columns / (2 * HALF_U)), 0), columns) for u in (u0, u1))
    top, bottom = (min(max(int((v - TOP_V) / self.texel), 0), rows) for v in (v0, v1))
    part = (slice(top, bottom), slice(left, right))
    return SimpleNamespace(
      u=self.u[left:right],
      v=self.v[top:bottom],
      rgb=self.rgb[:, *part],
      height=self.height[part],
      gloss=self.gloss[part],
    )


def _paint(part: SimpleNamespace, rgb, alpha: np.ndarray) -> None:
  """Lays display colour `rgb` over a window with opacity `alpha` [rows, columns]."""
  part.rgb += (colour(rgb)[:, :, None] - part.rgb) * alpha


def _noise(face: SimpleNamespace, canvas: _Canvas, rows: int, columns: int, start: int = 0) -> np.ndarray:
  """A smooth noise field in 0..1 with rows x columns control values, over all of the canvas."""
  grid = face.noise[start : start + rows * columns].reshape(rows, columns)
  return shapes.upsample(grid, *canvas.height.shape)


def _skin(canvas: _Canvas, face: SimpleNamespace) -> None:
  coarse = _noise(face, canvas, 9, 8)
  fine = _noise(face, canvas, *identity.NOISE, 72)
  light = 1 + (coarse - 0.5) * (0.16 * face.mottle + 0.06) + (fine - 0.5) * (0.16 * face.mottle + 0.04)
  rgb = colour(face.skin_rgb)
  canvas.rgb[:] = rgb[:, :, None]
  if face.freckles > 0.1:
    spots = rise(fine, 0.66, 0.8) * hill(square(canvas.u) * 1.2 + square(canvas.v - 0.2) * 2)
    light *= 1 - (0.65 * face.freckles) * spots
  canvas.rgb *= light
  canvas.gloss[:] = face.gloss
  part = canvas.window(-0.9, 0.9, -0.1, 0.75)
  flush = bump((square((np.abs(part.u) - 0.5) * 2.6)) + square((part.v - 0.33) * 3.2)) * (0.3 * face.red)
  flush += bump(square(part.u * 5) + square((part.v - face.nose_v) * 5)) * (0.25 * face.red)
  part.rgb[1:] *= 1 - flush
  if face.age > 0:
    part = canvas.window(-0.6, 0.6, -0.75, -0.3)
    lines = bump(square(part.u * 1.7)) * bump(square((part.v + 0.5) * 4.2))
    part.height += shapes.wave(part.v * 11 + square(part.u) * 0.8) * lines * (0.008 * face.age)


def _sockets(canvas: _Canvas, face: SimpleNamespace) -> None:
  part = canvas.window(-0.85, 0.85, -0.5, 0.4)
  across, down = np.abs(part.u) - face.eye_u, part.v - face.eye_v
  deep = bump(square(across * 3.0) + square(down * 4.2))
  part.height -= deep * (0.05 + 0.07 * face.socket)
  part.height += bump(square(part.u * 1.4) + square((down + face.brow_v + 0.02) * 6)) * (0.05 * face.ridge)
  bags = bump(square(across * 4.2) + square((down - 0.19) * 9)) * (0.15 + 0.35 * face.dark_eyes)
  part.rgb *= 1 - bags * 0.5
  # The upper lid and its crease follow the opening of the eye, which is drawn for every picture.
  lid = 1 - square(across / (face.eye_w * 1.25))
  down = down + face.eye_tilt * across
  fold = down + (face.eye_h * 1.55 + 0.02 * face.crease) * np.maximum(lid, 0)
  part.rgb *= 1 - bump(square(fold * (1 / max(0.026, canvas.texel)))) * rise(lid, 0, 0.4) * (0.25 + 0.4 * face.crease)
  part.height += bump(square(across / (face.eye_w * 1.35)) + square(down / (face.eye_h * 1.9))) * 0.035


def _nose(canvas: _Canvas, face: SimpleNamespace) -> None:
  part = canvas.window(-0.5, 0.5, -0.25, face.nose_v + 0.25)
  u, v = np.abs(part.u), part.v - face.nose_v
  along = unit((part.v + 0.12) * (1 / (face.nose_v + 0.12)))  # 0 between the eyes, 1 at the tip
  out = mix(face.bridge_out * 0.45, 1.0, along * along) * rise(part.v, -0.25, -0.05) * rise(v, 0.14, 0.01)
  half = mix(face.bridge_w, face.tip, along)
  part.height += out * face.nose_out * hill(square(u / half) * 0.6) * rise(u, 0.48, 0.2)
  wings = bump(square((u - face.nose_w * 0.72) * (1.6 / face.nose_w)) + square((v - 0.03) * 8.5))
  part.height += wings * (0.28 * face.nose_out)
  holes = bump(square((u - face.nose_w * 0.48) * (3.0 / face.nose_w)) + square((v - 0.095) * 20))
  part.rgb *= 1 - holes * (0.55 + 0.4 * face.nostril)
  part.rgb *= 1 - bump(square(u / (face.nose_w * 1.25)) + square((v - 0.13) * 14)) * 0.35
  part.gloss += bump(square(part.u * 7) + square((v + 0.03) * 6)) * 0.25


def lip_curves(face: SimpleNamespace, across: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Thickness of the upper and lower lip at `across` (0 in the middle, 1 at the corners of the mouth)."""
  belly = np.maximum(1 - square(across), 0)
  upper = face.lip_up * belly * (1 + face.bow * (0.55 - 1.1 * bump(square(across * 3.2))) * rise(across, 0.8, 0.3))
  return upper, face.lip_low * belly * (0.6 + 0.4 * belly)


def _mouth(canvas: _Canvas, face: SimpleNamespace) -> None:
  part = canvas.window(-0.55, 0.55, face.mouth_v - 0.25, face.mouth_v + 0.3)
  across = np.abs(part.u) * (1 / face.mouth_w)
  down = part.v - face.mouth_v + face.mouth_bend * square(across)
  upper, lower = lip_curves(face, across)
  soft = 1 / max(1.6 * canvas.texel, 0.014)
  lips = unit((down + upper) * soft + 0.3) * unit((lower - down) * soft + 0.3) * rise(across, 1.04, 0.9)
  _paint(part, face.lip_rgb, lips * 0.85)
  part.gloss += lips * 0.2
  thick = np.maximum(np.where(down < 0, upper, lower), 0.02)
  part.height += bump(square((np.abs(down) - thick * 0.5) / thick)) * rise(across, 1.1, 0.6) * 0.035
  line = bump(square(down * (1 / max(0.024, canvas.texel)))) * rise(across, 1.1, 0.85)
  part.rgb *= 1 - line * 0.7
  corner = bump(square((across - 1.05) * 4) + square(down * 16))
  part.rgb *= 1 - corner * 0.4
  groove = bump(square(part.u * 12)) * bump(square((down + upper + 0.07) * 13))
  part.height -= groove * 0.025
  part.rgb *= 1 - bump(square(across * 1.4) + square((down - lower - 0.05) * 16)) * 0.28


def _cheeks(canvas: _Canvas, face: SimpleNamespace) -> None:
  part = canvas.window(-1.1, 1.1, 0.0, 1.4)
  u = np.abs(part.u)
  part.height += bump(square((u - 0.62) * 2.6) + square((part.v - 0.22) * 3.2)) * (0.07 * face.cheek_out)
  part.height -= bump(square((u - 0.62) * 2.6) + square((part.v - 0.7) * 2.6)) * (0.05 * face.cheek_out)
  chin = bump(square(part.u * 3.4) + square((part.v - face.mouth_v - 0.38) * 4.5))
  part.height += chin * (0.03 + 0.07 * face.chin_out)
  if face.dimple > 0.3:
    part.height -= bump(square(part.u * 22)) * bump(square((part.v - face.mouth_v - 0.42) * 6)) * (0.05 * face.dimple)
  top, low = face.nose_v + 0.02, face.mouth_v + 0.02
  slope = (u - face.nose_w * 1.05) - (part.v - top) * ((face.mouth_w * 1.12 - face.nose_w) / (low - top))
  fold = bump(square(slope * 13)) * bump(square((part.v - 0.5 * (top + low)) * (1.5 / (low - top))))
  part.rgb *= 1 - fold * (0.05 + 0.3 * face.fold * max(face.age + 0.5, 0.2))


def _ears(canvas: _Canvas, face: SimpleNamespace) -> None:
  for side in (-1, 1):
    part = canvas.window(side * 1.4 - 0.2, side * 1.4 + 0.2, -0.3, 0.55)
    r2 = square((part.u - side * 1.4) * 6.5) + square((part.v - face.ear_v) * (1 / face.ear))
    part.height += bump(r2 * 0.8) * 0.09 - bump(r2 * 3) * 0.07
    part.rgb[1:] *= 1 - bump(r2) * 0.2


def _beard(canvas: _Canvas, face: SimpleNamespace) -> None:
  if face.beard <= 0.1:
    return
  part = canvas.window(-1.5, 1.5, 0.1, 1.65)
  u = np.abs(part.u)
  cheeks = rise(part.v - (0.95 - 0.55 * face.beard_line) * mix(1.0, 0.25, rise(u, 0.5, 1.3)), 0.0, 0.16)
  jaw = cheeks * rise(square(u * (1 / 0.6)) + square((part.v - face.mouth_v + 0.12) * 2.6), 0.55, 1.0)
  upper = part.v - (face.nose_v + 0.5 * face.mouth_gap + 0.1)
  lip = rise(square(u * (0.85 / face.mouth_w)) + square(upper * (2.6 / face.mouth_gap)), 1.0, 0.6)
  lip *= rise(upper, 0.1, -0.02)
  chin = rise(square(u * 3.2) + square((part.v - face.mouth_v - 0.36) * 4.2), 1.0, 0.5)
  cover = np.maximum(jaw * min(5 * face.beard - 0.5, 1.0), np.maximum(lip * face.moustache, chin))
  cover *= 0.25 + 0.65 * min(max(2 * face.beard - 0.4, 0.0), 1.0)
  hairs = _noise(face, canvas, *identity.NOISE, 300)[-part.v.shape[0] :]
  left = (canvas.u.size - part.u.size) // 2
  hairs = hairs[:, left : left + part.u.size]
  cover *= 0.7 + 0.5 * hairs
  cover = unit(cover)
  _paint(part, tuple(min(face.beard_light * c, 1.0) for c in face.hair_rgb), cover)
  part.height += cover * (0.02 + 0.03 * hairs)
  part.gloss *= 1 - cover


def _brows(canvas: _Canvas, face: SimpleNamespace) -> None:
  part = canvas.window(-0.9, 0.9, -0.65, 0.15)
  across = (np.abs(part.u) - face.eye_u - face.brow_shift) * (1 / face.brow_w)
  middle = face.eye_v - face.brow_v - face.brow_arch * (1 - square(across - 0.25)) + face.brow_tilt * 0.14 * across
  thick = face.brow_h * mix(1.1, 0.45, unit(across * 0.5 + 0.5))
  drawn = np.maximum(thick, 0.9 * canvas.texel)  # what is thinner than a texel is drawn wider and fainter
  cover = rise(np.abs(part.v - middle) / drawn, 1.35, 0.45) * rise(np.abs(across), 1.05, 0.8) * (thick / drawn)
  hairs = shapes.wave(part.v * 9 + np.abs(part.u) * 14) * 0.15 + 0.85
  _paint(part, tuple(0.85 * c for c in face.hair_rgb), unit(cover * hairs * face.brow_dark))
  part.height += cover * 0.012


def _moles(canvas: _Canvas, face: SimpleNamespace) -> None:
  for u, v, radius in face.moles:
    part = canvas.window(u - 2.5 * radius, u + 2.5 * radius, v - 2.5 * radius, v + 2.5 * radius)
    spot = rise(square(part.u - u) + square(part.v - v), 2.6 * radius * radius, 0.4 * radius * radius)
    _paint(part, (0.22, 0.13, 0.10), spot * 0.7)


def hair_strands(face: SimpleNamespace, rows: int, columns: int) -> np.ndarray:
  """Light and dark of hair in 0..1, [rows, columns]: strands along v where straight, tufts where curly."""
  tall = 5 + int(24 * face.curl * face.curl)
  grid = face.noise[500 : 500 + tall * 40].reshape(tall, 40)
  return shapes.upsample(grid, rows, columns)


def _hair(canvas: _Canvas, face: SimpleNamespace) -> None:
  u, v = canvas.u, canvas.v
  side = np.abs(u)
  strands = hair_strands(face, *canvas.height.shape)
  # The oval the hair leaves free: its top is the hairline, its sides end where the hair ends.
  sweep = face.fringe * 0.22 * (u - face.part) if face.fringe > 0 else 0
  top = face.hairline + sweep + face.peak * bump(square(u * 4)) - 0.12 * face.temple * bump(square((side - 0.5) * 3.5))
  below = v - top
  oval = square(u * (1 / face.side)) + square(unit((0.35 - v) / (0.35 - face.hairline))) * 0.18
  around = np.maximum(rise(oval, 0.82, 1.08), rise(below, 0.1, -0.06))
  if face.bald:
    around = rise(side, 1.0, 1.25) * rise(v, -1.0, -0.6)
  ragged = (strands - 0.5) * (0.12 + 0.2 * face.curl)
  around = around * rise(v + ragged, face.hair_low + 0.1, face.hair_low - 0.06)
  cover = unit(around * (2.2 + 1.2 * strands) - 0.9)
  light = mix(1.0, 0.45 + 1.1 * strands, face.streak)
  rgb = colour(face.hair_rgb)[:, :, None] * light
  # The hair is too thick for a relief, whose step would catch the light as a white line: it is given a shadow instead.
  canvas.rgb *= 1 - around * 0.55
  canvas.rgb += (rgb - canvas.rgb) * cover
  canvas.height += cover * (0.012 + strands * 0.05)
  canvas.hair = cover
  canvas.gloss += (0.10 + 0.3 * (1 - face.curl) - canvas.gloss) * cover
