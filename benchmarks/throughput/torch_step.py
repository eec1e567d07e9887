"""The network and training step of gif_jax in PyTorch; started by benchmarks.throughput.

python -m benchmarks.throughput.torch_step FOLDER

Needs torch and numpy alone. FOLDER holds settings.json, weights.npz and batch.npz. Says on a line of JSON that it is
ready, then answers each word it reads, a task, with a line of JSON. Modules have the names that gif_jax gives them.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.asking import answer, timed

DTYPES = {'bfloat16': torch.bfloat16, 'float32': torch.float32}


def _norm(kind, width):
  return kind(width, eps=1e-5, momentum=0.1)


def _conv(inputs, outputs, size, stride, padding):
  return nn.Conv2d(inputs, outputs, size, stride, padding, bias=False)


class Block(nn.Module):
  """BN-conv-BN-PReLU-conv(stride)-BN plus a shortcut: [B, c, h, w] -> [B, width, h/stride, w/stride]."""

  def __init__(self, inputs: int, width: int, stride: int):
    super().__init__()
    self.bn1, self.conv1 = _norm(nn.BatchNorm2d, inputs), _conv(inputs, width, 3, 1, 1)
    self.bn2, self.prelu = _norm(nn.BatchNorm2d, width), nn.PReLU(width)
    self.conv2, self.bn3 = _conv(width, width, 3, stride, 1), _norm(nn.BatchNorm2d, width)
    self.projected = stride != 1 or inputs != width
    if self.projected:
      self.shortcut_conv, self.shortcut_bn = _conv(inputs, width, 1, stride, 0), _norm(nn.BatchNorm2d, width)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    shortcut = self.shortcut_bn(self.shortcut_conv(x)) if self.projected else x
    x = self.conv1(self.bn1(x))
    return self.bn3(self.conv2(self.prelu(self.bn2(x)))) + shortcut


class IResNet(nn.Module):
  """Normalised crops [B, 3, size, size] -> embedding float32 [B, d] before it is brought to length 1."""

  def __init__(self, s: SimpleNamespace):
    super().__init__()
    inputs, side, names = s.widths[0], s.size // s.patch, []
    stem = (s.patch, s.patch, 0) if s.patch > 1 else (3, 1, 1)
    self.stem_conv = _conv(3, inputs, *stem)
    self.stem_bn, self.stem_prelu = _norm(nn.BatchNorm2d, inputs), nn.PReLU(inputs)
    for i, (blocks, width, stride) in enumerate(zip(s.blocks, s.widths, s.strides)):
      side = -(-side // stride)
      for j in range(blocks):
        names.append(f'stage{i + 1}_block{j + 1}')
        self.add_module(names[-1], Block(inputs, width, stride if j == 0 else 1))
        inputs = width
    self.names = names
    self.bn, self.embedding = _norm(nn.BatchNorm2d, inputs), nn.Linear(inputs * side * side, s.d)
    self.embedding_bn = _norm(nn.BatchNorm1d, s.d)
    self.embedding_bn.weight.requires_grad_(False)
    self.dtype = DTYPES[s.dtype]

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast(x.device.type, torch.bfloat16, enabled=self.dtype != torch.float32):
      x = self.stem_prelu(self.stem_bn(self.stem_conv(x)))
      for name in self.names:
        x = getattr(self, name)(x)
      # In the order rows, columns, channels, in which the memory already lies: nothing is copied.
      x = self.embedding(self.bn(x).permute(0, 2, 3, 1).flatten(1))
    return self.embedding_bn(x.float())


class Heads(nn.Module):
  """z [B, d] -> cosines [B, l, v]."""

  def __init__(self, s: SimpleNamespace):
    super().__init__()
    self.projection = nn.Parameter(torch.empty(s.d, s.l, s.projection))
    self.centres = nn.Parameter(torch.empty(s.l, s.projection, s.v))

  def forward(self, z: torch.Tensor) -> torch.Tensor:
    digits = F.normalize(torch.einsum('bd,dlp->blp', z, self.projection), dim=-1)
    return torch.einsum('blp,lpv->blv', digits, F.normalize(self.centres, dim=1))


class Network(nn.Module):
  """Crops uint8 [B, size, size, 3] -> z [B, d] unit rows, cosines [B, l, v]."""

  def __init__(self, s: SimpleNamespace):
    super().__init__()
    self.backbone, self.heads = IResNet(s), Heads(s)

  def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = (images.permute(0, 3, 1, 2).float() - 127.5) / 127.5  # in memory still [B, size, size, 3]: channels last
    z = F.normalize(self.backbone(x), dim=-1)
    return z, self.heads(z)


def names(network: nn.Module) -> dict[str, list[int]]:
  """Name -> shape of everything that gif_jax's network has too."""
  state = network.state_dict()
  return {name: list(x.shape) for name, x in state.items() if 'num_batches' not in name and not _fixed(name)}


def _fixed(name):
  return name.endswith('embedding_bn.weight')  # stays 1


def make_loss(network: nn.Module, s: SimpleNamespace) -> Callable:
  """loss(batch) -> (loss, digit accuracy [l]): CosFace over each digit and L_AR, as gif_jax's `fixed`."""

  def loss(batch):
    z, cosines = network(batch['image'])
    target = F.one_hot(batch['code'], s.v)
    logits = s.scale * (cosines - s.margin * target)
    code_loss = F.cross_entropy(logits.flatten(0, 1), batch['code'].flatten(), reduction='none')
    code_loss = s.digits * code_loss.view(batch['code'].shape).sum(-1).mean()
    regression = 0.5 * ((z * batch['code_vector']).sum(-1) - 1).square().mean()
    accuracy = (cosines.detach().argmax(-1) == batch['code']).float().mean(0)
    return code_loss + s.gamma * regression, accuracy

  return loss


def make_optimiser(network: nn.Module, s: SimpleNamespace, fused: bool) -> torch.optim.Optimizer:
  """SGD with momentum, weight decay on matrices and convolutions alone."""
  trained = [p for p in network.parameters() if p.requires_grad]
  groups = [
    {'params': [p for p in trained if p.ndim > 1], 'weight_decay': s.weight_decay},
    {'params': [p for p in trained if p.ndim <= 1], 'weight_decay': 0.0},
  ]
  return torch.optim.SGD(groups, lr=s.lr, momentum=s.momentum, fused=fused)


class Subject:
  """The tasks: `check`, `train`, `forward`."""

  def __init__(self, folder: Path):
    self.s = s = SimpleNamespace(**json.loads((folder / 'settings.json').read_text()))
    self.folder, self.device = folder, torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    torch.backends.cudnn.benchmark = True
    self.network = Network(s).to(self.device, memory_format=torch.channels_last)
    self.compiled = s.compile
    self.batch = {k: torch.from_numpy(v).to(self.device) for k, v in np.load(folder / 'batch.npz').items()}
    self.batch['code'] = self.batch['code'].long()
    self.loss, self.predict = make_loss(self.network, s), self.network
    self._restart()

  def _load(self):
    weights = {name: torch.from_numpy(x) for name, x in np.load(self.folder / 'weights.npz').items()}
    assert {name: list(x.shape) for name, x in weights.items()} == names(self.network)
    self.network.load_state_dict(weights, strict=False)

  def wait(self) -> None:
    if self.device.type == 'cuda':
      torch.cuda.synchronize()

  def start(self) -> dict:
    """Compiles; says what it took, losses and gradient norms of two steps, memory and the peak of matrix products."""
    torch.set_float32_matmul_precision('high')  # TF32, which JAX takes by default too
    started, why = time.perf_counter(), self._compile() if self.compiled else ''
    self.step()  # cuDNN looks for the fastest algorithms, autograd is made
    self.wait()
    seconds = time.perf_counter() - started
    self._restart()
    steps = [self.step() for _ in range(2)]
    values = [[x.item() for x in (loss, norm)] for loss, norm, _ in steps]
    what = torch.cuda.get_device_name() if self.device.type == 'cuda' else 'CPU'
    return {
      'device': what,
      'version': torch.__version__,
      'compiled': self.compiled,
      'not_compiled': why,
      'steps': values,
      'compile_seconds': seconds,
      'parameters': sum(p.numel() for p in self.network.parameters() if p.requires_grad),
      'peak_flops': self._peak(),
    }

  def _compile(self):
    """torch.compile where it works and makes steps faster, eager elsewhere. Returns why not, or ''."""
    plain, eager, why = (self.loss, self.predict), self._seconds(), ''
    self.loss, self.predict = (torch.compile(f, dynamic=False) for f in plain)
    try:
      if (compiled := self._seconds()) > eager:
        why = f'a step takes {compiled:.3g} s compiled, {eager:.3g} s eager'
    except Exception as error:  # no C compiler, say
      why = f'{type(error).__name__}: {error}'[:300]
    if why:
      (self.loss, self.predict), self.compiled = plain, False
    return why

  def _seconds(self):
    return timed(self.step, lambda _: self.wait(), 0.0)['seconds']

  def _restart(self):
    """Weights, statistics and the optimiser as they were at first."""
    self._load()
    self.optimiser = make_optimiser(self.network, self.s, fused=True)

  def check(self) -> dict:
    """Writes z and cosines in float32 as of a training step, for the first images of the batch."""
    torch.set_float32_matmul_precision('highest')
    torch.backends.cudnn.allow_tf32 = False
    self.network.train()
    self.network.backbone.dtype, before = torch.float32, self.network.backbone.dtype
    with torch.no_grad():
      z, cosines = self.network(self.batch['image'][: self.s.checked])
    self.network.backbone.dtype = before
    torch.backends.cudnn.allow_tf32 = True
    self._load()  # statistics have moved
    np.savez(self.folder / 'torch.npz', z=z.cpu().numpy(), cosines=cosines.cpu().numpy())
    return {}

  def step(self) -> tuple[torch.Tensor, ...]:
    """One training step; nothing waits for the device."""
    self.network.train()
    self.optimiser.zero_grad(set_to_none=True)
    loss, accuracy = self.loss(self.batch)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.s.clip)
    self.optimiser.step()
    return loss.detach(), norm, accuracy

  def train(self) -> dict:
    return timed(self.step, lambda _: self.wait(), self.s.seconds) | {'peak_bytes': self._peak_bytes()}

  def forward(self) -> dict:
    self.network.eval()
    with torch.inference_mode():
      return timed(lambda: self.predict(self.batch['image']), lambda _: self.wait(), self.s.seconds)

  def _peak_bytes(self):
    return torch.cuda.max_memory_allocated() if self.device.type == 'cuda' else None

  def _peak(self):
    """FLOP/s of a large matrix product, as gif_jax.training.cost.flops.matrix_peak."""
    side = 8192 if self.device.type == 'cuda' else 1024
    left, right = (torch.rand(side, side, device=self.device, dtype=DTYPES[self.s.dtype]) * 2 - 1 for _ in range(2))
    rounds = [timed(lambda: left @ right, lambda _: self.wait(), 0.05) for _ in range(4)]
    return 2 * side**3 / min(times['seconds'] for times in rounds)


if __name__ == '__main__':
  subject = Subject(Path(sys.argv[1]))
  answer({name: getattr(subject, name) for name in ('check', 'start', 'train', 'forward')})
