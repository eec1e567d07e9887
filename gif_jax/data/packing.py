"""Records written in the training format: images passed through or brought to size, on all cores, resumable."""

import csv
import fcntl
import io
import os
import re
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from gif_jax.codes.draft import Draft
from gif_jax.data.crops import decode
from gif_jax.data.images import DataError, UnreadableError, open_image, read_image
from gif_jax.data.listing import Skipped
from gif_jax.data.records import Person, Records, write_index
from gif_jax.data.workers import on_all_cores

PACKING = 1  # raised whenever `fitted` gives other bytes, so that no draft is continued with them
BLOCK = 128  # images of a job
FEW = 512  # images that are done sooner than processes start
SAVE_SECONDS = 5
_ORIENTATION = 0x0112  # EXIF 2.3, tag 274: 1 is upright
_TURNED = range(2, 9)
_GREY, _COLOUR = 0, 2  # of PNG's header: sample depth in byte 24, colour type in byte 25 (PNG 1.2, 11.2.2)


def fitted(encoded: bytes, size: int) -> bytes:
  """The same bytes where they are a whole, upright JPEG or PNG, 8-bit RGB or grey, of size x size; else made a PNG.

  Others are brought to [size, size, 3] as `read_image` does; a PNG loses no more. What is passed was decoded by Pillow,
  which refuses more broken files, and by OpenCV, which is what training decodes with.
  Raises UnreadableError, with the reason, for what cannot be read whole.
  """
  if not encoded:
    raise UnreadableError('empty, 0 bytes')
  if _passes(encoded, size):
    return encoded
  pixels = read_image(encoded, size).pixels
  return cv2.imencode('.png', cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()


def _passes(encoded, size):
  try:
    with open_image(encoded) as image:
      if image.size != (size, size) or not _is_plain(image, encoded):
        return False
      image.load()
    decode(encoded, size)
  except Exception:  # Pillow's decoders raise almost anything; read_image says what it is
    return False
  return True


def _is_plain(image, encoded):
  if image.format == 'PNG' and (encoded[24] != 8 or encoded[25] not in (_GREY, _COLOUR)):
    return False  # Pillow calls 16 bits RGB too, and 1 to 4 bits grey
  if image.format not in ('JPEG', 'PNG') or image.mode not in ('L', 'RGB') or getattr(image, 'is_animated', False):
    return False
  return not image.has_transparency_data and image.getexif().get(_ORIENTATION) not in _TURNED


class _Done(NamedTuple):
  """A block of images, one after the other: bytes, int32 lengths (0: left out), what was left out, how many passed."""

  encoded: bytes
  lengths: np.ndarray
  skipped: list[Skipped]
  unchanged: int


class _Fit:
  """What a worker does with a block: the numbers of its records -> _Done."""

  def __init__(self, records, size):
    self.records, self.size = records, size

  def __call__(self, rows):
    images, skipped, unchanged = [], [], 0
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # Pillow's, about files that are read nevertheless or refused below
      for row in rows.tolist():
        try:
          encoded = self.records[row]
          images.append(fitted(encoded, self.size))
          unchanged += images[-1] is encoded
        except (UnreadableError, DataError) as error:
          where = self.records.where(row)
          images.append(b'')
          skipped.append(Skipped(where, str(error).removeprefix(where).lstrip(': ')))
    return _Done(b''.join(images), np.array([len(image) for image in images], np.int32), skipped, unchanged)


def _lines(skipped):
  text = io.StringIO()
  csv.writer(text, delimiter='\t', lineterminator='\n').writerows(skipped)
  return text.getvalue().encode('utf-8', 'surrogateescape')


class Packing:
  """A conversion in the making, in a draft: `folder` becomes the data set, the rest is for going on after a kill.

  folder/images.bin   all images that were kept       folder/skipped.tsv   which were not, and why
  lengths             int32 per row, 0 where left out   images.DONE.npy      sizes of these files after DONE rows
  """

  def __init__(self, draft: Draft):
    self.draft, self.folder = draft, draft.path / 'data'
    self.folder.mkdir(exist_ok=True)
    self._paths = [self.folder / 'images.bin', self.folder / 'skipped.tsv', draft.path / 'lengths']
    self.done = self.unchanged = 0

  def fit(self, records: Records, rows: np.ndarray, size: int, bad_images: str) -> None:
    """Writes the images of `rows` (int64 [n], rising), from where an earlier run stopped, with a progress bar.

    bad_images: 'skip' leaves out and notes what cannot be read, 'error' raises DataError at the first. DataError, too,
    where another process is at the same draft.
    """
    with ExitStack() as stack:
      streams = [stack.enter_context(path.open('ab')) for path in self._paths]
      self._resume(streams)
      jobs = (rows[start : start + BLOCK] for start in range(self.done, len(rows), BLOCK))
      run = on_all_cores if len(rows) - self.done > FEW else map
      saved = time.monotonic()
      bar = stack.enter_context(tqdm(total=len(rows), initial=self.done, desc='converting', unit='image'))
      for block in run(_Fit(records, size), jobs):
        if block.skipped and bad_images == 'error':
          name, reason = block.skipped[0]
          raise DataError(f'{name}: {reason}. Repair or remove it, or leave such images out: --bad_images=skip.')
        self._append(streams, block)
        bar.update(len(block.lengths))
        if time.monotonic() - saved >= SAVE_SECONDS or self.done == len(rows):
          self._save(streams)
          saved = time.monotonic()

  def _resume(self, streams):
    """Brings the files back to where all of them were noted to be."""
    try:
      fcntl.flock(streams[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise DataError(f'{self.draft.path} is being written by another process; wait for it, or end it.') from error
    self.done, at = self.draft.load('images') or (0, np.zeros(4, np.int64))
    self.unchanged = int(at[3])
    for stream, size in zip(streams, at.tolist()):
      if stream.seek(0, os.SEEK_END) < size:
        raise DataError(f'{stream.name} has lost its end; remove {self.draft.path} and begin again.')
      stream.seek(stream.truncate(size))

  def _append(self, streams, block):
    for stream, content in zip(streams, (block.encoded, _lines(block.skipped), block.lengths.tobytes())):
      stream.write(content)
    self.done += len(block.lengths)
    self.unchanged += block.unchanged

  def _save(self, streams):
    for stream in streams:
      stream.flush()
      os.fsync(stream.fileno())  # a machine that goes down must not lose what is said to be there
    self.draft.save('images', self.done, np.array([*(stream.tell() for stream in streams), self.unchanged]))

  def usable(self, labels: np.ndarray, m: int) -> np.ndarray:
    """Images that were kept of each of m people, where labels int64 [n] are those of the rows: int64 [m]."""
    return np.bincount(labels[self._lengths() > 0], minlength=m)

  def _lengths(self):
    return np.fromfile(self._paths[2], np.int32)

  def reasons(self) -> Counter:
    """How many images were left out for each reason; reasons that differ in numbers are one."""
    with self._paths[1].open(encoding='utf-8', errors='surrogateescape', newline='') as lines:
      return Counter(re.sub(r'\d+', 'N', row[1]) for row in csv.reader(lines, delimiter='\t'))

  def complete(self, labels, people: Sequence[Person], stay: np.ndarray, notes: Iterable[Skipped], **described) -> None:
    """Makes `folder` a data set of the people for whom `stay`, bool [m], holds; their labels follow their order.

    notes: what else is to stand in skipped.tsv; described: size and origin, for `write_index`.
    """
    with self._paths[1].open('ab') as stream:
      stream.write(_lines(notes))
    lengths = self._lengths()
    kept = (lengths > 0) & stay[labels]
    offsets = np.cumsum(lengths, dtype=np.int64) - lengths
    people = [person for person, stays in zip(people, stay.tolist()) if stays]
    write_index(self.folder, offsets[kept], lengths[kept], (np.cumsum(stay) - 1)[labels[kept]], people, **described)
