"""Encoded images of people: what every input is read as, whatever its form on disk."""

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from gif_jax.data.listing import Skipped


class Person(NamedTuple):
  """Who a label is: the name, unique among the m people, and where it comes from (SET:LABEL, joined by '+')."""

  name: str
  origin: str


class Names:
  """The names of n images, as bytes one after the other: millions cost what they are long."""

  def __init__(self, text: np.ndarray, ends: np.ndarray):
    """text: uint8 [t], UTF-8, where bytes that are none stay what they are; ends: int64 [n], where each name ends."""
    self.text, self.ends = text, ends

  @classmethod
  def of(cls, names: Iterable[str]) -> 'Names':
    """Of names, taken one by one."""
    text, ends = bytearray(), array('q')
    for name in names:
      text += name.encode('utf-8', 'surrogateescape')
      ends.append(len(text))
    return cls(np.frombuffer(text, np.uint8), np.frombuffer(ends, np.int64))

  def __len__(self) -> int:
    return len(self.ends)

  def __getitem__(self, index: int) -> str:
    begin = self.ends[index - 1] if index else 0
    return self.text[begin : self.ends[index]].tobytes().decode('utf-8', 'surrogateescape')


class EncodedImages(Protocol):
  """n encoded images, read from several threads at once.

  What is pickled (to other processes) is small; files are opened there when first read.
  """

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> bytes:
    """An encoded image (JPEG, PNG ...). Raises DataError, naming file and image, where it cannot be read."""

  def where(self, index: int) -> str:
    """What to call an image in a message: its file, and its place or key in it."""

  def name(self, index: int) -> str:
    """The name of the image's file as people know it, a path with '/'; '' where the data has none."""


class Records(EncodedImages, Protocol):
  """n encoded images of m people."""

  @property
  def size(self) -> int:
    """Pixels a side of every image; 0 where they differ or are not known."""

  @property
  def skipped(self) -> Sequence[Skipped]:
    """What was left out when the data was opened, because it is damaged."""

  def labels(self) -> np.ndarray:
    """int64 [n], 0..m-1, every label at least once."""

  def people(self) -> Sequence[Person]:
    """Who the m labels are, in their order."""


class StoredRecords(Records, Protocol):
  """Records that lie in one place on a disk."""

  @property
  def path(self) -> Path:
    """The file or folder."""


def names_of(records: Records, rows: np.ndarray) -> Names | None:
  """The names of the images `rows`, int64 [n]; None where none of them has one."""
  shown = tqdm(rows, desc='names', unit='image', delay=5)
  names = Names.of(records.name(int(row)) for row in shown)
  return names if len(names.text) else None


def fingerprint(people: Sequence[Person], labels: np.ndarray) -> str:
  """Names which person each label is, by their names and numbers of images, however the images are stored."""
  digest = hashlib.sha256()
  for person, images in zip(people, np.bincount(labels, minlength=len(people)).tolist(), strict=True):
    digest.update(f'{person.name}\0{images}\0'.encode('utf-8', 'surrogateescape'))
  return digest.hexdigest()[:16]
