"""The lists of an audit: what to look at, one finding a line."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gif_jax.audit.findings import Overlap, Pairs
from gif_jax.audit.image_hashes import BLANK, Marked
from gif_jax.audit.inputs import Opened
from gif_jax.core.lists import write_rows
from gif_jax.data.listing import Skipped

_LISTED = 100_000  # findings of each kind in a list


class Alike(NamedTuple):
  """Pairs of people, or of people and evaluation images, with their cosines; the most similar first."""

  first: np.ndarray  # int64 [k], numbers of people
  second: np.ndarray  # int64 [k], numbers of people, or of images in all
  cosine: np.ndarray  # float32 [k]


def write_lists(
  output: Path,
  data: Opened,
  marked: Marked,
  odd: np.ndarray,
  pairs: Pairs,
  overlaps: dict[str, Overlap],
  similar: Alike | None,
  close: dict[str, Alike],
) -> None:
  """Writes all lists into the folder `output`; one that has nothing to list is empty but for its header.

  odd: bool [n], which of the images to train on are of an odd size.
  """
  blank = np.flatnonzero(marked.marks['kind'] == BLANK)[:_LISTED].tolist()
  skipped = [*data.trained.skipped, *data.trained.not_images, *marked.undecodable]
  skipped += [Skipped(data.images.where(i), 'shows nothing, one colour all over') for i in blank]
  write_rows(output / 'skipped.tsv', skipped, '\t')
  strange = np.flatnonzero(odd)[:_LISTED]
  sides = (f'{width}x{height}' for width, height in marked.marks[strange][['width', 'height']].tolist())
  write_rows(output / 'odd_sizes.tsv', zip(map(data.images.where, strange.tolist()), sides), '\t')
  write_rows(output / 'duplicates.csv', _duplicate_rows(data, pairs), ',')
  known = sorted({person for one in overlaps.values() for person in one.people.tolist()})
  write_rows(output / 'in_evaluation.txt', [(data.trained.names[person],) for person in known], '\t')
  write_rows(output / 'overlapping_people.csv', _overlap_rows(data, overlaps, close), ',')
  alike = zip(similar.first.tolist(), similar.second.tolist(), similar.cosine.tolist()) if similar else ()
  rows = (('', f'{cosine:.4f}', data.who(first), data.who(second)) for first, second, cosine in alike)
  write_rows(output / 'similar_people.csv', [('same', 'similarity', 'first', 'second'), *rows], ',')


def _duplicate_rows(data: Opened, pairs: Pairs) -> Iterator[tuple[str, ...]]:
  yield 'kind', 'of', 'first_person', 'second_person', 'first', 'second'
  for of, which in (('two people', pairs.across), ('evaluation', pairs.evaluation), ('one person', pairs.within)):
    for k in np.flatnonzero(which)[:_LISTED].tolist():
      images = pairs.images[k].tolist()
      people = [data.who(person) if person >= 0 else '' for person in data.person[images].tolist()]
      yield 'exact' if pairs.exact[k] else 'near', of, *people, *map(data.images.where, images)


def _overlap_rows(data: Opened, overlaps: dict[str, Overlap], close: dict[str, Alike]) -> Iterator[tuple[str, ...]]:
  yield 'same', 'similarity', 'person', 'evaluation_image', 'found_by'
  for one in overlaps.values():
    for person, exact, image in zip(one.people.tolist(), one.exact.tolist(), one.tested.tolist()):
      yield '1', '', data.who(person), data.images.where(image), 'same bytes' if exact else 'same picture'
  for alike in close.values():
    for person, image, cosine in zip(alike.first.tolist(), alike.second.tolist(), alike.cosine.tolist()):
      yield '', f'{cosine:.4f}', data.who(person), data.images.where(image), 'encoder'
