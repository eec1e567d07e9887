"""A folder of photographs, one sub-folder per person, as records: the bytes of an image are those of its file."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gif_jax.core.errors import DataError
from gif_jax.data.formats.records import Names, Person
from gif_jax.data.listing import Listing, Skipped, list_people


class Photos:
  """The images of a folder of people."""

  size = 0  # not known before the images are opened

  def __init__(self, path: str | Path, damaged: str = 'skip', listing: Listing | None = None):
    """damaged='error' raises DataError where a person's folder holds no image, 'skip' lists it; listing: of the folder.

    Raises DataError, too, for what `list_people` refuses.
    """
    self.path = Path(path)
    listing = listing or list_people(self.path)
    if listing.empty and damaged == 'error':
      raise DataError(f'{self.path / listing.empty[0].name}: {listing.empty[0].reason}; remove it, or leave it out.')
    self.skipped: Sequence[Skipped] = sorted(listing.empty + listing.skipped)
    self.not_images = listing.not_images
    photos = [photo for own in listing.people.values() for photo in own]
    self._names = Names.of(photo.name for photo in photos)
    self._counts = np.array([len(own) for own in listing.people.values()])
    self._people = list(listing.people)
    digest = hashlib.sha256(self._names.text.data)
    digest.update(np.array([photo[1:] for photo in photos], np.int64).tobytes())
    self.fingerprint = digest.hexdigest()  # of names, sizes and times of all images

  def __len__(self) -> int:
    return len(self._names)

  def __getitem__(self, index: int) -> bytes:
    try:
      return (self.path / self.name(index)).read_bytes()
    except OSError as error:
      raise DataError(f'{self.where(index)} cannot be read: {error.strerror}') from error

  def name(self, index: int) -> str:
    """The path of an image below the folder, with '/'."""
    return self._names[index]

  def labels(self) -> np.ndarray:
    """The place of each image's person in the order of names: int64 [n]."""
    return np.repeat(np.arange(len(self._counts), dtype=np.int64), self._counts)

  def people(self) -> list[Person]:
    """People are named as their folders."""
    own = self.path.resolve().name
    return [Person(name, f'{own}:{name}') for name in self._people]

  def where(self, index: int) -> str:
    """The image's file."""
    return str(self.path / self.name(index))
