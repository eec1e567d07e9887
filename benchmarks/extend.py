"""People added to a table: CPU-seconds, and whether they share first digits with their nearest as members do.

OMP_NUM_THREADS=1 python -m benchmarks.extend --slack=0.05,0.1,0.5

Random clustered unit vectors: m members in 1000 clusters, k newcomers from the same clusters.
"""

import tempfile
import time

import numpy as np
from absl import app, flags

from gif_jax.codes.extend import extend_codes
from gif_jax.codes.size import choose_size
from gif_jax.codes.table import CodeTable
from gif_jax.codes.tree import build_codes

_M = flags.DEFINE_integer('m', 100_000, 'Members of the table.')
_K = flags.DEFINE_integer('k', 1000, 'Newcomers.')
_D = flags.DEFINE_integer('d', 512, 'Size of a vector.')
_SLACK = flags.DEFINE_list('slack', ['0.05', '0.1', '0.5'], 'Each makes a table of its own.')


def _people(n):
  rng = np.random.default_rng(0)
  centres = rng.standard_normal((1000, _D.value), np.float32)
  vectors = centres[rng.integers(0, 1000, n)] + rng.standard_normal((n, _D.value), np.float32)
  return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _shared(codes, others):
  """The share of rows whose first 1, 2 .. l digits are the other's."""
  return np.cumprod(codes == others, axis=1).mean(0).round(3).tolist()


def main(_):
  m, k = _M.value, _K.value
  vectors = _people(m + k)
  old, new = vectors[:m], vectors[m:]
  likeness = old[:k] @ old.T
  likeness[np.arange(len(likeness)), np.arange(len(likeness))] = -1
  neighbour, nearest = likeness.argmax(1), (new @ old.T).argmax(1)
  for slack in map(float, _SLACK.value):
    l, v = choose_size(m, slack=slack)
    codes = build_codes(old, l, v, slack=slack).codes
    with tempfile.TemporaryDirectory() as folder:
      made_by = {'encoder': '', 'seed': 0, 'label_space': '', 'settings': {}}
      table = CodeTable.write(f'{folder}/old', codes, old, v=v, **made_by)
      start = time.process_time()
      found = extend_codes(table.codes, table.vectors, v, new)
      chosen = time.process_time()
      extended = table.extend(f'{folder}/new', found, new, '')
      written = time.process_time()
      same = all(getattr(extended, a)[:m].tobytes() == getattr(table, a).tobytes() for a in ('codes', 'vectors'))
    print(f'slack {slack}: l={l}, v={v}; CPU-seconds: codes {chosen - start:.2f}, table {written - chosen:.2f}; '
          f'old rows byte-identical: {same}')  # fmt: skip
    print(f'  first digits shared with the nearest: newcomers {_shared(found, codes[nearest])}, '
          f'members {_shared(codes[:k], codes[neighbour])}', flush=True)  # fmt: skip


if __name__ == '__main__':
  app.run(main)
