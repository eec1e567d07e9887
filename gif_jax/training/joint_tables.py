"""What becomes of the table of codes in `joint` training: new codes while it goes on, tables of its rows at the end."""

import logging
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from gif_jax.codes.product import build_codes
from gif_jax.codes.quality.measure import explained_alone
from gif_jax.codes.table import CodeTable
from gif_jax.core.distributed import processes
from gif_jax.core.distributed.gather import in_blocks, on_disk
from gif_jax.core.distributed.host_array import HostArray
from gif_jax.models.trained import open_backbone
from gif_jax.training.state import JointTable, TrainState

_LOG = logging.getLogger(__name__)


def retokenised(state: TrainState, v: int, settings: ConfigDict, folder: Path) -> TrainState:
  """The state with new codes of its people. v, settings, folder: as of `new_codes`."""
  assert state.joint is not None
  codes = new_codes(state.joint, v, settings, folder)
  return state.replace(joint=state.joint.replace(codes=_put_codes(codes, state.joint.codes)))


def _put_codes(codes: np.ndarray, like: jax.Array | HostArray) -> jax.Array | HostArray:
  """Codes uint8 [m, l] where others of the same people are; on hosts in place of those."""
  if isinstance(like, HostArray):
    like.fill(codes, 0)
    return like
  padded = np.pad(codes, ((0, like.shape[0] - len(codes)), (0, 0)))
  return jax.make_array_from_callback(like.shape, like.sharding, lambda index: padded[index])


def new_codes(joint: JointTable, v: int, settings: ConfigDict, folder: Path) -> np.ndarray:
  """New codes uint8 [m, l], from the vectors as they are now; digits keep their meaning. settings: `config.tokenizer`.

  Process 0 makes them, out of a temporary file in `folder` that holds all vectors (4 m d bytes). In its memory are what
  `build_codes` needs beside them, about 4 m l v bytes; in that of the others the codes, m l bytes.
  """
  m, l = joint.m, joint.codes.shape[1]
  codes = np.concatenate(list(in_blocks(joint.codes, m)))
  with on_disk(folder, joint.vectors, m, np.float32) as vectors:
    if vectors is not None:  # process 0; alone, too, because hosts of unlike processors may round differently
      earlier, codes = codes, build_codes(vectors, l, v, seed=settings.seed, earlier=codes)
      _LOG.info(
        're-tokenised: %s of each digit kept, variance explained by each digit alone %s',
        np.round((codes == earlier).mean(0), 2),
        np.round(explained_alone(codes, vectors), 3),
      )
  processes.wait()
  return np.asarray(multihost_utils.broadcast_one_to_all(codes))


def write_tables(joint: JointTable, table: CodeTable, settings: ConfigDict, workdir: Path) -> CodeTable:
  """WORKDIR/trained_table, which is returned, and next_table: the same people with codes of the vectors as they are.

  settings: `config.tokenizer`.
  """
  encoder = open_backbone(workdir).name
  next_codes = new_codes(joint, table.v, settings, workdir)
  write_table(joint.vectors, next_codes, table, workdir / 'next_table', encoder)
  codes = np.concatenate(list(in_blocks(joint.codes, joint.m)))
  return write_table(joint.vectors, codes, table, workdir / 'trained_table', encoder)


def write_table(
  vectors: jax.Array | HostArray, codes: np.ndarray, table: CodeTable, path: Path, encoder: str
) -> CodeTable:
  """Writes what became of `table` in training to `path`, in place of what an earlier run of this left there.

  encoder: the name of the network trained, `open_backbone(workdir).name`: code vectors lie where its embeddings do, so
  it is what newcomers are encoded with. Process 0 writes, with memory for the codes; vectors come to it a block at a
  time and go through a temporary file.
  """
  meta = {key: table.meta[key] for key in ('seed', 'label_space', 'settings')}
  with on_disk(path.parent, vectors, len(codes), np.float16) as stored:
    if stored is not None:
      CodeTable.write(path, codes, stored, v=table.v, encoder=encoder, replace=True, **meta)
  processes.wait(path / 'meta.json')
  return CodeTable.open(path)
