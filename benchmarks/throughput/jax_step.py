"""The training step of gif_jax as `gif_jax.main` compiles it; started by benchmarks.throughput.

python -m benchmarks.throughput.jax_step FOLDER

FOLDER holds settings.json, and gets weights.npz and batch.npz for PyTorch. Says that it is ready, then answers tasks.
Imports neither grain nor TensorBoard, so that it runs where only jax, flax, optax, orbax and ml_collections are.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from benchmarks.asking import answer, timed
from benchmarks.device import peak_bytes
from benchmarks.throughput.device_time import breakdown
from benchmarks.throughput.variants import VARIANTS
from gif_jax.config import default
from gif_jax.core.distributed.mesh import make_mesh
from gif_jax.models import gif
from gif_jax.models.iresnet import SPECS
from gif_jax.training import sharding
from gif_jax.training.cost.compilation import needed
from gif_jax.training.cost.flops import matrix_peak, training_flops
from gif_jax.training.program import make_program

_TORCH = {'kernel': 'weight', 'scale': 'weight', 'slope': 'weight', 'mean': 'running_mean', 'var': 'running_var'}
_AXES = {4: (3, 2, 0, 1), 2: (1, 0)}  # of a kernel, in the order that PyTorch has them


def torch_weights(variables: dict) -> dict:
  """Our variables {'params': ..., 'batch_stats': ...} with the names and axes of torch_step.Network."""
  weights = {}
  for (_, *modules, name), x in flatten_dict(variables).items():
    kernel = name == 'kernel'
    weights['.'.join([*modules, _TORCH.get(name, name)])] = x.transpose(_AXES[x.ndim]) if kernel else x
  return weights


def settings_for_torch(config: ConfigDict, l: int, v: int) -> dict:
  """What torch_step must know of the network, the losses and the optimiser."""
  return {
    **SPECS[config.model.backbone]._asdict(),
    'size': config.data.size,
    'd': config.model.d,
    'l': l,
    'v': v,
    'projection': config.model.projection,
    'dtype': config.model.dtype,
    'scale': config.loss.scale,
    'margin': config.loss.margin,
    'digits': config.loss.digits,
    'gamma': config.loss.gamma,
    'lr': config.optim.lr,
    'momentum': config.optim.momentum,
    'weight_decay': config.optim.weight_decay,
    'clip': config.optim.clip,
  }


def experiment(s: SimpleNamespace) -> ConfigDict:
  """The config of `fixed` with what the benchmark's settings `s` say; a constant learning rate."""
  config = default()
  config.model.backbone, config.model.dtype, config.data.size = s.backbone, s.dtype, s.size
  config.train.batch_size, config.optim.warmup = s.batch, 0.0
  return config


def random_batch(s: SimpleNamespace, d: int) -> dict[str, np.ndarray]:
  """A batch of noise: what the pictures show does not change the work."""
  rng = np.random.default_rng(0)
  vectors = rng.normal(size=(s.batch, d)).astype(np.float32)
  return {
    'image': rng.integers(0, 256, (s.batch, s.size, s.size, 3), np.uint8),
    'code': rng.integers(0, s.v, (s.batch, s.l), np.int32),
    'code_vector': vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
  }


class Subject:
  """The tasks: `check`, `start`, `train`, `forward`, `trace`."""

  def __init__(self, folder: Path):
    self.folder = folder
    self.s = s = SimpleNamespace(**json.loads((folder / 'settings.json').read_text()))
    self.config, self.device = experiment(s), jax.devices()[0]
    # Of the network as it is, also where a variant has it do more: what counts is the work asked for.
    self.flops = training_flops(gif.build(self.config.model, s.l, s.v), s.size)
    VARIANTS[s.variant].change()
    self.mesh = make_mesh([self.device])
    table = SimpleNamespace(l=s.l, v=s.v, m=s.identities, d=self.config.model.d)
    self.model = gif.build(self.config.model, s.l, s.v)
    self.program = make_program(self.config, table, 10**9, self.mesh)
    self.state = self.program.init()
    batch = random_batch(s, table.d)
    if s.torch:
      weights = {'params': self.state.params, 'batch_stats': self.state.batch_stats}
      np.savez(folder / 'weights.npz', **jax.device_get(torch_weights(weights)))
      np.savez(folder / 'batch.npz', **batch)
      written = vars(s) | settings_for_torch(self.config, s.l, s.v)
      (folder / 'settings.json').write_text(json.dumps(written))
    self.batch = sharding.put_batch(batch, self.mesh)

  def check(self) -> dict[str, float]:
    """The largest difference of z and cosines from PyTorch's (torch.npz), float32, the first images of the batch."""
    settings = self.config.model.copy_and_resolve_references()
    settings.dtype = 'float32'
    model = gif.build(settings, self.s.l, self.s.v)
    variables = {'params': self.state.params, 'batch_stats': self.state.batch_stats}

    def forward(variables, images):
      return model.apply(variables, images, train=True, mutable=['batch_stats'])[0]

    with jax.default_matmul_precision('highest'):
      ours = jax.jit(forward)(variables, self.batch['image'][: self.s.checked])
    theirs = np.load(self.folder / 'torch.npz')
    return {name: float(np.abs(a - theirs[name]).max()) for name, a in zip(('z', 'cosines'), jax.device_get(ours))}

  def start(self) -> dict:
    """Compiles; says what it took, losses and gradient norms of two steps, memory and the peak of matrix products."""
    peak = matrix_peak((self.device,), self.s.dtype, seconds=0.3)
    started = time.perf_counter()
    self.step_program = self.program.train_step.lower(self.state, self.batch).compile()
    seconds = time.perf_counter() - started
    steps = [jax.device_get(self.step()) for _ in range(2)]
    return {
      'device': self.device.device_kind,
      'version': jax.__version__,
      'compile_seconds': seconds,
      'peak_flops': peak,
      'steps': [[float(m['loss']), float(m['grad_norm'])] for m in steps],
      'parameters': sum(x.size for x in jax.tree.leaves(self.state.params)),
      'step_bytes': needed(self.step_program.memory_analysis()),
      'flops': self.flops,
    }

  def step(self) -> dict:
    self.state, metrics, _ = self.step_program(self.state, self.batch)
    return metrics

  def train(self) -> dict:
    times = timed(self.step, lambda _: jax.block_until_ready(self.state), self.s.seconds)
    return times | {'peak_bytes': peak_bytes()}

  def forward(self) -> dict:
    variables = {'params': self.state.params, 'batch_stats': self.state.batch_stats}
    self.predict = getattr(self, 'predict', None) or jax.jit(self.model.apply)
    return timed(lambda: self.predict(variables, self.batch['image']), jax.block_until_ready, self.s.seconds)

  def trace(self, steps: int = 3) -> dict:
    """Where the time of a step goes, see device_time.breakdown."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
      jax.profiler.start_trace(folder, profiler_options=options)
      for _ in range(steps):
        self.step()
      jax.block_until_ready(self.state)
      jax.profiler.stop_trace()
      return breakdown(Path(folder), self.step_program.as_text(), steps)


if __name__ == '__main__':
  subject = Subject(Path(sys.argv[1]))
  answer({name: getattr(subject, name) for name in ('check', 'start', 'train', 'forward', 'trace')})
