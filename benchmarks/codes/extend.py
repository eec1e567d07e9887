"""People added to a table: CPU-seconds, and whether their codes are as good as those of members.

OMP_NUM_THREADS=1 python -m benchmarks.codes.extend --slack 0.1 0.5

Made-up vectors as in benchmarks.codes.tokenizer; m members, k newcomers of the same kind. Good codes: a vector is near
the mean vectors of its digits (share of the variance that all digits together explain of newcomers and of members,
fitted to members by least squares), and like people share digits (with the nearest member).
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.codes.tokenizer import make_vectors
from gif_jax.codes import product, tree
from gif_jax.codes.extend import extend_codes, placeholders
from gif_jax.codes.size import choose_size
from gif_jax.codes.table import CodeTable

KINDS = {'product': product, 'tree': tree}


def _explained(codes, vectors, v, m):
  """Of the first m rows and of the others: 1 - squared error of a linear model of digits over squared distance."""
  n, l = codes.shape
  one = np.zeros((n, l * v), np.float32)
  np.put_along_axis(one, codes + v * np.arange(l), 1, 1)
  mean = vectors[:m].mean(0)
  known = one[:m]
  model = np.linalg.solve(known.T @ known + np.eye(l * v, dtype=np.float32), known.T @ (vectors[:m] - mean))
  error = np.square(vectors - mean - one @ model).sum(1) / np.square(vectors - mean).sum(1).mean()
  return 1 - error[:m].mean(), 1 - error[m:].mean()


def _shared(codes, others):
  """The share of digits that are the other's."""
  return (codes == others).mean()


def _one(kind, slack, old, new, neighbours):
  m = len(old)
  l, v = choose_size(m, slack=slack)
  extra = placeholders(m, slack, v**l - m, 0)
  codes = KINDS[kind].build_codes(np.concatenate([old, old[extra]]), l, v)[:m]
  with tempfile.TemporaryDirectory() as folder:
    settings = {'codes': kind}
    table = CodeTable.write(f'{folder}/old', codes, old, v=v, encoder='', seed=0, label_space='', settings=settings)
    start = time.process_time()
    new_codes = extend_codes(table.codes, table.vectors, v, new)
    if kind == 'product':
      product.settle_newcomers(table.codes, table.vectors, v, new, new_codes)
    chosen = time.process_time()
    extended = table.extend(f'{folder}/new', new_codes, new, '')
    written = time.process_time()
    same = all(getattr(extended, a)[:m].tobytes() == getattr(table, a).tobytes() for a in ('codes', 'vectors'))
    extended.verify()
  members, newcomers = _explained(extended.codes, np.concatenate([old, new]), v, m)
  shared = _shared(codes[: len(new)], codes[neighbours[0]]), _shared(new_codes, codes[neighbours[1]])
  print(
    f'| {kind} | {slack} | {l}, {v} | {chosen - start:.1f} + {written - chosen:.1f} | {"yes" if same else "NO"} '
    f'| {100 * newcomers:.1f} / {100 * members:.1f} | {100 * shared[1]:.1f} / {100 * shared[0]:.1f} |',
    flush=True,
  )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--m', type=int, default=100_000, help='members')
  parser.add_argument('--k', type=int, default=1000, help='newcomers')
  parser.add_argument('--d', type=int, default=512)
  parser.add_argument('--slack', type=float, nargs='+', default=[0.05, 0.1, 0.5])
  parser.add_argument('--codes', nargs='+', choices=KINDS, default=list(KINDS))
  options = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    vectors = np.array(make_vectors(options.m + options.k, options.d, Path(folder) / 'vectors.npy'), np.float32)
  vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
  old, new = vectors[: options.m], vectors[options.m :]
  likeness = old[: options.k] @ old.T
  likeness[np.arange(options.k), np.arange(options.k)] = -1
  neighbours = likeness.argmax(1), (new @ old.T).argmax(1)
  print('| codes | slack | l, v | CPU-s: codes + table | old rows same | explained %, new / old | shared %, same |')
  print('| --- | --- | --- | --- | --- | --- | --- |')
  for kind in options.codes:
    for slack in options.slack:
      _one(kind, slack, old, new, neighbours)


if __name__ == '__main__':
  main()
