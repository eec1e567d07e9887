"""Aligned faces from photographs: python -m gif_jax.align --input=PHOTOGRAPHS --output=FACES

PHOTOGRAPHS has one sub-folder per person. FACES gets the same folders, with a square crop for every photograph: eyes,
nose and mouth lie where the field has them (data/align.py). Those points come from --detector or a file, --landmarks.
"""

import csv
import functools
import hashlib
import itertools
import json
import logging
import os
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from absl import app, flags
from tqdm import tqdm

from gif_jax.command_line import parse_flags, quiet_libraries
from gif_jax.config import ConfigError
from gif_jax.data.align import PointsError, crop, mirrored, usable
from gif_jax.data.detectors import NAMES, DetectorError, FaceError, find_face, open_detector
from gif_jax.data.images import DataError, UnreadableError, read_whole
from gif_jax.data.landmarks import read_landmarks
from gif_jax.data.listing import Photo, Skipped, list_people, normal
from gif_jax.data.workers import on_all_cores

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

  A crop has the time of its photograph: one of the same time is there from a run before and is not made again.
  Skipped photographs and why are in output/skipped.tsv; some crops are drawn in a picture beside `output`.
  Raises ConfigError for folders or a size that cannot be used, DetectorError for a detector that cannot be had,
  DataError for input that cannot be used, and where nothing could be aligned.
  """
  _check(root, output, size)
  if not source.landmarks:
    _detector(source)  # says now what is missing
  listing = list_people(root)
  photos = [photo for own in listing.people.values() for photo in own]
  names = [photo.name for photo in photos]
  points = read_landmarks(source.landmarks, root, names) if source.landmarks else None
  targets = target_names(names)
  _claim(output, {'size': size, 'points': source.name()})
  reasons, before = _align_all(_Job(root, output, size, source, photos, targets, points))
  skipped = [Skipped(name, reason) for name, reason in zip(names, reasons) if reason]
  _write_skipped(output / _SKIPPED, sorted(skipped + listing.skipped + listing.empty))
  if len(skipped) == len(names):
    raise DataError(f'{root}: not one of {len(names)} photographs is aligned: {_counted(skipped)}; see {output}.')
  kept = {normal(target) for target, reason in zip(targets, reasons) if not reason}
  found = list_people(output).people
  stale = [photo.name for own in found.values() for photo in own if normal(photo.name) not in kept]
  lost = [name for name in listing.people if name not in found]
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
  found = np.ones(len(work.photos), bool) if work.points is None else usable(work.points)
  reasons = ['' if known else f'no points in {work.source.landmarks}' for known in found.tolist()]
  todo = [row for row in np.flatnonzero(found).tolist() if not _is_done(work, row)]
  jobs = [_part(work, todo[i : i + _BLOCK]) for i in range(0, len(todo), _BLOCK)]
  done = on_all_cores(_align, jobs) if len(todo) > _FEW else map(_align, jobs)
  bar = tqdm(itertools.chain.from_iterable(done), 'aligning faces', len(todo), unit='image')
  for row, reason in zip(todo, bar, strict=True):
    reasons[row] = reason
  return reasons, int(found.sum()) - len(todo)


def _is_done(work, row):
  try:
    return (work.output / work.targets[row]).stat().st_mtime_ns == work.photos[row].modified
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
    try:
      before = json.loads(path.read_text())
    except ValueError as error:
      raise DataError(f'{path} is damaged ({error}); remove {output}, or name another --output.') from error
    if before != settings:
      raise ConfigError(f'{output} was made with {before}, now it is {settings}; name another --output, or remove it.')
    return
  output.mkdir(parents=True, exist_ok=True)
  if any(output.iterdir()):
    raise ConfigError(f'--output={output} holds other files; name a folder that is empty or not there yet.')
  partial = path.with_name(f'.{path.name}.partial')
  partial.write_text(json.dumps(settings) + '\n')
  os.replace(partial, path)


@functools.cache
def _detector(source):
  return open_detector(source.detector, source.path)


def _align(job):
  detector = None if job.source.landmarks else _detector(job.source)
  points = itertools.repeat(None) if job.points is None else job.points
  return [
    _align_one(job.root / photo.name, photo.modified, job.output / target, job.size, known, detector)
    for photo, target, known in zip(job.photos, job.targets, points)
  ]


def _align_one(path, modified, target, size, points, detector):
  try:
    image = read_whole(path)
    if points is None and (points := find_face(image, detector)) is None:
      reason = 'no face found'
    elif mirrored(points):
      reason = 'left and right of its points are swapped'
    else:
      _write(target, crop(image, points, size), modified)
      return ''
  except UnreadableError as error:
    reason = f'unreadable: {error}'
  except (FaceError, PointsError) as error:
    reason = str(error)
  target.unlink(missing_ok=True)  # the crop of what the photograph was before
  return reason


def _write(target, face, modified):
  """PNG, so that a crop loses nothing: photographs are compressed with loss already, and training resamples again."""
  target.parent.mkdir(parents=True, exist_ok=True)
  partial = target.with_name(f'.{os.getpid()}.partial')  # hidden files are no photographs
  partial.write_bytes(cv2.imencode('.png', cv2.cvtColor(face, cv2.COLOR_RGB2BGR))[1].tobytes())
  os.utime(partial, ns=(modified, modified))
  os.replace(partial, target)


def _write_skipped(path, skipped):
  partial = path.with_name(f'.{path.name}.partial')
  with partial.open('w', encoding='utf-8', errors='surrogateescape', newline='') as lines:
    csv.writer(lines, delimiter='\t', lineterminator='\n').writerows(skipped)
  os.replace(partial, path)


def _counted(skipped):
  """Reasons in words, most frequent first; what follows a colon is of one photograph alone."""
  reasons = Counter(skip.reason.split(':')[0] for skip in skipped)
  return ', '.join(f'{count} {reason}' for reason, count in reasons.most_common())


def _described(output, found):
  before = f' ({found.before} in a run before)' if found.before else ''
  skipped = f'{len(found.skipped)} photographs skipped' + (f': {_counted(found.skipped)}' if found.skipped else '')
  lost = f'\nNo face of {len(found.lost)} people, such as {found.lost[0]}.' if found.lost else ''
  stale = f'\n{len(found.stale)} crops are of no photograph any more, such as {found.stale[0]}.' if found.stale else ''
  return f'{output}: {found.made + found.before} faces aligned{before}, {skipped}.{lost}{stale}'


def _draw_sheet(output: Path) -> Path:
  """Draws the first faces of the first people beside the folder, within which it would be taken for a photograph."""
  # Imported here, since workers import this file again.
  from gif_jax.evaluation.report import contact_sheet

  people = list(list_people(output).people.values())[:_SHEET]
  size = len(read_whole(output / people[0][0].name))
  sheet = np.full((len(people), max(len(own[:_SHEET]) for own in people), size, size, 3), 255, np.uint8)
  for row, own in zip(sheet, people):
    for place, photo in zip(row, own):
      place[:] = read_whole(output / photo.name)
  path = output.with_name(f'{output.name}.png')
  contact_sheet(sheet, path)
  return path


def main(_) -> None:
  quiet_libraries()
  output = Path(_OUTPUT.value)
  try:
    if _LANDMARKS.value and (flags.FLAGS['detector'].present or _PATH.value):
      raise ConfigError('--landmarks says where the points are; leave --detector and --detector_path out.')
    if _PATH.value and _DETECTOR.value != 'yunet':
      raise ConfigError('--detector_path is for --detector=yunet; mtcnn has its weights with it.')
    source = Source(_LANDMARKS.value, _DETECTOR.value, _PATH.value)
    found = align_people(Path(_INPUT.value), output, _SIZE.value, source)
    sheet = _draw_sheet(output)
  except (ConfigError, DataError, DetectorError, OSError) as error:
    sys.exit(f'{type(error).__name__}: {error}')
  except KeyboardInterrupt:
    sys.exit(f'Stopped. The same command goes on from what is in {output}.')
  print(_described(output, found))
  print(f'A few of them: {sheet}. What was skipped, and why: {output / _SKIPPED}.')


if __name__ == '__main__':
  _INPUT = flags.DEFINE_string('input', None, 'Photographs, one sub-folder per person.')
  _OUTPUT = flags.DEFINE_string('output', None, 'Folder to write the crops to, in the same sub-folders.')
  _LANDMARKS = flags.DEFINE_string('landmarks', '', 'File of known points: PATH x1 y1 .. x5 y5 in every line.')
  _DETECTOR = flags.DEFINE_enum('detector', NAMES[0], NAMES, 'What finds faces and their points.')
  _PATH = flags.DEFINE_string('detector_path', '', 'Its weights: for yunet, the ONNX file.')
  _SIZE = flags.DEFINE_integer('size', 112, 'Pixels a side of the crops.')
  flags.mark_flags_as_required(['input', 'output'])
  app.run(main, flags_parser=parse_flags)
