"""Wrong labels on purpose, for studies of how much of them training bears."""

import numpy as np

from gif_jax.core import counter_rng
from gif_jax.core.errors import ConfigError
from gif_jax.data.sets.base import Faces, Rows, numbers

_STREAM = 3 << 40  # of random numbers, apart from those faces are rendered by
_WHETHER, _WHOSE = 0, 1


class Mislabelled:
  """The faces of another set, a share of them under the label of another of the m people, each as likely.

  What is wrong is a function of (seed, image) alone. The first image of everybody keeps its label, so that nobody is
  left without images; all others are wrong so much more often that the share of the whole set is the one asked for.
  Memory for m numbers; opening looks at all n labels once.
  """

  def __init__(self, faces: Faces, m: int, share: float, seed: int):
    """Raises ConfigError where `share` leaves somebody without an image, or there is nobody to be taken for."""
    n = len(faces)
    most = (n - m) / n if m > 1 else 0.0
    if not 0 <= share <= most:
      raise ConfigError(
        f'config.data.label_noise={share}: of {n} images of {m} people a share of 0 to {most:.3g} can have a wrong '
        'label, as everybody keeps one image; give less, or set it to 0.'
      )
    self.faces, self.m, self.seed, self.chance = faces, m, seed, share / most if share else 0.0
    first = np.zeros(m, np.int64)
    first[faces.labels()[::-1]] = np.arange(n - 1, -1, -1)  # of places given twice the last one stays
    self.first = np.sort(first)

  @property
  def in_processes(self) -> bool:
    """Whether processes, not threads, are to read them."""
    return getattr(self.faces, 'in_processes', False)

  def __len__(self) -> int:
    return len(self.faces)

  def __getitem__(self, index: Rows) -> np.ndarray:
    return self.faces[index]

  def labels(self, index: Rows = slice(None)) -> np.ndarray:
    """Labels of the faces asked for, right and wrong: int64."""
    label = self.faces.labels(index)
    index = numbers(index, len(self))
    kept = self.first[np.minimum(np.searchsorted(self.first, index), self.m - 1)] == index
    wrong = ~kept & (counter_rng.uniform(self.seed, _STREAM, _WHETHER, index) < self.chance)
    step = 1 + counter_rng.bits(self.seed, _STREAM, _WHOSE, index) % np.uint64(max(self.m - 1, 1))
    return np.where(wrong, (label + step.astype(np.int64)) % self.m, label)
