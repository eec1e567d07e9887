"""Records written in the training format: images passed through or brought to size, on all cores, resumable."""

import itertools
import logging
import os
import re
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from io import BufferedRandom
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from gif_jax.core.errors import DataError, UnreadableError
from gif_jax.core.lists import read_rows, table_text, write_rows
from gif_jax.core.storage.files import writing
from gif_jax.core.storage.resume import Draft
from gif_jax.core.workers import on_all_cores
from gif_jax.data.convert.select import Chosen
from gif_jax.data.formats.packed import write_index
from gif_jax.data.formats.records import Person, Records, names_of
from gif_jax.data.images import DECODING, is_plain, read_image
from gif_jax.data.listing import Skipped

_LOG = logging.getLogger(__name__)

PACKING = [3, DECODING]  # raised whenever `fit` gives other bytes, so that no draft is continued with them
BLOCK = 128  # images of a job
FEW = 512  # images that are done sooner than processes start
SAVE_SECONDS = 5
_NOTED = 11  # numbers in a note of how far it has come
_READ = 1 << 24  # bytes read at a time


class Fitted(NamedTuple):
  """An encoded image of size x size pixels, and the sides that it had before."""

  encoded: bytes
  width: int
  height: int


def fit(encoded: bytes, size: int) -> Fitted:
  """The same bytes where they are a complete, upright JPEG or PNG, 8-bit RGB or grey, of size x size; else made a PNG.

  Others are brought to [size, size, 3] as `read_image` does; a PNG loses no more.
  Raises UnreadableError, with the reason, for what cannot be decoded to its end.
  """
  if is_plain(encoded, size):
    return Fitted(encoded, size, size)
  picture = read_image(encoded, size)
  png = cv2.imencode('.png', cv2.cvtColor(picture.pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
  return Fitted(png, picture.width, picture.height)


def fitted(encoded: bytes, size: int) -> bytes:
  """The bytes alone of what `fit` gives."""
  return fit(encoded, size).encoded


class _Done(NamedTuple):
  """A block of images, one after the other: bytes, of each its int32 length (0: left out), its uint32 CRC-32 and its
  int32 width and height before it was fitted (0: left out), what was left out, and how many passed unchanged."""

  encoded: bytes
  lengths: np.ndarray
  crcs: np.ndarray
  sides: np.ndarray
  skipped: list[Skipped]
  unchanged: int


class _Fit:
  """What a worker does with a block: the numbers of its records -> _Done."""

  def __init__(self, records: Records, size: int):
    self.records, self.size = records, size

  def __call__(self, rows: np.ndarray) -> _Done:
    images, sides, unchanged = [], [], 0
    skipped: list[Skipped] = []
    for row in rows.tolist():
      try:
        encoded = self.records[row]
        image, *own = fit(encoded, self.size)
        images.append(image)
        sides.append(own)
        unchanged += image is encoded
      except (UnreadableError, DataError) as error:
        where = self.records.where(row)
        images.append(b'')
        sides.append([0, 0])
        skipped.append(Skipped(where, str(error).removeprefix(where).lstrip(': ')))
    lengths = np.array([len(image) for image in images], np.int32)
    crcs = np.array([*map(zlib.crc32, images)], np.uint32)
    return _Done(b''.join(images), lengths, crcs, np.array(sides, np.int32), skipped, unchanged)


class _Part:
  """A file that grows, and the CRC-32 of what is in it so far."""

  stream: BufferedRandom  # once it has begun

  def __init__(self, path: Path):
    self.path, self.crc = path, 0

  def begin(self, size: int, crc: int) -> bool:
    """Opens the file at its first `size` bytes; False where it has fewer, or others than those of the CRC-32."""
    self.stream, self.crc, left = self.path.open('a+b'), 0, size
    self.stream.seek(0)
    while left and (block := self.stream.read(min(left, _READ))):
      self.crc = zlib.crc32(block, self.crc)
      left -= len(block)
    self.stream.truncate(size)
    return not left and self.crc == crc

  def write(self, content: bytes) -> None:
    self.stream.write(content)
    self.crc = zlib.crc32(content, self.crc)

  def to_disk(self) -> list[int]:
    """Brings all of it to the disk, as a machine may go down, and gives its size and CRC-32."""
    self.stream.flush()
    os.fsync(self.stream.fileno())
    return [self.stream.seek(0, os.SEEK_END), self.crc]

  def empty(self) -> None:
    self.stream.truncate(0)
    self.crc = 0


class Packing:
  """A conversion in the making, in a draft: `folder` becomes the data set, the rest is for going on after a kill.

  folder/images.bin   all images that were kept       folder/skipped.tsv   which were not, and why
  lengths, crcs       int32, uint32 per row             images.DONE.npy      sizes and CRC-32s of these files after DONE
                      (0 where left out)                                     rows, and how many images were unchanged
  """

  def __init__(self, draft: Draft):
    self.draft, self.folder = draft, draft.path / 'data'
    with writing(self.folder):
      self.folder.mkdir(exist_ok=True)
    names = (self.folder / 'images.bin', self.folder / 'skipped.tsv', draft.path / 'lengths', draft.path / 'crcs')
    self.parts = [_Part(path) for path in (*names, draft.path / 'sides')]
    self.done = self.unchanged = 0

  def fit(self, records: Records, rows: np.ndarray, size: int, bad_images: str) -> None:
    """Writes the images of `rows` (int64 [n], rising), from where an earlier run stopped, with a progress bar.

    bad_images: 'skip' leaves out and notes what cannot be read, 'error' raises DataError at the first. DiskError.
    """
    with writing(self.folder), ExitStack() as stack:
      self._resume()
      for part in self.parts:
        stack.enter_context(part.stream)
      jobs = (rows[start : start + BLOCK] for start in range(self.done, len(rows), BLOCK))
      run = on_all_cores if len(rows) - self.done > FEW else map
      saved = time.monotonic()
      bar = stack.enter_context(tqdm(total=len(rows), initial=self.done, desc='converting', unit='image'))
      for block in run(_Fit(records, size), jobs):
        if block.skipped and bad_images == 'error':
          name, why = block.skipped[0]
          raise DataError(f'{name}: {why}. Repair or remove it, or leave such images out: --bad_images=skip.')
        self._append(block)
        bar.update(len(block.lengths))
        if time.monotonic() - saved >= SAVE_SECONDS or self.done == len(rows):
          self._save()
          saved = time.monotonic()

  def _resume(self) -> None:
    """Brings the files back to where all of them were noted to be, or begins again where they are damaged."""
    self.done, noted = self.draft.load('images') or (0, np.zeros(_NOTED, np.int64))
    *sizes, self.unchanged = noted.tolist() if noted.shape == (_NOTED,) else [0] * _NOTED
    if not all([part.begin(*at) for part, at in zip(self.parts, zip(sizes[::2], sizes[1::2]))]):
      _LOG.warning('%s is damaged: beginning again', self.draft.path)
      self.done = self.unchanged = 0
      for part in self.parts:
        part.empty()

  def _append(self, block: _Done) -> None:
    lines = table_text(block.skipped, '\t').encode('utf-8', 'surrogateescape')
    contents = (block.encoded, lines, block.lengths.tobytes(), block.crcs.tobytes(), block.sides.tobytes())
    for part, content in zip(self.parts, contents):
      part.write(content)
    self.done += len(block.lengths)
    self.unchanged += block.unchanged

  def _save(self) -> None:
    noted = [*itertools.chain.from_iterable(part.to_disk() for part in self.parts), self.unchanged]
    self.draft.save('images', self.done, np.array(noted, np.int64))

  def usable(self, labels: np.ndarray, m: int) -> np.ndarray:
    """Images that were kept of each of m people, where labels int64 [n] are those of the rows: int64 [m]."""
    return np.bincount(labels[self._lengths() > 0], minlength=m)

  def _lengths(self) -> np.ndarray:
    return np.fromfile(self.parts[2].path, np.int32)

  def sides(self) -> np.ndarray:
    """Width and height of every row's image as it came: int32 [n, 2], 0 where left out."""
    return np.fromfile(self.parts[4].path, np.int32).reshape(-1, 2)

  def reasons(self) -> Counter[str]:
    """How many images were left out for each reason; reasons that differ in numbers are one."""
    return Counter(re.sub(r'\d+', 'N', row[1]) for _, row in read_rows(self.parts[1].path, '\t'))

  def complete(
    self,
    records: Records,
    chosen: Chosen,
    people: Sequence[Person],
    stay: np.ndarray,
    notes: Iterable[Skipped],
    *,
    size: int,
    origin: str,
  ) -> None:
    """Makes `folder` a data set of the people for whom `stay`, bool [m], holds; their labels follow their order.

    records, chosen: what was fitted, and of whom; notes: what else is to stand in skipped.tsv; size, origin: see
    `write_index`. Raises DiskError, DataError for names that cannot be read.
    """
    path, lengths, crcs = self.parts[1].path, self._lengths(), np.fromfile(self.parts[3].path, np.uint32)
    write_rows(path, [*(row for _, row in read_rows(path, '\t')), *notes], '\t')
    kept = (lengths > 0) & stay[chosen.labels]
    offsets = np.cumsum(lengths, dtype=np.int64) - lengths
    people = [person for person, stays in zip(people, stay.tolist()) if stays]
    whose = (np.cumsum(stay) - 1)[chosen.labels[kept]]
    names = names_of(records, chosen.rows[kept])
    arrays = offsets[kept], lengths[kept], whose, crcs[kept]
    write_index(self.folder, *arrays, people, size=size, origin=origin, names=names)
