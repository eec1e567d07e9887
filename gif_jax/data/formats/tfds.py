"""Data sets prepared by TensorFlow Datasets (tfds) as Records, read without TensorFlow.

`tfds:NAME[/CONFIG][:SPLIT]` names a data set below tfds's data_dir (TFDS_DATA_DIR, else ~/tensorflow_datasets),
`tfds:/DIR[:SPLIT]` the folder of a prepared one (.../NAME/VERSION), whoever wrote its builder. The split is tfds's own
(`train`, `test`, `train[:50%]`, `train+test`), all of `train` if it is left out.

Looking up one record costs time that grows with the records in its file (array_record's reader), 1 ms at 200 000, so
such data should be converted before training: python -m gif_jax convert --input=tfds:lfw --output=LFW. Neighbouring
records are read together, which is what converting does.
"""

import contextlib
import hashlib
import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from gif_jax.core.errors import DataError, UserError
from gif_jax.core.storage.arrays import load_array, save_array
from gif_jax.data.formats.records import Person
from gif_jax.data.listing import Skipped

_LOG = logging.getLogger(__name__)

PREFIX = 'tfds:'
_LABELS = ('label', 'class', 'identity', 'person', 'name', 'id')  # names of a label feature, the first there wins
_NAMES = ('filename', 'file_name', 'image/filename', 'image/file_name', 'path')  # of a text with the file's name
_BLOCK = 64  # records read together where they are wanted in order
_DAMAGED = -1  # in place of a label
_MADE = 'labels are read again'
_ONE_AT_A_TIME = threading.RLock()  # opens a data set


class TfdsRecords:
  """A split of a prepared data set; names of people are those of its ClassLabel, its texts, or its integers."""

  def __init__(self, where: str, cache: Path | None, damaged: str):
    """Opens `tfds:...` as above; see `inputs.open_records` for cache and damaged.

    All records are read once for their labels, which are kept in `cache`. Raises DataError, with the cure, where tfds
    is not installed, the data is not prepared or not as array_record, or it is not clear what is image and what label.
    """
    place, self.split = _place(where.removeprefix(PREFIX))
    builder = _builder(place)
    self.path, self.source = Path(builder.data_path), builder.name
    self.image, self.label, self.file_name = _features(builder)
    self._source, self._ahead = _source(self.path, self.split, self.image), (0, [])
    shape = builder.info.features[self.image].shape
    self.size = shape[0] if shape[0] and shape[0] == shape[1] else 0
    labels, self._names = self._read_labels(builder.info.features[self.label], cache)
    self._rows, self.skipped = self._whole(labels, damaged)
    present, self._labels = np.unique(labels[self._rows], return_inverse=True)
    self._names = [self._names[label] for label in present.tolist()]

  def __getstate__(self):
    # Workers read images alone; the source holds open files, and the names may be many.
    return self.__dict__ | {'_source': None, '_ahead': (0, []), '_labels': None, '_names': None}

  def __len__(self):
    return len(self._rows)

  def __getitem__(self, index):
    return self._example(index)[0]

  def name(self, index):
    """What a text feature with the name of the image's file says; '' where there is none."""
    return self._example(index)[1] if self.file_name else ''

  def _example(self, index):
    """Encoded bytes and file name of an image."""
    row = int(self._rows[index])
    start, examples = self._ahead
    if start <= row < start + len(examples):
      return examples[row - start]
    if self._source is None:
      self._source = _source(self.path, self.split, self.image)
    stop = row + (_BLOCK if row == start + len(examples) else 1)  # a second look-up in order is one of many
    try:
      examples = [self._pair(example) for example in self._read(row, min(stop, len(self._source)))]
    except RuntimeError as error:
      if stop > row + 1:  # one of the block is damaged, which need not be this one
        self._ahead = (row - 1, [])
        return self._example(index)
      raise DataError(f'{self.where(index)} cannot be read ({_short(error)}); prepare the data set again.') from error
    self._ahead = (row, examples)
    return examples[0]

  def _pair(self, example):
    name = example[self.file_name] if self.file_name else b''
    return bytes(example[self.image]), name.decode('utf-8', 'replace') if isinstance(name, bytes) else str(name)

  def labels(self):
    """Labels of all images: int64 [n]."""
    return self._labels

  def people(self):
    """Who the m labels are, in the order of the ClassLabel, or sorted; origin: DATA_SET:NAME."""
    return [Person(name, f'{self.source}:{name}') for name in self._names]

  def where(self, index):
    """The folder of the data set, split and number of the record in it."""
    return f'{self.path} ({self.split}), record {int(self._rows[index])}'

  def _read(self, start, stop):
    return self._source.__getitems__(list(range(start, stop)))

  def _whole(self, labels, damaged):
    """(rows int64 [n] of the records that are whole, what is skipped). Raises DataError unless damage is skipped."""
    bad = np.flatnonzero(labels == _DAMAGED)
    if len(bad) and damaged == 'error':
      raise DataError(
        f'{self.path} ({self.split}): record {bad[0]} cannot be read or has no label ({len(bad)} such records); '
        'prepare the data set again, or leave such records out when it is converted.'
      )
    reason = 'the record cannot be read, or has no label'
    skipped = [Skipped(f'{self.path} ({self.split}), record {row}', reason) for row in bad.tolist()]
    return np.flatnonzero(labels != _DAMAGED), skipped

  def _read_labels(self, feature, cache):
    """(labels int64 [n] into names, damaged ones -1; names), from `cache` where they were read before."""
    n = len(self._source)
    times = [file.stat().st_mtime_ns for file in sorted(self.path.iterdir())]
    key = repr((str(self.path), self.split, n, self.label, times))
    stem = f'tfds-{hashlib.sha256(key.encode()).hexdigest()[:16]}'
    files = [cache / f'{stem}-{what}.npy' for what in ('labels', 'names')] if cache else []
    if files and (kept := _kept(*files, n)):
      return kept
    labels, names = _numbered(self._each_label(n), n, feature)
    for file, array in zip(files, (labels, np.array(names, np.str_))):
      save_array(file, array)
    return labels, names

  def _each_label(self, n):
    """Every record's label as stored, in order; None for damaged ones."""
    with tqdm(total=n, desc='reading labels', unit='image') as bar:
      for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        try:
          yield from [example[self.label] for example in self._read(start, stop)]
        except RuntimeError:
          yield from map(self._label_alone, range(start, stop))
        bar.update(stop - start)

  def _label_alone(self, row):
    try:
      return self._read(row, row + 1)[0][self.label]
    except RuntimeError:
      return None


def _kept(labels, names, n):
  """Labels and names as a cache has them; None where it has none, or damaged ones."""
  if not (labels.exists() and names.exists()):
    return None
  try:
    found = load_array(names, shape=(None,), mmap=False, fix=_MADE)
    return load_array(labels, np.int64, (n,), mmap=False, fix=_MADE), found.tolist()
  except DataError as error:
    _LOG.warning('%s', error)
    return None


def _numbered(stored, n, feature):
  """Labels as stored -> (int64 [n] into names, -1 for those missing; names): one entry of a dict per person."""
  labels, numbers = np.full(n, _DAMAGED), {}
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


def _tfds():
  try:
    import array_record  # noqa: F401  tfds finds out that it is missing only when it reads
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise DataError(f"tfds: data sets need packages that are missing ({error}): pip install -e '.[tfds]'") from error
  return tfds


@contextlib.contextmanager
def _known_features(tfds, place: str):
  """While a data set is opened: features that its files name are those of tfds, or it is refused.

  tfds imports the module of any class that features.json names, also one that lies beside the data.
  """
  connector = tfds.features.FeatureConnector
  with _ONE_AT_A_TIME:
    plain = connector.__dict__['cls_from_name']

    def checked(cls, name):
      if not name.startswith('tensorflow_datasets.'):
        raise DataError(
          f'{PREFIX}{place}: its features.json names the class {name[:100]}, which is none of tfds and could run any '
          'code; nothing of it was run. Get the data from a source you trust, or write it with features of tfds.'
        )
      return plain.__func__(cls, name)

    connector.cls_from_name = classmethod(checked)
    try:
      yield
    finally:
      connector.cls_from_name = plain


def _builder(place: str):
  """The builder of a prepared data set. Raises DataError where it is not known, or not prepared so that it is read."""
  tfds = _tfds()
  is_folder = place.startswith(('/', '.', '~'))
  folder = Path(place).expanduser()
  try:
    with _known_features(tfds, place):
      builder = tfds.builder_from_directory(folder) if is_folder else tfds.builder(place)
  except UserError:
    raise
  except Exception as error:  # tfds has many errors for data that is not there, with pages of text
    cure = (
      'name the folder with dataset_info.json, .../NAME/VERSION'
      if is_folder
      else 'see https://www.tensorflow.org/datasets/catalog/overview for names, or name the folder: tfds:/DIR'
    )
    raise DataError(f'{PREFIX}{place}: tfds has no such data set ({_short(error)}); {cure}.') from error
  if not Path(builder.data_path).exists():
    raise DataError(f'{PREFIX}{place} is not prepared: nothing is in {builder.data_path}; {_prepare(builder)}')
  kinds = sorted(kind.value for kind in builder.info.available_file_formats())
  if 'array_record' not in kinds:
    raise DataError(
      f'{PREFIX}{place} is prepared as {", ".join(kinds)} in {builder.data_path}, which cannot be read without '
      f'TensorFlow; {_prepare(builder)}'
    )
  return builder


def _prepare(builder) -> str:
  call = f"tfds.builder('{builder.name}', data_dir='DIR', file_format='array_record').download_and_prepare()"
  return (
    f'prepare it as array_record, in a data_dir of its own: python -c "import tensorflow_datasets as tfds; {call}", '
    'and set TFDS_DATA_DIR=DIR. The builders of some data sets, such as lfw, need TensorFlow for this step alone.'
  )


def _source(path: Path, split: str, image: str) -> Sequence:
  """The records of a split, by number; images as they are encoded."""
  tfds = _tfds()
  try:
    with _known_features(tfds, str(path)):
      builder = tfds.builder_from_directory(path)
    return builder.as_data_source(split, decoders={image: tfds.decode.SkipDecoding()}, file_format='array_record')
  except UserError:
    raise
  except Exception as error:
    raise DataError(
      f'{path}: the split {split!r} cannot be opened: {_short(error)} Parts of splits are named like train[:50%].'
    ) from error


def _features(builder) -> tuple[str, str, str | None]:
  """Names of the features that are image, label and, if there is one, file name.

  Raises DataError where it is not clear which the image and the label are.
  """
  features, kinds = builder.info.features, _tfds().features
  images = [name for name, feature in features.items() if isinstance(feature, kinds.Image)]
  labels = [name for name, feature in features.items() if _may_be_label(feature, kinds)]
  image = images[0] if len(images) == 1 else 'image' if 'image' in images else None
  label = labels[0] if len(labels) == 1 else next((name for name in _LABELS if name in labels), None)
  if image is None or label is None:
    listed = ', '.join(f'{name}: {type(feature).__name__}' for name, feature in sorted(features.items()))
    wanted = (
      'one Image, "image" if there are several'
      if image is None
      else (f'one ClassLabel, Text or integer, or one of these named {", ".join(_LABELS)}')
    )
    raise DataError(f'{builder.data_path}: wanted {wanted}; the features are {listed}. Write a builder that has them.')
  texts = [name for name, feature in features.items() if isinstance(feature, kinds.Text) and name != label]
  return image, label, next((name for name in _NAMES if name in texts), None)


def _may_be_label(feature, kinds) -> bool:
  if isinstance(feature, kinds.ClassLabel | kinds.Text):
    return True
  return isinstance(feature, kinds.Tensor) and feature.shape == () and np.issubdtype(feature.np_dtype, np.integer)


def _short(error) -> str:
  """The first line of what a library says, which is often pages."""
  return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
