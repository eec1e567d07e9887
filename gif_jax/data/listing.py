"""What lies in a folder of photographs: one sub-folder per person, before any image is opened."""

import os
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from gif_jax.core.errors import DataError
from gif_jax.core.lists import normal
from gif_jax.data.images import is_image_name

# What file systems, network storage and archives put beside people's files; some has small copies of photographs.
_OF_SYSTEMS = {
  '@eadir',
  '@synoeastream',
  '@synoresource',
  '#recycle',
  '#snapshot',
  '~snapshot',
  '@recycle',
  '@recently-snapshot',
  '@tmp',
  '@__thumb',
  '$recycle.bin',
  'recycle.bin',
  'recycle bin',
  'recycler',
  'recycled',
  'trash',
  'lost+found',
  'found.000',
  'system volume information',
  '__macosx',
  'network trash folder',
  'temporary items',
  'thevolumesettingsfolder',
  'resource.frk',
  'thumbs',
  '_thumbs',
  'thumbnails',
  '_thumbnails',
}
_NAMED = 10_000  # files that are no images, one by one
_LAYOUT = 'make one sub-folder per person, named after the person, and put the photographs there.'


class Photo(NamedTuple):
  """An image file: its path below data.path, with '/', its size in bytes, when it was modified and when the disk last
  noted a change of it, in ns."""

  name: str
  size: int
  modified: int
  changed: int = 0


class Skipped(NamedTuple):
  """A file or folder that is not used: its path below data.path, with '/', and why."""

  name: str
  reason: str


class Listing(NamedTuple):
  """People (sorted by name) with their image files (sorted by name), and all that is neither."""

  people: dict[str, list[Photo]]  # at least one file each
  empty: list[Skipped]  # people's folders without an image
  skipped: list[Skipped]  # links that lead nowhere or round in circles, files met twice, images of nobody
  not_images: list[Skipped]  # other files, by their extension; what is hidden, and folders that systems make


def list_people(root: Path) -> Listing:
  """Walks `root`: a person is a sub-folder, or a link to one, with everything in it at any depth.

  Raises DataError if there are no sub-folders or no images in them, if two names differ only in case, or if a folder
  cannot be listed.
  """
  folders, loose, skipped, others = _top(root)
  images = [entry.name for entry in loose if is_image_name(entry.name)]
  if not folders:
    content = f'{len(images)} images, the first {images[0]},' if images else 'nothing'
    raise DataError(f'{root} holds {content} but no sub-folders; {_LAYOUT}')
  _check_names(root, [entry.name for entry in folders])
  skipped += [Skipped(name, "lies beside the people's folders; its person is not known") for name in images]
  others.add_all(_no_image(entry.name) for entry in loose if not is_image_name(entry.name))
  walk = _Walk(root, folders, skipped, others)
  people = {entry.name: walk.person(entry) for entry in folders}
  if not any(people.values()):
    raise DataError(f'{root}: no image in any of the {len(folders)} sub-folders; is it the right folder?')
  known = {name for name, _ in walk.skipped}
  empty = [Skipped(name, 'no images in it') for name, photos in people.items() if not photos and name not in known]
  return Listing({name: photos for name, photos in people.items() if photos}, empty, walk.skipped, others.listed())


def counted(not_images: list[Skipped]) -> str:
  """Why files are no images, in words, the most frequent first."""
  return ', '.join(f'{count} {reason}' for reason, count in Counter(one.reason for one in not_images).most_common())


class _Others:
  """What is no image: the first of them by name, the rest as a number."""

  def __init__(self) -> None:
    self.named: list[Skipped] = []
    self.more = 0

  def add_all(self, others: Iterable[Skipped]) -> None:
    for one in others:
      if len(self.named) < _NAMED:
        self.named.append(one)
      else:
        self.more += 1

  def listed(self) -> list[Skipped]:
    return self.named + ([Skipped(f'{self.more} more', 'not named one by one')] if self.more else [])


def _no_image(name):
  ending = os.path.splitext(name)[1]
  return Skipped(name, f'no image ({ending})' if ending else 'no image (no extension)')


def _entries(folder):
  """What a folder holds: (sorted entries, the names of those that nobody put there, and why not)."""
  try:
    with os.scandir(folder) as scanned:
      entries = sorted(scanned, key=lambda entry: (normal(entry.name), entry.name))
  except OSError as error:
    raise DataError(
      f'{folder} cannot be listed ({error.strerror}); allow reading it (chmod), or move it elsewhere.'
    ) from error
  shown, others = [], []
  for entry in entries:
    if entry.name.startswith('.'):
      others.append(Skipped(entry.name, 'hidden'))
    elif entry.name.casefold() in _OF_SYSTEMS and entry.is_dir():
      others.append(Skipped(entry.name, 'a folder of the system or an archive'))
    else:
      shown.append(entry)
  return shown, others


def _status(entry, name, skipped):
  """The stat of what `entry` leads to, or None, with a note in `skipped`."""
  try:
    return entry.stat()
  except OSError as error:
    reason = 'a link that leads nowhere' if entry.is_symlink() else f'cannot be looked at: {error.strerror}'
    skipped.append(Skipped(name, reason))
    return None


def _top(root):
  """Folders, other entries, broken links and what is no image right below `root`."""
  entries, not_images = _entries(root)
  skipped: list[Skipped] = []
  folders: list[os.DirEntry] = []
  loose: list[os.DirEntry] = []
  others = _Others()
  others.add_all(not_images)
  for entry in entries:
    status = _status(entry, entry.name, skipped)
    if status:
      (folders if stat.S_ISDIR(status.st_mode) else loose).append(entry)
  return folders, loose, skipped, others


def _check_names(root, names):
  known: dict[str, str] = {}
  for name in names:
    other = known.setdefault(normal(name).casefold(), name)
    if other != name:
      raise DataError(
        f'{root / other} and {root / name} differ only in case or spelling of accents; '
        'put the photographs of one person into one folder, or give two people different names.'
      )


def _within(path, folder):
  return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


class _Walk:
  """Goes through people's folders and notes what it leaves out. Every real file and folder is entered once."""

  def __init__(self, root, folders, skipped, others):
    self.root = os.path.realpath(root)
    self.own = {entry.name for entry in folders if not entry.is_symlink()}
    self.skipped, self.others = skipped, others
    self.read = {}  # real path -> name under which it was met first

  def person(self, entry: os.DirEntry) -> list[Photo]:
    """The image files of the person whose folder `entry` is, or leads to."""
    real = self._enter(entry, entry.name, self.root)
    images = self._images(entry.path, entry.name, real) if real else []
    return sorted(images, key=lambda photo: (normal(photo.name), photo.name))

  def _images(self, folder, name, real):
    entries, not_images = _entries(folder)
    self._note(name, not_images)
    for entry in entries:
      path = f'{name}/{entry.name}'
      status = _status(entry, path, self.skipped)
      if status is None:
        continue
      if stat.S_ISDIR(status.st_mode):
        inner = self._enter(entry, path, real)
        if inner:
          yield from self._images(entry.path, path, inner)
      elif not (stat.S_ISREG(status.st_mode) and is_image_name(entry.name)):
        self._note(name, [_no_image(entry.name) if stat.S_ISREG(status.st_mode) else Skipped(entry.name, 'no file')])
      elif self._enter(entry, path, real):
        yield Photo(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

  def _note(self, folder, not_images):
    self.others.add_all(Skipped(f'{folder}/{name}', reason) for name, reason in not_images)

  def _enter(self, entry, name, parent):
    """The real path of an entry of the real folder `parent`; None, with a note, for what must not be read (again)."""
    real = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(parent, entry.name)
    reason = self._reason(entry, name, real, parent)
    if reason:
      self.skipped.append(Skipped(name, reason))
      return None
    self.read[real] = name
    return real

  def _reason(self, entry, name, real, parent):
    if real in self.read:
      return f'the same as {self.read[real]}'
    if not entry.is_symlink():
      return None
    if _within(self.root, real) or _within(parent, real):
      return 'a link to a folder that contains it'
    owner = os.path.relpath(real, self.root).split(os.sep)[0] if _within(real, self.root) else None
    return f'a link into the folder of {owner}' if owner in self.own and owner != name.split('/')[0] else None
