"""What a benchmark is: images, whose they are, and a protocol that makes metrics of their embeddings."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from gif_jax.data.formats.records import Person
from gif_jax.evaluation.result import Result, check_shape


class Images(Protocol):
  """n crops."""

  def __len__(self) -> int: ...

  def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
    """uint8 [k, size, size, 3] RGB. Raises DataError, naming file and image, for one that cannot be decoded."""


class StoredImages(Images, Protocol):
  """n crops of files or records."""

  def encoded(self, index: int) -> bytes:
    """An image as it is stored. Raises DataError, naming it, where it cannot be read."""

  def name(self, index: int) -> str:
    """What people know an image by, a path with '/'; '' where the data has no names."""


class Benchmark(Protocol):
  """A set of n images with a protocol; a room of gif_jax/evaluation each.

  Attributes:
    name: what results and files are called by.
    images: None where only embeddings made elsewhere can be measured.
    identity: int64 [n], whose each image is, as far as it is known.
    people: who the identities are, in their order; () where the benchmark does not name them.
    fingerprint: changes when the images or their labels do.
  """

  @property
  def name(self) -> str: ...
  @property
  def images(self) -> Images | None: ...
  @property
  def identity(self) -> np.ndarray: ...
  @property
  def people(self) -> Sequence[Person]: ...
  @property
  def fingerprint(self) -> str: ...

  def check(self) -> None:
    """Raises EvaluationError where nothing can be measured, before hours of embedding and not after them."""

  def evaluate(self, embedding: np.ndarray, norm: np.ndarray | None, replicates: int) -> list[Result]:
    """Results of every protocol and mode, the one to quote first; arguments as of `measure`."""


class StoredBenchmark(Benchmark, Protocol):
  """One that lies on a disk, opened by `registry.open_benchmark`."""

  @property
  def images(self) -> StoredImages | None: ...


def measure(
  benchmark: Benchmark, embedding: np.ndarray, *, norm: np.ndarray | None = None, replicates: int = 1000
) -> list[Result]:
  """Results of every protocol and mode that a benchmark has.

  Args:
    benchmark: what the embeddings are of.
    embedding: float [n, d], f(x) + f(flip x) of every image in order, not normalised; may be memory-mapped. Rows of
      zeros are like nobody; `result.check_embedding` refuses them, and values that are not finite.
    norm: float [n], mean length of f(x) and f(flip x); None where nobody kept it.
    replicates: of the bootstrap behind the intervals; 0 leaves them out.

  Raises:
    EvaluationError: embeddings of another shape, a benchmark that is too small, or a template whose images cancel out.
  """
  check_shape(embedding, len(benchmark.identity), benchmark.name)
  return benchmark.evaluate(embedding, norm, replicates)
