"""Checkpoints of a run as they lie on the disk: which there are, which are intact, and what is in them."""

import functools
import gc
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from gif_jax.core.distributed import processes
from gif_jax.core.errors import DiskError, UserError
from gif_jax.core.storage import checksums, locks
from gif_jax.core.storage.files import set_aside
from gif_jax.models.gif import INPUT

_LOG = logging.getLogger(__name__)

OTHER = 'holds another network than this version makes: use the version of gif_jax that it was trained with.'
LATER = ('_CHECKPOINT_METADATA', 'commit_success.txt')  # what orbax writes after the checksums; nothing of it is used
_AGAIN = 'copy it again from where it is whole'


class CheckpointError(UserError):
  """A checkpoint that is damaged or does not fit this run; the message names the difference and the cure."""


def steps(folder: Path) -> list[int]:
  """The steps of the checkpoints in a folder, the newest last; whether they are intact is not looked at."""
  return sorted(int(path.name) for path in folder.glob('*') if path.name.isdecimal() and path.is_dir())


def fault(path: Path, wanted: Callable[[str], bool] | None = None) -> str:
  """What is wrong with a checkpoint, the same in all processes, each of which looks at a share of its files; or ''.

  wanted: which files are looked at; None: all.
  """
  if wanted is None and processes.first() and not (path / checksums.SUMS).exists():
    _LOG.warning('%s has no %s, as those of earlier versions: it is read unchecked', path, checksums.SUMS)
  problem = checksums.fault(path, LATER, jax.process_index(), jax.process_count(), wanted)
  return next(filter(None, processes.all_say(problem)), '')


class Saved(NamedTuple):
  """A checkpoint of a run, which may be another run than this one."""

  step: int
  origin: dict  # what it was trained with, see `models.checkpoint.manager.Checkpoints`
  read: Callable  # (a part of the state's tree, as jax.ShapeDtypeStruct) -> that part as NumPy arrays


def read_saved(workdir: Path, step: int | None = None) -> Saved:
  """Finds the newest checkpoint of a run that is intact, or that of `step`, by its working directory alone.

  One that is damaged is set aside, with a warning, unless somebody is training there just now. To be called by all
  processes. Raises CheckpointError, `read` too, where there is none that is intact or it cannot be read.
  """
  ignore_closed_loops()
  folder = workdir / 'checkpoints'
  saved_steps = steps(folder)
  if not saved_steps:
    raise CheckpointError(f'{folder} holds no checkpoint: name the --workdir of a run that has saved one.')
  if step is not None and step not in saved_steps:
    raise CheckpointError(f'{folder} holds no checkpoint of step {step}; there are {", ".join(map(str, saved_steps))}.')
  for number in [step] if step is not None else saved_steps[::-1]:
    path, saved = folder / str(number), None
    if not (problem := fault(path)):
      try:
        saved = _open(path)
      except CheckpointError as error:
        problem = str(error)
    if problem:
      sweep()
    problems = processes.all_say(problem)
    if saved and not any(problems):
      return saved
    problem = next(filter(None, problems))
    if step is not None:
      raise CheckpointError(f'{path} is damaged ({problem}): {_AGAIN}, or name another --step.')
    _put_away(workdir, path, problem)
  raise CheckpointError(f'{folder}: none of {len(saved_steps)} checkpoints is whole: {_AGAIN}.')


def _put_away(workdir, path, problem):
  _LOG.warning('%s is damaged (%s): an earlier checkpoint is used', path, problem)
  try:
    if processes.first():
      with locks.locked(locks.inside(workdir), str(workdir)):
        set_aside(path)
  except (locks.InUseError, DiskError):  # of a run that goes on, or of somebody else: it is theirs
    pass
  processes.wait()


def _open(path):
  def restore(name, arguments):
    try:
      with ocp.Checkpointer(ocp.CompositeCheckpointHandler(), multiprocessing_options=_alone()) as reader:
        return reader.restore(path.absolute(), args=ocp.args.Composite(**{name: arguments}))[name]
    except Exception as error:  # orbax and tensorstore raise almost anything for damaged files
      raise CheckpointError(f'{path} cannot be read ({str(error)[:200]}): {_AGAIN}.') from error

  def read(like):
    on_host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), like)
    state = restore('state', ocp.args.PyTreeRestore(item=like, restore_args=on_host, partial_restore=True))
    if jax.tree.map(np.shape, state) != jax.tree.map(lambda leaf: leaf.shape, like):
      raise CheckpointError(f'{path} {OTHER}')
    return state

  origin = restore('origin', ocp.args.JsonRestore())
  if not isinstance(origin, dict):
    raise CheckpointError(f'{path} does not say what it was trained with: {_AGAIN}.')
  return Saved(int(path.name), with_input(origin), read)


def _alone():
  """Options of orbax to read without the other processes, who may have nothing to read."""
  own = jax.process_index()
  return ocp.options.MultiprocessingOptions(
    primary_host=own, active_processes={own}, barrier_sync_key_prefix=f'reader{own}'
  )


def sweep() -> None:
  """Clears away what orbax leaves when it fails in the middle: tasks that would complain later of a closed loop."""
  hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
  try:
    gc.collect()
  finally:
    sys.unraisablehook = hook


@functools.cache
def ignore_closed_loops() -> None:
  """Leaves out what tensorstore's threads say of a loop of orbax that failed and is closed, at any time after."""
  before = sys.unraisablehook

  def tell(what):
    if not (isinstance(what.exc_value, RuntimeError) and 'Event loop is closed' in str(what.exc_value)):
      before(what)

  sys.unraisablehook = tell


NOTED = 'noted'  # what a checkpoint was trained with that none must have in common with it


def with_input(origin: dict) -> dict:
  """What a checkpoint was trained with, and what older ones do not say because there was one choice alone."""
  return {'input': INPUT, 'config.softmax.enabled': False, 'config.train.ema above 0': False} | origin
