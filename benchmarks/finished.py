"""Runs that are finished, opened to be measured once more."""

import importlib.util
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from gif_jax.codes.identities import Identities, LabelSpace
from gif_jax.codes.table import CodeTable
from gif_jax.config import default
from gif_jax.core.errors import ConfigError
from gif_jax.core.storage.files import read_json
from gif_jax.data.sets.base import Faces, FaceSets
from gif_jax.data.sets.open import open_faces
from gif_jax.models.extraction.extract import extract
from gif_jax.training.program import Trained, open_trained


class Finished(NamedTuple):
  """A run: the name of its folder up to the last '_', which is its row, what is after that, its seed, and the rest."""

  row: str
  seed: str
  config: ConfigDict
  faces: FaceSets
  table: LabelSpace
  trained: Trained

  def embeddings(self, faces: Faces) -> np.ndarray:
    """Unit z of a set of faces: float32 [n, d]."""
    z = extract(lambda images: self.predictions(images, 'embedding'), faces, self.config.eval.batch_size)['embedding']
    return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)

  def predictions(self, images: np.ndarray, *parts: str) -> dict[str, jax.Array]:
    out = self.trained.predict(images)
    return {part: out[part] for part in parts}


def open_run(argument: str, cache: Path | None) -> Finished:
  """Opens WORKDIR, whose config.json says what was run, or WORKDIR@CONFIG with the file in configs/ that does.

  cache: a folder with the run's rendered faces; None: WORKDIR/cache. Raises ConfigError, and what opening a run raises.
  """
  name, _, file = argument.partition('@')
  workdir = Path(name)
  config = _of_file(Path(file)) if file else _recorded(workdir)
  faces = open_faces(config, cache or workdir / 'cache')
  people = Identities(faces.m, faces.label_space)
  table = people if config.softmax.enabled else CodeTable.open(config.tokenizer.table or workdir / 'table')
  row, _, seed = workdir.resolve().name.rpartition('_')
  return Finished(row or seed, seed if row else '', config, faces, table, open_trained(config, workdir, table))


def _of_file(path):
  if not path.exists():
    raise ConfigError(f'{path}: no such file; name the config that the run was started with.')
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config()


def _recorded(workdir):
  path, config = workdir / 'config.json', default()
  if not path.exists():
    raise ConfigError(f'{path}: no such file; give the config that the run was started with: {workdir}@configs/FILE.py')
  for section, settings in read_json(path, ConfigError, 'name a folder of a run').items():
    if unknown := set(settings) - set(config.get(section, {})):
      raise ConfigError(f'{path} has settings that this version does not know: {section}.{min(unknown)}')
    config[section].update(settings)
  return config
