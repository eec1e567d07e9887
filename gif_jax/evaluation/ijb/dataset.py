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
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gif_jax.core.errors import DataError
from gif_jax.core.storage import checksums
from gif_jax.core.texts import quoted
from gif_jax.data.alignment.landmarks import check_points
from gif_jax.data.formats.records import Person
from gif_jax.data.images import DECODING
from gif_jax.evaluation.ijb.galleries import Galleries, open_galleries
from gif_jax.evaluation.ijb.lists import (
  LISTS,
  POINTS,
  as_spelled,
  check_rows,
  check_same_images,
  line_of,
  list_path,
  read_list,
)
from gif_jax.evaluation.ijb.loose_crops import LooseCrops
from gif_jax.evaluation.ijb.protocol import evaluate_templates
from gif_jax.evaluation.ijb.templates import Templates
from gif_jax.evaluation.result import Result

_NAMES = ('ijbb', 'ijbc')


def is_template_set(folder: Path) -> bool:
  """Whether a folder has the text files of IJB-B or IJB-C, or one of them."""
  return _name(folder) is not None


def _name(folder):
  return next((name for name in _NAMES if any(list_path(folder, name, which).is_file() for which in LISTS)), None)


@dataclass(frozen=True)
class TemplateSet(Templates):
  """IJB-B or IJB-C as a benchmark: see `Templates`.

  Attributes:
    images: n crops, [rows] gives uint8 [k, size, size, 3] RGB; None without a folder loose_crop, so that embeddings
      made elsewhere can be measured.
    fingerprint: of the text files, the sizes and times of the images, and the size of the crops.
  """

  images: LooseCrops | None = None
  fingerprint: str = ''
  people: tuple[Person, ...] = ()

  @classmethod
  def open(cls, folder: str | Path, size: int) -> 'TemplateSet':
    """Opens the folder; IJB-C in about ten seconds and with 1 GB of memory.

    Raises DataError for a file that is missing, rows that cannot be used, or lists that are not of the same images.
    """
    folder = Path(folder)
    if not (name := _name(folder)):
      raise DataError(f'{folder} has none of meta/NAME_*.txt, NAME being {" or ".join(_NAMES)}.')
    faces, points, pairs = (list_path(folder, name, which) for which in LISTS)
    listed, images = _read_images(faces, points, folder / 'loose_crop', size)
    compared = _read_pairs(pairs, faces, listed.template_ids)
    search = open_galleries(folder / 'meta', name, listed.template_ids)
    if search:
      _check_subjects(f'{folder / "meta"}: {name}', pairs, listed.template_ids, compared.subject, search)
    digests = ''.join(map(checksums.sha256, (faces, points, pairs)))
    digest = hashlib.sha256(f'{digests} {size} {DECODING}'.encode())
    if images is not None:
      digest.update(images.stamps())
    fingerprint = digest.hexdigest()[:16]
    return cls(name, **listed._asdict(), **compared._asdict(), search=search, images=images, fingerprint=fingerprint)

  @property
  def identity(self) -> np.ndarray:
    """Subject of every image: int64 [n]."""
    return self.subject[self.template]

  def check(self) -> None:
    """Files that lack a kind of pairs are refused when they are opened."""

  def evaluate(self, embedding: np.ndarray, norm: np.ndarray | None, replicates: int) -> list[Result]:
    """See `protocol.evaluate_templates`."""
    del norm  # N1 is the length of f(x) + f(flip x) itself
    return evaluate_templates(self, embedding, replicates)


class _Listed(NamedTuple):
  """What the lists say of images, see `Templates`."""

  template_ids: np.ndarray
  template: np.ndarray
  media: np.ndarray
  detector: np.ndarray


class _Compared(NamedTuple):
  """What the lists say of pairs, see `Templates`."""

  left: np.ndarray
  right: np.ndarray
  same: np.ndarray
  subject: np.ndarray


def _read_images(faces, points, loose_crop, size):
  (names, rows), (others, landmarks) = read_list(faces), read_list(points)
  check_same_images(faces, names, points, others)
  template_ids, number = np.unique(rows['template'], return_inverse=True)
  score = landmarks['score']
  with np.errstate(over='ignore'):
    detector = score.astype(np.float32)
  # Images are weighted with it: at 0 one would be left out, below it one's opposite would be taken.
  weights = np.isfinite(detector) & (detector > 0)
  check_rows(points, ~weights, lambda row: f'a score of {score[row]}, not finite and above 0 as probabilities are')
  finite = np.isfinite(landmarks['points'])
  check_rows(points, ~finite.all(1), lambda row: f'a number that is not finite, {POINTS[finite[row].argmin()]}')
  listed = _Listed(template_ids, number.astype(np.int32), rows['media'].copy(), detector)
  if not loose_crop.is_dir():
    return listed, None
  five = landmarks['points'].reshape(-1, 5, 2)
  check_points(points, five, lambda row: line_of(points, row))
  files = as_spelled(loose_crop, names)
  lacking = np.array([not file for file in files])
  check_rows(points, lacking, lambda row: f'no image {quoted(names[row])} in {loose_crop}')
  return listed, LooseCrops(loose_crop, files, five, size, lambda row: f'{points}, line {line_of(points, row)}')


def _read_pairs(pairs, faces, template_ids):
  _, rows = read_list(pairs)
  label = rows['label']
  check_rows(pairs, (label != 0) & (label != 1), lambda row: f'a label {label[row]:g} that is neither 0 nor 1')
  same = label == 1
  if same.all() or not same.any():
    raise DataError(f'{pairs} has no {"impostor" if same.any() else "genuine"} pairs; copy all of it again.')
  left, right = (_numbers(pairs, rows[side], template_ids, faces) for side in ('left', 'right'))
  t = len(template_ids)
  genuine = coo_array((np.ones(np.count_nonzero(same), bool), (left[same], right[same])), shape=(t, t))
  subject = connected_components(genuine, directed=False)[1].astype(np.int64)
  # Also a pair that is listed twice, with both labels, and a template and itself, which is one person.
  check_rows(
    pairs,
    ~same & (subject[left] == subject[right]),
    lambda row: f'templates {rows["left"][row]} and {rows["right"][row]} as of two people, who are one by other lines',
  )
  return _Compared(left, right, same, subject)


def _numbers(pairs, ids, template_ids, faces):
  """0..t-1 for the templates' ids in the files: int32, as many as `ids`."""
  place = np.searchsorted(template_ids, ids).astype(np.int32)
  np.minimum(place, len(template_ids) - 1, out=place)
  check_rows(pairs, template_ids[place] != ids, lambda row: f'a template {ids[row]} that {faces} lacks')
  return place


def _check_subjects(which, pairs, template_ids, person_of, search: Galleries):
  """Raises DataError where the lists of 1:N give templates of one person, by the pairs of 1:1, to two subjects."""
  listed = [(gallery.template, gallery.subject) for gallery in search.galleries]
  template, subject = map(np.concatenate, zip(*listed, (search.probe, search.probe_subject)))
  order = np.argsort(person_of[template], kind='stable')
  template, subject = template[order], subject[order]
  person = person_of[template]
  if (other := (person[1:] == person[:-1]) & (subject[1:] != subject[:-1])).any():
    row = int(other.argmax())
    ids = template_ids[template[row : row + 2]]
    raise DataError(
      f'{which}_1N_*.csv have templates {ids[0]} and {ids[1]} of the subjects {subject[row]} and '
      f'{subject[row + 1]}, who are one person by {pairs.name} ({other.sum()} such): copy the files again, all of '
      'one release.'
    )
