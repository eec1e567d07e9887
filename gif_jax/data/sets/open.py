"""The sets of a run from its config: whom to train on, and who is kept apart for evaluation."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from gif_jax.core.errors import ConfigError
from gif_jax.core.lists import parts
from gif_jax.data.drawn_pairs import check_pairs
from gif_jax.data.sets.base import FaceSets, joined
from gif_jax.data.sets.folder import open_folder
from gif_jax.data.sets.label_noise import Mislabelled
from gif_jax.data.sets.records import open_record_sets
from gif_jax.data.sets.synthetic import open_synthetic


def open_unrendered(config: ConfigDict) -> FaceSets | None:
  """The sets of synthetic people, none of whom is rendered yet; None for other sources, which must be read for it."""
  if config.data.source != 'synthetic':
    return None
  _check_path(config.data.path, 'path')
  return open_synthetic(config, None)


def open_faces(config: ConfigDict, cache: Path | None) -> FaceSets:
  """The sets that `config.data` and `config.eval` name; with data.cache their pixels go to `cache`, unless None.

  The people of data.newcomers come after all others and are all trained on. With data.label_noise some training images,
  and no others, carry a wrong label.
  Raises ConfigError where data.path or data.imbalance does not fit the source, labels cannot be as wrong as asked for,
  or people are too few for verification pairs; DataError for photographs that cannot be used.
  """
  _check_path(config.data.path, 'path')
  if config.data.imbalance != 1 and config.data.source != 'synthetic':
    raise ConfigError(
      f"config.data.imbalance={config.data.imbalance}: people of data.source='{config.data.source}' have the images "
      'they have; set it to 1.'
    )
  faces = SOURCES[config.data.source](config, cache)
  for path in parts(config.data.newcomers):
    faces = joined(faces, SOURCES[config.data.source](_only(config, path), cache))
  if config.data.label_noise:
    faces = faces._replace(train=Mislabelled(faces.train, faces.m, config.data.label_noise, config.data.seed))
  for key, kept in (('validation_identities', faces.validation), ('identities', faces.test)):
    if len(kept):
      check_pairs(np.unique(kept.labels(), return_counts=True)[1].tolist(), config.eval, key)
  return faces


def open_newcomers(config: ConfigDict) -> FaceSets | None:
  """The people that the config names, all trained on, to be added to a table.

  None where it has vectors (config.tokenizer.vectors) and names nobody. Raises as `open_faces`.
  """
  if config.tokenizer.vectors and not (config.data.path or config.data.first_identity):
    return None
  return open_faces(everyone(config), cache=None)


def everyone(config: ConfigDict) -> ConfigDict:
  """The config with nobody kept apart for evaluation, as it is for people who are added to a table."""
  config = config.copy_and_resolve_references()
  config.eval.identities = config.eval.validation_identities = 0
  return config


def _check_path(path: str, key: str) -> None:
  if path and not path.startswith('tfds:') and not Path(path).exists():
    raise ConfigError(f'config.data.{key}={path} does not exist; check the spelling and whether the disk is mounted.')


def _only(config: ConfigDict, path: str) -> ConfigDict:
  if config.data.source == 'synthetic':
    raise ConfigError(f"config.data.newcomers={path}: not with data.source='synthetic'; raise data.identities instead.")
  _check_path(path, 'newcomers')
  config = everyone(config)
  config.data.path = path
  return config


SOURCES: dict[str, Callable[[ConfigDict, Path | None], FaceSets]] = {
  'synthetic': open_synthetic,
  'folder': open_folder,
  'records': open_record_sets,
}
