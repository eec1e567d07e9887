"""Who labels stand for: what an identity-code table and the plain labels of a softmax have in common."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np


class LabelSpace(Protocol):
  """m identities, labels 0..m-1; l code digits each, 0..v-1, which are 0 where there are no codes.

  Attributes:
    codes: uint8 [m, l].
    label_space: names which person each label is; '' where that is not known.
    fingerprint: of all that a checkpoint depends on.
    extends: fingerprints of tables whose rows are the first ones of this, unchanged.
  """

  @property
  def m(self) -> int: ...
  @property
  def l(self) -> int: ...  # noqa: E743
  @property
  def v(self) -> int: ...
  @property
  def codes(self) -> np.ndarray: ...
  @property
  def label_space(self) -> str: ...
  @property
  def fingerprint(self) -> str: ...
  @property
  def extends(self) -> Sequence[str]: ...

  def check(self, labels: np.ndarray) -> None:
    """Raises ValueError for a label outside 0..m-1."""


class Identities(NamedTuple):
  """A label space without codes: all that a softmax wants where the method wants a CodeTable."""

  m: int
  label_space: str
  l: int = 0
  v: int = 0
  extends: Sequence[str] = ()

  @property
  def codes(self) -> np.ndarray:
    """Nothing for anybody: uint8 [m, 0]."""
    return np.zeros((self.m, 0), np.uint8)

  @property
  def fingerprint(self) -> str:
    """Names the people and their order."""
    return f'{self.m} identities of {self.label_space}'

  def check(self, labels: np.ndarray) -> None:
    """Raises ValueError for a label outside 0..m-1."""
    if labels.min() < 0 or labels.max() >= self.m:
      raise ValueError(f'labels {labels.min()}..{labels.max()} are outside 0..{self.m - 1}: read the data set again.')
