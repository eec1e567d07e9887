"""IJB-B and IJB-C, 1:1: templates of several images, pairs of templates, loosely cropped faces with five points.

A folder as InsightFace distributes it (recognition/_evaluation_/ijb, arcface_torch's eval_ijbc.py), NAME ijbb or ijbc;
text files of columns between white space, without a header, a row a line:

    meta/NAME_face_tid_mid.txt         image, template, media
    meta/NAME_name_5pts_score.txt      image, x1 y1 .. x5 y5, score of the detector; the same images in the same order
    meta/NAME_template_pair_label.txt  template, template, 1 of one person or 0 of two
    meta/NAME_1N_*.csv                 for 1:N, see galleries.py; may be missing
    loose_crop/                        the images
"""

import hashlib
import itertools
import os
import warnings
from pathlib import Path

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gif_jax.core import checksums
from gif_jax.core.errors import DataError, UnreadableError, cure, reason
from gif_jax.core.lists import open_text, read_lines
from gif_jax.data.align import similarity, template, usable
from gif_jax.data.benchmarks.galleries import open_galleries
from gif_jax.data.crops import decode_whole

_NAMES = ('ijbb', 'ijbc')
_LISTS = {
  'face_tid_mid': ('IMAGE TEMPLATE MEDIA', [('template', np.int64), ('media', np.int64)]),
  'name_5pts_score': ('IMAGE x1 y1 x2 y2 x3 y3 x4 y4 x5 y5 SCORE', [('points', np.float64, 10), ('score', np.float32)]),
  'template_pair_label': ('TEMPLATE TEMPLATE 1|0', [('left', np.int64), ('right', np.int64), ('label', np.int64)]),
}
_WHOLE = ('TEMPLATE', 'MEDIA', '1|0')  # columns of whole numbers


def is_template_set(folder: Path) -> bool:
  """Whether a folder has the text files of IJB-B or IJB-C, or one of them."""
  return _name(folder) is not None


def _name(folder):
  there = (name for name in _NAMES if any(_path(folder, name, which).is_file() for which in _LISTS))
  return next(there, None)


class TemplateSet:
  """n images in t templates, p pairs of which are compared.

  Attributes:
    kind: 'templates', what `evaluation.benchmarks` measures it by.
    name: 'ijbb' or 'ijbc'.
    images: n crops, [rows] gives uint8 [k, size, size, 3] RGB; None where there is no loose_crop, so that embeddings
      made elsewhere can be measured.
    template: int32 [n], number of every image's template, 0..t-1.
    media: int64 [n]: images of one template with the same number are frames of one video, or one photograph.
    detector: float32 [n], the detector's score.
    template_ids: int64 [t], the templates' numbers in the files, rising.
    left, right: int32 [p], templates.
    same: bool [p], whether they are of one person.
    subject: int64 [t], as far as the pairs tell: templates joined by genuine pairs are of one person.
    identity: int64 [n], subject of every image.
    search: `Galleries` of the 1:N protocol; None without its lists.
    fingerprint: of the text files and the size of the crops.
  """

  kind = 'templates'

  def __init__(self, folder: str | Path, size: int):
    """Opens the folder; IJB-C in about ten seconds and with 1 GB of memory.

    Raises DataError for a file that is missing, rows that cannot be used, or lists that are not of the same images.
    """
    folder = Path(folder)
    self.name = _name(folder)
    faces, points, pairs = (_path(folder, self.name, which) for which in _LISTS)
    self.images = self._read_images(faces, points, folder / 'loose_crop', size)
    self._read_pairs(pairs, faces)
    self.identity = self.subject[self.template]
    self.search = open_galleries(folder / 'meta', self.name, self.template_ids)
    digests = ''.join(map(checksums.sha256, (faces, points, pairs)))
    self.fingerprint = hashlib.sha256(f'{digests} {size}'.encode()).hexdigest()[:16]

  def _read_images(self, faces, points, loose_crop, size):
    """Sets what is known of the images; returns their crops."""
    rows, found = _rows(faces), _rows(points)
    _check_aligned(faces, rows['name'], points, found['name'])
    self.template_ids, number = np.unique(rows['template'], return_inverse=True)
    self.template, self.media = number.astype(np.int32), rows['media'].copy()
    self.detector, landmarks = found['score'].copy(), found['points'].reshape(-1, 5, 2)
    _check(points, ~np.isfinite(self.detector) | ~np.isfinite(landmarks).all((1, 2)), 'a number that is not finite')
    if not loose_crop.is_dir():
      return None
    _check(points, ~usable(landmarks), 'five points that all but coincide; they must be in pixels')
    _check(points, ~_present(loose_crop, rows['name']), f'an image that {loose_crop} lacks')
    return LooseCrops(loose_crop, rows['name'].copy(), landmarks, size)

  def _read_pairs(self, pairs, faces):
    rows = _rows(pairs)
    _check(pairs, (rows['label'] != 0) & (rows['label'] != 1), 'a label that is neither 0 nor 1')
    self.same = rows['label'] == 1
    if self.same.all() or not self.same.any():
      raise DataError(f'{pairs} has no {"impostor" if self.same.any() else "genuine"} pairs; copy it again, whole.')
    self.left, self.right = (self._numbers(pairs, rows[side], faces) for side in ('left', 'right'))
    t, left, right = len(self.template_ids), self.left[self.same], self.right[self.same]
    genuine = coo_array((np.ones(len(left), bool), (left, right)), shape=(t, t))
    self.subject = connected_components(genuine, directed=False)[1].astype(np.int64)

  def _numbers(self, pairs, ids, faces):
    """0..t-1 for the templates' ids in the files: int32, as many as `ids`."""
    place = np.searchsorted(self.template_ids, ids).astype(np.int32)
    np.minimum(place, len(self.template_ids) - 1, out=place)
    _check(pairs, self.template_ids[place] != ids, f'a template that {faces} lacks')
    return place


class LooseCrops:
  """Loosely cropped faces, aligned when they are asked for: [rows] gives uint8 [k, size, size, 3] RGB.

  May be read by several threads at once; holds a name and a matrix for each image.
  """

  def __init__(self, folder: Path, names: np.ndarray, points: np.ndarray, size: int):
    """names: bytes [n], below `folder`; points: float64 [n, 5, 2], usable as in data/align.py."""
    self.folder, self.size, self._names = folder, size, names
    self._matrices = similarity(points, template(size))

  def __len__(self):
    return len(self._names)

  def __getitem__(self, index):
    matrices, names = self._matrices[index], self._names[index]
    crops = np.empty((len(names), self.size, self.size, 3), np.uint8)
    for crop, name, matrix in zip(crops, names.tolist(), matrices):
      # Not `align.warp`: that shrinks large faces first, so that no pixel of them is left out. The field does not when
      # it measures on IJB, and figures are comparable only on the same pixels.
      crop[:] = cv2.warpAffine(self._decoded(name), matrix, (self.size, self.size), flags=cv2.INTER_LINEAR)
    return crops

  def encoded(self, index: int) -> bytes:
    """The file of an image."""
    return self._read(self._names[index])

  def name(self, index: int) -> str:
    """The path of an image below loose_crop."""
    return os.fsdecode(self._names[index])

  def _read(self, name, use=bytes):
    path = self.folder / os.fsdecode(name)
    try:
      return use(path.read_bytes())
    except (OSError, UnreadableError) as error:
      reason = error.strerror if isinstance(error, OSError) else error
      raise DataError(f'{path} {reason}; copy it again: without it no figure would be comparable.') from error

  def _decoded(self, name):
    return self._read(name, decode_whole)


def _path(folder, name, which):
  return folder / 'meta' / f'{name}_{which}.txt'


def _rows(path):
  """Rows of one of the text files: a structured array, its names as `_LISTS` has them, the image's bytes as `name`."""
  if not path.is_file():
    raise DataError(f'{path} does not exist; copy the whole folder meta of the set, it has {", ".join(_LISTS)}.')
  form, fields = next(kind for which, kind in _LISTS.items() if path.stem.endswith(which))
  try:
    if form.startswith('IMAGE'):
      with open_text(path, as_bytes=True) as lines:
        fields = [('name', f'S{max(map(len, lines), default=1)}'), *fields]  # as long as a line: no name is cut
    with warnings.catch_warnings(), open_text(path, as_bytes=True) as lines:
      warnings.simplefilter('error')  # what loadtxt warns of, such as an empty file, is as bad as what it refuses
      return np.loadtxt(lines, fields, comments=None, encoding='latin-1', ndmin=1)
  except OSError as error:
    raise DataError(f'{path} cannot be read ({reason(error)}): {cure(error)}.') from error
  except (ValueError, Warning) as error:
    raise DataError(f'{_complaint(path, form)} ({error})') from error


def _complaint(path, form):
  """What is wrong with a text file that NumPy refused; the line is looked for only now."""
  wanted = form.split()
  for number, line in read_lines(path):
    fields = line.split()
    if len(fields) != len(wanted):
      return f'{path}, line {number}: {len(fields)} columns, wanted {form}; copy the file again.'
    for field, kind in zip(fields, wanted):
      if kind != 'IMAGE' and not _is_number(field, int if kind in _WHOLE else float):
        return f'{path}, line {number}: {field} is not a number that can be a {kind}, wanted {form}; copy it again.'
  return f'{path} cannot be used, wanted lines {form}; copy it again.'


def _is_number(text, kind):
  try:
    return '_' not in text and kind(text) is not None
  except ValueError:
    return False


def _check(path, bad, what):
  """Raises DataError for the first of the rows that are bad, bool [rows]."""
  if bad.any():
    raise DataError(
      f'{path}, line {_line(path, int(bad.argmax()))}: {what} ({np.count_nonzero(bad)} such lines); copy the files '
      'again, all of one release.'
    )


def _line(path, row):
  """The line in which a row stands: blank lines are none."""
  return next(itertools.islice((number for number, _ in read_lines(path)), row, None))


def _check_aligned(faces, names, points, others):
  cure = 'row i of both must be of the same image: copy both again, of one release.'
  if len(names) != len(others):
    raise DataError(f'{faces} has {len(names)} rows, {points} {len(others)}; {cure}')
  if (unlike := names != others).any():
    row = int(unlike.argmax())
    raise DataError(
      f'{faces}, line {_line(faces, row)}: {os.fsdecode(names[row])}, but {points}, line {_line(points, row)}: '
      f'{os.fsdecode(others[row])} ({np.count_nonzero(unlike)} such rows); {cure}'
    )


def _present(folder, names):
  """Which images are there: bool [n]. Folders are listed, which is far cheaper than asking for each file."""
  names = names.tolist()
  parents = {os.path.dirname(name) for name in names}
  there = set()
  for parent in parents:
    below = os.path.join(os.fsencode(folder), parent)
    if os.path.isdir(below):
      there.update(os.path.join(parent, name) for name in os.listdir(below))
  return np.fromiter((name in there for name in names), bool, len(names))
