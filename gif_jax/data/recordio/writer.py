"""Writes .rec files, and whole training sets as InsightFace's tools read them."""

import logging
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from tqdm import tqdm

from gif_jax.core.errors import DataError
from gif_jax.core.files import replacing, write_text
from gif_jax.data.recordio import framing
from gif_jax.data.recordio.report import EXACT
from gif_jax.data.records import Records

_LOG = logging.getLogger(__name__)


class RecordWriter:
  """A .rec file and its .idx in the making: `with RecordWriter(path) as writer: writer.write(key, payload)`.

  Both have other names until all is written, the .rec to the last, and are removed if an exception ends the block.
  Raises DiskError.
  """

  def __init__(self, path: str | Path):
    self.path, self.place, self.stack = Path(path), 0, ExitStack()

  def __enter__(self):
    with self.stack:
      self._rec, self._idx = (
        self.stack.enter_context(self.stack.enter_context(replacing(self.path.with_suffix(suffix))).open('wb'))
        for suffix in ('.rec', '.idx')
      )
      self.stack = self.stack.pop_all()
    return self

  def write(self, key: int, payload: bytes) -> None:
    """Adds a record. Raises DataError where a record cannot hold the payload."""
    try:
      record = framing.frame(payload)
    except ValueError as error:
      raise DataError(f'record {key} has {error}; make the image smaller.') from error
    self._rec.write(record)
    self._idx.write(b'%d\t%d\n' % (key, self.place))
    self.place += len(record)

  def __exit__(self, *error):
    return self.stack.__exit__(*error)


def write_insightface(records: Records, path: str | Path) -> None:
  """Writes `records` as path (.rec), its .idx and `property` beside them, in the layout of InsightFace's training sets.

  Record 0 has the keys [h0, h1) of the identity records as labels; keys 1..h0-1 are the images, bytes as they are,
  label by label; the identity record of label j, key h0 + j, has the keys [a, b) of its images as labels. Labels are
  float32, exact up to 2**24: beyond, a warning says what is rounded. `property` has m and the pixels a side (0: not
  known). Existing files are replaced when all is written.
  """
  path, labels = Path(path), records.labels()
  n, m = len(labels), len(records.people())
  edges = np.append(1, 1 + np.cumsum(np.bincount(labels, minlength=m)))
  if n + 1 + m > EXACT:
    _LOG.warning(
      '%s: header and identity records above 2**24 are rounded to float32, as the format has it; the labels of the '
      'images are %s', path, 'exact' if m <= EXACT else 'rounded, too: people share labels',
    )  # fmt: skip
  with RecordWriter(path) as writer, tqdm(total=n, desc=f'writing {path.name}', unit='image') as bar:
    writer.write(0, framing.pack(b'', (n + 1, n + 1 + m), 0))
    for key, row in enumerate(np.argsort(labels, kind='stable'), 1):
      writer.write(key, framing.pack(records[int(row)], float(labels[row]), key))
      bar.update()
    for label in range(m):
      writer.write(n + 1 + label, framing.pack(b'', edges[label : label + 2].tolist(), n + 1 + label))
    write_text(path.with_name('property'), f'{m},{records.size},{records.size}\n')
