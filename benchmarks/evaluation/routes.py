"""Routes of logarithmic cost to an identity beside brute force: how often they end at the same person, at what cost.

OMP_NUM_THREADS=1 XLA_FLAGS=--xla_cpu_multi_thread_eigen=false python -m benchmarks.evaluation.routes --m 100000 1000000
python -m benchmarks.evaluation.routes --run runs/accuracy/thousand/joint_0    # a finished run, no made-up vectors

Brute force compares an embedding with every vector. Made-up vectors: sqrt(m) clusters, half of the variance within
them, a falling spectrum (about 20 directions that matter; trained code vectors of 1000 people have 30); embeddings are
vectors with noise of that spectrum. Work is counted in products z . h of d multiplications, those with centroids and
the heads' included. CPU time is of one query in a batch of all, without the heads'; brute force's and a search's are of
one process. --means searches the mean embeddings of people's training images instead of what the run trained, which
costs a pass over them. Writes OUTPUT.md, OUTPUT.json and OUTPUT.png.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.finished import open_run
from gif_jax.codes.size import choose_size
from gif_jax.codes.tree import build_codes
from gif_jax.commands.flags import quiet_libraries
from gif_jax.core.plots import new_figure, save, tidy
from gif_jax.core.storage.files import write_json, write_text
from gif_jax.identification import rerank, vector_tree
from gif_jax.identification.beam_search import build_index, decode
from gif_jax.identification.nearest import nearest
from gif_jax.identification.routes import ClosedSet
from gif_jax.models.extraction.extract import extract

BEAMS = (1, 2, 5, 10, 20, 50, 100, 200)
BLOCK = 65536
FULL = 100_000  # people, at most, for a tree without room, which takes long to make


class Problem(NamedTuple):
  """Whom to find: h float32 [m, d], z float32 [n, d], label int64 [n]; of a run its codes and digits as well."""

  name: str
  h: np.ndarray
  z: np.ndarray
  label: np.ndarray
  codes: np.ndarray | None = None
  log_probs: np.ndarray | None = None
  v: int = 0
  heads: float = 0.0  # multiplications of the heads over d


def make_problem(m: int, d: int, queries: int, noise: float, seed: int = 0) -> Problem:
  """Clustered unit vectors and embeddings near them. noise: standard deviation, that of a vector being sqrt(2)."""
  rng = np.random.default_rng(seed)
  spectrum = (1 / (1 + np.arange(d, dtype=np.float32) / 8)).astype(np.float32)
  clusters = rng.standard_normal((max(1, round(m**0.5)), d), np.float32)
  h = np.empty((m, d), np.float32)
  for start in range(0, m, BLOCK):
    some = h[start : start + BLOCK]
    some[:] = clusters[rng.integers(len(clusters), size=len(some))] + rng.standard_normal(some.shape, np.float32)
    some *= spectrum
    some /= np.linalg.norm(some, axis=1, keepdims=True)
  label = rng.integers(m, size=queries)
  z = h[label] + noise * spectrum / np.linalg.norm(spectrum) * rng.standard_normal((queries, d), np.float32)
  return Problem(f'made up, m = {m:,}', h, z / np.linalg.norm(z, axis=1, keepdims=True), label)


def problem_of_run(argument: str, cache: Path | None, means: bool) -> Problem:
  """The held-out images of a finished run. means: among mean embeddings, without digits."""
  run = open_run(argument, cache)
  parts = ('embedding', 'log_probs') if run.table.l else ('embedding',)
  out = extract(lambda images: run.predictions(images, *parts), run.faces.held_out, run.config.eval.batch_size)
  h = np.asarray(run.trained.vectors, np.float32)
  name = f'{run.row} {run.seed}, m = {len(h):,}'.replace(' ,', ',')
  if means:
    z, label, h = run.embeddings(run.faces.train), run.faces.train.labels(), np.zeros_like(h)
    np.add.at(h, label, z)
    return Problem(f'{name}, mean embeddings', h, out['embedding'], run.faces.held_out.labels())
  l, v, d, p = run.table.l, run.table.v, run.config.model.d, run.config.model.projection
  digits = (run.trained.codes, out.get('log_probs'), v, l * p * (d + v) / d)
  return Problem(name, h, out['embedding'], run.faces.held_out.labels(), *digits)


class Route:
  """A search with a beam: candidates int [n, K], and products with centroids that it takes per query."""

  def __init__(self, name: str, trees: list[vector_tree.Tree], z: np.ndarray):
    self.name, self.trees, self.z = name, trees, z

  def candidates(self, beam: int) -> np.ndarray:
    return rerank.together(*(np.asarray(vector_tree.candidates(one, self.z, beam)) for one in self.trees))

  def products(self, beam: int) -> float:
    return sum(_products(one, beam) for one in self.trees)


class Digits(Route):
  """The most likely codes."""

  def __init__(self, problem: Problem):
    self.name, self.problem, self.index = 'digits, reranked', problem, build_index(problem.codes, problem.v)

  def candidates(self, beam: int) -> np.ndarray:
    return np.asarray(decode(self.index, self.problem.log_probs, beam, beam)[0])

  def products(self, beam: int) -> float:
    return self.problem.heads


def _products(one, beam):
  """Centroids looked at: all of the level where the search begins, then the children of the beam, on average."""
  tables = [np.asarray(table) for table in one.index.children]
  start = max(j for j, table in enumerate(tables) if len(table) <= beam * table.shape[1])
  below = sum(min(beam, len(table)) * (table >= 0).sum(1).mean() for table in tables[start:-1])
  return (len(tables[start]) if start else 0) + below


def routes_of(problem: Problem) -> list[Route]:
  """Trees by clustering with and without room, one and two of them; of a run its codes' trie and its digits too."""
  m = len(problem.h)
  clock = time.process_time()
  grown = [vector_tree.grow(problem.h, seed) for seed in (0, 1)]
  print(f'{problem.name}: a tree takes {(time.process_time() - clock) / 2:.0f} CPU-s to make', flush=True)
  routes = [Route('two trees', grown, problem.z), Route('one tree', grown[:1], problem.z)]
  if m <= FULL:
    l, v = choose_size(m)
    full = vector_tree.plant(build_codes(problem.h, l, v, progress=False), problem.h, v)
    routes.append(Route('one tree, no room', [full], problem.z))
  if problem.codes is not None:
    planted = vector_tree.plant(problem.codes, problem.h, problem.v)
    routes += [Route("trie of the run's codes", [planted], problem.z), Digits(problem)]
  return routes


def _timed(function):
  """What it gives, and CPU seconds of a second call: the first one compiles."""
  function()
  start = time.process_time()
  return function(), time.process_time() - start


def measure(problem: Problem) -> list[dict]:
  """A row for each route and beam: recall (the answer is brute force's), top1, products, and ratios to brute force."""
  wanted, brute = _timed(lambda: nearest(problem.z, problem.h, 1)[:, 0])
  n, m = len(wanted), len(problem.h)
  rows = [
    {
      'problem': problem.name,
      'route': 'brute force',
      'beam': None,
      'recall': 1.0,
      'top1': float((wanted == problem.label).mean()),
      'products': m,
      'work': 1.0,
      'cpu_ms': 1e3 * brute / n,
      'time': 1.0,
    }
  ]
  for route in routes_of(problem):
    for beam in BEAMS:

      def search(route=route, beam=beam):
        candidates = route.candidates(beam)
        best = rerank.best(candidates, rerank.cosines(problem.z, candidates, problem.h), 1)
        return np.asarray(best)[:, 0], (candidates >= 0).sum(1).mean()

      (answers, leaves), cpu = _timed(search)
      products = float(route.products(beam) + leaves)
      rows.append(
        {
          'problem': problem.name,
          'route': route.name,
          'beam': beam,
          'recall': float((answers == wanted).mean()),
          'top1': float((answers == problem.label).mean()),
          'products': products,
          'work': products / m,
          'cpu_ms': 1e3 * cpu / n,
          'time': cpu / brute,
        }
      )
      print(_line(rows[-1]), flush=True)
      if rows[-1]['recall'] == 1 or products > m:
        break
  return rows + ([_fused(problem)] if problem.codes is not None else [])


def _fused(problem):
  """Digits and trees together, as a run's summary has it."""

  class Table(NamedTuple):
    codes: np.ndarray
    v: int

  seen = ClosedSet(problem.z, problem.log_probs, problem.label, Table(problem.codes, problem.v), problem.h, 50, FULL)
  answers, wanted = seen.fused()[:, 0], seen.nearest()[:, 0]
  return {
    'problem': problem.name,
    'route': f'fused, weights {seen.weights[0]:g} and {seen.weights[1]:g}',
    'beam': 50,
    'recall': float((answers == wanted).mean()),
    'top1': float((answers == problem.label).mean()),
    'products': None,
    'work': None,
    'cpu_ms': None,
    'time': None,
  }


def _line(row):
  cells = [row['route'], '' if row['beam'] is None else str(row['beam']), f'{100 * row["recall"]:.1f}']
  cells += [f'{100 * row["top1"]:.2f}']
  cells += (
    [f'{row["products"]:.0f}', f'{row["work"]:.2g}', f'{row["cpu_ms"]:.3f}', f'{row["time"]:.2g}']
    if (row['products'] is not None)
    else [''] * 4
  )
  return '| ' + ' | '.join(cells) + ' |'


def table_of(rows: list[dict]) -> str:
  """Markdown: a table for each problem."""
  titles = ('route', 'beam', 'as brute force, %', 'top 1, %', 'products', 'share', 'CPU-ms', 'share')
  text = ''
  for name in dict.fromkeys(row['problem'] for row in rows):
    lines = [_line(row) for row in rows if row['problem'] == name]
    text += '\n'.join([name, '', '| ' + ' | '.join(titles) + ' |', '| --- ' * len(titles) + '|', *lines, '', ''])
  return text


def plot(rows: list[dict], path: Path) -> None:
  """Recall against work, a panel for each problem."""
  names = list(dict.fromkeys(row['problem'] for row in rows))
  figure = new_figure(5 * len(names), 4)
  for i, name in enumerate(names):
    axes = figure.add_subplot(1, len(names), i + 1)
    mine = [row for row in rows if row['problem'] == name and row['beam'] and row['products']]
    for route in dict.fromkeys(row['route'] for row in mine):
      points = [(row['work'], 100 * row['recall']) for row in mine if row['route'] == route]
      axes.plot(*zip(*points), marker='.', label=route)
    axes.axvline(1, color='0.5', linestyle=':')
    axes.set(xscale='log', title=name, xlabel="share of brute force's products", ylabel='same answer, %')
    tidy(axes)
  save(figure, path)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--m', type=int, nargs='+', default=[])
  parser.add_argument('--d', type=int, default=256)
  parser.add_argument('--queries', type=int, default=1000)
  parser.add_argument('--noise', type=float, default=0.8)
  parser.add_argument('--run', nargs='+', default=[], metavar='WORKDIR[@CONFIG]')
  parser.add_argument('--means', action='store_true', help='of runs: mean embeddings beside the trained vectors')
  parser.add_argument('--cache', type=Path, help='rendered faces of the runs')
  parser.add_argument('--output', type=Path, default=Path('runs/routes'))
  options = parser.parse_args()
  if not (options.m or options.run):
    parser.error('give --m or --run')
  quiet_libraries()
  rows = []
  for run in options.run:
    for means in (False, True)[: 1 + options.means]:
      rows += measure(problem_of_run(run, options.cache, means))
  for m in options.m:
    rows += measure(make_problem(m, options.d, options.queries, options.noise))
  write_json(options.output.with_suffix('.json'), rows)
  write_text(options.output.with_suffix('.md'), table_of(rows))
  plot(rows, options.output.with_suffix('.png'))
  print(table_of(rows))


if __name__ == '__main__':
  main()
