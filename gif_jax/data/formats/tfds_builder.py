"""Data sets prepared by TensorFlow Datasets: looked up by name or folder, checked, opened without TensorFlow."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from gif_jax.core.errors import DataError, UserError

PREFIX = 'tfds:'
_LABELS = ('label', 'class', 'identity', 'person', 'name', 'id')  # names of a label feature, the first of them counts
_NAMES = ('filename', 'file_name', 'image/filename', 'image/file_name', 'path')  # of a text with the file's name
_ONE_AT_A_TIME = threading.RLock()  # opens a data set


class Source(Protocol):
  """The records of a split, by number: of each its features by name, images as they are encoded."""

  def __len__(self) -> int: ...

  def __getitems__(self, rows: list[int]) -> list[dict[str, Any]]: ...


def _tfds() -> ModuleType:
  try:
    import array_record  # noqa: F401  tfds finds out that it is missing only when it reads
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise DataError(f"tfds: data sets need packages that are missing ({error}): pip install -e '.[tfds]'") from error
  return tfds


@contextlib.contextmanager
def _known_features(tfds: ModuleType, place: str) -> Iterator[None]:
  """While a data set is opened: features that its files name are those of tfds, or it is refused.

  tfds imports the module of any class that features.json names, also one that lies beside the data.
  """
  connector = tfds.features.FeatureConnector
  with _ONE_AT_A_TIME:
    plain = connector.__dict__['cls_from_name']

    def checked(cls: type, name: str) -> Any:
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


def open_builder(place: str) -> Any:
  """The tfds builder of a prepared data set, by name or folder.

  Raises DataError where there is no such data set, or it is not prepared as something that can be read.
  """
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
    raise DataError(f'{PREFIX}{place}: tfds has no such data set ({first_line(error)}); {cure}.') from error
  if not Path(builder.data_path).exists():
    raise DataError(f'{PREFIX}{place} is not prepared: nothing is in {builder.data_path}; {_prepare(builder)}')
  kinds = sorted(kind.value for kind in builder.info.available_file_formats())
  if 'array_record' not in kinds:
    raise DataError(
      f'{PREFIX}{place} is prepared as {", ".join(kinds)} in {builder.data_path}, which cannot be read without '
      f'TensorFlow; {_prepare(builder)}'
    )
  return builder


def _prepare(builder: Any) -> str:
  call = f"tfds.builder('{builder.name}', data_dir='DIR', file_format='array_record').download_and_prepare()"
  return (
    f'prepare it as array_record, in a data_dir of its own: python -c "import tensorflow_datasets as tfds; {call}", '
    'and set TFDS_DATA_DIR=DIR. The builders of some data sets, such as lfw, need TensorFlow for this step alone.'
  )


def open_source(path: Path, split: str, image: str) -> Source:
  """The records of a split; image: the feature that stays encoded. Raises DataError for an unknown split."""
  tfds = _tfds()
  try:
    with _known_features(tfds, str(path)):
      builder = tfds.builder_from_directory(path)
    return builder.as_data_source(split, decoders={image: tfds.decode.SkipDecoding()}, file_format='array_record')
  except UserError:
    raise
  except Exception as error:
    raise DataError(
      f'{path}: the split {split!r} cannot be opened: {first_line(error)} Parts of splits are named like train[:50%].'
    ) from error


def choose_features(builder: Any) -> tuple[str, str, str | None]:
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


def _may_be_label(feature: Any, kinds: Any) -> bool:
  if isinstance(feature, kinds.ClassLabel | kinds.Text):
    return True
  return isinstance(feature, kinds.Tensor) and feature.shape == () and np.issubdtype(feature.np_dtype, np.integer)


def first_line(error: Exception) -> str:
  """The first line of what a library says, which is often pages."""
  return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
