"""Who a run is trained on and with which pictures: noted beside it, and looked for in what it is measured on.

    WORKDIR/trained_people.txt     NAME<TAB>ORIGIN of everybody trained on, in the order of their labels
    WORKDIR/kept_people.txt        the same of those kept for validation and for the figures
    WORKDIR/trained_pictures.npy   uint64, rising: length << 32 | CRC-32 of every encoded image of those trained on
    WORKDIR/trained.json           which data they are of, checksums

Both lists are what `python -m gif_jax.convert --people=` and `--without=` read.
"""

import hashlib
import json
import logging
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from gif_jax.core.arrays import load_array, save_array
from gif_jax.core.checksums import sha256
from gif_jax.core.errors import DataError
from gif_jax.core.files import read_json, remove, write_json
from gif_jax.core.lists import normal, read_rows, write_rows
from gif_jax.core.resume import is_whole
from gif_jax.core.workers import on_all_cores
from gif_jax.data.inputs import state
from gif_jax.data.records import Packed, Person
from gif_jax.data.sets import FaceSets

_LOG = logging.getLogger(__name__)

PEOPLE, KEPT, PICTURES, NOTE = 'trained_people.txt', 'kept_people.txt', 'trained_pictures.npy', 'trained.json'
_MOST = 10_000_000  # images whose bytes are read for their keys; the training format has them ready
_BLOCK = 1024  # images a process looks at before it reports
_FEW = 1 << 14  # images that are looked at sooner than processes start
_AGAIN = f'give the training command again, which writes it anew, or remove {NOTE} and it to measure without it'
_MEMBER = re.compile(r'(?:^|\+)(.*?:.+?)(?=\+[^+:]*:|$)')  # of an origin, SET:NAME+SET:NAME


class Encoded(Protocol):
  """n encoded images, as crops of benchmarks and `data.sets.Named` have them."""

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
  found, look = np.empty(n, np.uint64), _Look(images)
  jobs = [(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)]
  with tqdm(total=n, desc=title, unit='image', unit_scale=True) as bar:
    for (start, stop), block in zip(jobs, on_all_cores(look, jobs) if n > _FEW else map(look, jobs)):
      found[start:stop] = block
      bar.update(stop - start)
  return found


def _ready(images):
  """The keys, where the training format has them; None where the bytes must be read."""
  records = getattr(images, 'records', None)
  keys = records.picture_keys() if isinstance(records, Packed) else None
  return None if keys is None else keys[images.rows[:]]


class _Look:
  """What a worker does; images open their files when first read."""

  def __init__(self, images):
    self.images = images

  def __call__(self, job):
    encoded = map(self.images.encoded, range(*job))
    return np.array([len(content) << 32 | zlib.crc32(content) for content in encoded], np.uint64)


# --- what a run notes


def note_trained(workdir: Path, faces: FaceSets) -> None:
  """Writes the lists of a run into its folder, unless those of the same data are there and whole.

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


def _data_of(faces):
  """What the lists are of, in so many digits."""
  parts = [[state(part.records), len(part), hashlib.sha256(part.kept.tobytes()).hexdigest()] for part in faces.named]
  return hashlib.sha256(json.dumps([faces.label_space, parts]).encode()).hexdigest()[:16]


def _is_noted(workdir, data):
  try:
    note = _read_note(workdir)
    if not note or note['data'] != data or not all((workdir / name).exists() for name in (PEOPLE, KEPT)):
      return False
    _check_people(workdir, note)
  except DataError as error:
    _LOG.warning('%s', error)
    return False
  return note['pictures'] is None or is_whole(workdir / PICTURES, np.uint64, (note['pictures'],))


def _trained_keys(faces):
  """All keys, each once: uint64 [k], rising; None, with a word in the log, where too many images would be read."""
  unread = sum(len(part) for part in faces.named if not _has_keys(part))
  if unread > _MOST:
    _LOG.info('%d images are not in the training format: people trained on are noted by name, not by their pictures; '
              'convert the data first to have both (python -m gif_jax.convert)', unread)  # fmt: skip
    return None
  keys = np.sort(np.concatenate([picture_keys(part, 'noting pictures') for part in faces.named]))
  return keys[np.append(True, keys[1:] != keys[:-1])]  # np.unique takes ten times as long


def _has_keys(part):
  return isinstance(part.records, Packed) and part.records.picture_keys() is not None


def _read_note(workdir):
  """trained.json; {} where it is not there. Raises DataError for a damaged one."""
  path = workdir / NOTE
  if not path.exists():
    return {}
  note = read_json(path, DataError, _AGAIN)
  if not {'data', 'people_sha256', 'pictures'} <= note.keys() or type(note['pictures']) not in (int, type(None)):
    raise DataError(f'{path} is damaged: it lacks data, people_sha256 or pictures: {_AGAIN}.')
  return note


def _check_people(workdir, note):
  """Raises DataError where trained_people.txt is not as it was written."""
  path = workdir / PEOPLE
  if path.exists() and note and sha256(path) != note['people_sha256']:
    raise DataError(f'{path} is damaged: it does not match its checksum in {NOTE}: {_AGAIN}.')


# --- what a benchmark shares with it


class Overlap(NamedTuple):
  """What a benchmark shares with the training set.

  Attributes:
    people: of the benchmark; 0 where it does not name them.
    by_name, by_picture: how many of them have the name of somebody trained on, or a picture trained on.
    trained_on: how many have either.
    images: of the benchmark.
    pictures: images of it that were trained on.
    left_out: whether those people are left out of the figures; else all of the benchmark is measured.
  """

  people: int
  by_name: int
  by_picture: int
  trained_on: int
  images: int
  pictures: int
  left_out: bool

  @property
  def tainted(self) -> bool:
    """Whether figures are of what the network has seen."""
    return bool(self.trained_on or self.pictures) and not self.left_out

  def words(self, name: str) -> str:
    """What is to be said of it, '' where nothing is shared; name: of the benchmark."""
    who = f'{self.trained_on} of {self.people} people were trained on'
    who = f'{who} ({self.by_name} by name, {self.by_picture} by picture)'
    what = f'{self.pictures} of {self.images} images are pictures that were trained on'
    if self.left_out:
      return f'{name}: {who} and are left out.' if self.trained_on else ''
    if not self.tainted:
      return ''
    return f'{name}: {who if self.people else what}; its figures are too good to be those of unseen people.'


class Seen:
  """Who a run was trained on, and with which pictures, as far as it noted that."""

  def __init__(self, workdir: str | Path):
    """Says in the log what cannot be compared. Raises DataError, with the cure, for lists that are damaged."""
    self.workdir = Path(workdir)
    note = _read_note(self.workdir)
    _check_people(self.workdir, note)
    people, pictures = self.workdir / PEOPLE, self.workdir / PICTURES
    self.people = people if people.exists() else None
    self.keys = None
    if pictures.exists() and note.get('pictures', 0) is not None:
      self.keys = load_array(pictures, np.uint64, (note.get('pictures'),), fix=_AGAIN)
    missing = [name for name, there in ((PEOPLE, self.people), (PICTURES, self.keys is not None)) if not there]
    if missing:
      by = 'name' if self.people else 'picture'
      how = 'is not looked for' if len(missing) > 1 else f'is looked for by {by} alone'
      _LOG.info('%s has no %s (an older run, synthetic faces, or too many images): what benchmarks share with the '
                'training set %s', self.workdir, ', no '.join(missing), how)  # fmt: skip

  def overlap(self, benchmark: Any, *, left_out: bool) -> tuple[Overlap, np.ndarray] | None:
    """What a benchmark shares with the training set, and which of its images are of people who do: bool [n].

    Of benchmarks whose people have no names these are the images that are pictures trained on. None where nothing is
    there to compare with. left_out: whether whoever was trained on is left out of the figures, see `Overlap`.
    """
    named = benchmark.kind == 'all_pairs'
    if self.keys is None and not (named and self.people):
      return None
    pictures = self._pictures(benchmark)
    n, seen = len(pictures), int(pictures.sum())
    if not named:
      return Overlap(0, 0, 0, 0, n, seen, False), pictures
    by_name = self._by_name(benchmark.people)
    by_picture = np.zeros(len(by_name), bool)
    by_picture[benchmark.identity[pictures]] = True
    both = by_name | by_picture
    counts = map(int, (len(both), by_name.sum(), by_picture.sum(), both.sum()))
    return Overlap(*counts, n, seen, left_out), both[benchmark.identity]

  def _pictures(self, benchmark):
    """Which images of a benchmark were trained on: bool [n]."""
    if self.keys is None or not len(self.keys):
      return np.zeros(len(benchmark.images), bool)
    found = picture_keys(benchmark.images, f'comparing {benchmark.name}')
    place = np.minimum(np.searchsorted(self.keys, found), len(self.keys) - 1)
    return np.asarray(self.keys[place] == found)

  def _by_name(self, people):
    """Which people have the name of somebody trained on: bool [m]."""
    if not self.people:
      return np.zeros(len(people), bool)
    known = [set(_known_as(person)) for person in people]
    wanted = set().union(*known)
    there = {name for person in self._listed() for name in _known_as(person) if name in wanted}
    return np.array([not there.isdisjoint(names) for names in known], bool)

  def _listed(self) -> Iterator[Person]:
    for line, row in read_rows(self.people, '\t', fix=_AGAIN):
      if len(row) > 2:
        raise DataError(f'{self.people}, line {line}: {len(row)} columns, wanted NAME<TAB>ORIGIN: {_AGAIN}.')
      yield Person(row[0], *row[1:] or [''])


def warn_of_targets(workdir: Path, faces: FaceSets) -> None:
  """Says in the log which benchmarks of eval.targets share something with the training set: all are measured whole."""
  if not faces.named or not faces.targets:
    return
  seen = Seen(workdir)
  for name, target in faces.targets.items():
    both = seen.overlap(target, left_out=False) if target.images is not None else None
    if both and (words := both[0].words(name)):
      _LOG.warning('config.eval.targets: %s', words)


def _known_as(person):
  """What somebody is known by: the name, unless it is a number, which is somebody else's in every set; the origins."""
  names = [] if person.name.isdecimal() else [person.name]
  return map(normal, [*names, *_MEMBER.findall(person.origin)])
