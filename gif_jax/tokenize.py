"""Makes an identity-code table: python -m gif_jax.tokenize --config=configs/quickstart.py --output=TABLE

Images -> features -> one vector per identity -> homogenised vectors and codes -> table (docs/method.md, section 1).
"""

import logging
import sys
from pathlib import Path

import numpy as np
from absl import app, flags
from ml_collections import config_flags

from gif_jax.codes import product, size, tree, vectors
from gif_jax.codes.table import CodeTable, TableError
from gif_jax.config import ConfigError, parse_flags, quiet_libraries, read_flag, validate
from gif_jax.data.images import DataError
from gif_jax.evaluation.extract import identity_moments
from gif_jax.models.encoders import ENCODERS

_LOG = logging.getLogger(__name__)


class TokenizeError(ValueError):
  """Features or settings that no table can be made of; the message says why and what to change."""


def with_own_identities(config):
  """The config with data.identities set to the rows of tokenizer.vectors, where such a file is named."""
  if not config.tokenizer.vectors:
    return config
  config = config.copy_and_resolve_references()
  config.data.identities = len(_load_vectors(config))
  return config


def _load_vectors(config):
  path = config.tokenizer.vectors
  try:
    array = np.load(path, mmap_mode='r', allow_pickle=False)
  except (OSError, ValueError) as error:
    raise ConfigError(f'config.tokenizer.vectors={path}: cannot be read as a .npy array ({error}).') from error
  if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
    raise ConfigError(f'config.tokenizer.vectors={path}: holds {array.dtype} {array.shape}, wanted floats [m, D].')
  return array


def _initial_vectors(config, faces):
  """Unit vectors [m, d], the transform that made them, the label space they belong to, and what encoded them."""
  settings = config.tokenizer
  if settings.vectors:
    # Nothing in the file says whose vectors these are, so the table will fit any data of as many identities.
    return *vectors.initialise(np.asarray(_load_vectors(config), np.float32), config.model.d), '', settings.vectors
  labels = faces.train.labels()
  spread = settings.whiten and len(labels) > faces.m  # with one image each, nothing tells how an identity varies
  moments = identity_moments(
    ENCODERS[settings.encoder], faces.train, labels, faces.m, config.eval.batch_size,
    within=spread, progress='encoding faces',
  )  # fmt: skip
  initial, transform = vectors.initialise(moments.means, config.model.d, moments.within, moments.counts)
  return initial, transform, faces.label_space, settings.encoder


def settings_of(config) -> dict:
  """The settings a table is made with, as stored in it."""
  return {key: value for key, value in config.tokenizer.items() if key != 'table'} | {'d': config.model.d}


def make_table(config, faces, output: Path) -> CodeTable:
  """Tokenises the training identities of `faces` (None if tokenizer.vectors is set) into the directory `output`.

  Raises TokenizeError for features or settings that make no table, FileExistsError if `output` exists.
  """
  if output.exists():
    raise FileExistsError(f'{output} exists: remove it, or write the table to another place.')
  settings = config.tokenizer
  m = faces.m if faces else len(_load_vectors(config))
  if settings.vectors and m != (rows := len(_load_vectors(config))):
    raise ConfigError(
      f'config.tokenizer.vectors={settings.vectors} holds {rows} vectors, but there are {m} people to train on: give '
      'one row per label (in the order of names), or leave tokenizer.vectors empty.'
    )
  try:
    l, v = size.choose_size(m, settings.l, settings.v, settings.slack)
    initial, transform, label_space, encoder = _initial_vectors(config, faces)
    homogenised, report = vectors.homogenise(
      initial, epochs=settings.homogenize_epochs, lr=settings.homogenize_lr, subset=settings.homogenize_subset,
      scaled=settings.homogenize_scaled, seed=settings.seed,
    )  # fmt: skip
  except ConfigError:
    raise
  except ValueError as error:
    raise TokenizeError(str(error)) from error
  codes, explained = _codes(settings, initial if settings.cluster == 'initial' else homogenised, l, v)
  _LOG.info('mean cosine of code vectors %.3f, %.3f before homogenisation; variance explained by digit %s',
            report.cosine_after['mean'], report.cosine_before['mean'], np.round(explained, 3))  # fmt: skip
  _LOG.info('codes: m=%d identities, l=%d digits of v=%d values, %.0f %% of all codes used', m, l, v, 100 * m / v**l)
  return CodeTable.write(
    output, codes, homogenised, v=v, encoder=encoder, seed=settings.seed, label_space=label_space,
    settings=settings_of(config), transform=transform, explained=explained, report=report,
  )  # fmt: skip


def _codes(settings, clustered, l, v):
  if settings.codes == 'random':
    return tree.random_codes(len(clustered), l, v, settings.seed), ()
  if settings.codes == 'tree':
    made = tree.build_codes(clustered, l, v, align=False, iterations=settings.iterations, seed=settings.seed)
  else:
    made = product.build_codes(clustered, l, v, seed=settings.seed)
  return made.codes, made.explained


def ensure_table(config, faces, workdir: Path) -> CodeTable:
  """The table named by tokenizer.table, else the one in `workdir`, made first where it is missing.

  Raises TableError if the one in `workdir` was made with other settings than the config's.
  """
  if config.tokenizer.table:
    return CodeTable.open(config.tokenizer.table)
  path = workdir / 'table'
  if not path.exists():
    return make_table(config, faces, path)
  table = CodeTable.open(path)
  here, there = settings_of(config), table.meta['settings']
  for key in sorted(here.keys() | there.keys()):
    if here.get(key) != there.get(key):
      raise TableError(
        f'{path} was made with {key}={there.get(key)!r}, the config has {here.get(key)!r}. '
        'Use another --workdir, or remove the table (and the checkpoints trained with it).'
      )
  return table


def main(_) -> None:
  from gif_jax.data.sources import open_faces

  quiet_libraries()
  try:
    config = with_own_identities(read_flag(_CONFIG))
    validate(config)
    faces = None if config.tokenizer.vectors else open_faces(config, cache=None)
    table = make_table(config, faces, Path(_OUTPUT.value))
  except (ConfigError, DataError, TokenizeError, TableError, FileExistsError) as error:
    sys.exit(f'{type(error).__name__}: {error}')
  print(f'{table.path}: m={table.m}, l={table.l}, v={table.v}, d={table.d}')


if __name__ == '__main__':
  _CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment, a file in configs/.')
  _OUTPUT = flags.DEFINE_string('output', None, 'Directory to write the table to.')
  flags.mark_flags_as_required(['config', 'output'])
  app.run(main, flags_parser=parse_flags)
