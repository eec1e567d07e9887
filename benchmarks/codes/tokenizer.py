"""Time, memory and quality of making codes, against the number of identities and beside faiss and scikit-learn.

python -m benchmarks.codes.tokenizer --level    # 1e4 .. 1e6 identities; one level beside others, d = 512
python -m benchmarks.codes.tokenizer --m 10000000 --d 128 --codes tree

Vectors are made up: a cone with a falling spectrum, mean cosine .5, as image encoders give; written as float16 and
memory-mapped. Every number of identities has a process of its own, so that its memory is its own. Needs faiss-cpu.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib
import numpy as np

from gif_jax.codes import product, size, tree
from gif_jax.codes.homogenise import homogenise
from gif_jax.codes.kmeans import kmeans
from gif_jax.codes.quality.measure import explained_alone

matplotlib.use('Agg')
import matplotlib.pyplot as plt

CODES = {'tree': tree.build_codes, 'product': product.build_codes}
CONE = 0.12
BLOCK = 65536


def make_vectors(m: int, d: int, path: Path, seed: int = 0) -> np.ndarray:
  """Unit float16 vectors [m, d] in a .npy file, memory-mapped."""
  rng = np.random.default_rng(seed)
  mix = (np.linalg.qr(rng.standard_normal((d, d)))[0] * (1 + np.arange(d))[:, None] ** -0.5).astype(np.float32)
  mean = (CONE * rng.standard_normal(d)).astype(np.float32)
  vectors = np.lib.format.open_memmap(path, 'w+', np.float16, (m, d))
  for start in range(0, m, BLOCK):
    some = rng.standard_normal((min(BLOCK, m - start), d), np.float32) @ mix + mean
    vectors[start : start + BLOCK] = some / np.linalg.norm(some, axis=1, keepdims=True)
  vectors.flush()
  return np.load(path, mmap_mode='r')


class Clock:
  """CPU and wall seconds of a block."""

  def __enter__(self):
    self.start = time.process_time(), time.perf_counter()
    return self

  def __exit__(self, *_):
    self.cpu, self.wall = time.process_time() - self.start[0], time.perf_counter() - self.start[1]


def _memory_gb():
  """The peak of this process, mapped files included."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(m: int, d: int, options: argparse.Namespace, folder: Path) -> dict:
  """One row of the table: homogenisation and codes of m vectors."""
  vectors = make_vectors(m, d, folder / 'vectors.npy')
  l, v = size.choose_size(m)
  row = {'m': m, 'd': d, 'l': l, 'v': v, 'file_gb': vectors.nbytes / 2**30, 'unique': True}
  with Clock() as clock:
    _, report = homogenise(vectors, epochs=options.epochs, lr=0.1, subset=options.subset, scaled=True, seed=0)
  row |= {'homogenise': vars(clock), 'cosine': [report.cosine_before, report.cosine_after]}
  for name in options.codes:
    with Clock() as clock:
      codes = CODES[name](vectors, l, v)
    row |= {name: vars(clock), f'{name} explains': explained_alone(codes, vectors).tolist()}
    row['unique'] &= len(np.unique(codes, axis=0)) == m and (name != 'tree' or _within_capacity(codes, v))
  return row | {'memory_gb': _memory_gb()}


def _within_capacity(codes, v):
  """Whether no node holds more than its capacity, so that all codes are unique."""
  l = codes.shape[1]
  node = np.zeros(len(codes), np.int64)
  for j in range(l):
    node = np.unique(node * v + codes[:, j], return_inverse=True)[1]
    if np.bincount(node).max() > v ** (l - j - 1):
      return False
  return True


def _in_own_process(m, d, options):
  call = [sys.executable, '-m', 'benchmarks.codes.tokenizer', '--one', str(m), str(d)]
  call += ['--epochs', str(options.epochs), '--subset', str(options.subset), '--codes', *options.codes]
  return json.loads(subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def one_level(m: int, d: int, v: int, slack: float, iterations: int = 10, seeds: int = 3) -> None:
  """Distortion, sizes and CPU-seconds of one split of m vectors into v, by us and by those who know no capacities."""
  try:
    import faiss
  except ImportError:
    sys.exit('--level compares with faiss, which is not installed: pip install faiss-cpu')
  from sklearn.cluster import KMeans, MiniBatchKMeans

  with tempfile.TemporaryDirectory() as folder:
    x = np.array(make_vectors(m, d, Path(folder) / 'vectors.npy'), np.float32)
  capacity = int(np.ceil(m / v * (1 + slack)))

  def ours(seed):
    return kmeans(x[None], np.ones((1, m), bool), v, capacity, iterations, np.random.default_rng(seed))[0]

  def by_faiss(seed, most=256):
    model = faiss.Kmeans(d, v, niter=iterations, seed=seed, max_points_per_centroid=most)
    model.train(x)
    return model.index.search(x, 1)[1][:, 0]

  methods = {
    f'ours, at most {capacity}': ours,
    'faiss, its sample': by_faiss,
    'faiss, all points': lambda seed: by_faiss(seed, m),
    'MiniBatchKMeans': lambda seed: MiniBatchKMeans(v, n_init=1, random_state=seed).fit_predict(x),
    'KMeans': lambda seed: KMeans(v, n_init=1, max_iter=iterations, random_state=seed).fit_predict(x),
  }
  print(f'\nOne level: m={m}, d={d}, v={v}; {seeds} seeds')
  print('| method | distortion | against faiss, all points | sizes | CPU-seconds |\n| --- | --- | --- | --- | --- |')
  rows = {name: [_judge(x, v, method, seed) for seed in range(seeds)] for name, method in methods.items()}
  base = np.mean([row[0] for row in rows['faiss, all points']])
  for name, of_seeds in rows.items():
    loss, low, high, cpu = np.mean(of_seeds, 0)
    print(f'| {name} | {loss:.4f} | {100 * (loss / base - 1):+.2f} % | {low:.0f}-{high:.0f} | {cpu:.2f} |')


def _judge(x, v, method, seed):
  with Clock() as clock:
    child = method(seed)
  number = np.bincount(child, minlength=v)
  means = np.stack([x[child == digit].mean(0) for digit in range(v)])
  return np.square(x - means[child]).sum(1).mean(), number.min(), number.max(), clock.cpu


def _report(rows, codes):
  stages = ['homogenise', *codes]
  print('| m | d | l, v |', *(f'{stage}, CPU-s (wall) |' for stage in stages), 'peak GB | vectors GB | unique |')
  print('| --- ' * (len(stages) + 6) + '|')
  for row in rows:
    times = ' | '.join(f'{row[stage]["cpu"]:.1f} ({row[stage]["wall"]:.0f})' for stage in stages)
    print(
      f'| {row["m"]:.0e} | {row["d"]} | {row["l"]}, {row["v"]} | {times} | {row["memory_gb"]:.1f} '
      f'| {row["file_gb"]:.2f} | {"yes" if row["unique"] else "NO"} |'
    )
  for stage in stages if len(rows) > 1 else []:
    slope = np.polyfit(np.log([row['m'] for row in rows]), np.log([row[stage]['cpu'] for row in rows]), 1)[0]
    print(f'{stage}: CPU-seconds grow as m^{slope:.3f}')
  for name in codes:
    print(f'{name}, share of variance by each digit alone: {np.round(rows[-1][f"{name} explains"], 3)}')
  print('cosines of the last row, before and after homogenisation:', *rows[-1]['cosine'])


def _plot(rows, codes, path):
  figure, axes = plt.subplots(figsize=(6, 4), layout='constrained')
  m = np.array([row['m'] for row in rows], float)
  for stage in ('homogenise', *codes):
    axes.loglog(m, [row[stage]['cpu'] for row in rows], 'o-', label=stage)
  axes.loglog(m, rows[0][codes[-1]]['cpu'] * m / m[0], ':', color='grey', label='in proportion to m')
  axes.set(xlabel='identities m', ylabel='CPU-seconds', title=f'Making codes, d = {rows[0]["d"]}')
  axes.legend()
  figure.savefig(path, dpi=100)
  plt.close(figure)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--m', type=int, nargs='+', default=[10_000, 30_000, 100_000, 300_000, 1_000_000])
  parser.add_argument('--d', type=int, default=512)
  parser.add_argument('--codes', nargs='+', choices=CODES, default=list(CODES))
  parser.add_argument('--epochs', type=int, default=3, help='of homogenisation')
  parser.add_argument('--subset', type=int, default=256, help='m_hat')
  parser.add_argument('--level', action='store_true', help='one level of 1e5 identities beside faiss and scikit-learn')
  parser.add_argument('--plot', type=Path, help='file for the plot')
  parser.add_argument('--one', type=int, nargs=2, metavar=('M', 'D'), help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.one:
    with tempfile.TemporaryDirectory() as folder:
      print(json.dumps(measure(*options.one, options, Path(folder))))
    return
  rows = [_in_own_process(m, options.d, options) for m in options.m]
  _report(rows, options.codes)
  if options.plot:
    _plot(rows, options.codes, options.plot)
  for v, slack in ((10, 0), (16, 0.05)) if options.level else ():
    one_level(100_000, options.d, v, slack)


if __name__ == '__main__':
  main()
