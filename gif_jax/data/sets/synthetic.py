"""Rendered people: nothing is stored but what `data.cache` asks for."""

import hashlib
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from gif_jax.core.errors import ConfigError
from gif_jax.core.storage.arrays import load_array
from gif_jax.core.storage.resume import fill, is_complete
from gif_jax.core.texts import duration
from gif_jax.core.workers import cores, on_all_cores
from gif_jax.data.sets.base import Faces, FaceSets, Rows, numbers
from gif_jax.data.synthetic import FaceRenderer

_LOG = logging.getLogger(__name__)

_MANY = 5000  # faces from which on it is worth a word how long rendering them takes; a bar shows it always
_TRIED = 32  # faces that are rendered to know how long all of them take
# First identity numbers of people nobody trains on. They do not depend on how many are trained on, so runs with
# different numbers of identities are compared on the same faces.
_VALIDATION, _TEST = 1 << 40, 2 << 40
_SPACE = re.compile(r'synthetic faces, seed (-?\d+), (\d+) identities(?: from (\d+))?')  # a label space


def open_synthetic(config: ConfigDict, cache: Path | None) -> FaceSets:
  """The sets of rendered people; with data.cache their pixels go to the folder `cache`, unless None.

  Raises ConfigError where data.path, data.size or data.first_identity cannot be.
  """
  data, evaluation = config.data, config.eval
  if data.path:
    raise ConfigError(f"config.data.path={data.path}: data.source='synthetic' reads no files; leave data.path empty.")

  def faces(name: str, *args: Any, **kwargs: Any) -> Faces:
    try:
      rendered = SyntheticFaces(data.seed, data.size, *args, **kwargs)
    except ValueError as error:
      raise ConfigError(f'config.data.size={data.size}: {error}') from error
    return cached(rendered, cache, name) if data.cache and cache else rendered

  people, first = data.identities, data.first_identity
  if first + people > _VALIDATION:
    raise ConfigError(f'config.data.first_identity={first}: people to train on are numbered below {_VALIDATION}.')
  return FaceSets(
    m=people,
    label_space=_synthetic_space(data.seed, people, first),
    train=faces('training', people, data.images, first_identity=first, imbalance=data.imbalance),
    held_out=faces('held-out', people, data.held_out, first_identity=first, first_image=data.images),
    validation=faces('validation', evaluation.validation_identities, evaluation.images, first_identity=_VALIDATION),
    test=faces('test', evaluation.identities, evaluation.images, first_identity=_TEST),
  )


def long_tail(m: int, images: int, imbalance: float) -> np.ndarray:
  """How many images each of m people has: int64 [m], round(images * imbalance**(-i / (m - 1))), at least 1.

  imbalance: those of the first over those of the last; 1 = all have as many (the exponential profile of Cui et al.,
  "Class-balanced loss based on effective number of samples", CVPR 2019).
  """
  if not images:
    return np.zeros(m, np.int64)
  profile = images * imbalance ** (-np.arange(m) / max(m - 1, 1))
  return np.maximum(np.rint(profile), 1).astype(np.int64)


class SyntheticFaces:
  """Rendered faces, people in a row: `images` of person 0, and so on to the last, who has 1 / imbalance as many.

  Indexed with integers or a slice it renders: uint8 [n, size, size, 3]. No pixels are stored. A label is also the rank
  in the long tail: who a person of some number is was drawn at random, so the ranks need not be.
  """

  in_processes = True  # NumPy holds the interpreter's lock while it renders: threads would wait for each other

  def __init__(
    self,
    seed: int,
    size: int,
    identities: int,
    images: int,
    *,
    first_identity: int = 0,
    first_image: int = 0,
    imbalance: float = 1.0,
  ):
    self.renderer = FaceRenderer(seed, size)
    self.identities, self.images, self.imbalance = identities, images, imbalance
    self.start = np.append(0, np.cumsum(long_tail(identities, images, imbalance)))  # where a person's faces begin
    self.first_identity, self.first_image = first_identity, first_image

  def __len__(self) -> int:
    return int(self.start[-1])

  def __getitem__(self, index: Rows) -> np.ndarray:
    index = numbers(index, len(self))
    person = self.labels(index)
    return self.renderer.render(self.first_identity + person, self.first_image + index - self.start[person])

  def labels(self, index: Rows = slice(None)) -> np.ndarray:
    """Labels of the faces asked for: int64, 0..identities-1."""
    index = numbers(index, len(self))
    return np.searchsorted(self.start, index, side='right') - 1

  def fingerprint(self) -> str:
    """Names what rendering would give, the renderer included (through one of its images)."""
    renderer = self.renderer
    people, images = (self.first_identity, self.identities), (self.first_image, self.images)
    tail = (self.imbalance,) if self.imbalance != 1 else ()  # caches made before there was a long tail stay valid
    return hashlib.sha256(
      repr((renderer.seed, renderer.size, *people, *images, *tail)).encode() + self[:1].tobytes()
    ).hexdigest()[:16]


class CachedFaces:
  """The faces of another set, decoded once into a memory-mapped file [n, size, size, 3] uint8."""

  def __init__(self, path: Path, faces: Faces):
    self.path, self.faces = path, faces
    self.pixels: np.ndarray | None = None

  def __getstate__(self) -> dict[str, Any]:
    return {**self.__dict__, 'pixels': None}

  def __len__(self) -> int:
    return len(self.faces)

  def __getitem__(self, index: Rows) -> np.ndarray:
    if self.pixels is None:
      self.pixels = load_array(self.path, check=False)
    return self.pixels[index]

  def labels(self, index: Rows = slice(None)) -> np.ndarray:
    """Labels of the faces asked for: int64."""
    return self.faces.labels(index)


def _render(job: tuple[SyntheticFaces, int, int]) -> np.ndarray:
  faces, start, stop = job
  return faces[start:stop]


def cached(faces: SyntheticFaces, folder: Path, name: str) -> SyntheticFaces | CachedFaces:
  """Renders `faces` into `folder` on all cores, unless that was done before; shows progress, goes on after a kill."""
  if not len(faces):
    return faces
  path = folder / f'{name}-{faces.fingerprint()}.npy'
  size = faces.renderer.size
  shape = (len(faces), size, size, 3)
  if not is_complete(path, np.uint8, shape):
    block = faces.images * 25
    if len(faces) >= _MANY:
      _LOG.info(
        'rendering %d %s faces once, into %s: %s',
        len(faces),
        name,
        folder,
        duration(rendering_seconds(faces) / cores()),
      )

    def blocks(start: int) -> Iterator[np.ndarray]:
      jobs = [(faces, i, min(i + block, len(faces))) for i in range(start, len(faces), block)]
      with tqdm(total=len(faces), initial=start, desc=f'rendering {name} faces', unit='image') as bar:
        for images in on_all_cores(_render, jobs):
          yield images
          bar.update(len(images))

    fill(path, shape, np.uint8, blocks, {'faces': path.stem})
  return CachedFaces(path, faces)


def rendering_seconds(faces: Faces, *, shuffled: bool = False) -> float:
  """About how long rendering all of a set takes one core, measured with a few of them; 0 for a set that is read.

  In their order, or shuffled, which is slower: a person is then made anew for every picture.
  """
  if not getattr(faces, 'in_processes', False):
    return 0.0
  faces[:1]  # what is made once
  tried = min(_TRIED, len(faces))
  index = np.arange(tried) * len(faces) // tried if shuffled else (len(faces) - tried) // 2 + np.arange(tried)
  started = time.perf_counter()
  faces[index]
  return (time.perf_counter() - started) / tried * len(faces)


def _synthetic_space(seed: int, people: int, first: int) -> str:
  return f'synthetic faces, seed {seed}, {people} identities' + (f' from {first}' if first else '')


def joined_space(space: str, more: str) -> str:
  """The label space of the people of `space` followed by those of `more`; '' if both are unknown.

  Raises ConfigError where it is known that some people are in both.
  """
  if not space and not more:
    return ''
  old, new = (_SPACE.fullmatch(text) for text in (space, more))
  if old and new and old[1] == new[1]:
    (seed, m, first), (_, k, then) = (tuple(int(part or 0) for part in match.groups()) for match in (old, new))
    if then < first + m and first < then + k:
      raise ConfigError(f'"{space}" and "{more}" share people: set config.data.first_identity={first + m}.')
    if then == first + m:
      return _synthetic_space(seed, m + k, first)
  if space == more:
    raise ConfigError(f'the newcomers are the people of the table already ("{space}"): give the newcomers alone.')
  return f'{space or "people unknown"} + {more or "people unknown"}'
