"""A run: from a config to data, table, training, evaluation and summary, in one folder."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from gif_jax.codes import tokenizer
from gif_jax.codes.identities import Identities, LabelSpace
from gif_jax.core.distributed import processes
from gif_jax.core.errors import ConfigError
from gif_jax.core.lists import parts
from gif_jax.core.storage import locks
from gif_jax.core.storage.files import make_writable, write_json
from gif_jax.data.sets.base import FaceSets
from gif_jax.data.sets.open import open_faces, open_unrendered
from gif_jax.data.sets.trained_on import note_trained
from gif_jax.evaluation.overlap import warn_of_targets
from gif_jax.evaluation.registry import open_targets
from gif_jax.training import run_record
from gif_jax.training.cost import estimate
from gif_jax.training.train import train
from gif_jax.validation import validate


def run(config: ConfigDict, workdir: Path, accept: bool = False) -> dict[str, Any] | None:
  """Table, training, evaluation. Returns the summary, or None if a signal stopped the run with its state saved.

  accept: whether settings that change results may be others than those the run in `workdir` began with.
  """
  processes.check_same({'config': config.to_dict()})
  _check_apart(config.data, workdir)
  make_writable('workdir', workdir)
  processes.check_shared(workdir)
  config = tokenizer.with_own_identities(config)
  validate(config)
  with processes.locked(locks.inside(workdir), f'--workdir={workdir}'):
    run_record.check(workdir, config, accept)
    unrendered = open_unrendered(config)
    if unrendered:
      estimate.warn_of_hours(config, unrendered, workdir)
    faces = processes.after_first(lambda: open_faces(config, workdir / 'cache'))
    if not unrendered:
      estimate.warn_of_hours(config, faces, workdir)
    targets = open_targets(config)
    processes.check_same({'people': faces.label_space, 'training images': len(faces.train)})
    table = _label_space(config, faces, workdir)  # before people.json, which says whose table and checkpoints these are
    if faces.people is not None and processes.first():
      write_json(workdir / 'people.json', faces.people)
    if processes.first():
      note_trained(workdir, faces)
      if faces.named and targets:
        warn_of_targets(workdir, targets)
    processes.wait()
    return train(config, workdir, faces, table, targets=targets, accept=accept)


def _label_space(config: ConfigDict, faces: FaceSets, workdir: Path) -> LabelSpace:
  """The table of the run, made if it is missing; of a softmax the identities alone."""
  if config.softmax.enabled:
    return Identities(faces.m, faces.label_space)
  return tokenizer.ensure_table(config, faces, workdir)


def _check_apart(data: ConfigDict, workdir: Path) -> None:
  if data.source != 'folder':
    return
  for key, folder in (('path', data.path), *(('newcomers', folder) for folder in parts(data.newcomers))):
    if folder and workdir.resolve().is_relative_to(Path(folder).resolve()):
      raise ConfigError(
        f'--workdir={workdir} lies inside config.data.{key}={folder}, where its pictures would be taken for those of a '
        'person; name a folder elsewhere.'
      )
