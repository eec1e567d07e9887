"""Sets of face crops: what there is to train on, and who is kept apart for evaluation."""

import hashlib
import os
import re
from pathlib import Path

import numpy as np
from tqdm import tqdm

from gif_jax.config import ConfigError, check_pairs
from gif_jax.data.benchmarks.opening import open_targets
from gif_jax.data.faces import FaceRenderer
from gif_jax.data.folder import open_folder
from gif_jax.data.roles import open_record_sets
from gif_jax.data.sets import FaceSets, joined
from gif_jax.data.workers import on_all_cores

# First identity numbers of people nobody trains on. They do not depend on how many are trained on, so runs with
# different numbers of identities are compared on the same faces.
_VALIDATION, _TEST = 1 << 40, 2 << 40
_SPACE = re.compile(r'synthetic faces, seed (-?\d+), (\d+) identities(?: from (\d+))?')  # a label space


class SyntheticFaces:
  """Rendered faces, `images` of each of `identities` people: face i is image i % images of person i // images.

  Indexed with integers or a slice it renders: uint8 [n, size, size, 3]. Nothing is stored.
  """

  in_processes = True  # NumPy holds the interpreter's lock while it renders: threads would wait for each other

  def __init__(self, seed, size, identities, images, *, first_identity=0, first_image=0):
    self.renderer = FaceRenderer(seed, size)
    self.identities, self.images = identities, images
    self.first_identity, self.first_image = first_identity, first_image

  def __len__(self):
    return self.identities * self.images

  def __getitem__(self, index):
    index = np.arange(len(self))[index] if isinstance(index, slice) else np.asarray(index)
    return self.renderer.render(
      self.first_identity + index // self.images, self.first_image + index % self.images
    )

  def labels(self, index=slice(None)) -> np.ndarray:
    """Labels of the faces asked for: int64, 0..identities-1."""
    index = np.arange(len(self))[index] if isinstance(index, slice) else np.asarray(index)
    return index // self.images

  def fingerprint(self) -> str:
    """Names what rendering would give, the renderer included (through one of its images)."""
    renderer = self.renderer
    which = (renderer.seed, renderer.size, self.first_identity, self.identities, self.first_image, self.images)
    return hashlib.sha256(repr(which).encode() + self[:1].tobytes()).hexdigest()[:16]


class CachedFaces:
  """The faces of another set, decoded once into a memory-mapped file [n, size, size, 3] uint8."""

  def __init__(self, path, faces):
    self.path, self.faces = path, faces
    self.pixels = None

  def __getstate__(self):
    return {**self.__dict__, 'pixels': None}

  def __len__(self):
    return len(self.faces)

  def __getitem__(self, index):
    if self.pixels is None:
      self.pixels = np.load(self.path, mmap_mode='r')
    return self.pixels[index]

  def labels(self, index=slice(None)) -> np.ndarray:
    """Labels of the faces asked for: int64."""
    return self.faces.labels(index)


def _render(job):
  faces, start, stop = job
  return faces[start:stop]


def cached(faces: SyntheticFaces, folder: Path, name: str) -> SyntheticFaces | CachedFaces:
  """Renders `faces` into `folder` on all cores, unless that was done before; shows progress."""
  if not len(faces):
    return faces
  path = folder / f'{name}-{faces.fingerprint()}.npy'
  if path.exists():
    return CachedFaces(path, faces)
  folder.mkdir(parents=True, exist_ok=True)
  partial = folder / f'{path.stem}.{os.getpid()}.partial'
  size = faces.renderer.size
  pixels = np.lib.format.open_memmap(partial, 'w+', np.uint8, (len(faces), size, size, 3))
  block = faces.images * 25
  jobs = [(faces, i, min(i + block, len(faces))) for i in range(0, len(faces), block)]
  with tqdm(total=len(faces), desc=f'rendering {name} faces', unit='image') as bar:
    for (_, start, stop), images in zip(jobs, on_all_cores(_render, jobs)):
      pixels[start:stop] = images
      bar.update(stop - start)
  pixels.flush()
  os.replace(partial, path)
  for left in folder.glob(f'{path.stem}.*.partial'):  # by runs that were killed while they rendered
    left.unlink(missing_ok=True)
  return CachedFaces(path, faces)


def open_faces(config, cache: Path | None) -> FaceSets:
  """The sets that `config.data` and `config.eval` name; with data.cache their pixels go to `cache`, unless None.

  The people of data.newcomers come after all others and are all trained on.
  Raises ConfigError where data.path does not fit the source or people are too few for verification pairs, DataError
  for photographs that cannot be used.
  """
  _check_path(config.data.path, 'path')
  faces = SOURCES[config.data.source](config, cache)._replace(targets=open_targets(config))
  for path in filter(None, config.data.newcomers.split(',')):
    faces = joined(faces, SOURCES[config.data.source](_only(config, path), cache))
  for key, found in (('validation_identities', faces.validation), ('identities', faces.test)):
    if len(found):
      check_pairs(np.unique(found.labels(), return_counts=True)[1].tolist(), config.eval, key)
  return faces


def everyone(config):
  """The config with nobody kept apart for evaluation, as it is for people who are added to a table."""
  config = config.copy_and_resolve_references()
  config.eval.identities = config.eval.validation_identities = 0
  return config


def _check_path(path, key):
  if path and not path.startswith('tfds:') and not Path(path).exists():
    raise ConfigError(f'config.data.{key}={path} does not exist; check the spelling and whether the disk is mounted.')


def _only(config, path):
  if config.data.source == 'synthetic':
    raise ConfigError(f"config.data.newcomers={path}: not with data.source='synthetic'; raise data.identities instead.")
  _check_path(path, 'newcomers')
  config = everyone(config)
  config.data.path = path
  return config


def _synthetic(config, cache):
  data, evaluation = config.data, config.eval
  if data.path:
    raise ConfigError(f"config.data.path={data.path}: data.source='synthetic' reads no files; leave data.path empty.")

  def faces(name, *args, **kwargs):
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
    train=faces('training', people, data.images, first_identity=first),
    held_out=faces('held-out', people, data.held_out, first_identity=first, first_image=data.images),
    validation=faces('validation', evaluation.validation_identities, evaluation.images, first_identity=_VALIDATION),
    test=faces('test', evaluation.identities, evaluation.images, first_identity=_TEST),
  )


def _synthetic_space(seed, people, first):
  return f'synthetic faces, seed {seed}, {people} identities' + (f' from {first}' if first else '')


def joined_space(space: str, more: str) -> str:
  """The label space of the people of `space` followed by those of `more`; '' if both are unknown.

  Raises ConfigError where it is known that some people are in both.
  """
  if not space and not more:
    return ''
  old, new = (_SPACE.fullmatch(text) for text in (space, more))
  if old and new and old[1] == new[1]:
    (seed, m, first), (_, k, then) = (tuple(int(part or 0) for part in found.groups()) for found in (old, new))
    if then < first + m and first < then + k:
      raise ConfigError(f'"{space}" and "{more}" share people: set config.data.first_identity={first + m}.')
    if then == first + m:
      return _synthetic_space(seed, m + k, first)
  if space == more:
    raise ConfigError(f'the newcomers are the people of the table already ("{space}"): give the newcomers alone.')
  return f'{space or "people unknown"} + {more or "people unknown"}'


SOURCES = {'synthetic': _synthetic, 'folder': open_folder, 'records': open_record_sets}
