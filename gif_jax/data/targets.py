"""Verification sets of the field (lfw.bin, cfp_fp.bin, agedb_30.bin ...) that a run is measured on."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from gif_jax.config import ConfigError
from gif_jax.data.crops import Crops
from gif_jax.data.pairs import read_pairs


class Target(NamedTuple):
  """Pairs of images: pair i is images 2i and 2i + 1."""

  images: Crops  # 2N
  same: np.ndarray  # bool [N]


class _Images(list):
  """Encoded images of a file, as records are."""

  def __init__(self, path, images):
    super().__init__(images)
    self.path = path

  def where(self, index):
    return f'{self.path}, image {index} (pair {index // 2})'


def open_targets(config) -> dict[str, Target]:
  """The sets that eval.targets names: NAME is data.path/NAME.bin, anything that ends in .bin a file.

  Raises ConfigError for a file that does not exist, DataError for one that is no verification set.
  """
  targets = {}
  for name in filter(None, config.eval.targets.split(',')):
    path = Path(name) if name.endswith('.bin') else Path(config.data.path) / f'{name}.bin'
    if not path.is_file():
      raise ConfigError(
        f'config.eval.targets={config.eval.targets}: {path} does not exist. Names are those of .bin files in '
        'config.data.path; files elsewhere are given with their path and .bin.'
      )
    pairs = read_pairs(path)
    images, none = _Images(path, pairs.images), np.zeros(len(pairs.images), np.int64)
    targets[path.stem] = Target(Crops(images, config.data.size, np.arange(len(images)), none), pairs.same)
  return targets
