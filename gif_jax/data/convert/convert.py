"""A conversion from its inputs to its output, in the form that the output's name asks for."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gif_jax.core.errors import ConfigError, DataError
from gif_jax.core.lists import parts, read_rows
from gif_jax.core.pair_counts import usable_pairs
from gif_jax.core.storage import locks
from gif_jax.core.storage.files import move_folder, remove, remove_left_over, write_bytes
from gif_jax.core.storage.resume import Draft
from gif_jax.data.convert.merge import Merged, open_inputs
from gif_jax.data.convert.pack import PACKING, Packing
from gif_jax.data.convert.pair_list import read_pair_list
from gif_jax.data.convert.select import Chosen, choose, choose_rows, who_stays
from gif_jax.data.formats.folder import Photos
from gif_jax.data.formats.open import state
from gif_jax.data.formats.packed import Packed
from gif_jax.data.formats.recordio import list_path, people_path, write_insightface
from gif_jax.data.formats.records import StoredRecords
from gif_jax.data.listing import Skipped, counted
from gif_jax.data.odd_sizes import CURE, described

_Pairs = tuple[np.ndarray, np.ndarray]  # image numbers int64 [pairs, 2], and whether same: bool [pairs]

_SIZE = 112  # of InsightFace's data sets
_SMALLEST = 16
_FOLDED = 20  # half of each of 10 folds: pairs are a multiple of this
_DIGITS = 19  # of what is a number of pairs
_FORMS = 'a folder (the training format), NAME.rec (RecordIO) or NAME.bin (verification pairs)'
# What files are called that nobody wants a folder to be called. Others are names of folders: ms1m-retinaface-t1.5.
_ENDINGS = """
  7z avro arrow array_record avi beton bmp bz2 csv db feather gif gz h5 hdf5 html idx ini jpeg jpg json jsonl lmdb lst
  mat md mdb mp4 msgpack npy npz onnx parquet pb pdf pickle pkl png pt pth rar safetensors sqlite tar tfrecord tfrecords
  tgz tif tiff toml tsv txt webp xls xlsx xml xz yaml yml zip zst
"""


class Settings(NamedTuple):
  """What is converted, and how; the flags of the command."""

  input: str
  output: Path
  min_images: int = 1
  people: str = ''
  without: str = ''
  without_images: str = ''
  same: str = ''
  size: int = 0
  bad_images: str = 'skip'
  pairs: str = '6000'


def convert(settings: Settings) -> str:
  """Writes settings.output and returns what became of the images, in words.

  Raises DataError for data and lists that cannot be used, ConfigError for settings that do not go together, InUseError
  where somebody else writes there, DiskError.
  """
  with locks.locked(locks.beside(settings.output), f'--output={settings.output}'):
    for path in _beside(settings.output):
      remove_left_over(path.parent, of=path.name)
    return _convert(settings)


def _convert(settings: Settings) -> str:
  output, wheres = settings.output, parts(settings.input)
  _check_output(settings, wheres)
  index = output.with_name(f'.{output.name}.index')
  inputs = open_inputs(wheres, index, settings.bad_images)
  records = Merged(inputs, Path(settings.same) if settings.same else None)
  if settings.bad_images == 'error' and records.skipped:
    name, reason = records.skipped[0]
    raise DataError(f'{name}: {reason}. Repair or remove it, or leave such things out: --bad_images=skip.')
  pairs = _listed_pairs(inputs, settings)
  chosen = _choose(records, pairs, settings)
  size = settings.size or records.size or _SIZE
  made_with = {
    'inputs': [state(each) for each in inputs.values()],
    'size': size,
    'packing': PACKING,
    'rows': hashlib.sha256(chosen.rows.tobytes()).hexdigest(),
    'bad_images': settings.bad_images,
  }
  if output.exists():
    if not Draft.left_by(_draft_of(output), made_with):
      raise _in_the_way(output, output)
    remove(_draft_of(output))
    return f'{output} was finished by an earlier start of this command.'
  for each in inputs.values():
    each.name(0)  # names that cannot be read are better known before hours of work
  draft = Draft(_draft_of(output), made_with)
  packing = Packing(draft)
  packing.fit(records, chosen.rows, size, settings.bad_images)
  text = _complete(packing, records, chosen, size, settings)
  delivered = _deliver(packing.folder, output, chosen.rows, pairs, settings)
  draft.remove()
  remove(index)
  return f'{text}\n{delivered}'.rstrip()


def _draft_of(output: Path) -> Path:
  return output.with_name(f'.{output.name}.draft')


def _beside(output: Path) -> list[Path]:
  """What is written beside an output that is one file."""
  return [*_of_rec(output), Path(f'{output}.skipped.tsv')]


def _of_rec(output: Path) -> list[Path]:
  """What belongs to a .rec file of that name, and is written with it."""
  return [output.with_suffix('.idx'), list_path(output), people_path(output)] if output.suffix == '.rec' else []


def _check_output(settings: Settings, wheres: Sequence[str]) -> None:
  output, ending = settings.output, settings.output.suffix[1:]
  if 0 < settings.size < _SMALLEST:
    raise ConfigError(f'--size={settings.size}: crops are {_SMALLEST} pixels a side or more; 0 takes those of --input.')
  if ending.lower() in _ENDINGS.split() or (ending not in ('rec', 'bin') and ending.lower() in ('rec', 'bin')):
    raise ConfigError(f'--output={output}: .{ending} is none of the forms that are written, {_FORMS}.')
  if ending != 'bin' and settings.pairs != Settings._field_defaults['pairs']:
    raise ConfigError(f'--pairs={settings.pairs} is for --output=NAME.bin, which {output} is not; leave it out.')
  begun = _draft_of(output).exists()  # then files may be those that the command wrote before it was killed
  more = [output.with_name('property')] if output.suffix == '.rec' else []
  for path in () if begun else (output, *_of_rec(output), *more):
    if path.exists():
      raise _in_the_way(output, path)
  for where in wheres:
    if output.resolve().is_relative_to(Path(where).resolve()):
      raise ConfigError(f'--output={output} lies inside --input={where}, which must not change; name another place.')


def _in_the_way(output: Path, path: Path) -> ConfigError:
  return ConfigError(f'--output={output}: {path} exists; remove it, or write to another folder.')


def _listed_pairs(inputs: Mapping[str, StoredRecords], settings: Settings) -> _Pairs | None:
  """The pairs in the file that --pairs names; None where it names none."""
  if settings.output.suffix != '.bin' or _is_number(settings.pairs):
    return None
  photos, *more = inputs.values()
  if more or not isinstance(photos, Photos):
    raise ConfigError(f'--pairs={settings.pairs} names files: --input must be one folder of people.')
  others = settings.people, settings.without, settings.without_images, settings.same
  if any(others) or settings.min_images > 1:
    raise ConfigError(f'--pairs={settings.pairs} says which images are used: leave out the flags that choose others.')
  return read_pair_list(Path(settings.pairs), photos)


def _is_number(pairs: str) -> bool:
  return pairs.isascii() and pairs.isdigit() and len(pairs) < _DIGITS


def _choose(records: Merged, pairs: _Pairs | None, settings: Settings) -> Chosen:
  if pairs:
    return choose_rows(records, np.unique(pairs[0]))
  chosen = choose(records, settings.people, settings.without, settings.min_images, settings.without_images)
  if settings.output.suffix == '.bin':  # better known before hours of reading
    wanted, counts = int(settings.pairs), np.bincount(chosen.labels).tolist()
    if not wanted or wanted % _FOLDED or usable_pairs(counts, wanted) < wanted:
      most = usable_pairs(counts, sum(counts) ** 2 // _FOLDED * _FOLDED)
      raise ConfigError(f'--pairs={wanted}: give a multiple of {_FOLDED}, at most {most} with these images.')
  return chosen


def _complete(packing: Packing, records: Merged, chosen: Chosen, size: int, settings: Settings) -> str:
  """Writes the index and skipped.tsv. What became of images and people, in words."""
  reasons, people = packing.reasons(), records.people()
  usable = packing.usable(chosen.labels, len(people))
  stay, gone = who_stays(chosen, usable)
  if settings.output.suffix == '.bin' and not _is_number(settings.pairs) and reasons:
    _, (first, why) = next(read_rows(packing.folder / 'skipped.tsv', '\t'))
    raise DataError(f'{settings.pairs} names {first}, which cannot be read: {why}; repair it. Such: {reasons.total()}.')
  if not stay.any():
    why = _counted(reasons + Counter(gone.values())) or 'the lists leave nobody'
    raise DataError(f'nobody is left of {settings.input}: {why}.')
  left = [Skipped(people[label].name, reason) for label, reason in gone.items()]
  notes = [*records.skipped, *records.not_images, *left]
  packing.complete(records, chosen, people, stay, notes, size=size, origin=settings.input)
  lines = [
    f'{settings.output}: {usable[stay].sum()} images of {stay.sum()} people, {size}x{size}',
    f'{packing.unchanged} images are unchanged, {usable.sum() - packing.unchanged} were brought to size, as PNG',
    f'left out: {_counted(reasons)}' if reasons else '',
    f'left out when the input was opened: {len(records.skipped)} files, folders or records' if records.skipped else '',
    f'files that are no images: {counted(records.not_images)}' if records.not_images else '',
    f'people left out: {_counted(Counter(gone.values()))}' if gone else '',
    _odd(records, chosen.rows, packing.sides()),
  ]
  return '\n'.join(filter(None, lines))


def _odd(records: Merged, rows: np.ndarray, sides: np.ndarray) -> str:
  text = described(lambda place: records.where(int(rows[place])), sides)
  return f'{text}. {CURE}.' if text else ''


def _counted(reasons: Counter[str]) -> str:
  return ', '.join(f'{count} {reason}' for reason, count in reasons.most_common())


def _deliver(folder: Path, output: Path, rows: np.ndarray, pairs: _Pairs | None, settings: Settings) -> str:
  """Brings the finished `folder` to `output`, in the form that its name asks for; notes go beside a single file.

  Returns what is to be said of the form.
  """
  if output.suffix not in ('.rec', '.bin'):
    move_folder(folder, output)
    return ''
  if skipped := (folder / 'skipped.tsv').read_bytes():
    write_bytes(f'{output}.skipped.tsv', skipped)
  packed = Packed(folder)
  if output.suffix == '.bin':
    return _write_pairs(packed, output, *_pairs(packed, rows, pairs, settings))
  write_insightface(packed, output)
  return ''


def _write_pairs(packed: Packed, output: Path, images: np.ndarray, same: np.ndarray) -> str:
  from gif_jax.data.formats.bin_pairs import write_pairs

  which, place = np.unique(images, return_inverse=True)
  pictures = [packed[index] for index in which.tolist()]  # each read once, however many pairs it is in
  different = write_pairs(output, [pictures[k] for k in place.ravel().tolist()], same)
  genuine = int(same.sum())
  return f'{len(same)} pairs, {genuine} genuine and {len(same) - genuine} impostor, of {different} different pictures'


def _pairs(packed: Packed, rows: np.ndarray, listed: _Pairs | None, settings: Settings) -> _Pairs:
  """Pairs of images of `packed`: those listed by row, or drawn in 10 folds."""
  from gif_jax.data.drawn_pairs import balanced_pairs

  if listed:
    return np.searchsorted(rows, listed[0]), listed[1]
  try:
    left, right, same = balanced_pairs(packed.labels(), int(settings.pairs))
  except ValueError as error:  # images that could not be read were too many
    raise DataError(f'--pairs={settings.pairs}: {error}.') from error
  return np.stack([left, right], 1), same
