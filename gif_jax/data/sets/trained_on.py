"""Who a run is trained on and with which pictures, noted beside it.

    WORKDIR/trained_people.txt     NAME<TAB>ORIGIN of everybody trained on, in the order of their labels
    WORKDIR/kept_people.txt        the same of those kept for validation and for the metrics
    WORKDIR/trained_pictures.npy   uint64, rising: length << 32 | CRC-32 of every encoded image of those trained on
    WORKDIR/trained.json           which data they are of, checksums

Both lists are what `python -m gif_jax convert --people=` and `--without=` read.
"""

import hashlib
import json
import logging
import zlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from gif_jax.core.errors import DataError
from gif_jax.core.lists import write_rows
from gif_jax.core.storage.arrays import save_array
from gif_jax.core.storage.checksums import sha256
from gif_jax.core.storage.files import read_json, remove, write_json
from gif_jax.core.storage.resume import is_complete
from gif_jax.core.workers import on_all_cores
from gif_jax.data.formats.open import state
from gif_jax.data.formats.packed import Packed
from gif_jax.data.sets.base import FaceSets, Named

_LOG = logging.getLogger(__name__)

PEOPLE, KEPT, PICTURES, NOTE = 'trained_people.txt', 'kept_people.txt', 'trained_pictures.npy', 'trained.json'
_MOST = 10_000_000  # images whose bytes are read for their keys; the training format has them ready
_BLOCK = 1024  # images a process looks at before it reports
_FEW = 1 << 14  # images that are looked at sooner than processes start
AGAIN = f'give the training command again, which writes it anew, or remove {NOTE} and it to measure without it'


class Encoded(Protocol):
  """n encoded images, as crops of benchmarks and `data.sets.base.Named` have them."""

  def __len__(self) -> int: ...

  def encoded(self, index: int) -> bytes:
    """An image as it is stored. Raises DataError, naming it, where it cannot be read."""


def picture_keys(images: Encoded, title: str) -> np.ndarray:
  """Length << 32 | CRC-32 of every image: uint64 [n]. Reads them on all cores, with a progress bar of this title.

  Nothing is read where the training format has lengths and CRCs. Raises DataError for an image that cannot be read.
  """
  ready = _ready(images)
  if ready is not None:
    return ready
  n = len(images)
  keys, look = np.empty(n, np.uint64), _Look(images)
  jobs = [(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)]
  with tqdm(total=n, desc=title, unit='image', unit_scale=True) as bar:
    for (start, stop), block in zip(jobs, on_all_cores(look, jobs) if n > _FEW else map(look, jobs)):
      keys[start:stop] = block
      bar.update(stop - start)
  return keys


def _ready(images: Encoded) -> np.ndarray | None:
  """The keys, where the training format has them; None where the bytes must be read."""
  records, rows = getattr(images, 'records', None), getattr(images, 'rows', None)
  if not isinstance(records, Packed) or rows is None:
    return None
  keys = records.picture_keys()
  return None if keys is None else keys[rows[:]]


class _Look:
  """What a worker does; images open their files when first read."""

  def __init__(self, images: Encoded):
    self.images = images

  def __call__(self, job: tuple[int, int]) -> np.ndarray:
    encoded = map(self.images.encoded, range(*job))
    return np.array([len(content) << 32 | zlib.crc32(content) for content in encoded], np.uint64)


def note_trained(workdir: Path, faces: FaceSets) -> None:
  """Writes the lists of a run into its folder, unless it has those of the same data, undamaged.

  Of people without names (synthetic faces) there are none. Raises DataError for images that cannot be read, DiskError.
  """
  data = _data_of(faces)
  if faces.named and _is_noted(workdir, data):
    return
  for name in (NOTE, PEOPLE, KEPT, PICTURES):  # of other data; a run that is killed here has noted nothing
    remove(workdir / name)
  if not faces.named:
    return
  for name, which in ((PEOPLE, 'trained'), (KEPT, 'kept')):
    write_rows(workdir / name, (person for part in faces.named for person in part.people(getattr(part, which))), '\t')
  keys = _trained_keys(faces)
  if keys is not None:
    save_array(workdir / PICTURES, keys)
  pictures = None if keys is None else len(keys)
  people = sha256(workdir / PEOPLE)
  write_json(workdir / NOTE, {'data': data, 'people_sha256': people, 'pictures': pictures}, checksum=True)


def _data_of(faces: FaceSets) -> str:
  """What the lists are of, in so many digits."""
  parts = [[state(part.records), len(part), hashlib.sha256(part.kept.tobytes()).hexdigest()] for part in faces.named]
  return hashlib.sha256(json.dumps([faces.label_space, parts]).encode()).hexdigest()[:16]


def _is_noted(workdir: Path, data: str) -> bool:
  try:
    note = read_note(workdir)
    if not note or note['data'] != data or not all((workdir / name).exists() for name in (PEOPLE, KEPT)):
      return False
    check_listed(workdir, note)
  except DataError as error:
    _LOG.warning('%s', error)
    return False
  return note['pictures'] is None or is_complete(workdir / PICTURES, np.uint64, (note['pictures'],))


def _trained_keys(faces: FaceSets) -> np.ndarray | None:
  """All keys, each once: uint64 [k], rising; None, with a word in the log, where too many images would be read."""
  unread = sum(len(part) for part in faces.named if not _has_keys(part))
  if unread > _MOST:
    _LOG.info(
      '%d images are not in the training format: people trained on are noted by name, not by their pictures; '
      'convert the data first to have both (python -m gif_jax convert)',
      unread,
    )
    return None
  keys = np.sort(np.concatenate([picture_keys(part, 'noting pictures') for part in faces.named]))
  return keys[np.append(True, keys[1:] != keys[:-1])]  # np.unique takes ten times as long


def _has_keys(part: Named) -> bool:
  return isinstance(part.records, Packed) and part.records.picture_keys() is not None


def read_note(workdir: Path) -> dict[str, Any]:
  """trained.json; {} where there is none. Raises DataError for a damaged one."""
  path = workdir / NOTE
  if not path.exists():
    return {}
  note = read_json(path, DataError, AGAIN)
  if not {'data', 'people_sha256', 'pictures'} <= note.keys() or type(note['pictures']) not in (int, type(None)):
    raise DataError(f'{path} is damaged: it lacks data, people_sha256 or pictures: {AGAIN}.')
  return note


def check_listed(workdir: Path, note: dict[str, Any]) -> None:
  """Raises DataError where trained_people.txt is not as it was written."""
  path = workdir / PEOPLE
  if path.exists() and note and sha256(path) != note['people_sha256']:
    raise DataError(f'{path} is damaged: it does not match its checksum in {NOTE}: {AGAIN}.')
