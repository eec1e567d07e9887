"""Any data set with identities as a benchmark: all its pairs are compared."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gif_jax.core.errors import DataError
from gif_jax.core.storage.arrays import load_array
from gif_jax.data.crops import Crops
from gif_jax.data.formats.open import open_records, state
from gif_jax.data.formats.packed import Packed
from gif_jax.data.formats.records import Person, fingerprint
from gif_jax.data.images import DECODING
from gif_jax.evaluation.all_pairs.protocol import check_all_pairs, evaluate_all_pairs
from gif_jax.evaluation.result import Result


@dataclass(frozen=True)
class LabelledSet:
  """n images of known people, all n (n - 1) / 2 pairs of which are compared (as in InsightFace's MFR).

  Attributes:
    name: of the folder or file.
    images: n crops, [rows] gives uint8 [k, size, size, 3] RGB; None where only the identities are known.
    identity: int64 [n].
    people: who the identities are, in their order; () where only the identities are known.
    fingerprint: of the people, the pictures as far as can be told without reading them, and the size of the crops.
  """

  name: str
  images: Crops | None
  identity: np.ndarray
  fingerprint: str = ''
  people: Sequence[Person] = ()

  @classmethod
  def open(cls, where: str | Path, size: int) -> 'LabelledSet':
    """Whatever `open_records` opens. Raises DataError for anything else."""
    records = open_records(where)
    identity = np.asarray(records.labels())
    images = Crops(records, size, np.arange(len(records)), identity)
    people = records.people()
    digest = hashlib.sha256(f'{fingerprint(people, identity)} {size} {DECODING}'.encode() + identity.tobytes())
    digest.update(_content(records))
    name = str(where).rstrip('/').rsplit('/', 1)[-1].replace(':', '_')
    return cls(name, images, identity, digest.hexdigest()[:16], people)

  @classmethod
  def of_identities(cls, path: str | Path) -> 'LabelledSet':
    """Identities alone, a .npy of int [n], for embeddings made elsewhere. Raises DataError for anything else."""
    path = Path(path)
    identity = load_array(path, np.integer, (None,), fix='wanted identities, integers [n]')
    if not len(identity):
      raise DataError(f'{path} is empty, wanted identities, integers [n].')
    return cls(path.stem, None, identity.astype(np.int64), hashlib.sha256(identity.tobytes()).hexdigest()[:16])

  def only(self, rows: np.ndarray) -> 'LabelledSet':
    """The same of some of its images, int64 [k], rising; for a set with pictures."""
    crops, identity = self.images, self.identity[rows]
    assert crops is not None
    images = Crops(crops.records, crops.size, crops.rows[rows], identity)
    digest = hashlib.sha256(self.fingerprint.encode() + rows.tobytes())
    return replace(self, images=images, identity=identity, fingerprint=digest.hexdigest()[:16])

  def check(self) -> None:
    """Raises EvaluationError for a set whose pairs are too few, or too many."""
    check_all_pairs(self.name, self.identity)

  def evaluate(self, embedding: np.ndarray, norm: np.ndarray | None, replicates: int) -> list[Result]:
    """See `protocol.evaluate_all_pairs`."""
    del norm
    return [evaluate_all_pairs(self.name, self.identity, embedding, replicates)]


def _content(records):
  """Changes when a picture does: checksums where they are at hand, else sizes and times of files."""
  keys = records.picture_keys() if isinstance(records, Packed) else None
  return repr(state(records)[1:]).encode() if keys is None else keys.tobytes()
