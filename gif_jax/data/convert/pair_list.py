"""Lists of verification pairs of photographs: LEFT RIGHT 1|0 in each line, or LFW's pairs.txt."""

import itertools
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gif_jax.core.errors import DataError
from gif_jax.core.lists import Names, read_lines, tidy, yes_or_no
from gif_jax.core.texts import quoted
from gif_jax.data.formats.folder import Photos
from gif_jax.data.images import is_image_name

_LOG = logging.getLogger(__name__)

_PLAIN, _LFW = 'LEFT RIGHT 1 or 0', 'NAME I J or NAME1 I NAME2 J'
_HINTS = {  # what signs in a line that cannot be used may have been meant for
  ',;': 'commas separate nothing: put tabs for them, and no titles above',
  '#': 'there are no comments: # is part of a name',
}
_NUMBER = re.compile('[0-9]{1,9}')
_WORDS = 64  # in a line; paths have a few, if any have blanks


class _Cut(NamedTuple):
  """What a line may mean: the names of two images, and whether they show one person."""

  left: str
  right: str
  same: bool


def read_pair_list(path: Path, photos: Photos) -> tuple[np.ndarray, np.ndarray]:
  """Image numbers int64 [pairs, 2] and whether they show one person, bool [pairs], in the order of the lines.

  LEFT and RIGHT are paths below the folder, white space between them; paths with white space in them are told apart by
  what exists. LFW's form is `NAME I J` for one person, `NAME1 I NAME2 J` for two; image I of NAME is NAME/NAME_000I of
  any ending; a first line of one or two numbers has the pairs of each kind, in all or folds and in each
  (vis-www.cs.umass.edu/lfw/README.txt).
  Raises DataError, with file and line, for lines of another form, images that do not exist or whose name is that of
  two, lines that contradict each other, and another number of lines than the header says. Warns, with lines, where
  pairs occur twice, are of an image and itself, or differ from the folders.
  """
  lines = list(read_lines(path, fix=f'--pairs is a number, or a file with {_PLAIN} in each line'))
  header = _header(lines)
  lines = lines[1:] if header else lines
  lfw = bool(header) or (bool(lines) and _is_lfw(lines[0][1]))
  images = _names(photos, lfw)
  listed, labels = [], []
  for number, line in lines:
    try:
      cuts = [*(_lfw_cuts if lfw else _plain_cuts)(line)]
      if not cuts:
        raise ValueError(f'{quoted(line)} is not {_LFW if lfw else _PLAIN}')
      left, right, is_same = _chosen(cuts, images)
      listed.append([images.one(left, 'LEFT'), images.one(right, 'RIGHT')])
    except (LookupError, ValueError) as error:
      hints = [hint for signs, hint in _HINTS.items() if set(signs) & set(line)]
      raise DataError(f'{path}, line {number}: {"; ".join([error.args[0], *hints])}.') from error
    labels.append(is_same)
  if not listed:
    raise DataError(f'{path} names no pairs; write {_PLAIN} in each line.')
  pairs, same = np.array(listed, np.int64), np.array(labels, bool)
  if header:
    _check_header(path, header, same)
  _check_pairs(path, [number for number, _ in lines], pairs, same, photos)
  return pairs, same


def _header(lines: Sequence[tuple[int, str]]) -> str:
  """LFW's first line, without blanks around: folds and pairs of each kind in each, or pairs alone; '' for another."""
  words = lines[0][1].split() if lines else []
  return ' '.join(words) if 1 <= len(words) <= 2 and all(map(_NUMBER.fullmatch, words)) else ''


def _is_lfw(line: str) -> bool:
  """Whether a line without a header above has LFW's form: numbers, and nothing that is called as a file."""
  return not any(map(is_image_name, line.split())) and any(_lfw_cuts(line))


def _names(photos: Photos, lfw: bool) -> Names:
  names = (photos.name(index) for index in range(len(photos)))
  named = [(name.rpartition('.')[0] if lfw else name, index) for index, name in enumerate(names)]
  return Names(f'image below {photos.path}', named, tidy, shown=lambda index: quoted(photos.name(index)))


def _words(line: str) -> list[tuple[int, int]]:
  """Where each word of a line begins and ends."""
  words = [match.span() for match in re.finditer(r'\S+', line)]
  return words if len(words) <= _WORDS else []


def _plain_cuts(line: str) -> Iterator[_Cut]:
  """All that `LEFT RIGHT SAME` may mean, cuts at tabs before those at blanks. Raises ValueError for other labels."""
  words = _words(line)
  if len(words) < 3:
    return
  label = line[slice(*words[-1])]
  same = yes_or_no(label)
  if same is None:
    raise ValueError(f'the label, its last word, is {quoted(label)}, wanted 1 (one person) or 0')
  gaps = [(before[1], after[0]) for before, after in itertools.pairwise(words[:-1])]
  for end, start in sorted(gaps, key=lambda gap: '\t' not in line[slice(*gap)]):
    yield _Cut(line[words[0][0] : end], line[start : words[-2][1]], same)


def _lfw_cuts(line: str) -> Iterator[_Cut]:
  """All that a line in LFW's form may mean."""
  words = _words(line)
  numbers = [int(line[slice(*word)]) if _NUMBER.fullmatch(line[slice(*word)]) else None for word in words]
  if len(words) < 3 or (last := numbers[-1]) is None:
    return
  if (earlier := numbers[-2]) is not None:
    name = line[words[0][0] : words[-3][1]]
    yield _Cut(_of_lfw(name, earlier), _of_lfw(name, last), True)
  for k in range(1, len(words) - 2):
    if (number := numbers[k]) is not None:
      first, second = line[words[0][0] : words[k - 1][1]], line[words[k + 1][0] : words[-2][1]]
      yield _Cut(_of_lfw(first, number), _of_lfw(second, last), False)


def _of_lfw(name: str, number: int) -> str:
  return f'{name}/{name}_{number:04}'


def _chosen(cuts: Sequence[_Cut], images: Names) -> _Cut:
  """The cut of which both images exist, or the likeliest where none has both. Raises ValueError where two have."""
  known = [bool(images.find(cut.left)) + bool(images.find(cut.right)) for cut in cuts]
  if known.count(2) > 1:
    both = [f'{quoted(cut.left)} and {quoted(cut.right)}' for cut, count in zip(cuts, known) if count == 2]
    raise ValueError(f'this may be {" or ".join(both[:2])}: rename one of them')
  likely = [(count, is_image_name(cut.left) + is_image_name(cut.right)) for cut, count in zip(cuts, known)]
  return cuts[likely.index(max(likely))]


def _check_header(path: Path, header: str, same: np.ndarray) -> None:
  """Whether the lines are as many as the header says; a warning where a fold is not half and half."""
  folds, each = (1, *map(int, header.split()))[-2:]
  genuine, wanted = int(same.sum()), folds * each
  if genuine != wanted or len(same) - genuine != wanted:
    raise DataError(
      f'{path}: its first line ({header}) announces {wanted} pairs of one person and {wanted} of two, there are '
      f'{genuine} and {len(same) - genuine}; get the file again, or leave out the first line.'
    )
  uneven = np.flatnonzero(same.reshape(folds, -1).sum(1) != each)
  if len(uneven):
    _LOG.warning(
      '%s: %d of %d folds, fold %d first, are not %d pairs of one person and as many of two; folds are cut in the '
      'order of the lines',
      path,
      len(uneven),
      folds,
      1 + uneven[0],
      each,
    )


def _check_pairs(path: Path, lines: Sequence[int], pairs: np.ndarray, same: np.ndarray, photos: Photos) -> None:
  """Raises DataError where the list contradicts itself, warns where it contradicts the folders or adds nothing."""
  earlier: dict[tuple[int, ...], tuple[int, bool]] = {}
  again = np.zeros(len(lines), bool)
  for k, (line, pair, one) in enumerate(zip(lines, np.sort(pairs).tolist(), same.tolist())):
    before, said = earlier.setdefault(tuple(pair), (line, one))
    again[k] = before != line
    if one != said:
      raise DataError(f'{path}, line {line}: the pair of line {before}, with another label; correct one of them.')
    if pair[0] == pair[1] and not one:
      raise DataError(f'{path}, line {line}: an image and itself, labelled as two people; correct the line.')
  person = photos.labels()[pairs]
  one_folder = person[:, 0] == person[:, 1]
  for which, what in (
    (again, 'a pair that was there before; it counts again'),
    (pairs[:, 0] == pairs[:, 1], 'an image and itself, which any network gets right'),
    (one_folder & ~same, 'labelled as two people, both in the folder of one; the label is taken'),
    (~one_folder & same, 'labelled as one person, in the folders of two; the label is taken'),
  ):
    if which.any():
      first, more = lines[int(which.argmax())], int(which.sum()) - 1
      _LOG.warning('%s, line %d%s: %s', path, first, f' and {more} others' if more else '', what)
