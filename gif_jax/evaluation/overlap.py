"""What a benchmark shares with the training set of a run: people by name, and pictures."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from gif_jax.core.errors import DataError
from gif_jax.core.lists import normal, read_rows
from gif_jax.core.storage.arrays import load_array
from gif_jax.data.formats.records import Person
from gif_jax.data.sets.trained_on import AGAIN, PEOPLE, PICTURES, check_listed, picture_keys, read_note
from gif_jax.evaluation.benchmark import StoredBenchmark
from gif_jax.evaluation.result import Overlap

_LOG = logging.getLogger(__name__)

_MEMBER = re.compile(r'(?:^|\+)(.*?:.+?)(?=\+[^+:]*:|$)')  # of an origin, SET:NAME+SET:NAME


class Seen:
  """Who a run was trained on, and with which pictures, as far as it noted that."""

  def __init__(self, workdir: str | Path):
    """Says in the log what cannot be compared. Raises DataError, with the cure, for lists that are damaged."""
    self.workdir = Path(workdir)
    note = read_note(self.workdir)
    check_listed(self.workdir, note)
    people, pictures = self.workdir / PEOPLE, self.workdir / PICTURES
    self.people = people if people.exists() else None
    self.keys = None
    if pictures.exists() and note.get('pictures', 0) is not None:
      self.keys = load_array(pictures, np.uint64, (note.get('pictures'),), fix=AGAIN)
    missing = [name for name, noted in ((PEOPLE, self.people), (PICTURES, self.keys is not None)) if not noted]
    if missing:
      by = 'name' if self.people else 'picture'
      how = 'is not looked for' if len(missing) > 1 else f'is looked for by {by} alone'
      _LOG.info(
        '%s has no %s (an older run, synthetic faces, or too many images): what benchmarks share with the '
        'training set %s',
        self.workdir,
        ', no '.join(missing),
        how,
      )

  def overlap(self, benchmark: StoredBenchmark, *, left_out: bool) -> tuple[Overlap, np.ndarray] | None:
    """What a benchmark shares with the training set, and which of its images are of people who do: bool [n].

    Of benchmarks whose people have no names these are the images that are pictures trained on. None where there is
    nothing to compare with. left_out: whether whoever was trained on is left out of the metrics, see `Overlap`.
    """
    named = bool(benchmark.people)
    if self.keys is None and not (named and self.people):
      return None
    pictures = self._pictures(benchmark)
    n, seen = len(pictures), int(pictures.sum())
    if not named:
      return Overlap(0, 0, 0, 0, n, seen, False), pictures
    by_name = self._by_name(benchmark.people)
    by_picture = np.zeros(len(by_name), bool)
    by_picture[benchmark.identity[pictures]] = True
    both = by_name | by_picture
    by_either = int(both.sum())
    overlap = Overlap(len(both), int(by_name.sum()), int(by_picture.sum()), by_either, n, seen, left_out)
    return overlap, both[benchmark.identity]

  def _pictures(self, benchmark: StoredBenchmark) -> np.ndarray:
    """Which images of a benchmark were trained on: bool [n]."""
    if benchmark.images is None or self.keys is None or not len(self.keys):
      return np.zeros(len(benchmark.identity), bool)
    keys = picture_keys(benchmark.images, f'comparing {benchmark.name}')
    place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
    return np.asarray(self.keys[place] == keys)

  def _by_name(self, people: Sequence[Person]) -> np.ndarray:
    """Which people have the name of somebody trained on: bool [m]."""
    if not self.people:
      return np.zeros(len(people), bool)
    known = [set(_known_as(person)) for person in people]
    wanted = set().union(*known)
    shared = {name for person in self._listed(self.people) for name in _known_as(person) if name in wanted}
    return np.array([not shared.isdisjoint(names) for names in known], bool)

  def _listed(self, people: Path) -> Iterator[Person]:
    for line, row in read_rows(people, '\t', fix=AGAIN):
      if len(row) > 2:
        raise DataError(f'{people}, line {line}: {len(row)} columns, wanted NAME<TAB>ORIGIN: {AGAIN}.')
      yield Person(row[0], *row[1:] or [''])


def warn_of_targets(workdir: Path, targets: Mapping[str, StoredBenchmark]) -> None:
  """Says in the log which benchmarks of eval.targets share something with the training set: all of each is measured."""
  seen = Seen(workdir)
  for name, target in targets.items():
    both = seen.overlap(target, left_out=False) if target.images is not None else None
    if both and (words := both[0].words(name)):
      _LOG.warning('config.eval.targets: %s', words)


def _known_as(person):
  """What somebody is known by: the name, unless it is a number, which is somebody else's in every set; the origins."""
  names = [] if person.name.isdecimal() else [person.name]
  return map(normal, [*names, *_MEMBER.findall(person.origin)])
