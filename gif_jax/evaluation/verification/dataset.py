"""Verification sets (lfw.bin, cfp_fp.bin, agedb_30.bin, RFW's ...) as benchmarks."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gif_jax.data.crops import Crops
from gif_jax.data.formats.bin_pairs import PairedImages
from gif_jax.data.formats.records import Person
from gif_jax.data.images import DECODING
from gif_jax.evaluation.result import Result
from gif_jax.evaluation.verification.protocol import check_pairs, evaluate_pairs


@dataclass(frozen=True)
class PairSet:
  """N pairs of images: pair i is images 2i and 2i + 1. The encoded images are held in memory, once.

  Attributes:
    name: of the file, without .bin.
    images: 2N crops; [rows] gives uint8 [k, size, size, 3] RGB. Raises DataError, naming file and image, for one that
      cannot be decoded.
    same: bool [N].
    identity: int64 [2N], 0.. without gaps, as far as the file tells, which has no names: images of the same bytes, or
      of a genuine pair, are of one person, and so on from pair to pair. Two images of a person that no such chain
      joins count as of different people: one of a genuine pair and another, different one of an impostor pair; or one
      picture encoded twice. So there are mostly more identities than people.
    fingerprint: of the images' bytes, the pairs and `size`.
  """

  name: str
  images: Crops | None
  same: np.ndarray
  identity: np.ndarray
  fingerprint: str = ''
  people: tuple[Person, ...] = ()

  @classmethod
  def open(cls, path: str | Path, size: int) -> 'PairSet':
    """Opens NAME.bin.

    Images of another size than `size` are fitted into the square. insightface's load_bin brings the short side to
    `size` (by other interpolation) and fails at what is not square then. Square crops of `size` both take as they are.

    Raises DataError for a file that is no verification set.
    """
    encoded = PairedImages(path)
    images = Crops(encoded, size, np.arange(len(encoded)), np.zeros(len(encoded), np.int64))
    contents = [hashlib.blake2b(encoded[i], digest_size=16).digest() for i in range(len(encoded))]
    how = f'{size} {DECODING}'.encode()
    fingerprint = hashlib.sha256(b''.join(contents) + encoded.same.tobytes() + how).hexdigest()[:16]
    return cls(Path(path).stem, images, encoded.same, _identities(contents, encoded.same), fingerprint)

  def check(self) -> None:
    """Raises EvaluationError for too few pairs."""
    check_pairs(self.name, self.same)

  def evaluate(self, embedding: np.ndarray, norm: np.ndarray | None, replicates: int) -> list[Result]:
    """See `protocol.evaluate_pairs`."""
    return [evaluate_pairs(self.name, self.same, self.identity, embedding, norm, replicates)]


def _identities(contents, same):
  """Connected components of images, joined by genuine pairs and by equal bytes: int64 [2N]."""
  _, picture = np.unique(contents, return_inverse=True)
  left, right = picture[::2][same], picture[1::2][same]
  n = int(picture.max()) + 1
  genuine = coo_array((np.ones(len(left), bool), (left, right)), shape=(n, n))
  _, component = connected_components(genuine, directed=False)
  return component[picture].astype(np.int64)
