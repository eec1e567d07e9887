"""The index of a .rec file: where every image lies and whose it is; for 42 million, without a loop in Python.

An .idx says where the records are. It is believed as far as it names every byte of its .rec, which a good one does;
else the .rec itself is searched from its start, and the result counts where it is more.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gif_jax.core.errors import DataError
from gif_jax.data.formats.recordio import framing
from gif_jax.data.formats.recordio.heads import Heads, correct, read_heads
from gif_jax.data.formats.recordio.names import LISTED, keys_of_idx, keys_of_rec, read_idx, scan
from gif_jax.data.formats.recordio.report import EXACT, Report, check_identities
from gif_jax.data.listing import Skipped

_FINE, _OUTSIDE, _NOWHERE, _CUT, _SHORT, _LABELS, _EMPTY, _NO_NUMBER, _FRACTION, _NEGATIVE = range(10)
_REASONS = {
  _OUTSIDE: 'its place is beyond the end of the file',
  _NOWHERE: 'no record begins there (wrong magic)',
  _CUT: 'it is cut off or a part of it is missing',
  _SHORT: 'it is too short for the header of an image',
  _LABELS: 'its labels are cut off',
  _EMPTY: 'there is no image in it',
  _NO_NUMBER: 'its label is no number',
  _FRACTION: 'its label is no whole number',
  _NEGATIVE: 'its label is negative',
}
_LOST = (_OUTSIDE, _NOWHERE, _CUT)  # there is no record


class Index(NamedTuple):
  """The n images of m people in a .rec file, in the order of the file."""

  keys: np.ndarray  # int64 [n], by which the images are known, see `keys_of_idx` and `keys_of_rec`
  ids: np.ndarray  # int64 [n], the keys that the records themselves carry
  places: np.ndarray  # int64 [n], the first byte of the image; that of the record, where the record is in parts
  lengths: np.ndarray  # int32 [n], bytes of the image; negative where the record is in parts
  labels: np.ndarray  # int64 [n], 0..m-1
  originals: np.ndarray  # int64 [m], ascending: the labels as in the file
  skipped: list[Skipped]
  report: Report
  unit: str  # what `keys` are: 'key', or 'record' where they are the numbers of the records in the file, from 0


class _Located(NamedTuple):
  """k records, in the order of the file."""

  offsets: np.ndarray  # int64 [k]
  heads: Heads
  reason: np.ndarray  # uint8 [k], why a record cannot be used; _FINE
  length: np.ndarray  # int64 [k], bytes of the payload
  left: np.ndarray  # int64 [k], those of the image
  gaps: np.ndarray  # int64 [g, 2], bytes that are in no record

  @property
  def image(self) -> np.ndarray:
    return (self.reason == _FINE) & (self.left > 0)

  @property
  def bare(self) -> np.ndarray:
    return (self.reason == _FINE) & (self.left == 0)

  @property
  def lost(self) -> np.ndarray:
    return np.isin(self.reason, _LOST)

  @property
  def headed(self) -> np.ndarray:
    """Whether the header of the payload is complete."""
    return ~self.lost & (self.reason != _SHORT)


def make_index(rec: Path, idx: Path, *, quiet: bool) -> Index:
  """Reads .idx and the head of every record; where .idx is missing or does not fit, looks for records in all of `rec`.

  Records that are damaged are left out and listed. Raises DataError where `rec` cannot be read.
  """
  try:
    with rec.open('rb', buffering=0) as file, np.errstate(invalid='ignore'):  # NaN is looked for
      return _index(file.fileno(), rec, idx, quiet)
  except OSError as error:
    raise DataError(
      f'{error.filename or rec} cannot be read ({error.strerror}); check the disk and permissions.'
    ) from error


def _index(descriptor: int, rec: Path, idx: Path, quiet: bool) -> Index:
  size = os.fstat(descriptor).st_size
  keys, offsets, malformed, problem = read_idx(idx, quiet)
  keys, offsets, twice = _in_order(keys, offsets)
  records, unit = _look(descriptor, size, offsets, quiet), 'key'
  fault = problem or _fault(rec, idx, malformed, records)
  if fault:
    scanned = _look(descriptor, size, scan(descriptor, size, quiet), quiet)
    fault = fault if _outranks(scanned, records) else ''
  if fault:
    records, malformed, twice, other = scanned, [], 0, 0
    keys, unit = keys_of_rec(records.heads.id, records.headed)
  else:
    keys, other = keys_of_idx(keys, records.heads.id, records.headed)
  image, heads = records.image, records.heads
  originals, labels = np.unique(heads.label[image].astype(np.int64), return_inverse=True)
  split = heads.word[image] >> framing.SHIFT == framing.FIRST
  offsets, length, left = records.offsets[image], records.length[image], records.left[image]
  places = np.where(split, offsets, offsets + framing.HEAD.size + length - left)
  lengths = np.where(split, -left, left).astype(np.int32)
  skipped = [Skipped(f'{idx.name}, line {line}', 'it is not KEY<TAB>PLACE') for line in malformed[:LISTED]]
  skipped += _skipped(rec, keys, unit, records, gaps=bool(fault))
  report = _report(keys, records, labels, originals, idx=fault, places_twice=twice, keys_other=other)
  keys, ids = keys[image], heads.id[image]
  return Index(keys, ids, places, lengths, labels.astype(np.int64, copy=False), originals, skipped, report, unit)


def _look(descriptor: int, size: int, offsets: np.ndarray, quiet: bool) -> _Located:
  """What is at `offsets`, rising."""
  heads = read_heads(descriptor, size, offsets, quiet)
  reason, length, gaps = _extents(descriptor, size, offsets, heads)
  left = _check(reason, heads, length)
  return _Located(offsets, heads, reason, length, left, gaps)


def _fault(rec: Path, idx: Path, malformed: list[int], records: _Located) -> str:
  """Why an .idx is not believed; '' for one that leads to complete records and names every byte of the .rec."""
  if malformed:
    return f'{idx.name}, line {malformed[0]} is not KEY<TAB>PLACE ({len(malformed)} such lines)'
  if lost := int(records.lost.sum()):
    return f'{idx.name} names places where no whole record is ({lost} of {len(records.offsets)})'
  if len(records.gaps):
    return f'{idx.name} names no record in {int(np.diff(records.gaps).sum())} bytes of {rec.name}'
  return ''


def _outranks(scanned: _Located, listed: _Located) -> bool:
  """Whether the result of searching the .rec counts, and not what an .idx with faults names.

  It does where there are images that .idx does not name, or where the .rec is intact. Else the .rec is damaged, and
  .idx knows the names of what is lost; of places beyond the end, the .rec may have been cut off.
  """
  if not len(listed.offsets) or not np.isin(scanned.offsets[scanned.image], listed.offsets[listed.image]).all():
    return True
  return not scanned.lost.any() and not len(scanned.gaps) and not (listed.reason == _OUTSIDE).any()


def _in_order(keys: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
  """Keys and places in the order of the file, each place once, and how many were named again."""
  if (offsets[1:] <= offsets[:-1]).any():
    order = np.argsort(offsets, kind='stable')
    keys, offsets = keys[order], offsets[order]
  new = np.diff(offsets, prepend=-1) > 0
  return keys[new], offsets[new], int((~new).sum())


def _extents(
  descriptor: int, size: int, offsets: np.ndarray, heads: Heads
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Why records cannot be read (uint8 [k]), bytes of payloads (int64 [k]), what lies in no record (int64 [g, 2]).

  As the magic is in no payload, a record that runs beyond the next one is damaged. Reads the parts of those in parts
  and corrects their `heads`.
  """
  reason = np.zeros(len(offsets), np.uint8)
  start = heads.word >> framing.SHIFT <= framing.FIRST
  reason[~start] = np.where(offsets[~start] + framing.HEAD.size > size, _OUTSIDE, _NOWHERE)
  length = (heads.word & framing.LENGTH).astype(np.int64)
  stop = np.full(len(offsets), size)
  stop[start] = np.append(offsets[start], size)[1:]
  end = offsets + framing.HEAD.size + length
  reason[start & (end > stop)] = _CUT
  for i in np.flatnonzero((heads.word >> framing.SHIFT == framing.FIRST) & (reason == _FINE)).tolist():
    where = framing.parts(descriptor, int(offsets[i]), int(stop[i]))
    if where:
      end[i], length[i] = sum(where[-1]), correct(heads, i, framing.join(descriptor, where))
    else:
      reason[i] = _CUT
  end = np.where(reason == _CUT, stop, framing.padded(end))[start]
  edges = np.stack([np.append(0, end), np.append(offsets[start], size)], 1)
  return reason, length, edges[edges[:, 0] < edges[:, 1]]


def _check(reason: np.ndarray, heads: Heads, length: np.ndarray) -> np.ndarray:
  """Notes in `reason` what is wrong within records; returns the bytes of their images (int64 [k]).

  Records of two labels and nothing else are no images: InsightFace's header record and its identity records.
  """
  fixed = framing.HEADER.size
  left = length - fixed - 4 * heads.flag.astype(np.int64)
  integral = (heads.label == np.rint(heads.label)) & (np.abs(heads.label) < 2.0**62)
  image = (left != 0) | (heads.flag != 2)
  for code, wrong in (
    (_SHORT, length < fixed),
    (_LABELS, left < 0),
    (_EMPTY, image & (left == 0)),
    (_NO_NUMBER, image & ~(np.abs(heads.label) < 2.0**62)),
    (_FRACTION, image & ~integral),
    (_NEGATIVE, image & (heads.label < 0)),
  ):
    reason[wrong & (reason == _FINE)] = code
  return left


def _skipped(rec: Path, keys: np.ndarray, unit: str, records: _Located, *, gaps: bool) -> list[Skipped]:
  """Records that cannot be used, and, with `gaps`, bytes where none are."""

  def name(i: int) -> str:
    return f'{rec.name}, {unit} {keys[i]}' if keys[i] >= 0 else f'{rec.name}, record at byte {records.offsets[i]}'

  skipped = []
  for code, why in _REASONS.items():
    those = np.flatnonzero(records.reason == code)
    skipped += [Skipped(name(i), why) for i in those[:LISTED].tolist()]
    if len(those) > LISTED:
      skipped.append(Skipped(f'{name(those[LISTED])} and on', f'{len(those) - LISTED} more: {why}'))
  if gaps:
    skipped += [
      Skipped(f'{rec.name}, bytes {a} to {b}', 'no record is there') for a, b in records.gaps[:LISTED].tolist()
    ]
  return skipped


def _report(
  keys: np.ndarray,
  records: _Located,
  labels: np.ndarray,
  originals: np.ndarray,
  *,
  idx: str,
  places_twice: int,
  keys_other: int,
) -> Report:
  image, bare, heads = records.image, records.bare, records.heads
  header = np.flatnonzero(bare & (keys == 0))[:1]
  identity = bare & (keys > 0)
  last = keys[image].max(initial=0) + 1
  first, last = (keys[identity].min(), keys[identity].max() + 1) if identity.any() else (last, last)
  wrong, rounded = check_identities(keys[image], labels, heads.label[identity], heads.second[identity])
  count = np.bincount(records.reason, minlength=len(_REASONS) + 1)
  ordered = keys[records.headed]
  ordered.sort()  # in place: millions are no small thing to copy
  return Report(
    damaged={why: int(count[code]) for code, why in _REASONS.items() if count[code]},
    header=[float(heads.label[header[0]]), float(heads.second[header[0]])] if len(header) else None,
    keys=[int(first), int(last)] if len(header) else None,
    ranges=int(identity.sum()),
    ranges_wrong=wrong,
    ranges_rounded=rounded,
    rounded=int((originals[labels] >= EXACT).sum()),
    keys_twice=int((ordered[1:] == ordered[:-1]).sum()),
    places_twice=places_twice,
    unnamed=int(np.diff(records.gaps).sum()),
    idx=idx,
    keys_other=keys_other,
  )
