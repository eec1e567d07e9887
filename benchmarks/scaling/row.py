"""One row of the scaling benchmark: a step of one form for one number of identities, in a process of its own.

python -m benchmarks.scaling.row ROW        # ROW: the row in JSON; questions on stdin, see `benchmarks.asking`
"""

import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from benchmarks.asking import Turns, answer
from benchmarks.device import peak_bytes, processor
from gif_jax import config
from gif_jax.codes import size
from gif_jax.codes.identities import Identities
from gif_jax.codes.table import CodeTable
from gif_jax.core import counter_rng
from gif_jax.core.distributed.host_array import HostArray
from gif_jax.core.distributed.mesh import batch_sharding, make_mesh
from gif_jax.core.jax_keys import named_key
from gif_jax.models import gif
from gif_jax.models.checkpoint.manager import abstract
from gif_jax.training import optim, sharding
from gif_jax.training.cost.compilation import device_bytes
from gif_jax.training.program import make_objective, make_program
from gif_jax.training.row_feed import RowFeed, new_rows
from gif_jax.training.state import JointTable, TrainState
from gif_jax.training.train_step import Objective

STEPS = 1000  # length of the run whose schedule a step is taken from
BATCHES = 4  # taken in turn: rows of the same identities again and again would lie in a cache
BLOCK = 65536
ROOM = 0.8  # of the free disk that a file of rows may take
SIZES = {'small': 56}  # pixels a side, by backbone; the others have 112
REAL = 1_000_000  # up to so many identities there is a real CodeTable on disk
JOINT = {'joint': 'host', 'joint_device': 'device'}  # form -> where its rows are


def codes_of(labels: np.ndarray, m: int) -> np.ndarray:
  """Codes uint8 [n, l] of identities int64 [n] of m: a bijection of 0..v^l - 1, written to base v."""
  l, v = size.choose_size(m)
  number = counter_rng.permuted(labels, v**l, 0, 0)
  return (number[:, None] // v ** np.arange(l) % v).astype(np.uint8)


def vectors_of(labels: np.ndarray, d: int) -> np.ndarray:
  """Code vectors float32 [n, d] of identities int64 [n], a function of the label alone; unit rows."""
  vectors = counter_rng.uniform(0, labels[:, None], np.arange(d)) - 0.5
  return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Simulated(CodeTable):
  """What a CodeTable of m identities would answer, computed for the labels that are asked for."""

  def __init__(self, m: int, d: int):
    l, v = size.choose_size(m)
    self.meta = {'m': m, 'l': l, 'v': v, 'd': d, 'label_space': '', 'fingerprint': ''}

  def rows(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return codes_of(labels, self.m).astype(np.int32), vectors_of(labels, self.d)


def write_table(m: int, d: int, path: Path) -> None:
  """The real CodeTable of m identities at `path`."""
  codes, vectors = np.empty((m, size.choose_size(m)[0]), np.uint8), np.empty((m, d), np.float16)
  for start in range(0, m, BLOCK):
    labels = np.arange(start, min(start + BLOCK, m))
    codes[labels], vectors[labels] = codes_of(labels, m), vectors_of(labels, d)
  CodeTable.write(path, codes, vectors, v=size.choose_size(m)[1], encoder='', seed=0, label_space='', settings={})


def open_table(row: dict) -> CodeTable | Simulated | Identities:
  """Of whom there are codes, real or simulated; or, for a softmax, how many people there are."""
  if row['form'] in ('softmax', 'pfc'):
    return Identities(row['m'], '')
  return Simulated(row['m'], row['d']) if row['m'] > REAL else CodeTable.open(Path(row['tables']) / str(row['m']))


def make_config(row: dict) -> ConfigDict:
  """The config that the row would be trained with."""
  c = config.default()
  c.data.size = SIZES.get(row['backbone'], 112)
  c.model.backbone, c.model.d, c.model.dtype = row['backbone'], row['d'], row['dtype']
  c.train.batch_size = row['batch']
  c.optim.warmup = 0.0  # the first step has the full rate, as the check against PyTorch wants it
  c.joint.enabled = row['form'] in JOINT
  c.joint.rows = JOINT.get(row['form'], 'host')
  c.joint.negatives = row['negatives']
  c.joint.start = 'random'
  c.softmax.enabled = row['form'] in ('softmax', 'pfc')
  c.softmax.sample_rate = row['rate'] if row['form'] == 'pfc' else 1.0
  return c


def classifier(c: ConfigDict, table, mesh: Mesh) -> tuple[Callable, Callable, TrainState, Objective]:
  """(init, step, like, objective) of all after the backbone: the parts that `train_step.make_train_step` joins.

  step(state, batch) -> (state, metrics, moved), with the gradient float32 [B, d] of f(x) among the metrics; a batch has
  features float32 [B, d], f(x), and what the objective reads.
  """
  model, tx = gif.build(c.model, table.l, table.v), optim.optimiser(c.optim, STEPS)
  objective = make_objective(c, table, STEPS, mesh)

  def fresh():
    params = model.init(named_key(0, 'init'), jnp.zeros((2, c.model.d)), method='read').get('params', {})
    return TrainState(jnp.zeros((), jnp.int32), params, {}, tx.init(params))

  def step(state, batch):
    rows, batch, context = objective.gather(state, batch)

    def loss_fn(params, rows, features):
      cosines = model.apply({'params': params}, features, method='read')
      loss, metrics = objective.loss(rows, features, cosines, batch, context)
      return loss, metrics | {'loss': loss}

    gradients, metrics = jax.grad(loss_fn, argnums=(0, 1, 2), has_aux=True)(state.params, rows, batch['features'])
    gradient, of_rows, metrics['gradient'] = gradients
    updates, opt_state = tx.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    kept, moved = objective.update(state, rows, of_rows, context, metrics)
    return state.replace(step=state.step + 1, params=params, opt_state=opt_state, **kept), metrics, moved

  shape = jax.eval_shape(fresh).replace(**objective.abstract())
  placed = sharding.state_sharding(mesh, shape)
  init = jax.jit(fresh, out_shardings=sharding.state_sharding(mesh, jax.eval_shape(fresh)))
  given = {'features': batch_sharding(mesh)}
  given |= jax.tree.map(lambda x: x.sharding, objective.inputs(c.train.batch_size))
  replicated = NamedSharding(mesh, PartitionSpec())
  jitted = jax.jit(step, in_shardings=(placed, given), out_shardings=(placed, None, replicated), donate_argnums=0)
  return lambda: init().replace(**objective.init()), jitted, abstract(shape, placed), objective


def full_step(c: ConfigDict, table, mesh: Mesh) -> tuple[Callable, Callable, TrainState, Objective]:
  """(init, step, like, objective) of the train step as it is trained with."""
  program = make_program(c, table, STEPS, mesh)
  return program.init, program.train_step, program.like, program.objective


def rows_in_file(table, folder: Path) -> tuple[HostArray, HostArray, bool]:
  """(vectors, codes, whether they are real) for a RowFeed: files that take their space on the disk, filled.

  Where there is no room, sparse ones: their rows are zero until they are written to.
  """
  needed = table.m * (4 * table.d + table.l)
  folder.mkdir()
  real = needed < ROOM * shutil.disk_usage(folder).free
  if real:
    vectors, codes = new_rows(table, folder)
    block = vectors_of(np.arange(BLOCK), table.d)  # as good as others: what they are costs nothing
    for start in range(0, table.m, BLOCK):
      vectors.fill(block[: table.m - start], start)
    return vectors, codes, real
  shapes = (('vectors', table.d, np.float32), ('codes', table.l, np.uint8))
  vectors, codes = (
    HostArray(np.memmap(folder / name, dtype, 'w+', shape=(table.m, width)), table.m, folder / name)
    for name, width, dtype in shapes
  )
  return vectors, codes, real


def drawn(like: JointTable, v: int) -> JointTable:
  """The rows of a JointTable computed where they lie, for tables too large to be read from anywhere.

  Of a formula and not of random bits, which would take three times the memory of the rows while they are drawn.
  """

  def draw():
    (m, d), l = like.vectors.shape, like.codes.shape[1]
    label, half = jnp.arange(m)[:, None], d // 2
    turned = label * jnp.tile(jax.random.uniform(jax.random.key(0), (half,), minval=1.0, maxval=2.0), 2)[None]
    vectors = half**-0.5 * jnp.where(jnp.arange(d)[None] < half, jnp.cos(turned), jnp.sin(turned))  # unit as they are
    return like.replace(vectors=vectors, codes=(label // v ** jnp.arange(l)[None] % v).astype(jnp.uint8))

  return jax.jit(draw, out_shardings=jax.tree.map(lambda x: x.sharding, like))()


class Subject:
  """A compiled step, not yet in memory, and then with its state and batches."""

  def __init__(self, row: dict):
    self.row, self.table, self.mesh = row, open_table(row), make_mesh()
    self.make = {'classifier': classifier, 'whole': full_step}[row['scope']]
    self.init, step, self.like, objective = self.make(make_config(row), self.table, self.mesh)
    self.feed = self._feed(objective) if row['form'] == 'joint' else None
    batch = self._batch(sharding.put_batch(self._images(), self.mesh), 0)
    self.step, self.batch_bytes = step.lower(self.like, batch).compile(), device_bytes(batch)
    self.turns = Turns(self._run, row['turn'])

  def _feed(self, objective):
    """Brings the rows of other people in every step, as in training."""
    folder = Path(tempfile.mkdtemp(dir=self.row['tables'])) / 'rows'
    vectors, codes, self.real = rows_in_file(self.table, folder)
    return RowFeed(self.init, objective, self._labels, self.row['batch'], vectors, codes)

  def _batch(self, images, i):
    if self.feed:
      return images | {'rows': self.feed.next_rows()}
    return images | sharding.put_batch(self._looked_up(i), self.mesh)

  def memory(self) -> dict:
    """Bytes on one device, of the compiled step."""
    analysis = self.step.memory_analysis()
    total = analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
    total += analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return {
      'state': device_bytes(self.like),
      'batch': self.batch_bytes,
      'temporaries': analysis.temp_size_in_bytes,
      'total': total,
      'l': self.table.l,
      'v': self.table.v,
    } | ({'rows_in_file': self.real} if self.feed else {})

  def begin(self) -> dict:
    """Makes the state and runs the first steps."""
    if self.row['form'] == 'joint_device' and self.row['m'] > REAL:
      plain = self.make(make_config(self.row | {'form': 'fixed'}), self.table, self.mesh)[0]()
      self.state = plain.replace(joint=drawn(self.like.joint, self.table.v))
    else:
      self.state = self.init()
    jax.block_until_ready(self.state)
    before, self.images = peak_bytes(), sharding.put_batch(self._images(), self.mesh)
    self.batches, self.next = [] if self.feed else [self._batch(self.images, i) for i in range(BATCHES)], 0
    self.turns.warm()
    return {'peak_before': before}

  def end(self) -> dict:
    """The loss, and the largest number of bytes that were in use on the device, where it says."""
    if self.feed:
      self.feed.close()
    return {'peak': peak_bytes(), 'loss': float(self.metrics['loss'])}

  def check(self) -> dict:
    """One step of a softmax from row['inputs'] (features, centres, label; .npz) to row['answers'] (.npz)."""
    with np.load(self.row['inputs']) as file:
      features, centres, label = file['features'], file['centres'], file['label']
    state = self.init()
    centres = jax.device_put(centres, state.softmax.centres.sharding)
    batch = sharding.put_batch({'features': features, 'label': label}, self.mesh)
    state, metrics, _ = self.step(state.replace(softmax=state.softmax.replace(centres=centres)), batch)
    np.savez(self.row['answers'], loss=metrics['loss'], gradient=metrics['gradient'], centres=state.softmax.on_host())
    return {}

  def _run(self, count):
    for _ in range(count):
      batch = self._batch(self.images, 0) if self.feed else self.batches[self.next]
      self.state, self.metrics, moved = self.step(self.state, batch)
      if self.feed:
        self.feed.take(moved)
      self.next = (self.next + 1) % BATCHES
    jax.block_until_ready((self.state, self.metrics))

  def _images(self):
    b, s, rng = self.row['batch'], make_config(self.row).data.size, np.random.default_rng(0)
    if self.row['scope'] == 'classifier':
      return {'features': rng.standard_normal((b, self.row['d']), np.float32)}
    return {'image': rng.integers(0, 256, (b, s, s, 3), np.uint8)}

  def _labels(self, i):
    return np.random.default_rng(i).integers(0, self.table.m, self.row['batch']).astype(np.int32)

  def _looked_up(self, i):
    label = self._labels(i)
    if self.row['form'] != 'fixed':
      return {'label': label}
    code, code_vector = self.table.rows(label)
    return {'code': code, 'code_vector': code_vector}


def prepare(row: dict) -> dict:
  """Writes the tables that are read from disk; says what is measured on, and how a baseline is trained."""
  for m in row['m']:
    if not (Path(row['tables']) / str(m)).exists():
      write_table(m, row['d'], Path(row['tables']) / str(m))
  device, c = jax.local_devices()[0], config.default()
  packages = ('jax', 'jaxlib', 'flax', 'optax', 'numpy')
  return {
    'platform': device.platform,
    'device': processor() if device.platform == 'cpu' else device.device_kind,
    'devices': len(jax.devices()),
    'cores': len(os.sched_getaffinity(0)),
    'python': platform.python_version(),
    'memory': (device.memory_stats() or {}).get('bytes_limit'),
    'versions': {name: version(name) for name in packages},
    'recipe': {key: c.optim[key] for key in ('lr', 'momentum', 'weight_decay')}
    | {key: c.softmax[key] for key in ('margin', 'scale')},
  }


def main() -> None:
  row = json.loads(sys.argv[1])
  if not row['form']:
    answer({'prepare': lambda: prepare(row)})
    return
  subject = Subject(row)
  answer(
    {
      'memory': subject.memory,
      'begin': subject.begin,
      'turn': subject.turns.take,
      'end': subject.end,
      'check': subject.check,
    }
  )


if __name__ == '__main__':
  main()
