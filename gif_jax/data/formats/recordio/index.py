"""The index of a .rec file: where every image lies and whose it is; for 42 million, without a loop in Python.

An .idx says where the records are. It is believed as far as it names every byte of its .rec, which a good one does;
else the .rec itself is searched from its start, and what is found there counts where it is more.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from gif_jax.core.errors import DataError
from gif_jax.data.formats.recordio import framing
from gif_jax.data.formats.recordio.names import LISTED, keys_of_idx, keys_of_rec, read_idx, scan
from gif_jax.data.formats.recordio.report import EXACT, Report, check_identities
from gif_jax.data.listing import Skipped

_BLOCK = 1 << 22  # bytes read at a time
_PREFIX = framing.HEAD.size + framing.HEADER.size + 8  # bytes of a record up to its second label
_NO_HEAD = 0xFFFFFFFF  # cflag 7, which no record has
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


class _Heads(NamedTuple):
  """What k records begin with; zeros where the file ends before."""

  word: np.ndarray  # uint32 [k], cflag and length; _NO_HEAD where the magic is wrong
  flag: np.ndarray  # uint32 [k]
  label: np.ndarray  # float32 [k], the label, or the first of several
  second: np.ndarray  # float32 [k], the second of several
  id: np.ndarray  # int64 [k]


class _Found(NamedTuple):
  """k records, in the order of the file."""

  offsets: np.ndarray  # int64 [k]
  heads: _Heads
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
    """Whether the header of the payload is there."""
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


def _index(descriptor, rec, idx, quiet):
  size = os.fstat(descriptor).st_size
  keys, offsets, malformed, problem = read_idx(idx, quiet)
  keys, offsets, twice = _in_order(keys, offsets)
  found, unit = _look(descriptor, size, offsets, quiet), 'key'
  fault = problem or _fault(rec, idx, malformed, found)
  if fault:
    scanned = _look(descriptor, size, scan(descriptor, size, quiet), quiet)
    fault = fault if _outranks(scanned, found) else ''
  if fault:
    found, malformed, twice, other = scanned, [], 0, 0
    keys, unit = keys_of_rec(found.heads.id, found.headed)
  else:
    keys, other = keys_of_idx(keys, found.heads.id, found.headed)
  image, heads = found.image, found.heads
  originals, labels = np.unique(heads.label[image].astype(np.int64), return_inverse=True)
  split = heads.word[image] >> framing.SHIFT == framing.FIRST
  offsets, length, left = found.offsets[image], found.length[image], found.left[image]
  places = np.where(split, offsets, offsets + framing.HEAD.size + length - left)
  lengths = np.where(split, -left, left).astype(np.int32)
  skipped = [Skipped(f'{idx.name}, line {line}', 'it is not KEY<TAB>PLACE') for line in malformed[:LISTED]]
  skipped += _skipped(rec, keys, unit, found, gaps=bool(fault))
  report = _report(keys, found, labels, originals, idx=fault, places_twice=twice, keys_other=other)
  keys, ids = keys[image], heads.id[image]
  return Index(keys, ids, places, lengths, labels.astype(np.int64, copy=False), originals, skipped, report, unit)


def _look(descriptor, size, offsets, quiet):
  """What is at `offsets`, rising."""
  heads = _read_heads(descriptor, size, offsets, quiet)
  reason, length, gaps = _extents(descriptor, size, offsets, heads)
  left = _check(reason, heads, length)
  return _Found(offsets, heads, reason, length, left, gaps)


def _fault(rec: Path, idx: Path, malformed: list[int], found: _Found) -> str:
  """Why an .idx is not believed; '' for one that leads to whole records and names every byte of the .rec."""
  if malformed:
    return f'{idx.name}, line {malformed[0]} is not KEY<TAB>PLACE ({len(malformed)} such lines)'
  if lost := int(found.lost.sum()):
    return f'{idx.name} names places where no whole record is ({lost} of {len(found.offsets)})'
  if len(found.gaps):
    return f'{idx.name} names no record in {int(np.diff(found.gaps).sum())} bytes of {rec.name}'
  return ''


def _outranks(scanned: _Found, found: _Found) -> bool:
  """Whether what a search of the .rec found counts, and not what an .idx with faults names.

  It does where there are images that .idx does not name, or where the .rec is whole. Else the .rec is damaged, and .idx
  knows the names of what is not there any more; of places beyond the end, the .rec may have been cut off.
  """
  if not len(found.offsets) or not np.isin(scanned.offsets[scanned.image], found.offsets[found.image]).all():
    return True
  return not scanned.lost.any() and not len(scanned.gaps) and not (found.reason == _OUTSIDE).any()


def _in_order(keys, offsets):
  """Keys and places in the order of the file, each place once, and how many were named again."""
  if (offsets[1:] <= offsets[:-1]).any():
    order = np.argsort(offsets, kind='stable')
    keys, offsets = keys[order], offsets[order]
  new = np.diff(offsets, prepend=-1) > 0
  return keys[new], offsets[new], int((~new).sum())


def _read_heads(descriptor, size, offsets, quiet):
  heads = _Heads(*(np.zeros(len(offsets), kind) for kind in ('u4', 'u4', 'f4', 'f4', 'i8')))
  heads.word[:] = _NO_HEAD
  inside = int(np.searchsorted(offsets, size - framing.HEAD.size, side='right'))
  with tqdm(total=inside, desc='indexing records', unit='record', unit_scale=True, disable=quiet or not inside) as bar:
    i = 0
    while i < inside:
      start = int(offsets[i]) & ~3
      j = min(int(np.searchsorted(offsets, start + _BLOCK)), inside)
      wanted = framing.padded(int(offsets[j - 1]) - start) + _PREFIX
      words = np.frombuffer(os.pread(descriptor, wanted, start).ljust(wanted, b'\0'), '<u4')
      for column, found in zip(heads, _heads(words, offsets[i:j] - start)):
        column[i:j] = found
      bar.update(j - i)
      i = j
  return heads


def _heads(words, at):
  """The heads of records at bytes `at` of a block of uint32."""
  first = at >> 2
  magic, word, flag, label, low, high, one, two = (words[first + column] for column in (0, 1, 2, 3, 4, 5, 8, 9))
  word = np.where((magic == framing.MAGIC) & (at % 4 == 0), word, _NO_HEAD)
  number = low.astype('i8') | high.astype('i8') << 32
  return _Heads(word, flag, np.where(flag > 0, one, label).view('f4'), two.view('f4'), number)


def _extents(descriptor, size, offsets, heads):
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
      end[i], length[i] = sum(where[-1]), _correct(heads, i, framing.join(descriptor, where))
    else:
      reason[i] = _CUT
  end = np.where(reason == _CUT, stop, framing.padded(end))[start]
  edges = np.stack([np.append(0, end), np.append(offsets[start], size)], 1)
  return reason, length, edges[edges[:, 0] < edges[:, 1]]


def _correct(heads, i, payload):
  """Takes the head of a record in parts from its payload; returns the bytes of the payload."""
  head = framing.HEAD.pack(framing.MAGIC, 0) + payload[: _PREFIX - framing.HEAD.size]
  words = np.frombuffer(head.ljust(_PREFIX, b'\0'), '<u4')
  for column, found in zip(heads[1:], _heads(words, np.zeros(1, np.int64))[1:]):
    column[i] = found[0]
  return len(payload)


def _check(reason, heads, length):
  """Notes in `reason` what is wrong within records; returns the bytes of their images (int64 [k]).

  Records of two labels and nothing else are no images: InsightFace's header record and its identity records.
  """
  fixed = framing.HEADER.size
  left = length - fixed - 4 * heads.flag.astype(np.int64)
  whole = (heads.label == np.rint(heads.label)) & (np.abs(heads.label) < 2.0**62)
  image = (left != 0) | (heads.flag != 2)
  for code, wrong in (
    (_SHORT, length < fixed),
    (_LABELS, left < 0),
    (_EMPTY, image & (left == 0)),
    (_NO_NUMBER, image & ~(np.abs(heads.label) < 2.0**62)),
    (_FRACTION, image & ~whole),
    (_NEGATIVE, image & (heads.label < 0)),
  ):
    reason[wrong & (reason == _FINE)] = code
  return left


def _skipped(rec, keys, unit, found, *, gaps):
  """Records that cannot be used, and, with `gaps`, bytes where none are."""

  def name(i):
    return f'{rec.name}, {unit} {keys[i]}' if keys[i] >= 0 else f'{rec.name}, record at byte {found.offsets[i]}'

  skipped = []
  for code, why in _REASONS.items():
    those = np.flatnonzero(found.reason == code)
    skipped += [Skipped(name(i), why) for i in those[:LISTED].tolist()]
    if len(those) > LISTED:
      skipped.append(Skipped(f'{name(those[LISTED])} and on', f'{len(those) - LISTED} more: {why}'))
  if gaps:
    skipped += [Skipped(f'{rec.name}, bytes {a} to {b}', 'no record is there') for a, b in found.gaps[:LISTED].tolist()]
  return skipped


def _report(keys, found, labels, originals, **said):
  image, bare, heads = found.image, found.bare, found.heads
  header = np.flatnonzero(bare & (keys == 0))[:1]
  identity = bare & (keys > 0)
  last = keys[image].max(initial=0) + 1
  first, last = (keys[identity].min(), keys[identity].max() + 1) if identity.any() else (last, last)
  wrong, rounded = check_identities(keys[image], labels, heads.label[identity], heads.second[identity])
  count = np.bincount(found.reason, minlength=len(_REASONS) + 1)
  ordered = keys[found.headed]
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
    unnamed=int(np.diff(found.gaps).sum()),
    **said,
  )
