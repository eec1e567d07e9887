"""Makes an identity-code table: python -m gif_jax.tokenize --config=configs/quickstart.py --output=TABLE

Images -> features -> one vector per identity -> homogenised vectors and codes -> table (method.md, section 1).
"""

import sys
from pathlib import Path

import numpy as np
from absl import app, flags, logging
from ml_collections import config_flags

from gif_jax.codes import size, tree, vectors
from gif_jax.codes.table import CodeTable, TableError
from gif_jax.config import ConfigError, validate
from gif_jax.evaluation.extract import identity_means
from gif_jax.models.encoders import ENCODERS


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


def _identity_means(config, faces):
  """One feature vector per identity [m, D], the label space they belong to, and what made them."""
  if config.tokenizer.vectors:
    # Nothing in the file says whose vectors these are, so the table will fit any data of as many identities.
    return np.asarray(_load_vectors(config), np.float32), '', config.tokenizer.vectors
  encode = ENCODERS[config.tokenizer.encoder]
  means, _ = identity_means(
    encode, faces.train, faces.train.labels(), faces.m, config.eval.batch_size, 'encoding faces'
  )
  return means, faces.label_space, config.tokenizer.encoder


def settings_of(config) -> dict:
  """The settings a table is made with, as stored in it."""
  return {key: value for key, value in config.tokenizer.items() if key != 'table'} | {'d': config.model.d}


def make_table(config, faces, output: Path) -> CodeTable:
  """Tokenises the training identities of `faces` (None if tokenizer.vectors is set) into the directory `output`."""
  settings = config.tokenizer
  means, label_space, encoder = _identity_means(config, faces)
  m = len(means)
  l, v = size.choose_size(m, settings.l, settings.v, settings.slack)
  initial, transform = vectors.initialise(means, config.model.d)
  homogenised, report = vectors.homogenise(
    initial, epochs=settings.homogenize_epochs, lr=settings.homogenize_lr, subset=settings.homogenize_subset,
    scaled=settings.homogenize_scaled, seed=settings.seed,
  )  # fmt: skip
  if settings.codes == 'random':
    codes, explained = tree.random_codes(m, l, v, settings.seed), []
  else:
    clustered = initial if settings.cluster == 'initial' else homogenised
    built = tree.build_codes(
      clustered, l, v, align=settings.align, iterations=settings.iterations, seed=settings.seed
    )
    codes, explained = built.codes, [float(x) for x in built.explained]
  logging.info('codes: m=%d identities, l=%d digits of v=%d values, %.0f %% of all codes used', m, l, v, 100 * m / v**l)
  return CodeTable.write(
    output, codes, homogenised, v=v, encoder=encoder, seed=settings.seed, label_space=label_space,
    settings=settings_of(config), transform=transform, report=report,
  )  # fmt: skip


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


def main(argv) -> None:
  from gif_jax.data.sources import open_faces

  if len(argv) > 1:
    sys.exit(f'Unexpected argument {argv[1]!r}: settings are given as --config.KEY=VALUE.')
  logging.set_verbosity(logging.INFO)
  try:
    config = with_own_identities(_CONFIG.value)
    validate(config)
    faces = None if config.tokenizer.vectors else open_faces(config, cache=None)
    table = make_table(config, faces, Path(_OUTPUT.value))
  except (ConfigError, TableError, FileExistsError) as error:
    sys.exit(f'{type(error).__name__}: {error}')
  print(f'{table.path}: m={table.m}, l={table.l}, v={table.v}, d={table.d}')


if __name__ == '__main__':
  _CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment, a file in configs/.')
  _OUTPUT = flags.DEFINE_string('output', None, 'Directory to write the table to.')
  flags.mark_flags_as_required(['config', 'output'])
  app.run(main)
