"""From images or vectors to an identity-code table: made, extended, or opened (docs/method.md, section 1).

Images -> features -> one vector per identity -> homogenised vectors and codes -> table.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gif_jax.codes import extend, product, size, tree, vectors
from gif_jax.codes.features import TokenizeError, check_rows, encode_people, load_vectors, open_tokenizer_encoder
from gif_jax.codes.homogenise import homogenise
from gif_jax.codes.quality.measure import explained_alone
from gif_jax.codes.table import CodeTable, TableError
from gif_jax.core.distributed import processes
from gif_jax.core.storage import locks
from gif_jax.core.storage.files import remove
from gif_jax.core.storage.resume import Draft
from gif_jax.data.sets.base import FaceSets
from gif_jax.data.sets.synthetic import joined_space
from gif_jax.models.encoders import Encoder

_LOG = logging.getLogger(__name__)


def with_own_identities(config: ConfigDict) -> ConfigDict:
  """The config with data.identities set to the rows of tokenizer.vectors, where such a file is named."""
  if not config.tokenizer.vectors:
    return config
  config = config.copy_and_resolve_references()
  config.data.identities = len(load_vectors(config))
  return config


def check_table(table: CodeTable, config: ConfigDict, faces: FaceSets) -> None:
  """Raises TableError if the table was made for other people, or for another embedding size."""
  cure = 'Make one for this data: python -m gif_jax tokenize with the same --config, or use another --workdir.'
  if table.extends:
    cure = 'Give the people of the table it extends in their order, then the newcomers in theirs (docs/codes.md).'
  if table.m != faces.m:
    raise TableError(f'{table.path}: the table holds m={table.m} identities, the data {faces.m}. {cure}')
  made_for = table.label_space
  if made_for and made_for != faces.label_space:
    raise TableError(f'{table.path}: the table was made for "{made_for}", the data is "{faces.label_space}". {cure}')
  if table.d != config.model.d:
    raise TableError(f'{table.path}: code vectors have d={table.d}, config.model.d={config.model.d}. {cure}')


def check_people(table: CodeTable, faces: FaceSets) -> None:
  """Raises TableError if the table was made for other people than those of a config, whose `FaceSets` these are."""
  made_for = table.label_space or faces.label_space
  if (table.m, made_for) != (faces.m, faces.label_space):
    raise TableError(
      f'{table.path}: the table was made for "{table.label_space or "unknown people"}", m={table.m}; the data '
      f'of --config is "{faces.label_space}", m={faces.m}. Give the --config (and --config.KEY=VALUE) that the table '
      'was made with, or leave --config out to draw the tree without faces.'
    )


def _initial_vectors(
  config: ConfigDict, faces: FaceSets | None, encoder: Encoder | None, draft: Path
) -> tuple[np.ndarray, vectors.Transform | None]:
  """Unit vectors float32 [m, d] and the transform that made them; `draft` is where extraction keeps its progress."""
  settings = config.tokenizer
  if faces is None or encoder is None:
    return vectors.initialise(load_vectors(config), config.model.d)
  within = settings.whiten and len(faces.train) > faces.m  # with one image each, nothing tells how an identity varies
  moments = encode_people(config, faces, encoder, within=within, draft=draft)
  return vectors.initialise(moments.means, config.model.d, moments.within, moments.counts)


def settings_of(config: ConfigDict) -> dict[str, Any]:
  """The settings a table is made with, as stored in it."""
  return {key: value for key, value in config.tokenizer.items() if key != 'table'} | {'d': config.model.d}


def make_table(config: ConfigDict, faces: FaceSets | None, output: Path) -> CodeTable:
  """Tokenises the training identities of `faces` (None if tokenizer.vectors is set) into the directory `output`.

  What is done is kept beside `output` until the table is written, and a run that was killed continues from there. All
  processes encode faces; the first one makes the codes and writes.
  Raises TokenizeError for features or settings that make no table, and if `output` exists; InUseError if somebody else
  makes a table there; DiskError.
  """
  with processes.locked(locks.beside(output), str(output)):
    return _make_table(config, faces, output)


def _make_table(config: ConfigDict, faces: FaceSets | None, output: Path) -> CodeTable:
  settings, folder = config.tokenizer, _draft_of(output)
  m = faces.m if faces else len(load_vectors(config))
  if settings.vectors:
    check_rows(config, m)
  if m < 2:
    raise TokenizeError('one person alone makes no table: give at least two, or add the person with --extend=TABLE.')
  encoder = None if settings.vectors else open_tokenizer_encoder(settings)
  made_with = settings_of(config) | _origin(config, faces, encoder)
  if output.exists():
    if not Draft.left_by(folder, made_with):
      raise TokenizeError(f'{output} exists: remove it, or write the table to another place.')
    return _finished(output, folder)
  try:
    l, v = size.choose_size(m, settings.l, settings.v, settings.slack)
    draft = Draft(folder, made_with) if processes.first() else None
    processes.wait(folder)
    initial, transform = _initial_vectors(config, faces, encoder, folder)
    if draft:
      _write_table(config, faces, output, l, v, initial, transform, encoder, draft)
  except ValueError as error:
    raise TokenizeError(str(error)) from error
  processes.wait(output / 'meta.json')
  return CodeTable.open(output)


def _finished(output: Path, folder: Path) -> CodeTable:
  """A table that a killed run had written but for what it leaves behind, which is removed."""
  processes.wait()
  if processes.first():
    remove(folder)
  return CodeTable.open(output)


def _draft_of(output: Path) -> Path:
  return output.with_name(f'.{output.name}.draft')


def _origin(config: ConfigDict, faces: FaceSets | None, encoder: Encoder | None) -> dict[str, Any]:
  """What a draft is of, beside its settings."""
  if faces and encoder:
    origin = {'images': len(faces.train), 'label_space': faces.label_space, 'encoder': encoder.name}
    return origin | {'label_noise': config.data.label_noise}
  file = Path(config.tokenizer.vectors).stat()
  return {'bytes': file.st_size, 'changed': file.st_mtime_ns}


def _write_table(
  config: ConfigDict,
  faces: FaceSets | None,
  output: Path,
  l: int,
  v: int,
  initial: np.ndarray,
  transform: vectors.Transform | None,
  encoder: Encoder | None,
  draft: Draft,
) -> None:
  """From initial vectors to the table."""
  settings, m = config.tokenizer, len(initial)
  homogenised, report = homogenise(
    initial,
    epochs=settings.homogenize_epochs,
    lr=settings.homogenize_lr,
    subset=settings.homogenize_subset,
    scaled=settings.homogenize_scaled,
    seed=settings.seed,
    draft=draft,
  )
  clustered = initial if settings.cluster == 'initial' else homogenised
  codes = _codes(settings, clustered, l, v, draft)
  explained = np.nan_to_num(explained_alone(codes, clustered))  # JSON has no NaN
  _LOG.info(
    'mean cosine of code vectors %.3f, %.3f before homogenisation; variance explained by each digit alone %s',
    report.cosine_after['mean'],
    report.cosine_before['mean'],
    np.round(explained, 3),
  )
  _LOG.info('codes: m=%d identities, l=%d digits of v=%d values, %.0f %% of all codes used', m, l, v, 100 * m / v**l)
  # Nothing in a file of vectors says whose they are, so its table fits any data of as many identities.
  name, label_space = (encoder.name, faces.label_space) if faces and encoder else (settings.vectors, '')
  CodeTable.write(
    output,
    codes,
    homogenised,
    v=v,
    encoder=name,
    seed=settings.seed,
    label_space=label_space,
    settings=settings_of(config),
    transform=transform,
    explained=explained,
    report=report,
  )
  draft.remove()


def _codes(settings: ConfigDict, clustered: np.ndarray, l: int, v: int, draft: Draft) -> np.ndarray:
  """Codes uint8 [m, l]. Slack is kept by placeholders: codes are made for them too, and then not given to anybody."""
  m = len(clustered)
  if settings.codes == 'random':
    return tree.random_codes(m, l, v, settings.seed)
  extra = extend.placeholders(m, settings.slack, v**l - m, settings.seed)
  clustered = np.concatenate([clustered, clustered[extra]]) if len(extra) else clustered
  if settings.codes == 'tree':
    return tree.build_codes(clustered, l, v, iterations=settings.iterations, seed=settings.seed, draft=draft)[:m]
  return product.build_codes(clustered, l, v, seed=settings.seed, draft=draft)[:m]


def extend_table(config: ConfigDict, faces: FaceSets | None, old: CodeTable, output: Path) -> CodeTable:
  """Writes the people of `old`, unchanged, and after them the newcomers into the directory `output`.

  The newcomers are the training people of `faces`. With tokenizer.vectors, [k, D] by the table's encoder, their
  features are its rows; without `faces` nobody knows then who they are, and no data is taken for theirs. Of
  config.tokenizer `encoder` and `vectors` are read, all else is the table's.

  Raises TokenizeError for newcomers that do not fit the table, and if `output` exists; InUseError, DiskError.
  """
  with processes.locked(locks.beside(output), str(output)):
    return _extend_table(config, faces, old, output)


def _extend_table(config: ConfigDict, faces: FaceSets | None, old: CodeTable, output: Path) -> CodeTable:
  label_space = joined_space(old.label_space, faces.label_space if faces else '')
  if output.exists():
    return _extended_before(old, output, label_space)
  try:
    newcomers = vectors.later(_newcomers(config, faces, old), old.d, old.transform)
    codes = extend.extend_codes(old.codes, old.vectors, old.v, newcomers)
    if old.meta['settings'].get('codes') == 'product':
      product.settle_newcomers(old.codes, old.vectors, old.v, newcomers, codes)
  except ValueError as error:
    raise TokenizeError(f'{old.path} cannot take these people in: {error}') from error
  if processes.first():
    old.extend(output, codes, newcomers, label_space)
  processes.wait(output / 'meta.json')
  table = CodeTable.open(output)
  _LOG.info(
    'codes: %d newcomers are labels %d to %d; %d codes are still free',
    len(codes),
    old.m,
    table.m - 1,
    table.v**table.l - table.m,
  )
  return table


def _extended_before(old: CodeTable, output: Path, label_space: str) -> CodeTable:
  """The table at `output`, if it is of the same people: a killed run had written it. Raises TokenizeError."""
  try:
    table = CodeTable.open(output)
    if table.extends == [*old.extends, old.fingerprint] and label_space and table.label_space == label_space:
      return table
  except TableError:
    pass
  raise TokenizeError(f'{output} exists: remove it, or write the table to another place.')


def _newcomers(config: ConfigDict, faces: FaceSets | None, old: CodeTable) -> np.ndarray:
  """Mean features float32 [k, D] of the newcomers, by the encoder of the table `old`."""
  encoder = old.meta['encoder']
  if faces is None or config.tokenizer.vectors:
    _LOG.info('tokenizer.vectors must be features of the encoder that %s was made with: %s', old.path, encoder)
    if faces:
      check_rows(config, faces.m)
    return load_vectors(config)
  own = open_tokenizer_encoder(config.tokenizer)
  if encoder != own.name:
    raise TokenizeError(
      f'it was made with the encoder "{encoder}", the config has "{own.name}". Set tokenizer.encoder (and '
      'tokenizer.encoder_path), or give the mean features of that encoder, one row per newcomer, as tokenizer.vectors'
    )
  return encode_people(config, faces, own).means


def ensure_table(config: ConfigDict, faces: FaceSets, workdir: Path) -> CodeTable:
  """The table named by tokenizer.table, else the one in `workdir`, made first where it is missing; all of it checked.

  Raises TableError if it is damaged, if the one in `workdir` was made with other settings than the config's, and as
  `check_table` does.
  """
  path = Path(config.tokenizer.table or workdir / 'table')
  if not config.tokenizer.table and not path.exists():
    return make_table(config, faces, path)
  table = CodeTable.open(path)
  if processes.first():  # all read the same files
    table.verify()
    if not config.tokenizer.table:
      remove(_draft_of(path))  # of a run that was killed when the table was there
  processes.wait()
  if not config.tokenizer.table:
    _check_settings(table, config)
  check_table(table, config, faces)
  return table


def _check_settings(table: CodeTable, config: ConfigDict) -> None:
  wanted, made_with = settings_of(config), table.meta['settings']
  for key in sorted(wanted.keys() | made_with.keys()):
    if wanted.get(key) != made_with.get(key) and not (key == 'encoder_path' and _same_encoder(config, table)):
      raise TableError(
        f'{table.path} was made with {key}={made_with.get(key)!r}, the config has {wanted.get(key)!r}. '
        'Use another --workdir, or remove the table (and the checkpoints trained with it).'
      )


def _same_encoder(config: ConfigDict, table: CodeTable) -> bool:
  """Whether the weights at tokenizer.encoder_path are those that made the table, wherever they lay then."""
  return bool(config.tokenizer.vectors) or open_tokenizer_encoder(config.tokenizer).name == table.meta['encoder']
