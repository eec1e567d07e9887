"""Checkpoints: the training state and what it was trained with. No world size, no iterator state."""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from gif_jax.core import errors
from gif_jax.core.distributed import processes
from gif_jax.core.distributed.host_array import HostArray
from gif_jax.core.storage import checksums
from gif_jax.core.storage.files import set_aside
from gif_jax.models.checkpoint import rows
from gif_jax.models.checkpoint.reader import (
  LATER,
  NOTED,
  CheckpointError,
  fault,
  ignore_closed_loops,
  steps,
  sweep,
  with_input,
)

_LOG = logging.getLogger(__name__)

_BEST = 'verification_accuracy'
_STATE = 'state'


class _Summed(ocp.path.atomicity.AtomicRenameTemporaryPath):
  """A checkpoint in the making, which gets checksums of all its files before it has its name."""

  async def finalize(self) -> None:
    final = self.get_final()
    if final.name.isdecimal():  # orbax makes the parts of a checkpoint in the same way
      others = [path for path in Path(final).parent.iterdir() if path.name.isdecimal()]
      await asyncio.to_thread(checksums.write_sums, Path(self.get()), LATER, others)
    await super().finalize()


class Checkpoints:
  """DIR/checkpoints/<step>/: the newest `keep`, and the best by validation accuracy.

  `origin` ({name: JSON value}) is stored with every checkpoint, beside what the network takes (`gif.INPUT`), and must
  be the same when one is restored: the network's settings and the identity-code table's fingerprint. Of the table it
  may also be one in `extends`, fingerprints of tables with the same rows for fewer people: heads do not depend on how
  many there are. The rows of `joint` do.
  """

  def __init__(self, folder: Path, keep: int, origin: dict, extends: Collection[str] = ()) -> None:
    self.folder, self.keep, self.origin, self.extends = folder, keep, with_input(origin), extends
    self.newest: Path | None = None  # of those that have the rows of hosts as they were when it was written or read

  @cached_property
  def manager(self) -> ocp.CheckpointManager:
    """Opened when first used: it reads what is there, and has no words for what is damaged."""
    ignore_closed_loops()
    # orbax's max_to_keep with a best_fn would delete the newest checkpoint whenever it is not the best one.
    policy = checkpoint_managers.AnyPreservationPolicy(
      [
        checkpoint_managers.LatestN(self.keep),
        checkpoint_managers.BestN(get_metric_fn=lambda m: m[_BEST], n=1, keep_checkpoints_without_metrics=False),
      ]
    )
    options = ocp.CheckpointManagerOptions(
      cleanup_tmp_directories=True,
      best_fn=lambda m: m[_BEST],
      best_mode='max',
      preservation_policy=policy,
      temporary_path_class=_Summed,
    )
    with _saving(self.folder):
      return ocp.CheckpointManager(self.folder.absolute(), options=options)

  def restore(self, like: Any) -> Any:
    """The newest state that is intact, on the shardings of `like` (a tree of jax.ShapeDtypeStruct); None without any.

    A HostArray in `like` is filled and returned.

    What is damaged is set aside, under a name that says so, and an earlier checkpoint is used, with a warning.
    Raises CheckpointError if there are checkpoints and none of them is intact, if the newest was trained with another
    network or another table, or is one of `joint` and its table was extended since.
    """
    saved = steps(self.folder)
    for step in saved[:-1]:  # they are looked at only because metrics decide which of them stays
      self._check(step, lambda name: not name.startswith(_STATE))
    for step in saved[::-1]:
      if (self.folder / str(step)).exists() and self._check(step):
        state = self._restored(step, like)
        if state is not None:
          return state
    if saved:
      raise CheckpointError(
        f'{self.folder}: none of {len(saved)} checkpoints is whole; copy one from where it is, or remove the folder to '
        'start afresh.'
      )
    return None

  def _check(self, step, wanted=None):
    """Whether a checkpoint, or those of its files that are wanted, is as it was written; else it is set aside."""
    problem = fault(self.folder / str(step), wanted)
    if problem:
      self._put_away(step, problem)
    return not problem

  def _put_away(self, step, problem):
    if processes.first():
      aside = set_aside(self.folder / str(step))
      _LOG.warning(
        '%s is damaged (%s): it is set aside as %s, an earlier checkpoint is used',
        self.folder / str(step),
        problem,
        aside.name,
      )
    self.__dict__.pop('manager', None)  # what it knew is gone
    processes.wait()

  def _restored(self, step, like):
    """The state of a checkpoint; None, and it is set aside, where it has no checksums and cannot be read."""
    try:
      self._check_origin(step, like.joint is not None)
      return self._read(step, like)
    except errors.UserError:
      raise
    except Exception as error:  # orbax and tensorstore raise almost anything for damaged files
      problem = f'cannot be read: {errors.one_line(str(error))[:200]}'
      if jax.process_count() > 1:  # the others may be waiting for this process in the middle of it
        raise CheckpointError(
          f'{self.folder / str(step)} is damaged ({problem}): rename it, and an earlier one is used.'
        ) from error
    sweep()
    self._put_away(step, problem)
    return None

  def _read(self, step, like):
    path, joint = self.folder / str(step), like.joint
    saved_by_hosts = (path / rows.FOLDER).exists()
    apart = joint is not None and (saved_by_hosts or _on_hosts(joint))
    if apart:
      # Orbax insists on all that was saved, and cuts it to the rows asked for.
      first_row = None if saved_by_hosts else jax.tree.map(lambda rows: _first_row(rows, like.step.sharding), joint)
      like = like.replace(joint=first_row)
    # Other numbers of devices pad rows of identities to other lengths; padding is never read, cut off or added here.
    arguments = ocp.args.StandardRestore(like, strict=not (like.joint or like.softmax))
    state = self.manager.restore(step, args=ocp.args.Composite(**{_STATE: arguments}))[_STATE]
    if not apart:
      return state
    if saved_by_hosts and _on_hosts(joint):
      self.newest = path
    return state.replace(joint=rows.read(path, path / _STATE, joint))

  def _check_origin(self, step, joint):
    stored = with_input(self.manager.restore(step, args=ocp.args.Composite(origin=ocp.args.JsonRestore()))['origin'])
    for name in sorted((self.origin.keys() | stored.keys()) - {NOTED}):
      ours, theirs = self.origin.get(name), stored.get(name)
      if name == 'table' and theirs in self.extends:
        self._check_extended(step, joint)
      elif ours != theirs:
        raise CheckpointError(
          f'{self.folder / str(step)} was trained with {name}={theirs!r}, this run has {name}={ours!r}. '
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

  def save(self, step: int, state: Any, metrics: dict | None = None) -> None:
    """Starts writing the state of `step` in the background; metrics[verification_accuracy] ranks it.

    Raises DiskError, also for what could not be written of an earlier step.
    """
    with _saving(self.folder):
      if step in self.manager.all_steps():
        return
      self.manager.wait_until_finished()
      items: dict[str, Any] = {'origin': ocp.args.JsonSave(self.origin)}
      if state.joint and _on_hosts(state.joint):
        items[rows.FOLDER] = rows.SaveRows(rows.plan(state.joint, step, self.newest))
        self.newest, state = self.folder / str(step), state.replace(joint=None)
      items[_STATE] = ocp.args.StandardSave(state)
      self.manager.save(step, args=ocp.args.Composite(**items), metrics={_BEST: metrics[_BEST]} if metrics else None)

  def close(self) -> None:
    """Waits for what is still being written, all processes together. Raises DiskError."""
    with _saving(self.folder):
      self.manager.wait_until_finished()
      self.manager.close()

  def __enter__(self) -> Self:
    return self

  def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
    if kind is None:
      self.close()
    elif jax.process_count() == 1:  # a process that failed does not find the others here
      with contextlib.suppress(Exception):  # what failed first is what is to be said
        self.close()


def _first_row(rows: HostArray, everywhere: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((1, rows.shape[1]), rows.dtype, sharding=everywhere)


def _on_hosts(joint: Any) -> bool:
  return isinstance(joint.vectors, HostArray)


@contextlib.contextmanager
def _saving(folder: Path) -> Iterator[None]:
  """Raises DiskError where orbax or tensorstore fail because the disk does."""
  try:
    yield
  except errors.UserError:
    raise
  except Exception as error:
    if (problem := errors.of_disk(error)) is None:
      raise
    raise errors.disk_error(problem, folder, 'written') from error


def abstract(state: Any, shardings: Any) -> Any:
  """`like` for restore: shapes, dtypes and shardings of a state."""
  return jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), state, shardings)
