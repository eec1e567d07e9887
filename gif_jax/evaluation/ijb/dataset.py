"""IJB-B and IJB-C, 1:1: templates of several images, pairs of templates, loosely cropped faces with five points.

A folder as InsightFace distributes it (recognition/_evaluation_/ijb, arcface_torch's eval_ijbc.py), NAME ijbb or ijbc;
text files of columns between white space, without a header, a row a line, saved by whatever program (core/lists.py):

    meta/NAME_face_tid_mid.txt         image, template, media
    meta/NAME_name_5pts_score.txt      image, x1 y1 .. x5 y5, score of the detector; the same images in the same order
    meta/NAME_template_pair_label.txt  template, template, 1 of one person or 0 of two
    meta/NAME_1N_*.csv                 for 1:N, see galleries.py; may be missing
    loose_crop/                        the images

An image may have several rows, and each counts, as in the field. Points are those of data/landmarks.py; scores
in InsightFace's lists are from 0.1 to 1.
"""

import hashlib
import itertools
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gif_jax.core.errors import DataError, UnreadableError, cure, reason
from gif_jax.core.lists import indexed, is_number, open_text, parse_int, path_key, read_lines
from gif_jax.core.storage import checksums
from gif_jax.core.texts import quoted
from gif_jax.data.alignment.geometry import faults, similarity, template
from gif_jax.data.alignment.landmarks import check_points
from gif_jax.data.images import DECODING, read_file, read_full_size
from gif_jax.evaluation.ijb.galleries import open_galleries

_NAMES = ('ijbb', 'ijbc')
_LISTS = {
  'face_tid_mid': ('IMAGE TEMPLATE MEDIA', [('template', np.int64), ('media', np.int64)]),
  'name_5pts_score': ('IMAGE x1 y1 x2 y2 x3 y3 x4 y4 x5 y5 SCORE', [('points', np.float64, 10), ('score', np.float64)]),
  'template_pair_label': ('TEMPLATE TEMPLATE 1|0', [('left', np.int64), ('right', np.int64), ('label', np.float64)]),
}
_POINTS = _LISTS['name_5pts_score'][0].split()[1:-1]  # names of columns
_WHOLE = ('TEMPLATE', 'MEDIA')  # columns of whole numbers


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
    detector: float32 [n], the detector's score, above 0.
    template_ids: int64 [t], the templates' numbers in the files, rising.
    left, right: int32 [p], templates.
    same: bool [p], whether they are of one person.
    subject: int64 [t], as far as the pairs tell: templates joined by genuine pairs are of one person.
    identity: int64 [n], subject of every image.
    search: `Galleries` of the 1:N protocol; None without its lists.
    fingerprint: of the text files, the sizes and times of the images, and the size of the crops.
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
    self._check_subjects(folder / 'meta', pairs)
    digests = ''.join(map(checksums.sha256, (faces, points, pairs)))
    digest = hashlib.sha256(f'{digests} {size} {DECODING}'.encode())
    if self.images is not None:
      digest.update(self.images.stamps())
    self.fingerprint = digest.hexdigest()[:16]

  def _read_images(self, faces, points, loose_crop, size):
    """Sets what is known of the images; returns their crops."""
    (names, rows), (others, found) = _rows(faces), _rows(points)
    _check_aligned(faces, names, points, others)
    self.template_ids, number = np.unique(rows['template'], return_inverse=True)
    self.template, self.media = number.astype(np.int32), rows['media'].copy()
    score, landmarks = found['score'], found['points'].reshape(-1, 5, 2)
    with np.errstate(over='ignore'):
      self.detector = score.astype(np.float32)
    # Images are weighted with it: at 0 one would be left out, below it one's opposite would be taken.
    weights = np.isfinite(self.detector) & (self.detector > 0)
    _check(points, ~weights, lambda row: f'a score of {score[row]}, not finite and above 0 as probabilities are')
    finite = np.isfinite(found['points'])
    _check(points, ~finite.all(1), lambda row: f'a number that is not finite, {_POINTS[finite[row].argmin()]}')
    if not loose_crop.is_dir():
      return None
    check_points(points, landmarks, lambda row: _line(points, row))
    files = _files(loose_crop, names)
    lacking = np.array([file is None for file in files])
    _check(points, lacking, lambda row: f'no image {quoted(names[row])} in {loose_crop}')
    return LooseCrops(loose_crop, files, landmarks, size, lambda row: f'{points}, line {_line(points, row)}')

  def _read_pairs(self, pairs, faces):
    _, rows = _rows(pairs)
    label = rows['label']
    _check(pairs, (label != 0) & (label != 1), lambda row: f'a label {label[row]:g} that is neither 0 nor 1')
    self.same = label == 1
    if self.same.all() or not self.same.any():
      raise DataError(f'{pairs} has no {"impostor" if self.same.any() else "genuine"} pairs; copy it again, whole.')
    self.left, self.right = (self._numbers(pairs, rows[side], faces) for side in ('left', 'right'))
    t, left, right = len(self.template_ids), self.left[self.same], self.right[self.same]
    genuine = coo_array((np.ones(len(left), bool), (left, right)), shape=(t, t))
    self.subject = connected_components(genuine, directed=False)[1].astype(np.int64)
    # Also a pair that is there twice, with both labels, and a template and itself, which is one person.
    contradicts = ~self.same & (self.subject[self.left] == self.subject[self.right])
    _check(
      pairs,
      contradicts,
      lambda row: (
        f'templates {rows["left"][row]} and {rows["right"][row]} as of two people, who are one by other lines'
      ),
    )

  def _check_subjects(self, meta, pairs):
    """Raises DataError where the lists of 1:N give templates of one person, by the pairs of 1:1, to two subjects."""
    if self.search is None:
      return
    listed = [(gallery.template, gallery.subject) for gallery in self.search.galleries]
    template, subject = map(np.concatenate, zip(*listed, (self.search.probe, self.search.probe_subject)))
    order = np.argsort(self.subject[template], kind='stable')
    template, subject = template[order], subject[order]
    person = self.subject[template]
    if (other := (person[1:] == person[:-1]) & (subject[1:] != subject[:-1])).any():
      row = int(other.argmax())
      ids = self.template_ids[template[row : row + 2]]
      raise DataError(
        f'{meta}: {self.name}_1N_*.csv have templates {ids[0]} and {ids[1]} of the subjects {subject[row]} and '
        f'{subject[row + 1]}, who are one person by {pairs.name} ({other.sum()} such): copy the files again, all of '
        'one release.'
      )

  def _numbers(self, pairs, ids, faces):
    """0..t-1 for the templates' ids in the files: int32, as many as `ids`."""
    place = np.searchsorted(self.template_ids, ids).astype(np.int32)
    np.minimum(place, len(self.template_ids) - 1, out=place)
    _check(pairs, self.template_ids[place] != ids, lambda row: f'a template {ids[row]} that {faces} lacks')
    return place


class LooseCrops:
  """Loosely cropped faces, aligned when they are asked for: [rows] gives uint8 [k, size, size, 3] RGB.

  May be read by several threads at once; holds a name and five points for each image.
  """

  def __init__(self, folder: Path, names: list[str], points: np.ndarray, size: int, where: Callable[[int], str]):
    """names: n paths below `folder`; points: float64 [n, 5, 2] that `align.faults` has nothing against; where: the file
    and line of row i.
    """
    self.folder, self.size, self._names, self._points, self._where = folder, size, names, points.copy(), where

  def __len__(self):
    return len(self._names)

  def __getitem__(self, index):
    rows = np.arange(len(self))[index]
    crops = np.empty((len(rows), self.size, self.size, 3), np.uint8)
    sizes = np.empty((len(rows), 2), np.int64)
    matrices = similarity(self._points[rows], template(self.size))
    for crop, row, size, matrix in zip(crops, rows.tolist(), sizes, matrices):
      image = self._read(row, read_full_size)
      size[:] = image.shape[1::-1]
      # Not `align.warp`: that shrinks large faces first, so that no pixel of them is left out. The field does not when
      # it measures on IJB, and figures are comparable only on the same pixels.
      crop[:] = cv2.warpAffine(image, matrix, (self.size, self.size), flags=cv2.INTER_LINEAR)
    self._check(rows, *sizes.T)
    return crops

  def _check(self, rows, width, height):
    for what, bad in faults(self._points[rows], width, height).items():
      if bad.any():
        i = int(bad.argmax())
        raise DataError(
          f'{self._where(rows[i])}: {what} {self.folder / self._names[rows[i]]}, which has {width[i]}x{height[i]} '
          'pixels; copy the lists and the images again, all of one release.'
        )

  def stamps(self) -> bytes:
    """Changes when one of the files does: their sizes and times. About 3 us for each on a local disk."""
    stats = (os.stat(self.folder / name) for name in self._names)
    return np.array([(status.st_size, status.st_mtime_ns) for status in stats], np.int64).tobytes()

  def encoded(self, index: int) -> bytes:
    """The file of an image."""
    return self._read(index, read_file)

  def name(self, index: int) -> str:
    """The path of an image below loose_crop."""
    return self._names[index]

  def _read(self, index, read):
    path = self.folder / self._names[index]
    try:
      return read(path)
    except UnreadableError as error:
      raise DataError(f'{path}: {error}; copy it again: without it no figure would be comparable.') from error


def _path(folder, name, which):
  return folder / 'meta' / f'{name}_{which}.txt'


def _rows(path):
  """One of the text files: names of images, str, where it has them, and a structured array as `_LISTS` has it."""
  if not path.is_file():
    raise DataError(f'{path} does not exist; copy the whole folder meta of the set, it has {", ".join(_LISTS)}.')
  form, fields = next(kind for which, kind in _LISTS.items() if path.stem.endswith(which))
  names = []
  try:
    with warnings.catch_warnings(), open_text(path) as lines:
      warnings.simplefilter('error')  # what loadtxt warns of, such as an empty file, is as bad as what it refuses
      numbers = _without_names(lines, names) if form.startswith('IMAGE') else lines
      return names, np.loadtxt(numbers, fields, comments=None, encoding='utf-8', ndmin=1)
  except OSError as error:
    raise DataError(f'{path} cannot be read ({reason(error)}): {cure(error)}.') from error
  except (ValueError, Warning) as error:
    raise DataError(_complaint(path, form, error)) from error


def _without_names(lines, names):
  """The lines without their first column, which is added to `names`."""
  for line in lines:
    if fields := line.split(None, 1):
      names.append(fields[0])
      yield fields[-1]  # a name alone is no row of numbers


def _complaint(path, form, error):
  """What is wrong with a text file that NumPy refused; the line is looked for only now."""
  wanted, first = form.split(), True
  for number, line in read_lines(path):
    fields, where = line.split(), f'{path}, line {number}'
    if first and len(fields) > 1 and not any(map(is_number, fields[1:])):
      return f'{where}: a header, which the file must not have; remove the line.'
    if len(fields) != len(wanted):
      return f'{where}: {len(fields)} columns, wanted {form} between white space; copy the file again.'
    for column, (field, kind) in enumerate(zip(fields, wanted), 1):
      if kind != 'IMAGE' and not is_number(field, parse_int if kind in _WHOLE else float):
        what = 'whole number' if kind in _WHOLE else 'number'
        return f'{where}, column {column}: {quoted(field)} is not a {what} that can be a {kind}; copy the file again.'
    first = False
  return f'{path} cannot be used, wanted lines {form}; copy it again ({error}).'


def _check(path, bad, what):
  """Raises DataError for the first of the rows that are bad, bool [rows]; what: of a row, in words."""
  if bad.any():
    row = int(bad.argmax())
    raise DataError(
      f'{path}, line {_line(path, row)}: {what(row)} ({np.count_nonzero(bad)} such lines); copy the files again, all '
      'of one release.'
    )


def _line(path, row):
  """The line in which a row stands: blank lines are none."""
  return next(itertools.islice((number for number, _ in read_lines(path)), row, None))


def _check_aligned(faces, names, points, others):
  cure = 'row i of both must be of the same image: copy both again, of one release.'
  if len(names) != len(others):
    raise DataError(f'{faces} has {len(names)} rows, {points} {len(others)}; {cure}')
  pairs = enumerate(zip(names, others))
  if unlike := [row for row, (name, other) in pairs if name != other and path_key(name) != path_key(other)]:
    row = unlike[0]
    raise DataError(
      f'{faces}, line {_line(faces, row)}: {names[row]}, but {points}, line {_line(points, row)}: {others[row]} '
      f'({len(unlike)} such rows); {cure}'
    )


def _files(folder, names):
  """The images as they are spelled on the disk, None for those that are not there.

  Folders are listed, which is far cheaper than asking for each file.
  """
  there = set()
  for parent in {os.path.dirname(name) for name in names}:
    below = os.path.join(folder, parent)
    if os.path.isdir(below):
      there.update(os.path.join(parent, name) for name in os.listdir(below))
  if there.issuperset(names):
    return names
  every = [os.path.relpath(os.path.join(at, file), folder) for at, _, files in os.walk(folder) for file in files]
  places = indexed(every, path_key)
  spelled = {name: every[places[key]] for name in set(names) if (key := path_key(name)) in places}
  return [name if name in there else spelled.get(name) for name in names]
