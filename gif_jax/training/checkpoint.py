"""Checkpoints: the training state and what it was trained with. No world size, no iterator state."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from gif_jax.models.gif import INPUT

_BEST = 'verification_accuracy'
OTHER = 'holds another network than this version makes: use the version of gif_jax that it was trained with.'


class CheckpointError(ValueError):
  """A checkpoint that does not fit this run; the message names the difference and the cure."""


class Checkpoints:
  """DIR/checkpoints/<step>/: the newest `keep`, and the best by validation accuracy.

  `origin` ({name: JSON value}) is stored with every checkpoint, beside what the network takes (`gif.INPUT`), and must
  be the same when one is restored: the network's settings and the identity-code table's fingerprint. Of the table it
  may also be one in `extends`, fingerprints of tables with the same rows for fewer people: heads do not depend on how
  many there are. The rows of `joint` do.
  """

  def __init__(self, folder: Path, keep: int, origin: dict, extends: Collection[str] = ()):
    # orbax's max_to_keep with a best_fn would delete the newest checkpoint whenever it is not the best one.
    policy = checkpoint_managers.AnyPreservationPolicy([
      checkpoint_managers.LatestN(keep),
      checkpoint_managers.BestN(get_metric_fn=lambda m: m[_BEST], n=1, keep_checkpoints_without_metrics=False),
    ])  # fmt: skip
    options = ocp.CheckpointManagerOptions(
      cleanup_tmp_directories=True, best_fn=lambda m: m[_BEST], best_mode='max', preservation_policy=policy
    )
    self.folder, self.origin, self.extends = folder, _with_input(origin), extends
    self.manager = ocp.CheckpointManager(folder.absolute(), options=options)

  def restore(self, like):
    """The newest state, on the shardings of `like` (a tree of jax.ShapeDtypeStruct); None if there is none yet.

    Raises CheckpointError if it was trained with another network or another table, or is one of `joint` and its table
    was extended since.
    """
    step = self.manager.latest_step()
    if step is None:
      return None
    self._check_origin(step, like.joint is not None)
    # Another number of devices pads rows of identities to another length; padding is never read, cut off or added here.
    arguments = ocp.args.StandardRestore(like, strict=not (like.joint or like.softmax))
    return self.manager.restore(step, args=ocp.args.Composite(state=arguments))['state']

  def _check_origin(self, step, joint):
    stored = _with_input(self.manager.restore(step, args=ocp.args.Composite(origin=ocp.args.JsonRestore()))['origin'])
    for name in sorted(self.origin.keys() | stored.keys()):
      here, there = self.origin.get(name), stored.get(name)
      if name == 'table' and there in self.extends:
        self._check_extended(step, joint)
      elif here != there:
        raise CheckpointError(
          f'{self.folder / str(step)} was trained with {name}={there!r}, this run has {name}={here!r}. '
          f'Use the same {name}, or start afresh with another --workdir.'
        )

  def _check_extended(self, step, joint):
    if joint:
      raise CheckpointError(
        f'{self.folder / str(step)} was trained jointly with the table that this one extends, and holds code vectors '
        f"of that table's people alone. Open it with that table; to train with the newcomers, extend "
        f'{self.folder.parent / "trained_table"} and start a new run from it: config.tokenizer.table, and another '
        '--workdir.'
      )

  def save(self, step: int, state, figures: dict | None = None) -> None:
    """Starts writing the state of `step` in the background; figures[verification_accuracy] ranks it."""
    if step in self.manager.all_steps():
      return
    arguments = ocp.args.Composite(state=ocp.args.StandardSave(state), origin=ocp.args.JsonSave(self.origin))
    metrics = {_BEST: figures[_BEST]} if figures else None
    self.manager.save(step, args=arguments, metrics=metrics)

  def close(self) -> None:
    """Waits for what is still being written, all processes together."""
    self.manager.wait_until_finished()
    self.manager.close()

  def __enter__(self):
    return self

  def __exit__(self, kind, *_):
    if kind is None or jax.process_count() == 1:  # a process that failed does not find the others here
      self.close()


def abstract(state, shardings):
  """`like` for restore: shapes, dtypes and shardings of a state."""
  return jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), state, shardings)


class Saved(NamedTuple):
  """A checkpoint of a run, which may be another run than this one."""

  step: int
  origin: dict  # what it was trained with, see Checkpoints
  read: Callable  # (a part of the state's tree, as jax.ShapeDtypeStruct) -> that part as NumPy arrays


def read_saved(workdir: Path, step: int | None = None) -> Saved:
  """Finds the newest checkpoint of a run, or that of `step`, by its working directory alone. Nothing is written there.

  Raises CheckpointError, `read` too, where there is none or it cannot be read.
  """
  folder = workdir / 'checkpoints'
  steps = [int(path.name) for path in folder.glob('*') if path.name.isdigit()]
  if not steps:
    raise CheckpointError(f'{folder} holds no checkpoint: name the --workdir of a run that has saved one.')
  if step is not None and step not in steps:
    there = ', '.join(map(str, sorted(steps)))
    raise CheckpointError(f'{folder} holds no checkpoint of step {step}; there are {there}.')
  path = folder / str(max(steps) if step is None else step)

  def restore(name, arguments):
    try:
      with ocp.Checkpointer(ocp.CompositeCheckpointHandler(), multiprocessing_options=_alone()) as reader:
        return reader.restore(path.absolute(), args=ocp.args.Composite(**{name: arguments}))[name]
    except (OSError, ValueError, KeyError) as error:
      raise CheckpointError(f'{path} cannot be read ({str(error)[:200]}): copy the run again.') from error

  def read(like):
    on_host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), like)
    found = restore('state', ocp.args.PyTreeRestore(item=like, restore_args=on_host, partial_restore=True))
    if jax.tree.map(np.shape, found) != jax.tree.map(lambda leaf: leaf.shape, like):
      raise CheckpointError(f'{path} {OTHER}')
    return found

  return Saved(int(path.name), _with_input(restore('origin', ocp.args.JsonRestore())), read)


def _alone():
  """Options of orbax to read without the other processes, who may have nothing to read."""
  own = jax.process_index()
  return ocp.options.MultiprocessingOptions(
    primary_host=own, active_processes={own}, barrier_sync_key_prefix=f'reader{own}'
  )


def _with_input(origin):
  """With what older checkpoints do not say, because there was one choice alone."""
  return {'input': INPUT, 'config.softmax.enabled': False, 'config.train.ema above 0': False} | origin
