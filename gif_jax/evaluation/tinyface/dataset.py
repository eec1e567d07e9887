"""TinyFace (Cheng, Zhu and Gong, "Low-Resolution Face Recognition", ACCV 2018): its testing set, a search."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from gif_jax.core.errors import DataError
from gif_jax.core.lists import path_key
from gif_jax.data.formats.records import Person
from gif_jax.data.images import DECODING, is_image_name, read_full_size
from gif_jax.evaluation.image_files import ImageFiles
from gif_jax.evaluation.result import Result
from gif_jax.evaluation.tinyface.matlab import read_names
from gif_jax.evaluation.tinyface.protocol import Search, evaluate_search

# Folder -> the list of its images and the variable it is; of distractors there is no list.
_LISTS: dict[str, tuple[str, str] | None] = {
  'Probe': ('probe_img_ID_pairs.mat', 'probe_set'),
  'Gallery_Match': ('gallery_match_img_ID_pairs.mat', 'gallery_set'),
  'Gallery_Distractor': None,
}
NOBODY = -1  # identity of distractors


class FaceFiles(ImageFiles):
  """Image files as crops: [rows] gives uint8 [k, size, size, 3] RGB.

  A file of size x size pixels is taken as it is. Any other is stretched to it, both sides on their own.
  """

  def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
    rows = np.arange(len(self.names))[index].tolist()
    images = np.empty((len(rows), self.size, self.size, 3), np.uint8)
    for image, row in zip(images, rows):
      image[:] = self._fitted(self._read(row, read_full_size))
    return images

  def _fitted(self, image):
    if image.shape[:2] == (self.size, self.size):
      return image
    smaller = max(image.shape[:2]) > self.size
    return cv2.resize(image, (self.size, self.size), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


@dataclass(frozen=True)
class TinyFaceSet:
  """Probes, and a gallery of pictures of the same people and of many distractors.

  Attributes:
    name: of the folder; of the one above it for Testing_Set.
    images: n crops, of probes, then of the gallery: matches, distractors.
    identity: int64 [n], -1 of distractors.
    probe: int64 [q], which images are probes.
    gallery: int64 [g], which images are the gallery.
    fingerprint: of the names, sizes and times of all files, and of the size of crops.
  """

  name: str
  images: FaceFiles | None
  identity: np.ndarray
  probe: np.ndarray
  gallery: np.ndarray
  fingerprint: str = ''
  people: tuple[Person, ...] = ()

  @classmethod
  def open(cls, where: str | Path, size: int) -> 'TinyFaceSet':
    """Opens a folder with Probe, Gallery_Match, Gallery_Distractor and two lists.

    The lists probe_img_ID_pairs.mat and gallery_match_img_ID_pairs.mat decide the search: a listed
    image that is missing is an error (another extension will do: aligned copies have some), images of these two folders
    that are not listed are left out. All images of Gallery_Distractor count. A person is the number before the first
    underscore of a file's name.

    TinyFace's own images are faces as detectors found them, 20 x 16 pixels on average, of any shape: they are stretched
    to size x size (see `FaceFiles`). Metrics in papers since AdaFace (CVLface's among them) are of copies aligned with
    MTCNN to 112x112, tinyface_aligned_pad_0.1 and the like, which are taken as they are: the same folders, into which
    the two lists are copied. Metrics of aligned and of other images are not comparable.

    Raises DataError for what lacks a folder, a list or a listed image.
    """
    folder = _folder(Path(where))
    if folder is None:
      raise DataError(f'{where} has no folder Gallery_Match, nor Testing_Set with it, as TinyFace has.')
    listed = {name: _images(folder, name) for name in _LISTS}
    above, inner = os.path.abspath(folder).split(os.sep)[-2:]
    names = [f'{name}/{file}' for name, files in listed.items() for file in files]
    people = [_person(folder / name / file) for name in ('Probe', 'Gallery_Match') for file in listed[name]]
    identity = np.array(people + [NOBODY] * len(listed['Gallery_Distractor']), np.int64)
    probe, gallery = np.split(np.arange(len(names)), [len(listed['Probe'])])
    sizes = [size for files in listed.values() for size in files.values()]
    digest = '\n'.join([f'{size} {DECODING}', *map('{} {}'.format, names, sizes)])
    fingerprint = hashlib.sha256(digest.encode(errors='surrogateescape')).hexdigest()[:16]
    name = above if inner == 'Testing_Set' else inner
    return cls(name, FaceFiles(folder, names, size), identity, probe, gallery, fingerprint)

  def check(self) -> None:
    """Raises EvaluationError where no probe is of a person of the gallery."""
    self._search.mated()

  def evaluate(self, embedding: np.ndarray, norm: np.ndarray | None, replicates: int) -> list[Result]:
    """See `protocol.evaluate_search`."""
    del norm
    return [evaluate_search(self._search, embedding, replicates)]

  @property
  def _search(self):
    return Search(self.name, self.identity, self.probe, self.gallery)


def is_tinyface(path: Path) -> bool:
  """Whether a folder is TinyFace: that of its testing set or the one above."""
  return _folder(path) is not None


def _folder(path):
  return next((folder for folder in (path / 'Testing_Set', path) if (folder / 'Gallery_Match').is_dir()), None)


def _images(folder, name):
  """The images of one of the folders: {file: bytes}, listed ones in the order of their list, others by name."""
  files = _files(folder / name)
  if not (described := _LISTS[name]):
    return files
  source, variable = folder / described[0], described[1]
  listed = _listed(source, variable)
  # Lists may have folders before the names, and accents in another spelling than the disk.
  keys = [path_key(file).rpartition('/')[2] for file in listed]
  names, stems = ({key(path_key(file)): file for file in files} for key in (str, _stem))
  chosen = [names.get(key) or stems.get(_stem(key)) for key in keys]
  if None in chosen:
    raise DataError(
      f'{folder / name / listed[chosen.index(None)]} is missing, which {source.name} lists ({chosen.count(None)} of '
      f'{len(listed)} are); unpack the set again, the metrics are of all images.'
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
