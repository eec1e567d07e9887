"""InsightFace's training sets (train.rec, train.idx, property) and other .rec files of images, as Records."""

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gif_jax.core.errors import DataError
from gif_jax.core.storage.arrays import load_array, save_array
from gif_jax.core.storage.files import read_json, write_json
from gif_jax.data.formats.recordio import framing
from gif_jax.data.formats.recordio.index import Index, make_index
from gif_jax.data.formats.recordio.lists import ListedNames, list_path, people_path, read_people, sums_of
from gif_jax.data.formats.recordio.report import Report
from gif_jax.data.formats.records import Person
from gif_jax.data.listing import Skipped

_LOG = logging.getLogger(__name__)
_ARRAYS = ('keys', 'ids', 'places', 'lengths', 'labels', 'originals')
_VERSION = 2  # raised whenever the index of the same file is another one
_MADE = 'the index is made again'
_CURE = 'copy the data again, or leave such records out: python -m gif_jax convert.'


_List = TypeVar('_List')


class RecordIO:
  """The images of a .rec file, in the order of the file; labels are those of the single images, renumbered."""

  def __init__(self, path: str | Path, cache: Path | None = None, *, damaged: str = 'error'):
    """path: a .rec file with its .idx beside it, or a folder with train.rec; cache: a folder for the index.

    damaged='error' raises DataError where any record is damaged; 'skip' leaves such records out and lists them as
    `skipped`. DataError, too, where no image is left. An .idx that is missing or does not fit is no damage: the .rec
    is read from its start, and a warning says so.
    """
    path = Path(path)
    self.path = path / 'train.rec' if path.is_dir() else path
    self.cache = Path(cache) if cache else None
    self.size, people = _property(self.path.with_name('property'))
    self._close()
    index = self._load(quiet=False)
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

  def _close(self) -> None:
    self._file = -1
    self._index: Index | None = None
    self._names: ListedNames | _Nameless | None = None
    self._told: set[str] = set()  # what was said of the lists beside the file

  def __getstate__(self) -> dict[str, Any]:
    return {'path': self.path, 'cache': self.cache, 'size': self.size}

  def __setstate__(self, state: dict[str, Any]) -> None:
    self.__dict__ |= state
    self._close()

  def __del__(self) -> None:
    if getattr(self, '_file', -1) >= 0:
      os.close(self._file)

  def __len__(self) -> int:
    return len(self._load().keys)

  def __getitem__(self, index: int) -> bytes:
    images = self._load()
    place, length = int(images.places[index]), int(images.lengths[index])
    try:
      image = os.pread(self._file, length, place) if length > 0 else self._joined(place, -length)
    except OSError as error:
      raise DataError(f'{self.where(index)}: cannot be read ({error.strerror}); check the disk.') from error
    if len(image) != abs(length):
      raise DataError(f'{self.where(index)}: the file has changed since it was opened; start again.')
    return image

  def _joined(self, place: int, length: int) -> bytes:
    """The last `length` bytes of a record in parts."""
    payload = framing.join(self._file, framing.parts(self._file, place, os.fstat(self._file).st_size))
    return payload[-length:]

  def labels(self) -> np.ndarray:
    """Labels of all images: int64 [n], 0..m-1 in the order of the labels in the file."""
    return self._load().labels

  def people(self) -> list[Person]:
    """Who the labels are: as NAME.rec.people.tsv says; where that is missing or does not fit, the labels in the file.

    These have the origin SET:LABEL; SET is the folder of train.rec, or another file's name.
    """
    path = self.path.resolve()
    source = path.parent.name if path.stem == 'train' else path.stem
    numbers = self._load().originals.tolist()
    return self._beside(self._people) or [Person(str(label), f'{source}:{label}') for label in numbers]

  def _people(self) -> list[Person] | None:
    index, path, wanted = self._load(), people_path(self.path), sums_of(self._file).people
    if not wanted and not path.exists():
      return None
    people = read_people(path, wanted)
    # Of people whose images are all damaged there is none here.
    if len(people) <= index.originals[-1] or (len(people) != len(index.originals) and not index.skipped):
      raise DataError(f'{path} names {len(people)} people, which does not fit the labels in the .rec')
    return [people[label] for label in index.originals.tolist()]

  def name(self, index: int) -> str:
    """The path of the image's file as NAME.lst has it; '' where that is missing or does not fit."""
    if self._names is None:
      self._names = self._beside(self._listed) or _Nameless()
    return self._names[index]

  def _listed(self) -> ListedNames | None:
    index, path, wanted = self._load(), list_path(self.path), sums_of(self._file).names
    if not wanted and not path.exists():
      return None
    return ListedNames(path, index.ids, index.originals[index.labels].astype(np.float32), wanted)

  def _beside(self, read: Callable[[], _List | None]) -> _List | None:
    """What a list beside the file holds; None where it is missing, or does not fit, which the log is told."""
    try:
      return read()
    except DataError as error:
      if str(error) not in self._told:
        _LOG.warning('%s, and gives no names: copy it again, or move it elsewhere.', str(error).rstrip('.'))
      self._told.add(str(error))
      return None

  def where(self, index: int) -> str:
    """The file and the key of the record; where nothing tells it, which record of the file it is."""
    images = self._load()
    return f'{self.path}, {images.unit} {images.keys[index]}'

  @property
  def skipped(self) -> list[Skipped]:
    """Records and lines of .idx left out; of very many for one reason the first, and how many more."""
    return self._load().skipped

  @property
  def report(self) -> Report:
    """What is wrong with the file and its labels, whether or not it is in the way of training."""
    return self._load().report

  def _load(self, quiet: bool = True) -> Index:
    if self._index is None:
      if not self.path.is_file():
        raise DataError(f'{self.path} is not there; check the spelling and whether the disk is mounted.')
      try:
        index = _index(self.path, self.path.with_suffix('.idx'), self.cache, quiet)
        self._file = os.open(self.path, os.O_RDONLY)
        self._index = index
      except OSError as error:
        raise DataError(f'{error.filename or self.path} cannot be used ({error.strerror}).') from error
    return self._index


class _Nameless:
  """Names of images that have none."""

  def __getitem__(self, index: int) -> str:
    return ''


def _property(path: Path) -> tuple[int, int]:
  """Pixels a side (0: not known) and people (0: not known) that the file `property` gives."""
  try:
    with path.open('rb') as file:
      people, height, width = (int(number) for number in file.readline(200).split(b','))
  except (OSError, ValueError):
    return 0, 0
  return (height if height == width and height > 0 else 0), people


def _fingerprint(*paths: Path) -> str:
  files = []
  for path in filter(Path.exists, paths):
    status = path.stat()
    files.append((path.name, status.st_size, status.st_mtime_ns))
  return hashlib.sha256(repr([_VERSION, *files]).encode('utf-8', 'surrogateescape')).hexdigest()[:16]


def _index(rec: Path, idx: Path, cache: Path | None, quiet: bool) -> Index:
  """The index of a file: from `cache`, or made and put there."""
  stem = f'recordio-{_fingerprint(rec, idx)}'
  index = _stored(cache, stem, check=not quiet) if cache else None
  if index is None:
    index = make_index(rec, idx, quiet=quiet)
    if cache and len(index.keys):
      _store(index, cache, stem)
      return _stored(cache, stem, check=False) or index
  return index


def _stored(cache: Path, stem: str, check: bool) -> Index | None:
  """The index that `cache` holds, its arrays memory-mapped; None where it has none, or a damaged one.

  check: whether checksums of arrays are looked at, which the process that opens a set first does for all.
  """
  if not (cache / f'{stem}.json').exists():
    return None
  try:
    stored = read_json(cache / f'{stem}.json', DataError, _MADE)
    arrays = {name: load_array(cache / f'{stem}.{name}.npy', check=check, fix=_MADE) for name in _ARRAYS}
    return Index(
      **{name: array.view(np.ndarray) for name, array in arrays.items()},
      skipped=[Skipped(*entry) for entry in stored['skipped']],
      report=Report(**stored['report']),
      unit=stored['unit'],
    )
  except (DataError, KeyError, TypeError) as error:
    _LOG.warning('%s', error)
    return None


def _store(index: Index, cache: Path, stem: str) -> None:
  for name in _ARRAYS:
    save_array(cache / f'{stem}.{name}.npy', getattr(index, name))
  skipped = [list(entry) for entry in index.skipped]
  write_json(cache / f'{stem}.json', {'skipped': skipped, 'report': index.report, 'unit': index.unit}, checksum=True)
