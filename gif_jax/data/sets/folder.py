"""A user's own photographs, one sub-folder per person: who is trained on, who is kept for evaluation."""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from ml_collections import ConfigDict

from gif_jax.core.errors import ConfigError, DataError, UnreadableError
from gif_jax.core.lists import normal
from gif_jax.core.storage.arrays import load_array
from gif_jax.data.formats.folder import Photos
from gif_jax.data.images import read_image
from gif_jax.data.listing import Listing, Skipped, counted, list_people
from gif_jax.data.odd_sizes import CURE, described, odd_sizes
from gif_jax.data.sets.base import FaceSets, Named, Rows, check_enough
from gif_jax.data.sets.decode import Kind, survey

_LOG = logging.getLogger(__name__)
_NAMED = 5  # skipped files that the warning names


class Split(NamedTuple):
  """Who is in which set: name of the person -> names of the images, both sorted."""

  train: dict[str, list[str]]
  held_out: dict[str, list[str]]  # further images of the people of `train`
  validation: dict[str, list[str]]
  test: dict[str, list[str]]


def split(people: dict[str, list[str]], *, seed: int, test: int, validation: int, images: int, held_out: int) -> Split:
  """Deals people out to the sets by hashes of `seed` and names alone, so that nobody's place depends on the others'.

  The people with the smallest hashes among those with two images or more are `test`, the next ones `validation`, with
  at most `images` images each; the others are trained on, but for `held_out` images each (one is always left).

  Raises ValueError, with the counts, if too few people are left to train on or to evaluate with.
  """
  ranked = _ranked(seed, [name for name, files in people.items() if len(files) > 1])
  check_enough(len(people), len(ranked), test, validation)
  roles = dict.fromkeys(ranked[:test], 'test') | dict.fromkeys(ranked[test : test + validation], 'validation')
  sets = Split({}, {}, {}, {})
  for name, files in people.items():
    order = _ranked(seed, files)
    if name in roles:
      getattr(sets, roles[name])[name] = sorted(order[:images])
    else:
      apart = min(held_out, len(files) - 1)
      sets.held_out[name], sets.train[name] = sorted(order[:apart]), sorted(order[apart:])
  return sets


def _ranked(seed: int, names: Iterable[str]) -> list[str]:
  def rank(name: str) -> tuple[bytes, str]:
    return hashlib.sha256(_bytes(f'{seed}/{normal(name)}')).digest(), name

  return sorted(names, key=rank)


def _bytes(text: str) -> bytes:
  return text.encode('utf-8', 'surrogateescape')  # names of files need not be Unicode


class Pixels(Protocol):
  """Pixels of photographs by number."""

  def __getitem__(self, rows: np.ndarray) -> np.ndarray:
    """For int64 [k]: uint8 [k, size, size, 3]."""


class _Files:
  """Pixels of photographs, decoded when asked for."""

  def __init__(self, root: Path, names: Sequence[str], size: int):
    self.root, self.names, self.size = root, names, size

  def __getitem__(self, rows: np.ndarray) -> np.ndarray:
    images = np.empty((len(rows), self.size, self.size, 3), np.uint8)
    for image, row in zip(images, rows):
      path = self.root / self.names[row]
      try:
        image[:] = read_image(path, self.size).pixels
      except UnreadableError as error:
        raise DataError(f'{path} could be read when the run began and cannot now ({error}); put it back.') from error
    return images


class _Stored:
  """Pixels of photographs, from a memory-mapped file."""

  def __init__(self, path: Path):
    self.path = path
    self.pixels: np.ndarray | None = None

  def __getstate__(self) -> dict[str, Any]:
    return {'path': self.path, 'pixels': None}

  def __getitem__(self, rows: np.ndarray) -> np.ndarray:
    if self.pixels is None:
      self.pixels = load_array(self.path, check=False)
    return np.asarray(self.pixels[rows])


class FolderFaces:
  """Some photographs of some people: face i is photograph rows[i] of `pixels`, its label label[i].

  Indexed with integers or a slice: uint8 [n, size, size, 3].
  """

  def __init__(self, pixels: Pixels, rows: Sequence[int], label: Sequence[int]):
    self.pixels, self.rows, self.label = pixels, np.asarray(rows, np.int64), np.asarray(label, np.int64)

  def __len__(self) -> int:
    return len(self.rows)

  def __getitem__(self, index: Rows) -> np.ndarray:
    return self.pixels[self.rows[index]]

  def labels(self, index: Rows = slice(None)) -> np.ndarray:
    """Labels of the faces asked for: int64, the number of the person in the order of names."""
    return self.label[index]


def open_folder(config: ConfigDict, cache: Path | None) -> FaceSets:
  """The sets of the photographs below data.path; with data.cache their pixels go to the folder `cache`, unless None.

  Raises ConfigError if data.path is no folder, DataError if what is in it cannot be used.
  """
  data, evaluation = config.data, config.eval
  root = Path(data.path)
  if not data.path or not root.is_dir():
    raise ConfigError(f"config.data.path={data.path!r} is no folder; data.source='folder' needs the one with people.")
  listing = list_people(root)
  photos = [photo for own in listing.people.values() for photo in own]
  pictures = survey(root, photos, data.size, cache if data.cache else None)
  people, skipped = _usable(root, listing, pictures.unreadable, data.bad_images)
  try:
    sets = split(
      people,
      seed=data.seed,
      test=evaluation.identities,
      validation=evaluation.validation_identities,
      images=evaluation.images,
      held_out=data.held_out,
    )
  except ValueError as error:
    raise DataError(f'{root}: {error}') from error
  _LOG.info('%s: %s; %s', root, _described(pictures.counts(), len(people), data.size), _counted(sets))
  names = [photo.name for photo in photos]
  odd = _odd(root, names, pictures.sides())
  pixels = _Stored(pictures.pixels) if pictures.pixels else _Files(root, names, data.size)
  number = {name: row for row, name in enumerate(names)}
  space = hashlib.sha256(_bytes('\0'.join(map(normal, sets.train)))).hexdigest()[:16]
  return FaceSets(
    m=len(sets.train),
    label_space=f'folder of {len(sets.train)} people, {space}',
    people=_record(root, sets, skipped, listing.not_images, odd),
    named=(_named(root, listing, sets, number),),
    **{name: _faces(pixels, number, chosen) for name, chosen in sets._asdict().items()},
  )


def _named(root: Path, listing: Listing, sets: Split, number: dict[str, int]) -> Named:
  place = {name: label for label, name in enumerate(listing.people)}
  trained, kept = ([place[name] for name in names] for names in (sets.train, [*sets.validation, *sets.test]))
  rows = sorted(number[file] for chosen in (sets.train, sets.held_out) for own in chosen.values() for file in own)
  return Named(Photos(root, listing=listing), *(np.array(values, np.int64) for values in (trained, kept, rows)))


def _faces(pixels: Pixels, number: dict[str, int], chosen: dict[str, list[str]]) -> FolderFaces:
  pairs = [(number[name], label) for label, files in enumerate(chosen.values()) for name in files]
  return FolderFaces(pixels, *zip(*pairs)) if pairs else FolderFaces(pixels, [], [])


def _usable(
  root: Path, listing: Listing, unreadable: dict[str, str], bad_images: str
) -> tuple[dict[str, list[str]], list[Skipped]]:
  """People with the names of their readable images, and all that is skipped, with a warning.

  Raises DataError at the first bad image or empty folder with bad_images='error'.
  """
  bad = listing.empty + [Skipped(name, f'unreadable: {reason}') for name, reason in unreadable.items()]
  if bad and bad_images == 'error':
    raise DataError(
      f'{root / bad[0].name}: {bad[0].reason} ({len(bad)} such files and folders). Repair or remove them, or leave '
      'them out with config.data.bad_images=skip.'
    )
  if listing.not_images:
    _LOG.info(
      '%s: %d files and folders are no photographs: %s; all in people.json',
      root,
      len(listing.not_images),
      counted(listing.not_images),
    )
  people = {}
  for name, photos in listing.people.items():
    files = [photo.name for photo in photos if photo.name not in unreadable]
    if files:
      people[name] = files
    else:
      bad.append(Skipped(name, 'no readable images in it'))
  skipped = sorted(bad + listing.skipped)
  if skipped:
    first = '; '.join(f'{name} ({reason})' for name, reason in skipped[:_NAMED])
    more = '' if len(skipped) <= _NAMED else f'; and {len(skipped) - _NAMED} more, all in people.json'
    _LOG.warning('%s: %d files or folders are skipped: %s%s', root, len(skipped), first, more)
  return people, skipped


def _record(
  root: Path, sets: Split, skipped: list[Skipped], not_images: list[Skipped], odd: list[dict[str, str]]
) -> dict[str, Any]:
  """Who is who, as people.json says it: training people in the order of their labels."""
  own = root.resolve().name

  def named(people: dict[str, list[str]]) -> list[dict[str, Any]]:
    return [{'name': name, 'origin': f'{own}:{name}', 'images': len(files)} for name, files in people.items()]

  return {
    'train': [
      {'label': label} | person | {'held_out': len(sets.held_out[person['name']])}
      for label, person in enumerate(named(sets.train))
    ],
    'validation': named(sets.validation),
    'test': named(sets.test),
    'skipped': [skip._asdict() for skip in skipped],
    'not_images': [other._asdict() for other in not_images],
    'odd_sizes': odd,
  }


def _odd(root: Path, names: list[str], sides: np.ndarray) -> list[dict[str, str]]:
  """Photographs of an odd size, as people.json names them, with a warning."""
  if text := described(names.__getitem__, sides):
    _LOG.warning('%s: %s. All are in people.json and are used as they are; %s.', root, text, CURE)
  odd = np.flatnonzero(odd_sizes(sides)).tolist()
  return [{'name': names[row], 'size': '{}x{}'.format(*sides[row])} for row in odd]


def _described(kinds: Counter[Kind], people: int, size: int) -> str:
  """What the files held and what became of it, in words."""
  sides: Counter[tuple[int, int]] = Counter()
  pixels: Counter[str] = Counter()
  for (width, height, kind), count in kinds.items():
    sides[width, height] += count
    pixels[kind] += count
  ordered = sorted(sides, key=lambda side: side[0] * side[1])
  measure = ' to '.join(dict.fromkeys(f'{width}x{height}' for width, height in (ordered[0], ordered[-1])))
  what = ', '.join(kind if len(pixels) == 1 else f'{count} {kind}' for kind, count in pixels.most_common())
  padded = 'padded to square and ' if any(width != height for width, height in sides) else ''
  grey = ', grey repeated in three channels' if any('grey' in kind for kind in pixels) else ''
  return f'{sum(sides.values())} images of {people} people, {measure} {what}; {padded}scaled to {size}x{size}{grey}'


def _counted(sets: Split) -> str:
  images = {name: sum(map(len, chosen.values())) for name, chosen in sets._asdict().items()}
  return (
    f'{len(sets.train)} people to train on ({images["train"]} images, {images["held_out"]} held out), '
    f'{len(sets.validation)} for validation, {len(sets.test)} for the figures'
  )
