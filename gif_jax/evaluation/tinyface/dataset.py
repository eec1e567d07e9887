"""TinyFace (Cheng, Zhu and Gong, "Low-Resolution Face Recognition", ACCV 2018): its testing set, a search."""

import hashlib
import os
import re
from pathlib import Path

import cv2
import numpy as np

from gif_jax.core.errors import DataError, UnreadableError
from gif_jax.core.lists import path_key
from gif_jax.data.images import DECODING, is_image_name, read_file, read_full_size
from gif_jax.evaluation.tinyface.matlab import read_names

# Folder -> the list of its images and the variable it is; of distractors there is no list.
_LISTS = {
  'Probe': ('probe_img_ID_pairs.mat', 'probe_set'),
  'Gallery_Match': ('gallery_match_img_ID_pairs.mat', 'gallery_set'),
  'Gallery_Distractor': None,
}
NOBODY = -1  # identity of distractors


class FaceFiles:
  """Image files as crops: [rows] gives uint8 [k, size, size, 3] RGB; safe to read from several threads.

  A file of size x size pixels is taken as it is. Any other is stretched to it whole, both sides on their own.
  """

  def __init__(self, folder: Path, names: list[str], size: int):
    """names: paths below the folder."""
    self.folder, self.names, self.size = folder, names, size

  def __len__(self):
    return len(self.names)

  def __getitem__(self, index):
    rows = np.arange(len(self.names))[index].tolist()
    images = np.empty((len(rows), self.size, self.size, 3), np.uint8)
    for image, row in zip(images, rows):
      image[:] = self._fitted(self._read(row, read_full_size))
    return images

  def encoded(self, index: int) -> bytes:
    """The file of an image."""
    return self._read(index, read_file)

  def name(self, index: int) -> str:
    """The path of an image below the folder."""
    return self.names[index]

  def _read(self, index, read):
    path = self.folder / self.names[index]
    try:
      return read(path)
    except UnreadableError as error:
      raise DataError(f'{path}: {error}; copy it again, every image counts in the figures.') from error

  def _fitted(self, image):
    if image.shape[:2] == (self.size, self.size):
      return image
    smaller = max(image.shape[:2]) > self.size
    return cv2.resize(image, (self.size, self.size), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


class TinyFaceSet:
  """Probes, and a gallery of pictures of the same people and of many distractors.

  A folder with Probe, Gallery_Match and Gallery_Distractor, and with the lists probe_img_ID_pairs.mat and
  gallery_match_img_ID_pairs.mat. The lists decide what is searched for and found: a listed image that is missing is an
  error (another extension will do: aligned copies have some), images of these two folders that are not listed are left
  out. All images of Gallery_Distractor count. A person is the number before the first underscore of a file's name.

  TinyFace's own images are faces as detectors found them, 20 x 16 pixels on average, of any shape: they are stretched
  to size x size (see `FaceFiles`). Figures in papers since AdaFace (CVLface's among them) are of copies aligned with
  MTCNN to 112x112, tinyface_aligned_pad_0.1 and the like, which are taken as they are: the same folders, into which the
  two lists are copied. Figures of aligned and of other images are not comparable.

  Attributes:
    kind: 'search', what `evaluation.benchmarks` measures it by.
    name: of the folder; of the one above it for Testing_Set.
    images: n crops, of probes, then of the gallery: matches, distractors.
    identity: int64 [n], -1 of distractors.
    probe: int64 [q], which images are probes.
    gallery: int64 [g], which images are the gallery.
    fingerprint: of the names, sizes and times of all files, and of the size of crops.
  """

  kind = 'search'

  def __init__(self, where: str | Path, size: int):
    """Raises DataError for what lacks a folder, a list or a listed image."""
    folder = _folder(Path(where))
    if folder is None:
      raise DataError(f'{where} has no folder Gallery_Match, nor Testing_Set with it, as TinyFace has.')
    found = {name: _images(folder, name) for name in _LISTS}
    above, inner = os.path.abspath(folder).split(os.sep)[-2:]
    self.name = above if inner == 'Testing_Set' else inner
    names = [f'{name}/{file}' for name, files in found.items() for file in files]
    self.images = FaceFiles(folder, names, size)
    people = [_person(folder / name / file) for name in ('Probe', 'Gallery_Match') for file in found[name]]
    self.identity = np.array(people + [NOBODY] * len(found['Gallery_Distractor']), np.int64)
    self.probe, self.gallery = np.split(np.arange(len(names)), [len(found['Probe'])])
    sizes = [size for files in found.values() for size in files.values()]
    digest = '\n'.join([f'{size} {DECODING}', *map('{} {}'.format, names, sizes)])
    self.fingerprint = hashlib.sha256(digest.encode(errors='surrogateescape')).hexdigest()[:16]


def is_tinyface(path: Path) -> bool:
  """Whether a folder is TinyFace: that of its testing set or the one above."""
  return _folder(path) is not None


def _folder(path):
  return next((folder for folder in (path / 'Testing_Set', path) if (folder / 'Gallery_Match').is_dir()), None)


def _images(folder, name):
  """The images of one of the folders: {file: bytes}, listed ones in the order of their list, others by name."""
  files = _files(folder / name)
  if not _LISTS[name]:
    return files
  source, variable = folder / _LISTS[name][0], _LISTS[name][1]
  listed = _listed(source, variable)
  # Lists may have folders before the names, and accents in another spelling than the disk.
  keys = [path_key(file).rpartition('/')[2] for file in listed]
  names, stems = ({key(path_key(file)): file for file in files} for key in (str, _stem))
  chosen = [names.get(key) or stems.get(_stem(key)) for key in keys]
  if None in chosen:
    raise DataError(
      f'{folder / name / listed[chosen.index(None)]} is missing, which {source.name} lists ({chosen.count(None)} of '
      f'{len(listed)} are); unpack the set again, the figures are of all images.'
    )
  if len(set(chosen)) < len(chosen):
    twice = next(file for i, file in enumerate(chosen) if file in chosen[:i])
    raise DataError(f'{source} lists {twice} twice; unpack the set again.')
  return {file: files[file] for file in chosen}


def _stem(name):
  return Path(name).stem


def _files(folder):
  """{file: (bytes, when modified in ns)} of the images right in a folder, by name."""
  try:
    with os.scandir(folder) as entries:
      stats = {entry.name: entry.stat() for entry in entries if _is_image(entry.name)}
  except OSError as error:
    raise DataError(f'{folder} cannot be listed ({error.strerror}); unpack the whole testing set.') from error
  files = {name: (status.st_size, status.st_mtime_ns) for name, status in stats.items()}
  if not files:
    raise DataError(f'{folder} holds no image; unpack the whole testing set.')
  return dict(sorted(files.items()))


def _is_image(name):
  return is_image_name(name) and not name.startswith('.')


def _listed(path, variable):
  """The file names in a MATLAB file: a cell array of strings, such as 1_1.jpg."""
  if not path.is_file():
    raise DataError(f'{path} is missing; copy it there from the Testing_Set of TinyFace.')
  names = read_names(path, variable)
  if not names:
    raise DataError(f'{path} lists no image; unpack the set again.')
  return names


def _person(path):
  number = re.match(r'(\d{1,18})_', path.name)
  if not number:
    raise DataError(f'{path}: the name does not begin with the number of a person and _, as in 12_3.jpg.')
  return int(number[1])
