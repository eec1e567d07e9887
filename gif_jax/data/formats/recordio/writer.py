"""Writes .rec files, and complete training sets as InsightFace's tools read them."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from tqdm import tqdm

from gif_jax.core.errors import DataError, disk_error
from gif_jax.core.storage.files import remove, replacing, write_text
from gif_jax.data.formats.recordio import framing
from gif_jax.data.formats.recordio.lists import list_path, people_path, write_names, write_people
from gif_jax.data.formats.recordio.report import EXACT
from gif_jax.data.formats.records import Names, Person, Records, names_of

_LOG = logging.getLogger(__name__)


class RecordWriter:
  """A .rec file and its .idx in the making: `with RecordWriter(path) as writer: writer.write(key, payload)`.

  Both have other names until all is written, the .rec to the last, and are removed if an exception ends the block.
  Raises DiskError.
  """

  def __init__(self, path: str | Path):
    self.path, self.place, self.stack = Path(path), 0, ExitStack()

  def __enter__(self) -> Self:
    with self.stack:
      self._rec, self._idx = (
        self.stack.enter_context(self.stack.enter_context(replacing(self.path.with_suffix(suffix))).open('wb'))
        for suffix in ('.rec', '.idx')
      )
      self.stack = self.stack.pop_all()
    return self

  def write(self, key: int, payload: bytes) -> None:
    """Adds a record. Raises DataError where a record cannot hold the payload, DiskError."""
    try:
      record = framing.frame(payload)
    except ValueError as error:
      raise DataError(f'record {key} has {error}; make the image smaller.') from error
    try:
      self._rec.write(record)
      self._idx.write(b'%d\t%d\n' % (key, self.place))
    except OSError as error:
      raise disk_error(error, self.path, 'written') from error
    self.place += len(record)

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
  ) -> bool | None:
    return self.stack.__exit__(kind, error, trace)


def write_insightface(records: Records, path: str | Path) -> None:
  """Writes `records` as path (.rec), with .idx, lists of names and `property`, in the layout of InsightFace's sets.

  Record 0 has the keys [h0, h1) of the identity records as labels; keys 1..h0-1 are the images, bytes as they are,
  label by label; the identity record of label j, key h0 + j, has the keys [a, b) of its images as labels. Labels are
  float32, exact up to 2**24: beyond, a warning says what is rounded. `property` has m and the pixels a side (0: not
  known). Lists (see `lists`) are written where there is more to say than numbers. Existing files are replaced when all
  is written.
  """
  path, labels, people = Path(path), records.labels(), records.people()
  n, m = len(labels), len(people)
  edges = np.append(1, 1 + np.cumsum(np.bincount(labels, minlength=m)))
  if n + 1 + m > EXACT:
    _LOG.warning(
      '%s: header and identity records above 2**24 are rounded to float32, as the format has it; the labels of the '
      'images are %s',
      path,
      'exact' if m <= EXACT else 'rounded, too: people share labels',
    )
  order = np.argsort(labels, kind='stable')
  with (
    RecordWriter(path) as writer,
    _lists(path, people, names_of(records, order), labels[order]) as sums,
    tqdm(total=n, desc=f'writing {path.name}', unit='image') as bar,
  ):
    writer.write(0, framing.pack(b'', (n + 1, n + 1 + m), 0, sums))
    for key, row in enumerate(order, 1):
      writer.write(key, framing.pack(records[int(row)], float(labels[row]), key))
      bar.update()
    for label in range(m):
      writer.write(n + 1 + label, framing.pack(b'', edges[label : label + 2].tolist(), n + 1 + label))
    write_text(path.with_name('property'), f'{m},{records.size},{records.size}\n')


@contextmanager
def _lists(path: Path, people: Sequence[Person], names: Names | None, labels: np.ndarray) -> Iterator[int]:
  """Writes the lists beside a .rec, which get their names when the block ends well; gives their checksums as one."""
  are_numbers = all(person == (str(label), '') for label, person in enumerate(people))
  of_people = of_names = 0
  with ExitStack() as stack:
    if not are_numbers:
      of_people = write_people(stack.enter_context(replacing(people_path(path))), people)
    if names is not None:
      of_names = write_names(stack.enter_context(replacing(list_path(path))), names, labels)
    yield of_people | of_names << 32
  # Lists that remain are of an earlier .rec.
  if are_numbers:
    remove(people_path(path))
  if names is None:
    remove(list_path(path))
