"""Data sets prepared by TensorFlow Datasets (tfds) as Records, read without TensorFlow.

`tfds:NAME[/CONFIG][:SPLIT]` names a data set below tfds's data_dir (TFDS_DATA_DIR, else ~/tensorflow_datasets),
`tfds:/DIR[:SPLIT]` the folder of a prepared one (.../NAME/VERSION), whoever wrote its builder. The split is tfds's own
(`train`, `test`, `train[:50%]`, `train+test`), all of `train` if it is left out.

Looking up one record costs time that grows with the records in its file (array_record's reader), 1 ms at 200 000, so
such data should be converted before training: python -m gif_jax convert --input=tfds:lfw --output=LFW. Neighbouring
records are read together, which is what converting does.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from gif_jax.core.errors import DataError
from gif_jax.core.storage.arrays import load_array, save_array
from gif_jax.data.formats.records import Person
from gif_jax.data.formats.tfds_builder import PREFIX, Source, choose_features, first_line, open_builder, open_source
from gif_jax.data.listing import Skipped

_LOG = logging.getLogger(__name__)

_BLOCK = 64  # records read together where they are wanted in order
_DAMAGED = -1  # in place of a label
_MADE = 'labels are read again'


class TfdsRecords:
  """A split of a prepared data set; names of people are those of its ClassLabel, its texts, or its integers."""

  def __init__(self, where: str, cache: Path | None, damaged: str):
    """Opens `tfds:...` as above; see `open_records` for cache and damaged.

    All records are read once for their labels, which are kept in `cache`. Raises DataError, with the cure, where tfds
    is not installed, the data is not prepared or not as array_record, or it is not clear what is image and what label.
    """
    place, self.split = _place(where.removeprefix(PREFIX))
    builder = open_builder(place)
    self.path, self.source = Path(builder.data_path), builder.name
    self.image, self.label, self.file_name = choose_features(builder)
    self._source: Source | None = None
    self._ahead: tuple[int, list[tuple[bytes, str]]] = (0, [])  # a record's number, and what was read from it on
    shape = builder.info.features[self.image].shape
    self.size: int = shape[0] if shape[0] and shape[0] == shape[1] else 0
    labels, names = self._read_labels(builder.info.features[self.label], cache)
    self._rows, self.skipped = self._readable(labels, damaged)
    present, self._labels = np.unique(labels[self._rows], return_inverse=True)
    self._names = [names[label] for label in present.tolist()]

  def __getstate__(self) -> dict[str, Any]:
    # Workers read images alone; the source holds open files, and the names may be many.
    return self.__dict__ | {'_source': None, '_ahead': (0, []), '_labels': None, '_names': None}

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, index: int) -> bytes:
    return self._example(index)[0]

  def name(self, index: int) -> str:
    """What a text feature with the name of the image's file says; '' where there is none."""
    return self._example(index)[1] if self.file_name else ''

  def _example(self, index: int) -> tuple[bytes, str]:
    """Encoded bytes and file name of an image."""
    row = int(self._rows[index])
    start, examples = self._ahead
    if start <= row < start + len(examples):
      return examples[row - start]
    stop = row + (_BLOCK if row == start + len(examples) else 1)  # a second look-up in order is one of many
    try:
      examples = [self._pair(example) for example in self._read(row, min(stop, len(self._opened())))]
    except RuntimeError as error:
      if stop > row + 1:  # one of the block is damaged, which need not be this one
        self._ahead = (row - 1, [])
        return self._example(index)
      raise DataError(
        f'{self.where(index)} cannot be read ({first_line(error)}); prepare the data set again.'
      ) from error
    self._ahead = (row, examples)
    return examples[0]

  def _pair(self, example: dict[str, Any]) -> tuple[bytes, str]:
    name = example[self.file_name] if self.file_name else b''
    return bytes(example[self.image]), name.decode('utf-8', 'replace') if isinstance(name, bytes) else str(name)

  def labels(self) -> np.ndarray:
    """Labels of all images: int64 [n]."""
    return self._labels

  def people(self) -> list[Person]:
    """Who the m labels are, in the order of the ClassLabel, or sorted; origin: DATA_SET:NAME."""
    return [Person(name, f'{self.source}:{name}') for name in self._names]

  def where(self, index: int) -> str:
    """The folder of the data set, split and number of the record in it."""
    return f'{self.path} ({self.split}), record {int(self._rows[index])}'

  def _opened(self) -> Source:
    if self._source is None:
      self._source = open_source(self.path, self.split, self.image)
    return self._source

  def _read(self, start: int, stop: int) -> list[dict[str, Any]]:
    return self._opened().__getitems__(list(range(start, stop)))

  def _readable(self, labels: np.ndarray, damaged: str) -> tuple[np.ndarray, list[Skipped]]:
    """(rows int64 [n] of the records that can be used, what is skipped). Raises DataError unless damage is skipped."""
    bad = np.flatnonzero(labels == _DAMAGED)
    if len(bad) and damaged == 'error':
      raise DataError(
        f'{self.path} ({self.split}): record {bad[0]} cannot be read or has no label ({len(bad)} such records); '
        'prepare the data set again, or leave such records out when it is converted.'
      )
    reason = 'the record cannot be read, or has no label'
    skipped = [Skipped(f'{self.path} ({self.split}), record {row}', reason) for row in bad.tolist()]
    return np.flatnonzero(labels != _DAMAGED), skipped

  def _read_labels(self, feature: Any, cache: Path | None) -> tuple[np.ndarray, list[str]]:
    """(labels int64 [n] into names, damaged ones -1; names), from `cache` where they were read before."""
    n = len(self._opened())
    times = [file.stat().st_mtime_ns for file in sorted(self.path.iterdir())]
    key = repr((str(self.path), self.split, n, self.label, times))
    stem = f'tfds-{hashlib.sha256(key.encode()).hexdigest()[:16]}'
    if cache and (kept := _kept(cache / f'{stem}-labels.npy', cache / f'{stem}-names.npy', n)):
      return kept
    labels, names = _numbered(self._each_label(n), n, feature)
    if cache:
      save_array(cache / f'{stem}-labels.npy', labels)
      save_array(cache / f'{stem}-names.npy', np.array(names, np.str_))
    return labels, names

  def _each_label(self, n: int) -> Iterator[Any]:
    """Every record's label as stored, in order; None for damaged ones."""
    with tqdm(total=n, desc='reading labels', unit='image') as bar:
      for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        try:
          yield from [example[self.label] for example in self._read(start, stop)]
        except RuntimeError:
          yield from map(self._label_alone, range(start, stop))
        bar.update(stop - start)

  def _label_alone(self, row: int) -> Any:
    try:
      return self._read(row, row + 1)[0][self.label]
    except RuntimeError:
      return None


def _kept(labels: Path, names: Path, n: int) -> tuple[np.ndarray, list[str]] | None:
  """Labels and names as a cache has them; None where it has none, or damaged ones."""
  if not (labels.exists() and names.exists()):
    return None
  try:
    named = load_array(names, shape=(None,), mmap=False, fix=_MADE)
    return load_array(labels, np.int64, (n,), mmap=False, fix=_MADE), named.tolist()
  except DataError as error:
    _LOG.warning('%s', error)
    return None


def _numbered(stored: Iterable[Any], n: int, feature: Any) -> tuple[np.ndarray, list[str]]:
  """Labels as stored -> (int64 [n] into names, -1 for those missing; names): one entry of a dict per person."""
  labels = np.full(n, _DAMAGED)
  numbers: dict[Any, int] = {}
  for row, value in enumerate(stored):
    value = value.decode('utf-8', 'replace') if isinstance(value, bytes) else value
    if value is None or value == '' or (not isinstance(value, str) and value < 0):  # tfds: -1 is 'not known'
      continue
    labels[row] = numbers.setdefault(value if isinstance(value, str) else int(value), len(numbers))
  values = sorted(numbers)
  place = np.empty(len(values) + 1, np.int64)
  place[[numbers[value] for value in values]] = np.arange(len(values))
  place[-1] = _DAMAGED
  named = getattr(feature, 'int2str', str)  # of a ClassLabel; integers are their own names
  return place[labels], [value if isinstance(value, str) else named(value) for value in values]


def _place(where: str) -> tuple[str, str]:
  """'NAME_OR_FOLDER[:SPLIT]' -> (name or folder, split). A split has colons of its own, in brackets."""
  name, _, split = where.partition(':')
  return name, split or 'train'
