"""The head of one picture: the ellipsoid behind every pixel, its texture under this expression, and its shading.

Everything here works on flat arrays over the pixels the head covers; a plane is float32 [pixels].
"""

import math
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np

from gif_jax.data.synthetic import shapes, texture, worn
from gif_jax.data.synthetic.shapes import bump, hill, mix, rise, square, unit

_WHITE = np.array([[0.47], [0.43], [0.41]], np.float32)
_LASH = np.array([[0.02], [0.013], [0.01]], np.float32)
_MOUTH = np.array([[0.035], [0.008], [0.008]], np.float32)
_TOOTH = np.array([[0.62], [0.58], [0.50]], np.float32)
_TONGUE = np.array([[0.30], [0.08], [0.08]], np.float32)


class Pose:
  """Where the head is and how it is turned: everything about a picture that is a handful of numbers.

  Attributes:
    right, down, toward: the axes of the picture in the frame of the head, 3 floats each.
    scaled: the same three, in the frame in which the head is a unit sphere.
    axes: half lengths of the head along x, y, z, in half pictures at scale 1.
    half_width, half_height: of the outline of the turned ellipsoid.
    light, half: direction of the key light, and halfway between it and the viewer, in the frame of the picture.
    key, fill: colours of the key and the fill light, exposure included: linear float32 [3, 1].
  """

  def __init__(self, face: SimpleNamespace, sample: SimpleNamespace) -> None:
    self.axes = (face.height * face.aspect, face.height, face.height * face.aspect * face.depth)
    (cy, sy), (cp, sp) = shapes.turn(sample.yaw), shapes.turn(sample.pitch)
    self.right, self.down, self.toward = (cy, 0.0, sy), (sp * sy, cp, -sp * cy), (-cp * sy, sp, cp * cy)
    self.scaled = right, down, toward = [
      tuple(v / a for v, a in zip(axis, self.axes)) for axis in (self.right, self.down, self.toward)
    ]
    self.aa = dot(toward, toward)
    self.bx, self.by = dot(right, toward), dot(down, toward)
    self.xx = dot(right, right) - self.bx * self.bx / self.aa
    self.yy = dot(down, down) - self.by * self.by / self.aa
    self.xy = 2 * (dot(right, down) - self.bx * self.by / self.aa)
    self.half_width, self.half_height = 1 / math.sqrt(self.xx), 1 / math.sqrt(self.yy)
    self.light = normal((sample.light_u, sample.light_v, sample.light_w))
    self.half = normal((self.light[0], self.light[1], self.light[2] + 1))
    self.key = _tinted(sample.key * sample.exposure, sample.key_warm, sample.key_green)
    self.fill = _tinted(sample.fill * sample.exposure, sample.fill_warm, 0.0)

  def in_head(self, vector: Sequence[float]) -> tuple[float, ...]:
    """A direction of the picture in the frame of the head."""
    return tuple(vector[0] * r + vector[1] * d + vector[2] * t for r, d, t in zip(self.right, self.down, self.toward))

  def in_picture(self, x: float, y: float, z: float) -> tuple[float, float]:
    """Where a point of the head's frame is seen."""
    return dot(self.right, (x, y, z)), dot(self.down, (x, y, z))


def _tinted(light: float, warm: float, green: float) -> np.ndarray:
  return np.array([[light * (1 + warm)], [light * (1 + green)], [light * (1 - warm)]], np.float32)


def dot(a: Sequence[float], b: Sequence[float]) -> float:
  """The scalar product of two vectors of the space."""
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def normal(vector: Sequence[float]) -> tuple[float, ...]:
  """The vector at length 1."""
  length = math.sqrt(dot(vector, vector))
  return tuple(v / length for v in vector)


def outline(
  face: SimpleNamespace, sample: SimpleNamespace, pose: Pose, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Shapes the ellipsoid into a head: `x`, `y` in which it is an ellipsoid, and `inside`, 1 at its middle and 0 at its
  outline; float32, shaped like the arguments."""
  high = y * (1 / pose.half_height)
  low = unit(high)
  # The jaw drops with the mouth.
  y = y * (1 - (0.07 * max(sample.open, 0.0)) * square(low))
  up = unit(-high)
  width = 1 + (low - square(low)) * (4 * face.jaw) + square(low) * face.chin
  width += (up - square(up)) * (4 * face.forehead) + bump(square((high - 0.2) * 2.2)) * face.cheek
  x = x / width
  inside = 1 - (x * x * pose.xx + y * (y * pose.yy + x * pose.xy))
  return x, y, inside


def shade(
  face: SimpleNamespace,
  baked: texture.Texture,
  sample: SimpleNamespace,
  pose: Pose,
  x: np.ndarray,
  y: np.ndarray,
  inside: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """Linear colour of the pixels of the head, and how much of the hair behind it shows through.

  Args:
    face: `identity.draw`.
    baked: its texture.
    sample: `nuisance.draw`.
    pose: of this picture.
    x, y, inside: planes of `outline`.

  Returns:
    Colour, float32 [3, pixels], and opacity, float32 [pixels] in 0..1.
  """
  point, u, v = _surface(baked, pose, x, y, inside)
  warped_u, warped_v, gape = _express(face, sample, u, v)
  texel = baked.index(warped_u, warped_v)
  surface = np.ascontiguousarray(baked.texels.take(texel, axis=0).T)
  _open_mouth(face, surface, gape)
  _eyes(face, sample, surface, warped_u, warped_v, baked.texel)
  worn.lay_on_face(face, sample, surface, u, v, baked.texel)
  # Towards the outline the hair on the head becomes the hair around it, or its edge would be seen.
  loose = surface[texture.HAIR] * rise(inside, 0.7, 0.0)
  if not face.long:
    loose *= rise(y, 0.15 * pose.half_height, -0.2 * pose.half_height)
  return _light(baked, pose, point, texel, surface), 1 - loose


def _surface(baked, pose, x, y, inside):
  """Points of the unit sphere (3 planes), and the face coordinates u and v seen there."""
  root = np.sqrt(np.maximum(inside, 1e-3) * pose.aa)
  depth = (root - (x * pose.bx + y * pose.by)) * (1 / pose.aa)
  right, down, toward = pose.scaled
  point = [x * r + y * d + depth * t for r, d, t in zip(right, down, toward)]
  stretch = np.sqrt(2 / np.maximum(1 + point[2], 0.1))
  u, v = point[0] * stretch, point[1] * stretch
  # Parallax in two steps: the relief hides what lies behind it, so the nose moves over the cheek as the head turns.
  lean = 1 / np.maximum(root, 0.5 * math.sqrt(pose.aa))
  along_u, along_v = (lean * toward[0] - point[0]) * stretch, (lean * toward[1] - point[1]) * stretch
  height = baked.height.take(baked.index(u, v))
  height = baked.height.take(baked.index(u + height * along_u, v + height * along_v))
  return point, u + height * along_u, v + height * along_v


def _express(face, sample, u, v):
  """Face coordinates to look the texture up at, and the gape of the mouth: (pixels, distance below the upper lip,
  opening, distance from the corners), for the pixels around the mouth."""
  v = v + bump(square((v - face.eye_v + face.brow_v) * 4.5)) * sample.brow
  near = ((np.abs(u) < 0.75) & (v > face.mouth_v - 0.3)).nonzero()[0]
  mouth_u, mouth_v = u[near], v[near]
  window = hill(square((mouth_v - face.mouth_v) * 4))
  mouth_u = mouth_u * (1 - (0.16 * sample.smile) * window)
  across = mouth_u * (1 / face.mouth_w)
  mouth_v = mouth_v + (square(across) * bump(square(across * 0.45)) - 0.25) * window * (0.11 * sample.smile)
  below = mouth_v - face.mouth_v + square(across) * face.mouth_bend
  # The opening closes at the corners and its pull fades towards the chin, so that no edge is left anywhere else.
  opening = np.maximum(1 - square(across), 0) * (0.20 * max(sample.open, 0.0))
  pull = np.minimum(np.maximum(below, 0), opening) * rise(below, 0.75, 0.15)
  u = u.copy()
  u[near] = mouth_u
  v[near] = mouth_v - pull
  return u, v, (near, below, opening, across)


def _open_mouth(face, surface, gape) -> None:
  """Paints teeth, tongue and dark between the lips."""
  pixels, below, opening, across = gape
  inner = ((opening > 0.004) & (below > -0.02) & (below < opening + 0.02)).nonzero()[0]
  if not inner.size:
    return
  pixels, below, opening, across = pixels[inner], below[inner], opening[inner], across[inner]
  cover = unit(below * 45 + 0.4) * unit((opening - below) * 45 + 0.4) * unit(opening * 40)
  teeth = unit((0.055 - below) * 45) * rise(np.abs(across), 0.85, 0.6)
  tongue = unit((below - opening * 0.55) * 12) * bump(square(across * 1.3))
  part = surface[:, pixels]
  part[:3] = mix(part[:3], mix(mix(_MOUTH, _TONGUE, tongue), _TOOTH, teeth), cover)
  part[texture.SLOPE_U : texture.SLOPE_V + 1] *= 1 - cover
  surface[:, pixels] = part


def _eyes(face, sample, surface, u, v, texel: float) -> None:
  """Draws the eyes of this picture: lids, lashes, iris, gaze; edges as soft as those of the texture."""
  across = np.abs(u) - face.eye_u
  down = v - face.eye_v
  near = ((np.abs(across) < 1.3 * face.eye_w) & (np.abs(down) < 2.2 * face.eye_h)).nonzero()[0]
  if not near.size:
    return
  # Both eyes at once: `across` grows towards the temples.
  u, across, down = u[near], across[near], down[near]
  outward = across * (1 / face.eye_w)
  down = down + across * face.eye_tilt
  belly = 1 - square(outward)
  arch = np.maximum(belly, 0) * (1.25 - 0.25 * square(outward + 0.2))
  wide = sample.squint * (1 - 0.95 * math.sqrt(max(sample.blink, 0.0)))
  edge = 1 / max(texel, 0.012)
  from_top = down + arch * (face.eye_h * wide) - 0.35 * face.eye_h * (1 - wide)
  from_low = arch * (face.eye_h * (face.eye_low * (0.6 + 0.4 * sample.squint))) - down
  opened = unit(from_top * edge + 0.5) * unit(from_low * edge + 0.5) * unit(belly * 6)
  side = np.where(u < 0, 1.0, -1.0).astype(np.float32)
  gaze = across + side * (sample.gaze_u * face.eye_w * 0.8)
  radius = 0.175 * face.iris + 0.006
  r = np.sqrt(square(gaze) + square(down + (0.15 + sample.gaze_v) * face.eye_h)) * (1 / radius)
  iris = unit((1 - r) * (radius * edge) + 0.5)
  pupil = unit((0.42 - r) * (radius * edge) + 0.5)
  ring = 1 - rise(r, 0.6, 1.0) * 0.6
  glint = bump((square(gaze + side * 0.028) + square(down + 0.4 * face.eye_h)) * (1 / 0.0009))
  lid_shade = 0.42 + 0.58 * rise(from_top, 0.0, 0.07)
  lash = bump(square(from_top * (1 / (0.016 + 0.018 * face.lash)))) * rise(belly, -0.12, 0.2)
  lash += bump(square(from_low * (1 / 0.016))) * rise(belly, 0.0, 0.3) * 0.35
  lash = unit(lash * (0.55 + 0.45 * face.lash))
  ball = mix(_WHITE * (1 - 0.35 * square(outward)), shapes.colour(face.iris_rgb) * ring, iris)
  ball *= lid_shade * (1 - 0.93 * pupil)
  ball += glint * 0.5
  part = surface[:, near]
  part[:3] = mix(mix(part[:3], ball, opened), _LASH, lash)
  part[texture.SLOPE_U : texture.SLOPE_V + 1] *= 1 - opened
  part[texture.GLOSS] *= 1 - 0.5 * opened
  surface[:, near] = part


def _light(baked, pose, point, texel, surface) -> np.ndarray:
  """Lights a `surface` (planes as the columns of the texels) at points of the unit sphere."""
  x, y, z = point
  over_x, over_y, over_z = (1 / a for a in pose.axes)
  front = np.maximum(z, 0)
  slope_u, slope_v = surface[texture.SLOPE_U] * (0.8 * over_x), surface[texture.SLOPE_V] * (0.8 * over_y)
  # A face is flatter than an egg from mouth to chin.
  normal_x = x * over_x - slope_u * front
  normal_y = y * over_y * (1 - 0.45 * unit(y)) - slope_v * front
  normal_z = z * over_z + slope_u * x + slope_v * y
  scale = 1 / np.sqrt(square(normal_x) + square(normal_y) + square(normal_z))
  light, half = pose.in_head(pose.light), pose.in_head(pose.half)
  lit = (normal_x * light[0] + normal_y * light[1] + normal_z * light[2]) * scale
  # Not down to 0, whose neighbours' 16th powers are slow denormal numbers.
  mirror = np.maximum((normal_x * half[0] + normal_y * half[1] + normal_z * half[2]) * scale, 0.05)
  upward = (normal_x * pose.down[0] + normal_y * pose.down[1] + normal_z * pose.down[2]) * scale
  lit = unit(lit * 0.88 + 0.12) * (1 - _cast_shadow(baked, light, texel))
  mirror = square(square(square(square(mirror)))) * surface[texture.GLOSS]
  light = pose.key * lit
  light += pose.fill * (0.78 - 0.3 * upward)
  light *= surface[:3]
  light += pose.key * (mirror * (lit * 0.42 + 0.08))
  return light


def _cast_shadow(baked, light, texel) -> np.ndarray:
  """How much the relief a short way towards the light stands in its way: planes in 0..0.75."""
  steep = 0.12 / max(light[2], 0.35)
  step = int(steep * light[0] * baked.scale_u) + baked.columns * int(steep * light[1] * baked.scale_v)
  # Texels next to the border may reach across it; there is only hair and the back of the head.
  ahead = baked.height.take(texel + step, mode='clip') - baked.height.take(texel)
  return unit((ahead - 0.075) * 11) * 0.75
