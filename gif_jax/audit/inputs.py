"""All that an audit looks at: the images of training sets, then those of evaluation sets, and whose they are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gif_jax.audit.image_hashes import Together
from gif_jax.core.errors import ConfigError
from gif_jax.data.convert.merge import Merged, open_inputs
from gif_jax.data.formats.bin_pairs import PairedImages
from gif_jax.data.formats.records import Records


class Opened(NamedTuple):
  """n images: those of the training sets, then those of the evaluation sets."""

  inputs: Mapping[str, Records]
  trained: Merged
  tested: dict[str, PairedImages]
  images: Together
  person: np.ndarray  # int64 [n], number of the person in `trained`; -1, -2 ... for the images of evaluation sets

  def who(self, person: int) -> str:
    """INPUT:NAME, as convert --same wants it."""
    return ':'.join(self.trained.members[person])

  def rows(self, name: str) -> np.ndarray:
    """Which of the n images are those of an evaluation set: int64 [k]."""
    start = self.images.starts[1 + list(self.tested).index(name)]
    return np.arange(start, start + len(self.tested[name]))


def open_all(inputs: Sequence[str], against: Sequence[str], index: Path) -> Opened:
  """Opens training sets, damaged records left out, and verification sets; index: a folder for what takes long to find.

  Raises DataError where one cannot be opened, ConfigError where two verification sets have the same name.
  """
  tested = {Path(path).name: PairedImages(path) for path in against}
  if len(tested) < len(against):
    raise ConfigError(f'--against={",".join(against)}: two files have the same name; rename one.')
  opened = open_inputs(list(inputs), index, 'skip')
  trained = Merged(opened)
  sets = [np.full(len(images), -1 - which) for which, images in enumerate(tested.values())]
  images = Together([trained, *tested.values()])
  return Opened(opened, trained, tested, images, np.concatenate([trained.labels(), *sets]))
