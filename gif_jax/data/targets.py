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


class PairedImages:
  """The 2N encoded images of a verification set (.bin); a worker process is told the file and reads it itself.

  same: bool [N], whether images 2i and 2i + 1 are of one person.
  """

  def __init__(self, path: str | Path):
    """Raises DataError for a file that is no verification set."""
    self.path = Path(path)
    self._images, self.same = read_pairs(self.path)

  def __getstate__(self):
    return self.__dict__ | {'_images': None}

  def __len__(self):
    return 2 * len(self.same)

  def __getitem__(self, index):
    if self._images is None:
      self._images = read_pairs(self.path).images
    return self._images[index]

  def where(self, index):
    """The file and the image's place in it."""
    return f'{self.path}, image {index}'


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
    images = PairedImages(path)
    none = np.zeros(len(images), np.int64)
    targets[path.stem] = Target(Crops(images, config.data.size, np.arange(len(images)), none), images.same)
  return targets
