"""Writes sequence_golden.npz: the sequence decoder on PyTorch's GRUCell, its cosines, its loss and gradients of that.

Not part of the tests, which read the file alone:
pip install torch==2.13.0 && python tests/golden/make_sequence_golden.py
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

B, D, L, V, P = 6, 8, 3, 7, 5


class Decoder(nn.Module):
  def __init__(self):
    super().__init__()
    self.start, self.cell, self.query = nn.Linear(D, P), nn.GRUCell(P, P), nn.Linear(P, P, bias=False)
    self.begin = nn.Parameter(torch.randn(P))
    self.digits = nn.ParameterList(torch.randn(V, P) for _ in range(L - 1))
    self.centres = nn.ParameterList(torch.randn(V, P) for _ in range(L))

  def forward(self, z, code):
    state, out = self.start(z), []
    for j in range(L):
      given = self.digits[j - 1][code[:, j - 1]] if j else self.begin.expand(len(z), P)
      state = self.cell(given, state)
      out.append(F.normalize(self.query(state)) @ F.normalize(self.centres[j]).T)
    return torch.stack(out, 1)


if __name__ == '__main__':
  torch.manual_seed(0)
  decoder = Decoder()
  z = F.normalize(torch.randn(B, D)).requires_grad_()
  code = torch.randint(0, V, (B, L))
  cosines = decoder(z, code)
  logits = 16.0 * (cosines - 0.35 * F.one_hot(code, V))
  loss = F.cross_entropy(logits.reshape(-1, V), code.reshape(-1), reduction='none').reshape(B, L).sum(1)
  loss.mean().backward()
  golden = {'z': z, 'code': code, 'cosines': cosines, 'loss': loss, 'z/gradient': z.grad}
  for name, weight in decoder.named_parameters():
    golden |= {f'net/{name}': weight, f'net/{name}/gradient': weight.grad}
  arrays = {name: value.detach().numpy() for name, value in golden.items()}
  np.savez_compressed(Path(__file__).with_name('sequence_golden.npz'), **arrays)
