"""Writes margins_golden.npz: the baselines' margin softmaxes by PyTorch in float64, written independently of gif_jax.

Loss, and gradients of embeddings before normalisation and of centres. Not part of the tests, which read the file alone:
pip install torch==2.13.0 && python tests/golden/make_margins_golden.py
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

B, M, D = 24, 37, 8


def straight(cosine, moved):
  """`moved` with the gradient of `cosine`."""
  return cosine + (moved - cosine).detach()


def arcface(cosine, m, m1=1.0):
  return straight(cosine, torch.cos(m1 * torch.arccos(cosine) + m))


def adaface(cosine, length, state, m, h, rate):
  """The target's cosine and the running mean and deviation of lengths, this batch included."""
  length = length.detach().clip(0.001, 100)
  mean, std = (rate * new + (1 - rate) * old for new, old in zip((length.mean(), length.std()), state))
  quality = ((length - mean) / (std + 1e-3) * h).clip(-1, 1)
  theta = (torch.arccos(cosine.clip(-1 + 1e-3, 1 - 1e-3)) - m * quality).clip(1e-3, math.pi - 1e-3)
  return torch.cos(theta) - (m + m * quality), torch.stack([mean, std])


# Name -> (scale, threshold of filtering, function of (cosine, length of f(x)) -> the target's cosine).
CASES = {
  'arcface': (32.0, 0, lambda c, n: arcface(c, 0.5)),
  'arcface_exact': (32.0, 0, lambda c, n: torch.cos(torch.arccos(c) + 0.5)),
  'cosface': (64.0, 0, lambda c, n: c - 0.4),
  'combined': (16.0, 0, lambda c, n: arcface(c, 0.3, 1.2) - 0.1),
  'combined_exact': (16.0, 0, lambda c, n: torch.cos(1.2 * torch.arccos(c) + 0.3) - 0.1),
  'arcface_filtered': (32.0, 0.3, lambda c, n: arcface(c, 0.5)),
  'cosface_filtered': (64.0, 0.3, lambda c, n: c - 0.4),
}


def case(out, name, scale, threshold, target):
  x, w, y = (torch.tensor(out[key]) for key in ('features', 'centres', 'label'))
  x, w = (array.double().requires_grad_() for array in (x, w))
  cosine = F.normalize(x) @ F.normalize(w).T
  hot = F.one_hot(y, M).bool()
  found = target(cosine[hot], x.norm(dim=1))
  if isinstance(found, tuple):
    found, norms = found
    out[f'{name}/norms'] = norms.detach().numpy()
  others = torch.where(cosine > threshold, 0.0, cosine) if threshold else cosine
  logits = scale * torch.where(hot, found[:, None], others)
  loss = F.cross_entropy(logits, y, reduction='none')
  loss.mean().backward()
  out[f'{name}/loss'] = loss.detach().numpy()
  out |= {f'{name}/of_features': x.grad.numpy(), f'{name}/of_centres': w.grad.numpy()}


def main():
  generator = torch.Generator().manual_seed(0)
  w = torch.randn(M, D, generator=generator)
  y = torch.randint(0, M, (B,), generator=generator)
  y[:3], y[3] = 5, M - 1  # the same identity three times, and the last one
  x = torch.randn(B, D, generator=generator) + 2 * w[y]
  x[4] = -x[4]  # an angle to which no margin can be added without passing pi
  x *= torch.linspace(0.4, 9, B)[:, None]  # lengths from 3 to 60
  out = {'features': x.numpy(), 'centres': w.numpy(), 'label': y.numpy()}
  for name, settings in CASES.items():
    case(out, name, *settings)
  # At first, when lengths say little, and later, when some are far from their mean.
  for name, state in (('adaface', (20.0, 100.0)), ('adaface_later', (26.0, 4.0))):
    case(out, name, 64.0, 0, lambda c, n, state=state: adaface(c, n, state, 0.4, 0.333, 0.01))
    out[f'{name}/norms_before'] = np.array(state)
  np.savez_compressed(Path(__file__).with_name('margins_golden.npz'), **out)


if __name__ == '__main__':
  main()
