"""Pictures of faces as a function of (seed, identity, sample, size) alone.

Byte-identical on every machine, by construction: all that touches a pixel is elementwise arithmetic in float32 with the
operations IEEE 754 rounds correctly (+ - * / sqrt, floor, comparisons) and integer gathers. There is no exponential, no
sine and no matrix product, whose last bits depend on the processor and on the shapes; bells are quotients
(`shapes.hill`), rotations are rational (`shapes.turn`), blurs are sums of shifted slices in a fixed order. Pictures are
made one at a time, so that none can depend on its neighbours and every buffer stays in the cache.
"""

import functools
from types import SimpleNamespace

import numpy as np

from gif_jax.core import counter_rng
from gif_jax.data.synthetic import head, identity, nuisance, scene, shapes, texture

_STREAM = 0x7E
_NOISE = 1 << 18  # values in the table of sensor noise
_SMALLEST, _LARGEST = 32, 224
_CACHED = 8


class FaceRenderer:
  """Renders samples of synthetic identities; picklable, and cheap to make.

  Baking an identity costs a few pictures' time and the last few are kept, so order calls by identity.

  Args:
    seed: names the world of faces; any integer.
    size: side of the pictures in pixels, 32 to 224.

  Raises:
    ValueError: for a size that is not a whole number from 32 to 224.
  """

  def __init__(self, seed: int = 0, size: int = 112) -> None:
    if size != int(size) or not _SMALLEST <= size <= _LARGEST:
      raise ValueError(
        f'faces cannot be rendered {size} pixels wide: choose a whole size from {_SMALLEST} to {_LARGEST}'
      )
    self.seed, self.size = int(seed), int(size)
    self._bake = functools.lru_cache(maxsize=_CACHED)(self._bake_face)
    self._axis = (np.arange(self.size, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / self.size) - np.float32(1)

  def __reduce__(self) -> tuple:
    return FaceRenderer, (self.seed, self.size)

  def render(self, identities: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Renders one picture for every pair.

    Args:
      identities: integers [n], 0 or more; any number is somebody.
      samples: integers [n], 0 or more; any number is another picture.

    Returns:
      uint8 [n, size, size, 3], RGB. Each picture depends on its own pair alone, to the byte.

    Raises:
      ValueError: for arguments that are not integer vectors of one length, or are negative.
    """
    identities, samples = _numbers('identities', identities), _numbers('samples', samples)
    if identities.shape != samples.shape:
      raise ValueError(
        f'identities {identities.shape} and samples {samples.shape} differ in length: '
        'give one sample number for every identity number'
      )
    images = np.empty((len(identities), self.size, self.size, 3), np.uint8)
    for image, person, sample in zip(images, identities.tolist(), nuisance.draw(self.seed, identities, samples)):
      for channel, plane in enumerate(self._picture(*self._bake(person), sample)):
        image[:, :, channel] = plane
    return images

  @functools.cached_property
  def _grain(self) -> np.ndarray:
    """Sensor noise, float32, about normal with deviation 1: sums of the four 16-bit parts of 64 random bits."""
    pairs = counter_rng.bits(self.seed, _STREAM, np.arange(_NOISE)).view(np.uint16).reshape(-1, 4).astype(np.int32)
    total = pairs[:, 0] + pairs[:, 1] + pairs[:, 2] + pairs[:, 3]
    return (total - 131070).astype(np.float32) * np.float32(1 / 37837)

  def _bake_face(self, person: int) -> tuple[SimpleNamespace, texture.Texture, np.ndarray]:
    face = identity.draw(self.seed, person)
    return face, texture.Texture(face, self.size), texture.hair_strands(face, 64, 1)[:, 0]

  def _picture(self, face, baked, strands, sample) -> np.ndarray:
    pose = head.Pose(face, sample)
    x, y = self._head_frame(sample)
    planes = scene.background(sample, self.size)
    shaped = head.outline(face, sample, pose, x, y)
    if not face.bald:
      scene.back_hair(planes, face, strands, pose, x, y, shaped[2])
    scene.neck(planes, face, pose, x, y)
    scene.clothes(planes, face, sample, pose, x, y)
    if not face.long:
      scene.ears(planes, face, sample, pose, x, y)
    self._lay_head(planes, face, baked, sample, pose, *shaped)
    scene.obstacle(planes, sample, pose, x, y)
    return self._expose(planes, sample)

  def _head_frame(self, sample) -> tuple[np.ndarray, np.ndarray]:
    cosine, sine = shapes.turn(sample.roll)
    x, y = (self._axis - sample.shift_u) * (1 / sample.scale), (self._axis - sample.shift_v) * (1 / sample.scale)
    return x * cosine + (y * sine)[:, None], (y * cosine)[:, None] - x * sine

  def _lay_head(self, planes, face, baked, sample, pose, x, y, inside) -> None:
    radius = 0.25 * self.size * sample.scale * pose.half_height  # pixels of outline for one unit of `inside`
    pixels = (inside > -0.5 / radius).reshape(-1).nonzero()[0]
    x, y, inside = (plane.reshape(-1)[pixels] for plane in (x, y, inside))
    cover = shapes.unit(inside * radius + 0.5)
    rgb, opacity = head.shade(face, baked, sample, pose, x, y, inside)
    if not face.bald:
      cover *= opacity
    scene.lay_at(planes, pixels, rgb, cover)

  def _expose(self, planes, sample) -> np.ndarray:
    """Lens, film and sensor: blur, the curve from light to display values, noise: uint8 [3, size, size]."""
    _blur(planes, max(sample.blur, 0.0) * self.size / 112)
    display = np.sqrt(planes, out=planes)
    # 255.5 leaves room to round by truncation.
    display *= (1 + sample.curve) * 255.5 / (1 + sample.curve * display)
    first = int(sample.noise_at * (_NOISE - display.size))
    display += self._grain[first : first + display.size].reshape(display.shape) * (
      1 + 7.6 * sample.noise * sample.noise
    )
    np.maximum(display, 0, out=display)
    return np.minimum(display, 255, out=display).astype(np.uint8)


def _blur(planes: np.ndarray, strength: float) -> None:
  """Blurs in place, in passes that weigh the two neighbours each way; edges keep their own value."""
  passes = 1 + int(strength * 1.6)
  weight = min(0.10 + 0.2 * strength / passes, 0.3)
  flat = planes.reshape(-1)
  for _ in range(passes):
    _spread(planes[:, :-2], planes[:, 1:-1], planes[:, 2:], weight)
    # Along all of the memory, which is faster than row by row; the ends of the rows, which would mix, are put back.
    ends = planes[:, :, 0].copy(), planes[:, :, -1].copy()
    _spread(flat[:-2], flat[1:-1], flat[2:], weight)
    planes[:, :, 0], planes[:, :, -1] = ends


def _spread(before: np.ndarray, middle: np.ndarray, after: np.ndarray, weight: float) -> None:
  around = before + after
  around *= weight
  middle *= 1 - 2 * weight
  middle += around


def _numbers(name: str, values) -> np.ndarray:
  values = np.asarray(values)
  if values.ndim != 1 or (values.size and values.dtype.kind not in 'iu'):
    raise ValueError(
      f'{name} must be a vector of integers, not {values.dtype} {values.shape}: pass an int64 array of shape [n]'
    )
  values = values.astype(np.int64)
  if values.size and values.min() < 0:
    raise ValueError(f'{name} holds {values.min()}: number identities and samples from 0 upwards')
  return values
