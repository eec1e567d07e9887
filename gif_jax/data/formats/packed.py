"""The training format: encoded images of people in one file, any of them read in O(1).

A folder in the training format holds, for n images of m people:

    images.bin   the encoded images (JPEG, PNG), byte for byte as they came, one after the other
    offsets.npy  int64 [n], where each begins        lengths.npy  int32 [n], its bytes
    labels.npy   int64 [n], 0..m-1                    people.tsv   a line per label: name, origin
    crcs.npy     uint32 [n], CRC-32 of each image     meta.json    version, n, m, size, colour order, fingerprint of the
                                                                   people, origin, SHA-256 of people.tsv
    names.npy    uint8, the names of the images' files, one after the other: paths in UTF-8, bytes that are none as they
                 are; name_ends.npy   int64 [n], where each ends. Both exist only where names are known
The arrays are memory-mapped and images are read at their place: reading costs the same in a thousand images and in 40
million, and a reader holds one file descriptor. Opening checks the arrays, reading checks each image. Folders of
earlier versions have no crcs.npy; their images are read unchecked, with a word in the log.
"""

import logging
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gif_jax.core.errors import DataError, reason
from gif_jax.core.lists import read_rows, write_rows
from gif_jax.core.storage import checksums
from gif_jax.core.storage.arrays import load_array, save_array
from gif_jax.core.storage.files import read_json, remove, write_json
from gif_jax.data.formats.records import Names, Person, fingerprint
from gif_jax.data.listing import Skipped

_LOG = logging.getLogger(__name__)

VERSION = 1
META, IMAGES = 'meta.json', 'images.bin'
_ARRAYS = {'offsets': np.int64, 'lengths': np.int32, 'labels': np.int64, 'crcs': np.uint32}
_NAMES = {'names': np.uint8, 'name_ends': np.int64}
_AGAIN = 'copy or convert the data again'


class _Opened:
  """images.bin and the arrays of a folder in the training format; closed when nobody reads it any more."""

  def __init__(self, path: Path, meta: dict[str, Any], check: bool):
    names = [name for name in _ARRAYS if name != 'crcs' or _has_crcs(meta)]
    arrays = {
      name: load_array(path / f'{name}.npy', _ARRAYS[name], (meta['images'],), check=check, fix=_AGAIN)
      for name in names
    }
    # Indexing a memmap takes several times as long as indexing the plain array behind it.
    self.offsets, self.lengths, self.labels = (np.asarray(arrays[name]) for name in ('offsets', 'lengths', 'labels'))
    self.crcs = np.asarray(arrays['crcs']) if 'crcs' in arrays else None
    self.file = _open_images(path / IMAGES, meta['bytes'])

  def __del__(self) -> None:
    if hasattr(self, 'file'):
      os.close(self.file)


class Packed:
  """A folder in the training format, opened."""

  skipped: Sequence[Skipped] = ()

  def __init__(self, path: str | Path):
    """Raises DataError where files are missing, damaged or of another version."""
    self.path = Path(path)
    self.meta = _read_meta(self.path)
    self.size: int = self.meta['size']
    self._opened: _Opened | None = _Opened(self.path, self.meta, check=True)  # says now what is missing
    self._names: Names | None = None
    if not _has_crcs(self.meta):
      _LOG.info('%s is of an earlier version, without checksums of its images; convert it again to have them', path)
    _check_labels(self.path / 'labels.npy', self.labels(), self.meta['people'])

  def __getstate__(self) -> dict[str, Any]:
    return self.__dict__ | {'_opened': None, '_names': None}

  def __len__(self) -> int:
    return self.meta['images']

  def __getitem__(self, index: int) -> bytes:
    opened = self._open()
    length = opened.lengths.item(index)
    try:
      encoded = os.pread(opened.file, length, opened.offsets.item(index))
    except (OSError, ValueError) as error:  # a disk that fails; a place or length below 0
      raise DataError(f'{self.where(index)} cannot be read ({error}); copy or convert the data again.') from error
    if len(encoded) != length:
      raise DataError(f'{self.where(index)}: the file is shorter than when it was opened; copy or convert it again.')
    if opened.crcs is not None and zlib.crc32(encoded) != opened.crcs.item(index):
      raise DataError(f'{self.where(index)} is damaged: it does not match its checksum; {_AGAIN}.')
    return encoded

  def labels(self) -> np.ndarray:
    """Labels of all images: int64 [n], memory-mapped."""
    return self._open().labels

  def people(self) -> list[Person]:
    """Who the m labels are, from people.tsv."""
    path, wanted = self.path / 'people.tsv', self.meta.get('people_sha256')
    rows = [row for _, row in read_rows(path, '\t', fix=_AGAIN)]
    if wanted and checksums.sha256(path) != wanted:
      raise DataError(f'{path} is damaged: it does not match its checksum in {META}; {_AGAIN}.')
    if any(len(row) != 2 for row in rows):
      raise DataError(f'{path} has lines that are not NAME<TAB>ORIGIN; {_AGAIN}.')
    people = [Person(*row) for row in rows]
    if len(people) != self.meta['people']:
      raise DataError(f'{path} names {len(people)} people, {META} has {self.meta["people"]}; convert the data again.')
    return people

  def where(self, index: int) -> str:
    """images.bin, the number of the image in it and, if it has one, its name."""
    try:
      name = self.name(index)
    except DataError:  # what is wrong with the image is worth more than what is wrong with its name
      name = ''
    return f'{self.path / IMAGES}, image {index}' + (f' ({name})' if name else '')

  def name(self, index: int) -> str:
    """The name of the image's file; '' where none was known when the data was converted. Raises DataError."""
    if 'name_bytes' not in self.meta:
      return ''
    if self._names is None:
      lengths = self.meta['name_bytes'], self.meta['images']
      self._names = Names(
        *(
          np.asarray(load_array(self.path / f'{file}.npy', kind, (length,), fix=_AGAIN))
          for (file, kind), length in zip(_NAMES.items(), lengths)
        )
      )
    return self._names[index]

  def picture_keys(self) -> np.ndarray | None:
    """Of each image its length << 32 | CRC-32: uint64 [n]; None for a folder of an earlier version, without CRCs."""
    opened = self._open()
    return None if opened.crcs is None else opened.lengths.astype(np.uint64) << np.uint64(32) | opened.crcs

  def _open(self) -> _Opened:
    # Two threads may both open what was unpickled: each has files of its own then, and those of one of them are closed.
    opened = self._opened
    if opened is None:
      opened = self._opened = _Opened(self.path, self.meta, check=False)
    return opened


def _has_crcs(meta: dict[str, Any]) -> bool:
  return 'people_sha256' in meta  # both came with one version


def _check_labels(path: Path, labels: np.ndarray, people: int) -> None:
  if labels.min() < 0 or labels.max() >= people or not np.bincount(labels, minlength=people).all():
    raise DataError(f'{path} does not name each of {people} people, and nobody else; convert the data again.')


def _open_images(path: Path, size: int) -> int:
  """The file descriptor of images.bin, which must have `size` bytes."""
  try:
    file = os.open(path, os.O_RDONLY)
  except OSError as error:
    raise DataError(f'{path} cannot be opened ({reason(error)}); {_AGAIN}.') from error
  if (stored := os.fstat(file).st_size) != size:
    os.close(file)
    raise DataError(f'{path} has {stored} bytes, {META} says {size}: it was not copied whole; copy it again.')
  return file


def _read_meta(folder: Path) -> dict[str, Any]:
  path = folder / META
  meta = read_json(path, DataError, f'{folder} is no whole folder in the training format; {_AGAIN}')
  if meta.get('version') != VERSION:
    raise DataError(f'{path}: not version {VERSION} of the training format; convert the data with this version.')
  if meta.get('colour') != 'RGB':
    raise DataError(f'{path}: colour order {meta.get("colour")!r}; images must decode to RGB, convert them again.')
  counts = [meta.get(key) for key in ('images', 'people', 'bytes', 'size')]
  if not all(type(count) is int and count >= 0 for count in counts) or not meta['images']:
    raise DataError(f'{path}: no images, or damaged: images, people, bytes and size are {counts}; convert again.')
  if not isinstance(meta.get('fingerprint'), str):
    raise DataError(f'{path} is damaged: it has no fingerprint; convert the data again.')
  return meta


def write_index(
  folder: Path,
  offsets: np.ndarray,
  lengths: np.ndarray,
  labels: np.ndarray,
  crcs: np.ndarray,
  people: Sequence[Person],
  *,
  size: int,
  origin: str,
  names: Names | None = None,
) -> None:
  """Completes a folder that holds images.bin: the arrays, people.tsv and meta.json, which is written last.

  offsets int64 [n], lengths int32 [n], labels int64 [n], crcs uint32 [n] as above; size: pixels a side of all images,
  or 0; origin: what was converted, in words; names: those of the n images' files, if they have any. Bytes of images.bin
  that no record names (left out after they were written) are allowed. Raises DiskError.
  """
  arrays = {'offsets': offsets, 'lengths': lengths, 'labels': labels, 'crcs': crcs}
  for file in _NAMES:
    remove(folder / f'{file}.npy')  # of a run that was killed, whose images may have had names
  if names:
    arrays |= {'names': names.text, 'name_ends': names.ends}
  for file, values in arrays.items():
    save_array(folder / f'{file}.npy', np.asarray(values, (_ARRAYS | _NAMES)[file]))
  write_rows(folder / 'people.tsv', people, '\t')
  write_json(
    folder / META,
    {
      'version': VERSION,
      'images': len(labels),
      'people': len(people),
      'size': size,
      'colour': 'RGB',
      'bytes': (folder / IMAGES).stat().st_size,
      'fingerprint': fingerprint(people, labels),
      'origin': origin,
      'people_sha256': checksums.sha256(folder / 'people.tsv'),
    }
    | ({'name_bytes': len(names.text)} if names else {}),
    checksum=True,
  )
