"""InsightFace's training sets (train.rec, train.idx, property) and other .rec files of images, as Records."""

import hashlib
import logging
import os
from pathlib import Path

import numpy as np

from gif_jax.core.arrays import load_array, save_array
from gif_jax.core.errors import DataError
from gif_jax.core.files import read_json, write_json
from gif_jax.data.listing import Skipped
from gif_jax.data.recordio import framing
from gif_jax.data.recordio.index import Index, make_index
from gif_jax.data.recordio.report import Report
from gif_jax.data.records import Person

_LOG = logging.getLogger(__name__)
_ARRAYS = ('keys', 'places', 'lengths', 'labels', 'originals')
_VERSION = 1  # raised whenever the index of the same file is another one
_MADE = 'the index is made again'
_CURE = 'copy the data again, or leave such records out: python -m gif_jax.convert.'


class RecordIO:
  """The images of a .rec file, in the order of the file; labels are those of the single images, renumbered."""

  def __init__(self, path: str | Path, cache: Path | None = None, *, damaged: str = 'error'):
    """path: a .rec file with its .idx beside it, or a folder with train.rec; cache: a folder for the index.

    damaged='error' raises DataError where .idx is missing or any record is damaged; 'skip' leaves such records out,
    lists them as `skipped`, and reads a .rec without .idx from its start. DataError, too, where no image is left.
    """
    path = Path(path)
    self.path = path / 'train.rec' if path.is_dir() else path
    self.cache = Path(cache) if cache else None
    self.size, people = _property(self.path.with_name('property'))
    self._close()
    index = self._load(quiet=False, scan=damaged == 'skip')
    if damaged == 'error' and index.skipped:
      name, reason = index.skipped[0]
      raise DataError(f'{self.path.with_name(name)}: {reason} ({len(index.skipped)} such places); {_CURE}')
    if not len(index.keys):
      why = f' ({index.skipped[0].name}: {index.skipped[0].reason})' if index.skipped else ''
      raise DataError(f'{self.path} holds no image that can be read{why}; copy the data again.')
    for fact in index.report.sentences():
      _LOG.warning('%s: %s', self.path, fact)
    if people not in (0, len(index.originals)):
      _LOG.warning('%s: property says %d people, there are %d', self.path, people, len(index.originals))

  def _close(self):
    self._file = self._index = None

  def __getstate__(self):
    return {'path': self.path, 'cache': self.cache, 'size': self.size}

  def __setstate__(self, state):
    self.__dict__ |= state
    self._close()

  def __del__(self):
    if getattr(self, '_file', None) is not None:
      os.close(self._file)

  def __len__(self):
    return len(self._load().keys)

  def __getitem__(self, index):
    found = self._load()
    place, length = int(found.places[index]), int(found.lengths[index])
    try:
      image = os.pread(self._file, length, place) if length > 0 else self._joined(place, -length)
    except OSError as error:
      raise DataError(f'{self.where(index)}: cannot be read ({error.strerror}); check the disk.') from error
    if len(image) != abs(length):
      raise DataError(f'{self.where(index)}: the file has changed since it was opened; start again.')
    return image

  def _joined(self, place, length):
    """The last `length` bytes of a record in parts."""
    payload = framing.join(self._file, framing.parts(self._file, place, os.fstat(self._file).st_size))
    return payload[-length:]

  def labels(self) -> np.ndarray:
    """Labels of all images: int64 [n], 0..m-1 in the order of the labels in the file."""
    return self._load().labels

  def people(self) -> list[Person]:
    """Labels in the file as names, SET:LABEL as origins; SET is the folder of train.rec, or another file's name."""
    path = self.path.resolve()
    source = path.parent.name if path.stem == 'train' else path.stem
    return [Person(str(label), f'{source}:{label}') for label in self._load().originals.tolist()]

  def where(self, index) -> str:
    """The file and the key of the record in .idx; without .idx, which record it is."""
    return f'{self.path}, {"key" if self._idx() else "record"} {self._load().keys[index]}'

  def name(self, index) -> str:
    """Images of this format have no names."""
    return ''

  @property
  def skipped(self) -> list[Skipped]:
    """Records and lines of .idx left out; of very many for one reason the first, and how many more."""
    return self._load().skipped

  @property
  def report(self) -> Report:
    """What is wrong with the file and its labels, whether or not it is in the way of training."""
    return self._load().report

  def _idx(self):
    path = self.path.with_suffix('.idx')
    return path if path.exists() else None

  def _load(self, quiet=True, scan=True) -> Index:
    if self._index is None:
      idx = self._idx()
      if not self.path.exists():
        raise DataError(f'{self.path} is not there; check the spelling and whether the disk is mounted.')
      if not idx and not scan:
        raise DataError(
          f'{self.path.with_suffix(".idx")} is missing; copy it, or convert the data, which reads the .rec without it: '
          'python -m gif_jax.convert.'
        )
      try:
        self._index = _index(self.path, idx, self.cache, quiet)
        self._file = os.open(self.path, os.O_RDONLY)
      except OSError as error:
        raise DataError(f'{error.filename or self.path} cannot be used ({error.strerror}).') from error
    return self._index


def _property(path):
  """Pixels a side (0: not known) and people (0: not known) that the file `property` gives."""
  try:
    with path.open('rb') as file:
      people, height, width = (int(number) for number in file.readline(200).split(b','))
  except (OSError, ValueError):
    return 0, 0
  return (height if height == width and height > 0 else 0), people


def _fingerprint(*paths):
  found = [_VERSION]
  for path in filter(None, paths):
    status = path.stat()
    found.append((path.name, status.st_size, status.st_mtime_ns))
  return hashlib.sha256(repr(found).encode('utf-8', 'surrogateescape')).hexdigest()[:16]


def _index(rec, idx, cache, quiet):
  """The index of a file: from `cache`, or made and put there."""
  stem = f'recordio-{_fingerprint(rec, idx)}'
  index = _stored(cache, stem, check=not quiet) if cache else None
  if index is None:
    index = make_index(rec, idx, quiet=quiet)
    if cache and len(index.keys):
      _store(index, cache, stem)
      return _stored(cache, stem, check=False) or index
  return index


def _stored(cache, stem, check):
  """The index that `cache` holds, its arrays memory-mapped; None where it is not there or damaged.

  check: whether checksums of arrays are looked at, which the process that opens a set first does for all.
  """
  if not (cache / f'{stem}.json').exists():
    return None
  try:
    stored = read_json(cache / f'{stem}.json', DataError, _MADE)
    arrays = [load_array(cache / f'{stem}.{name}.npy', check=check, fix=_MADE).view(np.ndarray) for name in _ARRAYS]
    return Index(*arrays, [Skipped(*entry) for entry in stored['skipped']], Report(**stored['report']))
  except (DataError, KeyError, TypeError) as error:
    _LOG.warning('%s', error)
    return None


def _store(index, cache, stem):
  for name in _ARRAYS:
    save_array(cache / f'{stem}.{name}.npy', getattr(index, name))
  skipped = [list(entry) for entry in index.skipped]
  write_json(cache / f'{stem}.json', {'skipped': skipped, 'report': index.report}, checksum=True)
