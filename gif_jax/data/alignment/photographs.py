"""Photographs of people to folders of aligned crops, on all cores, resumable."""

import functools
import hashlib
import itertools
import logging
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from gif_jax.core.errors import ConfigError, DataError, UnreadableError, removed
from gif_jax.core.lists import normal, write_rows
from gif_jax.core.storage import locks
from gif_jax.core.storage.files import read_json, remove_left_over, replacing, write_json, writing
from gif_jax.core.workers import on_all_cores
from gif_jax.data.alignment.detectors import FaceError, find_face, open_detector
from gif_jax.data.alignment.geometry import PointsError, crop, mirrored
from gif_jax.data.alignment.landmarks import read_landmarks
from gif_jax.data.images import read_full_size
from gif_jax.data.listing import Photo, Skipped, list_people
from gif_jax.data.plain_images import png_chunks

_LOG = logging.getLogger(__name__)
_SETTINGS, _SKIPPED = 'align.json', 'skipped.tsv'
_BLOCK = 16  # photographs of a job
_FEW = 64  # photographs that are aligned sooner than processes start
_SHEET = 8  # people, and faces of each, in the picture beside the output


class Source(NamedTuple):
  """Where points come from: a landmark file, or else a detector and the file of its weights ('' if it has them)."""

  landmarks: str = ''
  detector: str = 'mtcnn'
  path: str = ''

  def name(self) -> str:
    """Tells sources apart by what is in their files."""
    kind, file = ('landmarks', self.landmarks) if self.landmarks else (self.detector, self.path)
    if not file:
      return kind
    with Path(file).open('rb') as content:
      return f'{kind} {hashlib.file_digest(content, "sha256").hexdigest()[:16]}'


class Outcome(NamedTuple):
  """What became of the photographs."""

  made: int  # crops made now
  before: int  # and in a run before
  skipped: list[Skipped]
  lost: list[str]  # people of whom there is no crop
  stale: list[str]  # crops of photographs that are not there any more


class _Job(NamedTuple):
  """Some photographs with the files to write, below `output`; points [k, 5, 2], or None where they must be found."""

  root: Path
  output: Path
  size: int
  source: Source
  photos: list[Photo]
  targets: list[str]
  points: np.ndarray | None


def align_people(root: Path, output: Path, size: int, source: Source) -> Outcome:
  """Aligns the photographs below `root` into the folder `output`, on all cores, with a progress bar.

  A crop has the time of its photograph: one of the same time is of a run before and is not made again.
  Skipped photographs and why are in output/skipped.tsv; some crops are drawn in a picture beside `output`.
  Raises ConfigError for folders or a size that cannot be used, DetectorError for a detector that cannot be had,
  DataError for input that cannot be used, and where nothing could be aligned; InUseError where somebody else writes
  there, DiskError.
  """
  _check(root, output, size)
  with locks.locked(locks.beside(output), f'--output={output}'):
    outcome = _align_people(root, output, size, source)
    _draw_sheet(output)
    return outcome


def _align_people(root, output, size, source):
  if not source.landmarks:
    _detector(source)  # says now what is missing
  listing = list_people(root)
  photos = [photo for own in listing.people.values() for photo in own]
  names = [photo.name for photo in photos]
  points = read_landmarks(source.landmarks, root, names) if source.landmarks else None
  targets = target_names(names)
  _claim(output, {'size': size, 'points': source.name()})
  remove_left_over(output, deep=True)
  reasons, before = _align_all(_Job(root, output, size, source, photos, targets, points))
  _check_exist(output, [target for target, reason in zip(targets, reasons) if not reason])
  skipped = [Skipped(name, reason) for name, reason in zip(names, reasons) if reason]
  write_rows(output / _SKIPPED, sorted(skipped + listing.skipped + listing.empty + listing.not_images), '\t')
  if len(skipped) == len(names):
    raise DataError(f'{root}: not one of {len(names)} photographs is aligned: {_counted(skipped)}; see {output}.')
  kept = {normal(target) for target, reason in zip(targets, reasons) if not reason}
  aligned = list_people(output).people
  stale = [photo.name for own in aligned.values() for photo in own if normal(photo.name) not in kept]
  lost = [name for name in listing.people if name not in aligned]
  return Outcome(len(names) - before - len(skipped), before, skipped, lost, stale)


def target_names(names: list[str]) -> list[str]:
  """Where the crops of photographs go: a.jpg to a.png, but to a.jpg.png if its folder has an a.gif or A.png too.

  Raises DataError where two photographs would become one file all the same.
  """
  stems = [name.rpartition('.')[0] for name in names]
  met = Counter(normal(stem).casefold() for stem in stems)
  targets = [f'{stem if met[normal(stem).casefold()] == 1 else name}.png' for name, stem in zip(names, stems)]
  again = [name for name, times in Counter(map(str.casefold, targets)).items() if times > 1]
  if again:
    raise DataError(f'two photographs would become {again[0]}; give one of them another name.')
  return targets


def _align_all(work: _Job) -> tuple[list[str], int]:
  """Aligns what is not done: for every photograph why it is skipped or '', and how many were done before."""
  usable = np.ones(len(work.photos), bool) if work.points is None else np.isfinite(work.points).all((1, 2))
  reasons = ['' if known else f'no points in {work.source.landmarks}' for known in usable.tolist()]
  todo = [row for row in np.flatnonzero(usable).tolist() if not _is_done(work, row)]
  jobs = [_part(work, todo[i : i + _BLOCK]) for i in range(0, len(todo), _BLOCK)]
  done = on_all_cores(_align, jobs) if len(todo) > _FEW else map(_align, jobs)
  bar = tqdm(itertools.chain.from_iterable(done), 'aligning faces', len(todo), unit='image')
  for row, reason in zip(todo, bar, strict=True):
    reasons[row] = reason
  return reasons, int(usable.sum()) - len(todo)


def _is_done(work, row):
  target = work.output / work.targets[row]
  try:
    return target.stat().st_mtime_ns == work.photos[row].modified and bool(png_chunks(target.read_bytes()))
  except OSError:
    return False


def _part(work, rows):
  points = None if work.points is None else work.points[rows]
  return work._replace(
    photos=[work.photos[row] for row in rows], targets=[work.targets[row] for row in rows], points=points
  )


def _check(root, output, size):
  if not root.is_dir():
    raise ConfigError(f'--input={root} is no folder; it must be the one with a sub-folder of photographs per person.')
  inner, outer = output.resolve(), root.resolve()
  if inner.is_relative_to(outer) or outer.is_relative_to(inner):
    raise ConfigError(f'--output={output} and --input={root} lie in each other; crops would be taken for photographs.')
  if size < 16:
    raise ConfigError(f'--size={size}: crops of faces are 16 pixels a side or more, 112 as a rule.')


def _claim(output, settings):
  """Makes the folder, or sees that it was made with the same settings, so that all crops in it are alike."""
  path = output / _SETTINGS
  if path.exists():
    before = read_json(path, DataError, f'remove {output}, or name another --output')
    if before != settings:
      raise ConfigError(f'{output} was made with {before}, now it is {settings}; name another --output, or remove it.')
    return
  with writing(output):
    output.mkdir(parents=True, exist_ok=True)
    if any(not entry.name.startswith('.') for entry in output.iterdir()):
      raise ConfigError(f'--output={output} holds other files; name a folder that is empty or not there yet.')
  write_json(path, settings, checksum=True)


def _check_exist(output, targets=()):
  """Raises DiskError where somebody has removed the folder or a crop since: what is written after would hide it."""
  if missing := [name for name in (_SETTINGS, *targets) if not (output / name).exists()]:
    raise removed(output / missing[0])


@functools.cache
def _detector(source):
  return open_detector(source.detector, source.path)


def _align(job):
  detector = None if job.source.landmarks else _detector(job.source)
  points = itertools.repeat(None) if job.points is None else job.points
  return [
    _align_one(job, photo, target, known, detector) for photo, target, known in zip(job.photos, job.targets, points)
  ]


def _align_one(job, photo, target, points, detector):
  target = job.output / target
  try:
    image = read_full_size(job.root / photo.name)
    if points is None and (points := find_face(image, detector)) is None:
      reason = 'no face found'
    elif mirrored(points):
      reason = 'left and right of its points are swapped'
    else:
      _check_exist(job.output)  # a folder that is gone would be made anew
      _write(job.output, target, crop(image, points, job.size), photo.modified)
      return ''
  except UnreadableError as error:
    reason = f'unreadable: {error}'
  except (FaceError, PointsError) as error:
    reason = str(error)
  target.unlink(missing_ok=True)  # the crop of what the photograph was before
  return reason


def _write(output, target, face, modified):
  """PNG, so that a crop loses nothing: photographs are compressed with loss already, and training resamples again."""
  encoded = cv2.imencode('.png', cv2.cvtColor(face, cv2.COLOR_RGB2BGR))[1].tobytes()
  with replacing(target, sync=False) as temporary:  # hidden files are no photographs
    if not target.parent.resolve().is_relative_to(output.resolve()):
      raise DataError(f'{target.parent} is a link that leads out of {output}; remove it.')
    temporary.write_bytes(encoded)
    os.utime(temporary, ns=(modified, modified))


def _counted(skipped):
  """Reasons in words, most frequent first; what follows a colon is of one photograph alone."""
  reasons = Counter(skip.reason.split(':')[0] for skip in skipped)
  return ', '.join(f'{count} {reason}' for reason, count in reasons.most_common())


def described(output: Path, outcome: Outcome) -> str:
  """What became of the photographs, in words."""
  made, before, skipped, lost, stale = outcome
  earlier = f' ({before} in a run before)' if before else ''
  reasons = f': {_counted(skipped)}' if skipped else ''
  lines = [f'{output}: {made + before} faces aligned{earlier}, {len(skipped)} photographs skipped{reasons}.']
  if lost:
    lines.append(f'No face of {len(lost)} people, such as {lost[0]}.')
  if stale:
    lines.append(f'{len(stale)} crops are of no photograph any more, such as {stale[0]}.')
  lines.append(f'A few of them: {_sheet(output)}. What was skipped, and why: {output / _SKIPPED}.')
  return '\n'.join(lines)


def _sheet(output):
  """Beside the folder, within which it would be taken for a photograph."""
  return output.with_name(f'{output.name}.png')


def _draw_sheet(output):
  """Draws the first faces of the first people."""
  # Imported here, since workers import this file again.
  from gif_jax.core.plots import contact_sheet

  people = list(list_people(output).people.values())[:_SHEET]
  size = len(read_full_size(output / people[0][0].name))
  sheet = np.full((len(people), max(len(own[:_SHEET]) for own in people), size, size, 3), 255, np.uint8)
  for row, own in zip(sheet, people):
    for place, photo in zip(row, own):
      place[:] = read_full_size(output / photo.name)
  contact_sheet(sheet, _sheet(output))
