"""Opens a benchmark, whatever kind it is, by the file or folder that holds it."""

from collections.abc import Iterable
from pathlib import Path

from ml_collections import ConfigDict

from gif_jax.core.errors import ConfigError, DataError
from gif_jax.core.lists import parts
from gif_jax.data.formats.tfds import PREFIX
from gif_jax.evaluation.all_pairs.dataset import LabelledSet
from gif_jax.evaluation.benchmark import StoredBenchmark
from gif_jax.evaluation.ijb.dataset import TemplateSet, is_template_set
from gif_jax.evaluation.tinyface.dataset import TinyFaceSet, is_tinyface
from gif_jax.evaluation.verification.dataset import PairSet


def open_benchmark(where: str, size: int) -> StoredBenchmark:
  """Opens what `where` names.

  - NAME.bin: a verification set.
  - NAME.npy: the identities of embeddings made elsewhere; all pairs are compared.
  - a folder with meta/ijbb_* or meta/ijbc_*: IJB-B or IJB-C, 1:1 and, with its lists, 1:N.
  - a folder with Testing_Set, or that folder: TinyFace.
  - whatever else `open_records` opens: people, all of whose pairs are compared.

  Args:
    where: a path, or tfds:NAME.
    size: pixels a side of the crops the network takes.

  Raises:
    DataError: it does not exist, lacks a file, or is nothing known; the message names the file.
  """
  path = Path(where)
  if not where.startswith(PREFIX) and not path.exists():
    raise DataError(f'{where} does not exist; check the spelling and whether the disk is mounted.')
  if path.suffix == '.bin':
    return PairSet.open(path, size)
  if path.suffix == '.npy':
    return LabelledSet.of_identities(path)
  if is_tinyface(path):
    return TinyFaceSet.open(path, size)
  if is_template_set(path):
    return TemplateSet.open(path, size)
  return LabelledSet.open(where, size)


def open_benchmarks(wheres: Iterable[str], size: int) -> dict[str, StoredBenchmark]:
  """All of them by their names; see `open_benchmark`. Raises ConfigError for two of one name, too."""
  benchmarks: dict[str, StoredBenchmark] = {}
  for where in wheres:
    benchmark = open_benchmark(where, size)
    if benchmark.name in benchmarks:
      raise ConfigError(f'two benchmarks are called {benchmark.name}: rename one, or measure one after the other.')
    benchmarks[benchmark.name] = benchmark
  return benchmarks


def open_targets(config: ConfigDict) -> dict[str, StoredBenchmark]:
  """The benchmarks that eval.targets names: a path, or NAME for data.path/NAME.bin; {name: benchmark}.

  Raises ConfigError for one that does not exist and for two of one name, DataError for one that cannot be used.
  """
  wheres = []
  for name in parts(config.eval.targets):
    beside = Path(config.data.path) / f'{name}.bin'
    where = str(beside) if beside.is_file() else name
    if not where.startswith(PREFIX) and not Path(where).exists():
      raise ConfigError(
        f'config.eval.targets={config.eval.targets}: neither {beside} nor {name} exists. Names are those of .bin files '
        'in config.data.path; everything else is given with its path.'
      )
    wheres.append(where)
  return open_benchmarks(wheres, config.data.size)
