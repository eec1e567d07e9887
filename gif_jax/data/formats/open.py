"""Whatever people have, opened as Records: the training format, InsightFace's RecordIO, tfds, a folder of people."""

from pathlib import Path
from typing import Any

from gif_jax.core.errors import DataError
from gif_jax.data.formats.folder import Photos
from gif_jax.data.formats.packed import IMAGES, META, Packed
from gif_jax.data.formats.recordio import RecordIO
from gif_jax.data.formats.records import StoredRecords
from gif_jax.data.formats.tfds import PREFIX, TfdsRecords


def open_records(where: str | Path, cache: Path | None = None, *, damaged: str = 'error') -> StoredRecords:
  """Opens what `where` names. cache: a folder for indices that take long to make; None makes them again.

  damaged: 'error' raises DataError at the first record whose place or label cannot be read, 'skip' leaves such records
  out and lists them as `skipped`. Raises DataError, too, for what is none of them.
  """
  if str(where).startswith(PREFIX):
    return TfdsRecords(str(where), cache, damaged)
  path = Path(where)
  if (path / META).exists():
    return Packed(path)
  if (path / IMAGES).exists():
    raise DataError(f'{path / META} is missing: {path} was copied or converted only in part; do it again.')
  if path.suffix == '.rec' or (path / 'train.rec').exists():
    return RecordIO(path, cache, damaged=damaged)
  if not path.exists():
    raise DataError(f'{where} does not exist; check the spelling and whether the disk is mounted.')
  if path.is_dir():  # last of all: any folder may be one of people
    return Photos(path, damaged)
  raise DataError(f'{where} is no data set: give a folder (of records, with train.rec, of people) or a .rec file.')


def state(records: StoredRecords) -> list[Any]:
  """JSON that changes when the data does: where it lies, and sizes and times of its files."""
  path = records.path
  if isinstance(records, Photos):
    return [str(path.resolve()), records.fingerprint]
  files = [path] if path.is_file() else sorted(filter(Path.is_file, path.iterdir()))
  stats = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
  return [str(path.resolve()), len(records), stats]
