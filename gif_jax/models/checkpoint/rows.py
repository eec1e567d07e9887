"""Rows of identities that hosts keep, in a checkpoint: whole shares of processes, and what moved since.

FOLDER/NAME.START.npy has the rows of a process from START on; FOLDER/NAME.START.STEP.rows.npy and .labels.npy those
that moved between the checkpoint before and STEP, and whose they are. What the checkpoint before holds is linked, and
not written again until it has grown by half of its size. So two checkpoints may share files, and their damage.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from jax.sharding import Sharding

from gif_jax.core.distributed import processes
from gif_jax.core.distributed.host_array import HostArray
from gif_jax.core.storage.arrays import load_array, save_array

FOLDER = 'rows'  # in a checkpoint
NAMES = 'vectors', 'codes'
_BLOCK = 1 << 26  # bytes read at a time
_MOST = 0.5  # rows that moved, as a share of all, before all are written again


class _File(NamedTuple):
  """A file of rows, by what its name says; step 0 of a share as a unit."""

  name: str
  start: int
  step: int
  path: Path

  @property
  def labels(self) -> Path:
    """Whose the rows are that moved."""
    return self.path.with_name(self.path.name.replace('.rows.', '.labels.'))


def _files(folder: Path, name: str) -> list[_File]:
  """The files of an array, in the order in which they are read."""
  found = []
  for path in folder.glob(f'{name}.*.npy'):
    numbers = [int(part) for part in path.name.split('.') if part.isdecimal()]
    if '.labels.' not in path.name:
      found.append(_File(name, numbers[0], numbers[1] if len(numbers) > 1 else 0, path))
  return sorted(found, key=lambda file: (file.step, file.start))


def read_into(folder: Path, name: str, rows: np.ndarray, start: int) -> None:
  """Fills `rows` [n, w] with those from `start` on, as they are in `folder`."""
  for file in _files(folder, name):
    saved = load_array(file.path, rows.dtype, (None, rows.shape[1]), check=False)
    if not file.step:
      first, last = max(start, file.start), min(start + len(rows), file.start + len(saved))
      if first < last:
        rows[first - start : last - start] = saved[first - file.start : last - file.start]
      continue
    place = load_array(file.labels, np.int64, (len(saved),), check=False) - start
    for part in _blocks(len(saved), saved.itemsize * saved.shape[1]):
      here = (place[part] >= 0) & (place[part] < len(rows))
      rows[place[part][here]] = saved[part][here]


def _blocks(n, row_bytes):
  size = max(1, _BLOCK // row_bytes)
  return [slice(first, first + size) for first in range(0, n, size)]


def _on_devices(folder: Path, name: str, like: jax.ShapeDtypeStruct) -> jax.Array:
  """The rows in `folder` as an array over devices, its padding zeros. A device's share alone is read for it."""
  assert isinstance(like.sharding, Sharding)

  def share(index):
    start, stop, _ = index[0].indices(like.shape[0])
    rows = np.zeros((stop - start, like.shape[1]), like.dtype)
    read_into(folder, name, rows, start)
    return rows

  return jax.make_array_from_callback(like.shape, like.sharding, share)


def _read_saved_by_devices(state: Path, name: str, rows: HostArray) -> None:
  """Fills this process's rows from an array that a run with rows on its devices has saved; state: orbax's folder."""
  metadata = json.loads((state / '_METADATA').read_text())
  base = {'driver': 'ocdbt', 'base': f'file://{state.absolute()}/', 'path': f'joint.{name}/'}
  saved = tensorstore.open({'driver': 'zarr3' if metadata['use_zarr3'] else 'zarr', 'kvstore': base}).result()
  for part in _blocks(len(rows.own), max(1, rows.own.itemsize * rows.own.shape[1])):
    block = rows.own[part]
    first = rows.start + part.start
    block[:] = saved[first : first + len(block)].read().result()


def read(checkpoint: Path, state: Path, joint: Any) -> Any:
  """The rows in a checkpoint where `joint`, of HostArrays or jax.ShapeDtypeStructs, has them; state: orbax's folder."""
  by_hosts = (checkpoint / FOLDER).exists()
  placed: dict[str, Any] = {}
  for name in NAMES:
    like = getattr(joint, name)
    if not isinstance(like, HostArray):
      placed[name] = _on_devices(checkpoint / FOLDER, name, like)
      continue
    if by_hosts:
      read_into(checkpoint / FOLDER, name, like.own, like.start)
      like.settle()
    else:
      _read_saved_by_devices(state, name, like)
    placed[name] = like
  return joint.replace(**placed)


class Plan(NamedTuple):
  """How the rows of a checkpoint are saved; the same in all processes.

  before: the rows of the checkpoint before; linked: those of `arrays` of which only what moved is written.
  """

  arrays: Mapping[str, HostArray]
  step: int
  before: Path
  linked: frozenset[str]


def plan(joint: Any, step: int, before: Path | None) -> Plan:
  """To be called by all processes. before: a checkpoint from which rows differ by what they note as touched."""
  arrays: dict[str, HostArray] = {name: getattr(joint, name) for name in NAMES}
  linkable: list[str] = []
  if before is not None:
    said = processes.from_first(lambda: json.dumps([n for n, a in arrays.items() if _few_moved(before / FOLDER, n, a)]))
    linkable = [name for name in json.loads(said) if not arrays[name].refilled]  # which all processes know alike
  return Plan(arrays, step, (before or Path()) / FOLDER, frozenset(linkable))


def _few_moved(folder, name, array):
  files = _files(folder, name)
  moved = sum(len(load_array(file.labels, check=False)) for file in files if file.step)
  return bool(files) and moved < _MOST * array.shape[0]


class Handler(ocp.CheckpointHandler):
  """Writes rows into a checkpoint in the making, for orbax. They are read without it."""

  def save(self, directory: Path, args: 'SaveRows') -> None:
    """Before the next step, as that changes them."""
    given, directory = args.plan, Path(directory)
    for name, array in given.arrays.items():
      if name in given.linked:
        if processes.first():
          for path in given.before.glob(f'{name}.*'):
            _link(path, directory / path.name)
        place = np.flatnonzero(array.touched)
        if len(place):
          moved = directory / f'{name}.{array.start}.{given.step}.rows.npy'
          save_array(moved, array.own[place])
          save_array(moved.with_name(moved.name.replace('.rows.', '.labels.')), place + array.start)
      elif len(array.own):
        with array.in_order() as rows:
          save_array(directory / f'{name}.{array.start}.npy', rows)
      array.settle()

  def restore(self, directory: Path, args: object = None) -> None:
    """Nothing: `read` knows where rows belong."""


@ocp.args.register_with_handler(Handler, for_save=True, for_restore=True)
class SaveRows(ocp.args.CheckpointArgs):
  """For a composite checkpoint, as its item `FOLDER`."""

  def __init__(self, plan: Plan) -> None:
    self.plan = plan


def _link(source: Path, target: Path) -> None:
  """The same file under another name; a copy where the file system knows no such thing."""
  try:
    os.link(source, target)
  except FileNotFoundError:
    raise
  except OSError:
    shutil.copyfile(source, target)
