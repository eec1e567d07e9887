"""Full softmax and Partial FC in PyTorch, from embeddings to moved centres; started by benchmarks.scaling.

python -m benchmarks.scaling.torch_row ROW      # ROW: the row in JSON; questions on stdin, see `benchmarks.asking`

What arcface_torch computes (a bfloat16 product under autocast on a GPU, float32 on a CPU; a margin on the target alone,
without gradient of its own), written for this comparison, and Partial FC with sparse rows: gradient, weight decay and
momentum of the rows that were drawn and of no others. Needs torch and numpy, and nothing of gif_jax.
"""

import json
import resource
import sys

import numpy as np
import torch
from torch.nn import functional

from benchmarks.asking import Turns, answer

BATCHES = 4
BLOCK = 1 << 20  # centres drawn at a time


def margin_logits(cosine: torch.Tensor, label: torch.Tensor, margin: float, scale: float) -> torch.Tensor:
  """scale * cosine, with ArcFace's margin on the targets: float32 [B, n], in the place of `cosine`; label int64 [B]."""
  target = cosine.detach().gather(1, label[:, None])
  moved = torch.cos(torch.acos(target.clamp(-1, 1)) + margin)
  return cosine.scatter_add_(1, label[:, None], moved - target).mul_(scale)


class Subject:
  """Centres, momentum and batches of a row, and a step of it."""

  def __init__(self, row: dict):
    self.row, self.recipe, self.turns = row, row['recipe'], Turns(self._run, row['turn'])
    self.device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    if self.device.type == 'cpu':
      torch.set_num_threads(1)  # threads that wait for each other on a shared machine cost CPU-seconds
    self.step = self._partial if row['form'] == 'pfc' else self._full

  def memory(self) -> dict:
    """Nothing of memory, which PyTorch knows when it has run: what runs here."""
    return {'torch': torch.__version__, 'device': self.device.type}

  def begin(self) -> dict:
    m, d, b, rng = self.row['m'], self.row['d'], self.row['batch'], np.random.default_rng(0)
    self.centres = torch.empty(m, d, device=self.device)
    for start in range(0, m, BLOCK):
      self.centres[start : start + BLOCK].normal_(0, 0.01)
    self._ready()
    features = torch.from_numpy(rng.standard_normal((b, d), np.float32)).to(self.device).requires_grad_()
    labels = [torch.from_numpy(np.random.default_rng(i).integers(0, m, b)).to(self.device) for i in range(BATCHES)]
    self.batches, self.next = [(features, label) for label in labels], 0
    self.turns.warm()
    return {}

  def end(self) -> dict:
    """Peak bytes: of the device's allocator, or of this process with all that it imported."""
    if self.device.type == 'cuda':
      return {'peak': torch.cuda.max_memory_allocated(), 'loss': self.loss.item()}
    return {'peak': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, 'loss': self.loss.item()}

  def check(self) -> dict:
    """One step of a softmax from row['inputs'] to row['answers'], as benchmarks/scaling/row.py has it."""
    with np.load(self.row['inputs']) as file:
      given = {name: torch.from_numpy(file[name]).to(self.device) for name in file}
    features, self.centres, label = given['features'], given['centres'], given['label']
    self._ready()
    loss = self.step(features.requires_grad_(), label.long())
    answers = {'loss': loss, 'gradient': features.grad, 'centres': self.centres}
    np.savez(self.row['answers'], **{name: value.detach().cpu().numpy() for name, value in answers.items()})
    return {}

  def _ready(self):
    recipe = {key: self.recipe[key] for key in ('lr', 'momentum', 'weight_decay')}
    if self.row['form'] == 'pfc':
      self.momentum = torch.zeros_like(self.centres)
    else:
      self.optimiser = torch.optim.SGD([self.centres.requires_grad_()], **recipe)

  def _run(self, count):
    for _ in range(count):
      features, label = self.batches[self.next]
      features.grad = None
      self.loss = self.step(features, label)
      self.next = (self.next + 1) % BATCHES
    if self.device.type == 'cuda':
      torch.cuda.synchronize()

  def _loss(self, features, centres, label):
    """The mean loss, with gradients of features [B, d] and centres [n, d]; label int64 [B], rows of these."""
    low = self.row['dtype'] == 'bfloat16'
    with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
      cosine = functional.linear(functional.normalize(features), functional.normalize(centres))
    logits = margin_logits(cosine.float(), label, self.recipe['margin'], self.recipe['scale'])
    loss = functional.cross_entropy(logits, label)
    loss.backward()
    return loss.detach()

  def _full(self, features, label):
    loss = self._loss(features, self.centres, label)
    self.optimiser.step()
    self.optimiser.zero_grad()
    return loss

  def _partial(self, features, label):
    """The batch's own rows and as many others at random as make the share."""
    m, own = len(self.centres), torch.unique(label)
    chance = torch.rand(m, device=self.device)
    chance[own] = 2.0
    taken = min(m, max(int(np.ceil(m * self.row['rate'])), len(label)))
    drawn = torch.topk(chance, taken)[1].sort()[0]
    rows = self.centres[drawn].requires_grad_()
    loss = self._loss(features, rows, torch.searchsorted(drawn, label))
    with torch.no_grad():
      gradient = rows.grad.add_(rows, alpha=self.recipe['weight_decay'])
      momentum = self.momentum[drawn].mul_(self.recipe['momentum']).add_(gradient)
      self.momentum[drawn] = momentum
      self.centres[drawn] = rows.sub_(momentum, alpha=self.recipe['lr'])
    return loss


def main() -> None:
  subject = Subject(json.loads(sys.argv[1]))
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
