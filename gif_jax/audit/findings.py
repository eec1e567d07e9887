"""What an audit finds, as numbers: counts, pictures that occur twice, colours, people who are evaluated on too."""

from typing import Any, NamedTuple

import numpy as np

from gif_jax.audit.duplicates import candidates, confirmed, repeats
from gif_jax.audit.image_hashes import BLANK, COLOUR, KINDS, UNDECODABLE, Together
from gif_jax.data.colour import swapped

_SIZES = 10  # sizes of images that are named


class Pairs(NamedTuple):
  """Pictures that occur twice, by image number in all sets together.

  images int64 [k, 2], the earlier one first; exact bool [k], byte for byte; within, across, evaluation bool [k]: of one
  person, of two people of the training sets, or of a training set and an evaluation set. root int64 [n]: the first
  image with the same bytes.
  """

  images: np.ndarray
  exact: np.ndarray
  within: np.ndarray
  across: np.ndarray
  evaluation: np.ndarray
  root: np.ndarray


def twice(images: Together, marks: np.ndarray, person: np.ndarray) -> Pairs:
  """Finds pictures that occur twice, byte for byte or nearly; those that show nothing are left out.

  marks: MARK [n] of `images`; person: int64 [n], -1, -2 ... for the images of evaluation sets, which come last.
  """
  shown = np.flatnonzero(marks['kind'] > BLANK)
  first, exact = repeats(marks['content'][shown], person[shown])
  root = np.arange(len(marks))
  root[shown] = shown[first]
  once = shown[first == np.arange(len(shown))]
  near = once[candidates(marks['look'][once], marks['down'][once])]
  # Within evaluation sets everything may occur twice: LFW's pairs share images.
  near = near[(person[near] >= 0).any(1)]
  near = near[confirmed(images, near)]
  pairs = np.concatenate([shown[exact], near])
  first, second = person[pairs].T
  trained, used = (first >= 0) & (second >= 0), (first >= 0) | (second >= 0)
  return Pairs(
    images=pairs[used],
    exact=(np.arange(len(pairs)) < len(exact))[used],
    within=(trained & (first == second))[used],
    across=(trained & (first != second))[used],
    evaluation=(used & ~trained)[used],
    root=root,
  )


def describe_images(marks: np.ndarray, labels: np.ndarray, m: int) -> dict[str, Any]:
  """Counts, sizes, kinds and colours of the images MARK [n] of m people, labels int64 [n]; JSON values."""
  counts, stored = np.bincount(labels, minlength=m), marks['bytes'].astype(np.int64)
  readable = marks['kind'] != UNDECODABLE
  sides = np.stack([marks['width'], marks['height']], 1)[readable]
  sizes, many = np.unique(sides, axis=0, return_counts=True)
  order = np.argsort(-many, kind='stable')[:_SIZES]
  return {
    'images': len(marks),
    'people': m,
    'images_per_person': _spread(counts),
    'people_with_1_image': int((counts == 1).sum()),
    'people_with_less_than_5': int((counts < 5).sum()),
    'people_with_less_than_10': int((counts < 10).sum()),
    'people_without_decodable_image': m - len(np.unique(labels[readable])),
    'bytes': int(stored.sum()),
    'bytes_per_image': _spread(stored),
    'sizes': {f'{w}x{h}': int(n) for (w, h), n in zip(sizes[order].tolist(), many[order])},
    'kinds_of_size': len(sizes),
    'not_square': int((sides[:, 0] != sides[:, 1]).sum()),
    'kinds': {kind: int(n) for kind, n in zip(KINDS, np.bincount(marks['kind'], minlength=len(KINDS))) if n},
    'colour': _colour(marks[marks['kind'] == COLOUR]),
  }


def _spread(values: np.ndarray) -> dict[str, float]:
  if not len(values):
    return {}
  low, middle, high = (float(value) for value in (values.min(), np.median(values), values.max()))
  return {'min': low, 'median': middle, 'mean': round(float(values.mean()), 2), 'max': high}


def _colour(marks: np.ndarray) -> dict[str, Any]:
  """Means of red and blue where the skin is, and whether they are swapped.

  Grey pictures that are stored as colour ones tell nothing and are not counted.
  """
  marks = marks[marks['red'] != marks['blue']]
  if not len(marks):
    return {'images': 0, 'swapped': False}
  red, blue = (marks[name].astype(np.int64) for name in ('red', 'blue'))
  shares = {'red': round(float(red.mean()), 2), 'blue': round(float(blue.mean()), 2)}
  return {'images': len(marks), **shares, 'blue_above_red': float((blue > red).mean()), 'swapped': swapped(red, blue)}


def describe_pairs(pairs: Pairs) -> dict[str, Any]:
  """How many pictures occur twice among the images to train on; JSON values."""
  return {
    name: {
      relation: {'pairs': int((kind & which).sum()), 'images': len(np.unique(pairs.images[kind & which, 1]))}
      for relation, which in (('within_a_person', pairs.within), ('across_people', pairs.across))
    }
    for name, kind in (('exact', pairs.exact), ('near', ~pairs.exact))
  }


class Overlap(NamedTuple):
  """Training images and people that are in one evaluation set, by their pictures."""

  matches: int  # images of the evaluation set, each counted once, that are in the training sets
  images: np.ndarray  # int64 [k], training images, rising
  people: np.ndarray  # int64 [p], whose they are, rising
  exact: np.ndarray  # bool [p], whether one of the pictures is the same byte for byte
  tested: np.ndarray  # int64 [p], an image of the evaluation set that shows them


def overlap(pairs: Pairs, person: np.ndarray, which: int) -> Overlap:
  """What evaluation set `which` (its images have person -1 - which) shares with the training sets."""
  here = pairs.evaluation & (person[pairs.images[:, 1]] == -1 - which)
  (trained, tested), exact = pairs.images[here].T, pairs.exact[here]
  order = np.lexsort((~exact, pairs.root[trained]))
  roots, first = np.unique(pairs.root[trained][order], return_index=True)
  # Every training image with the bytes of one that is in the evaluation set is in it, too.
  images = np.flatnonzero(np.isin(pairs.root, roots) & (person >= 0))
  pair = order[first][np.searchsorted(roots, pairs.root[images])]
  by_person = np.lexsort((~exact[pair], person[images]))
  people, one = np.unique(person[images][by_person], return_index=True)
  pair = pair[by_person][one]
  return Overlap(len(np.unique(tested)), images, people, exact[pair], tested[pair])


def few_of_each(person: np.ndarray, usable: np.ndarray, most: int) -> np.ndarray:
  """The first `most` usable images of everybody: rows int64 [k], rising. person int64 [n], usable bool [n]."""
  rows = np.flatnonzero(usable)
  order = rows[np.argsort(person[rows], kind='stable')]
  own = person[order]
  starts = np.flatnonzero(np.append(True, own[1:] != own[:-1])[: len(own)])
  rank = np.arange(len(own)) - np.repeat(starts, np.diff(np.append(starts, len(own))))
  return np.sort(order[rank < most])
