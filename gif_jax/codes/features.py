"""Features that codes are made of: mean features of people by an encoder, or vectors given in a file."""

import logging
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from gif_jax.core.errors import ConfigError, UserError
from gif_jax.core.storage.arrays import load_array
from gif_jax.core.texts import duration
from gif_jax.data.sets.base import Faces, FaceSets
from gif_jax.data.sets.synthetic import rendering_seconds
from gif_jax.models.encoders import Encoder
from gif_jax.models.extraction.identity_moments import Moments, identity_moments
from gif_jax.models.trained import open_encoder

_LOG = logging.getLogger(__name__)


class TokenizeError(UserError):
  """Features or settings that no table can be made of; the message says why and what to change."""


def load_vectors(config: ConfigDict) -> np.ndarray:
  """The features in the file that `tokenizer.vectors` names: float [m, D], memory-mapped. Raises ConfigError."""
  fix = 'config.tokenizer.vectors must be a .npy of floats [m, D]'
  return load_array(config.tokenizer.vectors, np.floating, (None, None), error=ConfigError, fix=fix)


def check_rows(config: ConfigDict, m: int) -> None:
  """Raises ConfigError unless the file of `tokenizer.vectors` has a row for each of m people."""
  if m != (rows := len(load_vectors(config))):
    raise ConfigError(
      f'config.tokenizer.vectors={config.tokenizer.vectors} holds {rows} vectors, but there are {m} people to train '
      'on: give one row per label (in the order of names), or leave tokenizer.vectors empty.'
    )


def open_tokenizer_encoder(settings: ConfigDict) -> Encoder:
  """The encoder that `config.tokenizer` names. Raises TokenizeError where its weights cannot be used."""
  try:
    return open_encoder(settings.encoder, settings.encoder_path)
  except UserError as error:
    raise TokenizeError(f'config.tokenizer.encoder={settings.encoder}: {error}') from error


def encode_people(
  config: ConfigDict, faces: FaceSets, encoder: Encoder, *, within: bool = False, draft: Path | None = None
) -> Moments:
  """Mean features of the training people. within: their covariance too; draft: where progress is kept."""
  _log_rendering(faces.train)
  return identity_moments(
    encoder.encode,
    faces.train,
    faces.train.labels(),
    faces.m,
    config.eval.batch_size,
    within=within,
    progress='encoding faces',
    state=draft,
    key=f'{encoder.name} of {faces.label_space}, {config.data.size} pixels',
  )


def _log_rendering(faces: Faces) -> None:
  """Nobody would think that making codes of people who exist nowhere is what takes so long."""
  if seconds := rendering_seconds(faces):
    _LOG.info(
      'rendering %d faces, which the codes are made of: %s', len(faces), duration(seconds / jax.process_count())
    )
