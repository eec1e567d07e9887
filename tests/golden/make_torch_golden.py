"""Writes torch_golden.npz: a tiny IResNet and the margin losses, computed by PyTorch, written independently of gif_jax.

Not part of the tests, which read the file alone: pip install torch==2.13.0 && python tests/golden/make_torch_golden.py
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
  def __init__(self, inputs, planes, stride):
    super().__init__()
    self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, planes, 3, 1, 1, bias=False)
    self.bn2, self.prelu = nn.BatchNorm2d(planes), nn.PReLU(planes)
    self.conv2, self.bn3 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False), nn.BatchNorm2d(planes)
    self.shortcut = None
    if stride != 1 or inputs != planes:
      self.shortcut = nn.Sequential(nn.Conv2d(inputs, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

  def forward(self, x):
    y = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
    return y + (x if self.shortcut is None else self.shortcut(x))


class Net(nn.Module):
  def __init__(self, blocks, widths, size, d):
    super().__init__()
    self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
    self.bn1, self.prelu = nn.BatchNorm2d(widths[0]), nn.PReLU(widths[0])
    layers, inputs = [], widths[0]
    for count, width in zip(blocks, widths):
      for j in range(count):
        layers.append(Block(inputs, width, 2 if j == 0 else 1))
        inputs = width
    self.layers, self.bn2 = nn.ModuleList(layers), nn.BatchNorm2d(inputs)
    self.fc, self.features = nn.Linear(inputs * (size // 2 ** len(blocks)) ** 2, d), nn.BatchNorm1d(d)

  def forward(self, x):
    x = self.prelu(self.bn1(self.conv1(x)))
    for layer in self.layers:
      x = layer(x)
    return self.features(self.fc(self.bn2(x).flatten(1)))


def randomise(net):
  """Every weight and statistic random: fresh ones (all 1 or 0) would hide mistakes."""
  generator = torch.Generator().manual_seed(0)
  for name, tensor in net.state_dict().items():
    if tensor.dtype.is_floating_point:
      noise = torch.randn(tensor.shape, generator=generator)
      positive = 'running_var' in name or (tensor.ndim == 1 and 'weight' in name)
      tensor.copy_(0.5 + noise.abs() if positive else 0.2 * noise)
  net.features.weight.data.fill_(1.0)


def network(out):
  torch.manual_seed(0)
  net = Net((1, 2), (4, 6), 16, 8)
  with torch.no_grad():
    randomise(net)
  x = torch.randn(5, 3, 16, 16)
  out |= {f'net/{k}': v.numpy().copy() for k, v in net.state_dict().items() if v.dtype.is_floating_point}
  net.eval()
  out['input'], out['eval_output'] = x.numpy(), net(x).detach().numpy()
  net.train()
  y = net(x)
  # Weights that differ over the batch: batch normalisation makes the gradient of a plain sum over it zero.
  (y * torch.linspace(-1, 1, 40).reshape(5, 8) ** 3).sum().backward()
  out |= {'train_output': y.detach().numpy(), 'stem_gradient': net.conv1.weight.grad.numpy()}
  out['slope_gradient'] = net.layers[1].prelu.weight.grad.numpy()


def margins(out):
  """L_C over l=3 digits of v=7 values, and L_AR, with gradients."""
  generator = torch.Generator().manual_seed(1)
  cosines = torch.rand(6, 3, 7, generator=generator) * 1.8 - 0.9
  code = torch.randint(0, 7, (6, 3), generator=generator)
  out |= {'cosines': cosines.numpy(), 'code': code.numpy()}
  hot = F.one_hot(code, 7).bool()
  for name, scale, margin in (('cosface', 16.0, 0.35), ('arcface', 32.0, 0.5), ('arcface_exact', 32.0, 0.5)):
    c = cosines.clone().requires_grad_()
    if name == 'cosface':
      target = c - margin
    else:
      target = torch.cos(torch.arccos(c) + margin)
      if name == 'arcface':
        target = c + (target - c).detach()
    logits = scale * torch.where(hot, target, c)
    loss = F.cross_entropy(logits.reshape(18, 7), code.reshape(18), reduction='none').reshape(6, 3).sum(1)
    loss.sum().backward()
    out |= {f'{name}/loss': loss.detach().numpy(), f'{name}/gradient': c.grad.numpy()}
  z = F.normalize(torch.randn(6, 8, generator=generator)).requires_grad_()
  h = F.normalize(torch.randn(6, 8, generator=generator))
  loss = 0.5 * ((z * h).sum(1) - 1) ** 2
  loss.sum().backward()
  out |= {'z': z.detach().numpy(), 'h': h.numpy()}
  out |= {'regression/loss': loss.detach().numpy(), 'regression/gradient': z.grad.numpy()}


if __name__ == '__main__':
  golden = {}
  network(golden)
  margins(golden)
  np.savez_compressed(Path(__file__).with_name('torch_golden.npz'), **golden)
