"""Verification sets (lfw.bin, cfp_fp.bin, agedb_30.bin ...): pairs of images, and whether they show one person.

The file is a pickle of ([2N encoded images], [N booleans]); images 2i and 2i + 1 are pair i (InsightFace,
recognition/arcface_torch/eval/verification.py, load_bin). A pickle is a program: see `restricted_pickle` for how it is
read.
"""

import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gif_jax.core.errors import DataError
from gif_jax.core.storage.files import replacing
from gif_jax.data.formats.restricted_pickle import Array, Malformed, Refused, load

_NUMBER = 16  # bytes of a number, at most


class Pairs(NamedTuple):
  """N pairs: images 2i and 2i + 1 are pair i."""

  images: list[bytes]  # 2N, encoded (JPEG, PNG)
  same: np.ndarray  # bool [N], whether a pair shows one person


def read_pairs(path: str | Path) -> Pairs:
  """Reads a verification set, written by Python 2 or 3 with any NumPy; equal images are one object.

  Images are bytes, or uint8 arrays of encoded bytes. Labels are 0 and 1 as any kind of number, in a list or an array.
  Raises DataError for files that hold anything else, and for those that try to load code; none of it is run.
  """
  try:
    content = Path(path).read_bytes()
  except OSError as error:
    raise DataError(f'{path} cannot be read ({error.strerror}); check the spelling and the disk.') from error
  try:
    return _pairs(load(content))
  except Refused as error:
    raise DataError(f'{path}: {error}; nothing of it was run. Get the file from a source you trust.') from error
  except Exception as error:  # the reader of pickles raises almost anything for damaged files
    reason = str(error) if isinstance(error, Malformed) else f'cut off or damaged ({type(error).__name__})'
    raise DataError(f'{path} is no verification set: {reason}; copy it again, or make it again.') from error


def write_pairs(path: str | Path, images: Sequence[bytes], same: Iterable[bool]) -> int:
  """Writes a verification set that read_pairs and InsightFace's tools read: 2N encoded images, N booleans.

  Equal images are stored once, and once in the memory of whoever reads the file. Returns the number of different ones.
  Raises DataError where the numbers do not fit; DiskError.
  """
  path, same = Path(path), [bool(label) for label in same]
  if len(images) != 2 * len(same):
    raise DataError(f'{path}: {len(images)} images for {len(same)} pairs; give two images for each.')
  images = _shared(map(bytes, images))
  with replacing(path) as temporary, temporary.open('wb') as file:
    pickle.dump((images, same), file, protocol=4)  # the newest that every Python 3 reads
  return len(set(images))


def _shared(images: Iterable[bytes]) -> list[bytes]:
  """The same images, equal ones as the very same object, which a pickle has once."""
  kept: dict[bytes, bytes] = {}
  return [kept.setdefault(image, image) for image in images]


def _pairs(content: Any) -> Pairs:
  """What the pickle holds, as pairs. Raises Malformed for anything else."""
  if not isinstance(content, list | tuple) or len(content) != 2:
    raise Malformed('not (images, labels)')
  images, same = (_items(part, name) for part, name in zip(content, ('images', 'labels')))
  if len(images) != 2 * len(same):
    raise Malformed(f'{len(same)} labels for {len(images)} images, wanted one for two')
  if not len(same):
    raise Malformed('it is empty')
  labels = [_label(label, number) for number, label in enumerate(same)]
  return Pairs(_shared(_encoded(image, number) for number, image in enumerate(images)), np.array(labels, bool))


def _items(listed: Any, name: str) -> Sequence[Any]:
  if isinstance(listed, Array):
    listed = listed.items(name)
  if not isinstance(listed, list | tuple):
    raise Malformed(f'{name}: {_kind(listed)}, no list')
  return listed


def _label(label: Any, number: int) -> bool:
  name = f'label {number}'
  if isinstance(label, list | tuple | Array) and len(label) <= _NUMBER:  # a NumPy scalar, or a row of a column
    items = _items(label, name)
    label = items[0] if len(items) == 1 else label
  if type(label) not in (bool, int, float):
    raise Malformed(f'{name} is {_kind(label)}, wanted 0 or 1')
  if label not in (0, 1):
    raise Malformed(f'{name} is {str(label)[:40]}, wanted 0 or 1')
  return bool(label)


def _encoded(image: Any, number: int) -> bytes:
  if isinstance(image, Array):
    image = image.encoded(f'image {number}')
  if not isinstance(image, bytes):
    raise Malformed(f'image {number} is {_kind(image)}, wanted bytes')
  return image


def _kind(value: Any) -> str:
  """What a part of the file is, in words. Not its content: lists in lists may be endless when written out."""
  if value is None:
    return 'None'
  name = type(value).__name__.strip('_').lower()
  return f'{"an" if name[0] in "aeiou" else "a"} {name}'


class PairedImages:
  """The 2N encoded images of a verification set (.bin); a worker process is told the file and reads it itself.

  same: bool [N], whether images 2i and 2i + 1 are of one person.
  """

  def __init__(self, path: str | Path):
    """Raises DataError for a file that is no verification set."""
    self.path = Path(path)
    pairs = read_pairs(self.path)
    self._images: list[bytes] | None = pairs.images
    self.same = pairs.same

  def __getstate__(self) -> dict[str, Any]:
    return self.__dict__ | {'_images': None}

  def __len__(self) -> int:
    return 2 * len(self.same)

  def __getitem__(self, index: int) -> bytes:
    if self._images is None:
      self._images = read_pairs(self.path).images
    return self._images[index]

  def where(self, index: int) -> str:
    """The file and the image's place in it."""
    return f'{self.path}, image {index}'

  def name(self, index: int) -> str:
    """Images of this format have no names."""
    return ''
