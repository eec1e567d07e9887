"""What is wrong with a .rec file and its labels, as numbers and in words."""

from typing import NamedTuple

import numpy as np

EXACT = 1 << 24  # float32 holds every whole number up to here, and then only some
_SAVES = 'Copy .idx again, or write both anew (python -m gif_jax convert --output=NAME.rec), which saves the search'


class Report(NamedTuple):
  """What is known of a .rec file. Nothing of it needs a cure to train: labels are those of the single images."""

  damaged: dict[str, int]  # reason -> records that were left out for it
  header: list[float] | None  # [first, after the last] key of identity records, as the header record says
  keys: list[int] | None  # and what it should say, from the keys of the records
  ranges: int  # identity records
  ranges_wrong: int  # whose keys are not those of all images of one label
  ranges_rounded: int  # of which float32 may be the cause
  rounded: int  # images with labels of 2**24 and more, where float32 gives neighbours the same label
  places_twice: int  # lines of .idx that name a record named before; they are left out
  keys_twice: int  # records whose key another record has too
  unnamed: int  # bytes that belong to no record
  idx: str  # what was wrong with .idx, for which the records were looked for in the .rec itself; '' for nothing
  keys_other: int  # records that .idx gives another key than they carry, though it has the same keys, or has one twice

  def sentences(self) -> list[str]:
    """What a user should know, one fact each; nothing for a file without faults."""
    facts = [f'{count} records left out: {reason}' for reason, count in self.damaged.items()]
    if self.idx:
      facts.insert(0, f'{self.idx}: the records were looked for in the .rec itself, all of it. {_SAVES}')
    if self.keys_other:
      facts.append(f'.idx gives {self.keys_other} records the keys of others; those that they carry are used')
    if self.header != self.keys:
      facts.append(f'the header record says keys {self.header}, rebuilt from the records as {self.keys}')
    if self.ranges_wrong:
      facts.append(
        f'{self.ranges_wrong} of {self.ranges} identity records do not name the images of one label '
        f'({self.ranges_rounded} may be rounded by float32); the labels of the images are used'
      )
    if self.rounded:
      facts.append(f'{self.rounded} images have labels above 2**24, rounded to float32: people may share a label')
    if self.places_twice or self.keys_twice:
      facts.append(f'.idx names {self.places_twice} records again and gives {self.keys_twice} a key that is taken')
    if self.unnamed:
      facts.append(f'{self.unnamed} bytes of .rec are in no record')
    return facts


def check_identities(keys: np.ndarray, labels: np.ndarray, first: np.ndarray, last: np.ndarray) -> tuple[int, int]:
  """How many identity records are wrong, and how many of them float32 may have rounded.

  keys, labels: int64 [n] of the images; first, last: float32 [p], the keys [first, last) that each record names.
  """
  if not len(keys):
    return len(first), 0
  order = np.argsort(keys, kind='stable')
  keys, labels = keys[order], labels[order]
  known = np.isfinite(first) & np.isfinite(last)
  begin, end = (np.searchsorted(keys, np.where(known, edge, 0).astype(np.float64)) for edge in (first, last))
  known &= begin < end
  begin, end = np.where(known, begin, 0), np.where(known, end, 1)
  changes = np.append(0, np.cumsum(labels[1:] != labels[:-1]))
  right = known & (changes[begin] == changes[end - 1]) & (np.bincount(labels)[labels[begin]] == end - begin)
  return int((~right).sum()), int((~right & (np.maximum(first, last) >= EXACT)).sum())
