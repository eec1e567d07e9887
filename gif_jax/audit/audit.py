"""An audit from its inputs to its report: what is wrong with data sets, and who may be the same."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gif_jax.audit.findings import Overlap, Pairs, describe_images, describe_pairs, few_of_each, overlap, twice
from gif_jax.audit.image_hashes import BLANK, UNDECODABLE, mark_all
from gif_jax.audit.inputs import Opened, open_all
from gif_jax.audit.lists import Alike, write_lists
from gif_jax.audit.plot import Shown, plot_audit
from gif_jax.audit.similar_people import centred, nearest
from gif_jax.audit.text import describe
from gif_jax.core.errors import ConfigError, DataError, UserError
from gif_jax.core.lists import parts
from gif_jax.core.storage import locks
from gif_jax.core.storage.files import make_writable, remove, write_json, write_text
from gif_jax.data.crops import Crops
from gif_jax.data.formats.recordio import RecordIO
from gif_jax.data.images import read_image
from gif_jax.data.odd_sizes import odd_sizes, usual
from gif_jax.models.encoders import Encoder
from gif_jax.models.extraction.extract import extract
from gif_jax.models.extraction.identity_moments import ExtractError, identity_moments
from gif_jax.models.trained import open_encoder

_SIZE = 112  # of crops, where the inputs' differ
_BATCH = 256  # images encoded at a time
_LOOK_AT = 10  # images of a person that are encoded: their mean is near that of all
_EACH = 4  # people a person is listed with, at most
_DRAWN = 4  # pairs of each kind in audit.png
# Cosines from which two are listed, for each encoder: generous, as a user looks at the list. With the network of
# quickstart_joint 0.7 finds all of 120 unseen people in other pictures, and half a stranger for each of 720.
_FLOOR = {'pixels': 0.97, 'clip': 0.9, 'backbone': 0.7}


class Settings(NamedTuple):
  """What is looked at, and how; the flags of the command."""

  input: str
  output: Path
  against: str = ''
  encoder: str = ''
  encoder_path: str = ''
  similarity: float = 0.0


def audit(settings: Settings) -> dict[str, Any]:
  """Writes the report into settings.output and returns what is in audit.json.

  Raises DataError for data that cannot be opened, ConfigError for settings that do not go together, InUseError where
  another audit writes there, DiskError.
  """
  _check(settings)
  make_writable('output', settings.output)
  with locks.locked(locks.inside(settings.output), f'--output={settings.output}'):
    return _audit(settings)


def _audit(settings: Settings) -> dict[str, Any]:
  output, index = settings.output, settings.output / 'index'
  encoder = _open_encoder(settings)
  data = open_all(parts(settings.input), parts(settings.against), index)
  marked = mark_all(data.images)
  marks = marked.marks
  pairs = twice(data.images, marks, data.person)
  odd = _odd_sizes(data, marks)
  overlaps = {name: overlap(pairs, data.person, which) for which, name in enumerate(data.tested)}
  similar: Alike | None = None
  close: dict[str, Alike] = {}
  if encoder:
    similar, close = _look_alike(settings, encoder, data, marks, pairs.root)
  report = {
    'inputs': _describe_inputs(settings, data, marks, odd),
    'duplicates': describe_pairs(pairs),
    'evaluation': _describe_overlaps(data, overlaps, close),
    'encoder': encoder.name if encoder else '',
    'similar_people': _describe_similar(settings, similar),
  }
  write_lists(output, data, marked, odd, pairs, overlaps, similar, close)
  _draw(output / 'audit.png', data, marks, pairs, similar)
  write_json(output / 'audit.json', report)
  write_text(output / 'audit.md', describe(report))
  remove(index)
  return report


def _check(settings: Settings) -> None:
  if not parts(settings.input):
    raise ConfigError('--input names nothing: give a data set, or several with commas between.')
  for where in parts(settings.input):
    if settings.output.resolve().is_relative_to(Path(where).resolve()):
      raise ConfigError(f'--output={settings.output} lies inside --input={where}; name another folder.')
  if not 0 <= settings.similarity <= 1:
    raise ConfigError(f'--similarity={settings.similarity} is no cosine of people who look alike; give 0 to 1.')
  if settings.encoder not in ('', 'pixels') and not settings.encoder_path:
    raise ConfigError(f'--encoder={settings.encoder} needs --encoder_path, the folder of its weights or its run.')


def _open_encoder(settings: Settings) -> Encoder | None:
  try:
    return open_encoder(settings.encoder, settings.encoder_path) if settings.encoder else None
  except UserError as error:
    raise ConfigError(f'--encoder={settings.encoder}: {error}') from error


def _odd_sizes(data: Opened, marks: np.ndarray) -> np.ndarray:
  """Which of the images to train on are of an odd size in their input: bool [n]."""
  sides = np.stack([marks['width'], marks['height']], 1)[: len(data.trained)].astype(np.int64)
  ends = np.cumsum([len(records) for records in data.inputs.values()])
  return np.concatenate([odd_sizes(own) for own in np.split(sides, ends[:-1])])


def _describe_inputs(settings: Settings, data: Opened, marks: np.ndarray, odd: np.ndarray) -> dict[str, Any]:
  described, start = {}, 0
  for where, (name, records) in zip(parts(settings.input), data.inputs.items()):
    own, strange = (values[start : start + len(records)] for values in (marks, odd))
    start += len(records)
    described[name] = (
      {'where': where}
      | describe_images(own, records.labels(), len(records.people()))
      | {
        'undecodable': int((own['kind'] == UNDECODABLE).sum()),
        'skipped': len(records.skipped),
        'not_images': len(getattr(records, 'not_images', ())),
        'odd_sizes': int(strange.sum()),
        'usual_size': usual(np.stack([own['width'], own['height']], 1)) if strange.any() else '',
        'labels': records.report.sentences() if isinstance(records, RecordIO) else [],
      }
    )
  return described


def _describe_overlaps(data: Opened, overlaps: dict[str, Overlap], close: dict[str, Alike]) -> dict[str, Any]:
  return {
    name: {
      'images': len(data.tested[name]),
      'found': one.matches,
      'training_images': len(one.images),
      'people': len(one.people),
      'exact_people': int(one.exact.sum()),
    }
    | ({'similar_people': len(close[name].first)} if close else {})
    for name, one in overlaps.items()
  }


def _describe_similar(settings: Settings, similar: Alike | None) -> dict[str, Any] | None:
  if similar is None:
    return None
  people = len(np.unique(np.concatenate([similar.first, similar.second])))
  return {'pairs': len(similar.first), 'people': people, 'floor': _floor(settings), 'each_at_most': _EACH}


def _floor(settings: Settings) -> float:
  return settings.similarity or _FLOOR[settings.encoder]


def _look_alike(
  settings: Settings, encoder: Encoder, data: Opened, marks: np.ndarray, root: np.ndarray
) -> tuple[Alike, dict[str, Alike]]:
  """People who look like others, and for each evaluation set people who look like somebody in it."""
  size, floor = data.trained.size or _SIZE, _floor(settings)
  rows = few_of_each(data.person, (marks['kind'] > BLANK) & (data.person >= 0), _LOOK_AT)
  people, labels = np.unique(data.person[rows], return_inverse=True)
  if not len(people):
    raise DataError(f'--input={settings.input}: no image can be decoded and shows anything; look at a few of them.')
  crops = Crops(data.trained, size, rows, labels)
  try:
    means = identity_moments(
      encoder.encode, crops, labels, len(people), _BATCH, within=False, progress='encoding people'
    ).means
    centre = means.mean(0)
    means = centred(means, centre)
    first, second, cosine = nearest(means, k=_EACH, floor=floor)
    close = {}
    for name in data.tested:
      image, embeddings = _embed(encoder, data, marks, root, name, size, centre)
      person, place, likeness = nearest(means, embeddings, k=1, floor=floor, progress=f'comparing {name}')
      close[name] = Alike(people[person], image[place], likeness)
  except ExtractError as error:
    raise DataError(f'--encoder={settings.encoder}: {error}') from error
  return Alike(people[first], people[second], cosine), close


def _embed(
  encoder: Encoder, data: Opened, marks: np.ndarray, root: np.ndarray, name: str, size: int, centre: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Images of an evaluation set, by number in all (those trained on and repeated ones left out), and embeddings."""
  rows = data.rows(name)
  own = rows[(marks['kind'][rows] > BLANK) & (root[rows] == rows)]
  if not len(own):
    return own, np.empty((0, len(centre)), np.float32)
  crops = Crops(data.tested[name], size, own - rows[0], own)
  return own, centred(np.array(extract(encoder.encode, crops, _BATCH, progress=f'encoding {name}')), centre)


def _draw(path: Path, data: Opened, marks: np.ndarray, pairs: Pairs, similar: Alike | None) -> None:
  """audit.png, with the first pairs of each kind."""
  shown = []
  for title, which in (
    ('two people, same bytes', pairs.across & pairs.exact),
    ('two people, nearly the same', pairs.across & ~pairs.exact),
    ('evaluated on', pairs.evaluation),
    ('one person, nearly the same', pairs.within & ~pairs.exact),
  ):
    shown += [_shown(title, data, *images) for images in pairs.images[which][:_DRAWN].tolist()]
  if similar:
    usable = np.flatnonzero(marks['kind'][: len(data.trained)] > BLANK)
    people, first = np.unique(data.person[usable], return_index=True)
    for *pair, cosine in zip(*(values[:_DRAWN].tolist() for values in similar)):
      images = usable[first[np.searchsorted(people, pair)]].tolist()
      shown.append(_shown(f'one person? cosine {cosine:.2f}', data, *images))
  starts = data.images.starts[0] + np.cumsum([0, *map(len, data.inputs.values())])
  stored = {name: marks['bytes'][a:b] for name, a, b in zip(data.inputs, starts, starts[1:])}
  counts = {name: np.bincount(records.labels()) for name, records in data.inputs.items()}
  plot_audit(counts, stored, shown, path)


def _shown(title: str, data: Opened, first: int, second: int) -> Shown:
  people = data.person[[first, second]].tolist()
  one, other = (data.who(who) if who >= 0 else list(data.tested)[-1 - who] for who in people)
  left, right = (read_image(data.images[i], _SIZE).pixels for i in (first, second))
  return Shown(title, left, right, (one, other))
