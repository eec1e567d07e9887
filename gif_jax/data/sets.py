"""What a run is given to train on and to evaluate with, whatever the source."""

from typing import NamedTuple, Protocol

import numpy as np


class Faces(Protocol):
  """A set of n face crops with labels."""

  def __len__(self) -> int: ...

  def __getitem__(self, index) -> np.ndarray:
    """Images for an int array [k] or a slice: uint8 [k, size, size, 3]."""

  def labels(self, index=slice(None)) -> np.ndarray:
    """Labels of the faces asked for: int64 [k]."""


class FaceSets(NamedTuple):
  """The sets of a run. Labels of `train` and `held_out` are 0..m-1; the others are of people who are in neither."""

  m: int
  label_space: str  # names which person each label is; a table made for other people has another
  train: Faces
  held_out: Faces  # further images of the training identities
  validation: Faces  # for choosing settings and the best checkpoint
  test: Faces  # for the figures reported
  people: dict | None = None  # who is who, for people.json, where people have names
