"""One pass over all images on all cores: what an audit remembers of each, 35 bytes, whatever the image is."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from gif_jax.core.errors import DataError, UnreadableError
from gif_jax.core.workers import on_all_cores
from gif_jax.data.formats.records import EncodedImages
from gif_jax.data.images import read_image
from gif_jax.data.listing import Skipped

KINDS = ('undecodable', 'blank', 'colour', 'grey', 'CMYK', 'other')
UNDECODABLE, BLANK, COLOUR = 0, 1, 2
_KIND_OF = {'colour': 'colour', 'grey': 'grey', 'black': 'grey', 'CMYK': 'CMYK'}  # by the first word of a picture's
_SIDE = 112  # images are looked at in the size they are trained in
_FLAT = 6  # levels between the darkest and the brightest of 81 cells, up to which a picture shows nothing
_BLOCK = 512  # images a process looks at before it reports
_FEW = 1024  # images that are looked at sooner than processes start

MARK = np.dtype(
  [
    ('content', np.uint64),  # hash of the encoded bytes
    ('look', np.uint64),  # difference hash of the picture, from left to right
    ('down', np.uint64),  # and from top to bottom
    ('bytes', np.int32),
    ('width', np.uint16),
    ('height', np.uint16),
    ('kind', np.uint8),  # place in KINDS
    ('red', np.uint8),  # mean of the picture's middle third, where the skin is
    ('blue', np.uint8),
  ]
)


class Together:
  """The images of several sets, one after the other."""

  def __init__(self, sets: Sequence[EncodedImages]):
    self.sets = list(sets)
    self.starts = np.cumsum([0, *map(len, self.sets)])

  def __len__(self) -> int:
    return int(self.starts[-1])

  def __getitem__(self, index: int) -> bytes:
    images, row = self._locate(index)
    return images[row]

  def where(self, index: int) -> str:
    """What to call an image in a message."""
    images, row = self._locate(index)
    return images.where(row)

  def _locate(self, index: int) -> tuple[EncodedImages, int]:
    which = int(np.searchsorted(self.starts, index, 'right')) - 1
    return self.sets[which], int(index - self.starts[which])


class Marked(NamedTuple):
  """marks: MARK [n]; undecodable: the images that are no images, with the reasons."""

  marks: np.ndarray
  undecodable: list[Skipped]


def mark_all(images: Together) -> Marked:
  """Reads and decodes every image once, on all cores where there are many; shows progress."""
  n = len(images)
  marks = np.zeros(n, MARK)
  undecodable: list[Skipped] = []
  look = _Look(images)
  jobs = [(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)]
  with tqdm(total=n, desc='looking at images', unit='image', unit_scale=True) as bar:
    for (start, stop), block in zip(jobs, on_all_cores(look, jobs) if n > _FEW else map(look, jobs)):
      marks[start:stop] = block.marks
      undecodable += block.undecodable
      bar.update(stop - start)
  return Marked(marks, undecodable)


class _Look:
  """What a worker does; sets of images open their files when first read."""

  def __init__(self, images: Together):
    self.images = images

  def __call__(self, job: tuple[int, int]) -> Marked:
    cv2.setNumThreads(0)  # every core has a process of its own
    marks = np.zeros(job[1] - job[0], MARK)
    undecodable = []
    for i, index in enumerate(range(*job)):
      try:
        encoded = self.images[index]
        marks[i]['bytes'] = len(encoded)
        marks[i] = mark(encoded)
      except (UnreadableError, DataError) as error:
        undecodable.append(Skipped(self.images.where(index), str(error)))
    return Marked(marks, undecodable)


def mark(encoded: bytes) -> tuple:
  """The fields of MARK of one encoded image. Raises UnreadableError for what cannot be decoded to its end."""
  crop, width, height, what = read_image(encoded, _SIDE)
  look, down, contrast = difference_hashes(crop)
  red, _, blue, _ = cv2.mean(crop[_SIDE // 3 : -_SIDE // 3, _SIDE // 3 : -_SIDE // 3])
  content = int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest())
  kind = BLANK if contrast <= _FLAT else KINDS.index(_KIND_OF.get(what.split()[0], 'other'))
  return content, look, down, len(encoded), width, height, kind, round(red), round(blue)


def difference_hashes(crop: np.ndarray) -> tuple[int, int, int]:
  """Two times 64 bits: whether each of 8 x 8 cells is darker than the next to its right; than the next below.

  crop uint8 [s, s, 3]. The bits hardly change when a picture is compressed again, resized or made brighter. The third
  number is the brightest minus the darkest cell.
  """
  cells = cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (9, 9), interpolation=cv2.INTER_AREA)
  bits = cells[:8, 1:] > cells[:8, :8], cells[1:, :8] > cells[:8, :8]
  look, down = (int.from_bytes(np.packbits(each).tobytes()) for each in bits)
  return look, down, int(cells.max()) - int(cells.min())
