"""CPU-seconds and memory of IJB-C, 1:1, from files to metrics, on a made-up set of its size and form.

python -m benchmarks.evaluation.ijb            # 1.3 GB in the temporary folder, removed afterwards
python -m benchmarks.evaluation.ijb --small    # a hundredth of the pairs, to see that it works
python -m benchmarks.evaluation.ijb --workdir=runs/quickstart    # the command on pictures, with that run's network

469 375 embeddings of 512 float32, memory-mapped, a subject's centre with noise of varying strength; 3531 subjects, each
with a gallery template, and 19 593 probes; 15 658 489 pairs of a gallery template and a probe, 19 557 of them genuine.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from benchmarks.processes import cpu_seconds
from gif_jax.data.alignment.geometry import template
from gif_jax.data.synthetic import FaceRenderer
from gif_jax.evaluation.benchmark import measure as measure_benchmark
from gif_jax.evaluation.ijb import protocol
from gif_jax.evaluation.registry import open_benchmark

ROOT = Path(__file__).parents[2]

_BLOCK = 16384  # embeddings made at a time
_PICTURES, _PICTURE = 64, 200  # files and pixels a side
_SIDE = 112  # pixels a side of a face in them


class Shape(NamedTuple):
  """How large a set is."""

  images: int
  subjects: int
  probes: int
  pairs: int
  genuine: int
  d: int


IJBC = Shape(469_375, 3531, 19_593, 15_658_489, 19_557, 512)
SMALL = Shape(20_000, 353, 1959, 150_000, 1900, 64)


def make(folder: Path, shape: Shape, pictures: bool) -> None:
  """Writes meta/ and embeddings.npy; with `pictures` loose_crop/ instead, files that the lists name over and over."""
  rng = np.random.default_rng(0)
  (folder / 'meta').mkdir()
  t = shape.subjects + shape.probes
  ids = np.sort(rng.choice(7 * t, t, replace=False))  # not contiguous
  role = rng.permutation(t)
  gallery, probes = role[: shape.subjects], role[shape.subjects :]
  subject = np.empty(t, np.int64)
  subject[gallery] = np.arange(shape.subjects)
  subject[probes] = rng.integers(shape.subjects, size=shape.probes)
  template = np.append(np.arange(t), rng.choice(t, shape.images - t, p=rng.dirichlet(np.full(t, 0.3))))
  rng.shuffle(template)
  quality = rng.beta(4, 2, size=shape.images)
  _write_images(rng, folder / 'meta', ids[template], quality, pictures)
  if pictures:
    _write_pictures(folder / 'loose_crop')
  else:
    _write_embeddings(rng, folder, shape, subject[template], quality)
  _write_pairs(rng, folder / 'meta' / 'ijbc_template_pair_label.txt', shape, ids, gallery, probes, subject)


def _write_images(rng, meta, template_id, quality, pictures):
  media = rng.integers(1, 8, size=len(template_id)) * 10_000
  points = (rng.normal(template(_SIDE), 3, (len(template_id), 5, 2)) + (_PICTURE - _SIDE) / 2).reshape(-1, 10).round(3)
  with (
    (meta / 'ijbc_face_tid_mid.txt').open('w') as faces,
    (meta / 'ijbc_name_5pts_score.txt').open('w') as points_file,
  ):
    for i, row in enumerate(zip(template_id.tolist(), media.tolist(), points.tolist(), quality.tolist())):
      name = f'{i % _PICTURES if pictures else i + 1}.jpg'
      faces.write(f'{name} {row[0]} {row[1]}\n')
      points_file.write(f'{name} {" ".join(map(str, row[2]))} {row[3]:.6f}\n')


def _write_pictures(folder):
  """Rendered faces, as loosely cropped as IJB's."""
  folder.mkdir()
  images = FaceRenderer(size=_PICTURE).render(np.arange(_PICTURES), np.zeros(_PICTURES, np.int64))
  for i, image in enumerate(images):
    assert cv2.imwrite(str(folder / f'{i}.jpg'), image[..., ::-1])


def _write_embeddings(rng, folder, shape, subject, quality):
  centre = rng.normal(size=(shape.subjects, shape.d)).astype(np.float32)
  centre += rng.normal(size=shape.d).astype(np.float32)
  file = np.lib.format.open_memmap(folder / 'embeddings.npy', 'w+', np.float32, (shape.images, shape.d))
  for start in range(0, shape.images, _BLOCK):
    rows = slice(start, start + _BLOCK)
    noise = rng.standard_normal((len(subject[rows]), shape.d), np.float32)
    file[rows] = (centre[subject[rows]] + noise * (6 - 5 * quality[rows, None])) * quality[rows, None]
  file.flush()


def _write_pairs(rng, path, shape, ids, gallery, probes, subject):
  """Gallery templates one after another, each with probes of others and its own."""
  genuine = rng.choice(shape.probes, shape.genuine, replace=False)
  own = [[] for _ in gallery]
  for probe in probes[genuine].tolist():
    own[subject[probe]].append(f'{ids[probe]} 1\n')
  impostors = np.full(len(gallery), (shape.pairs - shape.genuine) // len(gallery))
  impostors[: (shape.pairs - shape.genuine) % len(gallery)] += 1
  lines = np.array([f'{i} 0\n' for i in ids[probes].tolist()], object)
  with path.open('w') as file:
    for i, count in enumerate(impostors.tolist()):
      others = rng.choice(np.flatnonzero(subject[probes] != i), count, replace=False)
      head = f'{ids[gallery[i]]} '
      file.write(''.join(head + line for line in (*lines[others].tolist(), *own[i])))


def _status(key):
  line = next(line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith(key))
  return int(line.split()[1]) * 1024 / 1e6


class Stages:
  """CPU-seconds and largest memory of functions, which are replaced by ones that keep count."""

  def __init__(self) -> None:
    self.cpu: dict[str, float] = {}
    self.peak: dict[str, float] = {}

  def counted(self, name: str, function: Callable) -> Callable:
    def run(*arguments: Any, **settings: Any) -> Any:
      Path('/proc/self/clear_refs').write_text('5')  # the largest memory is what it is now
      before = cpu_seconds()
      result = function(*arguments, **settings)
      self.cpu[name] = self.cpu.get(name, 0) + cpu_seconds() - before
      self.peak[name] = max(self.peak.get(name, 0), _status('VmHWM'))
      return result

    return run

  def count(self, name: str, owner: Any, attribute: str) -> None:
    setattr(owner, attribute, self.counted(name, getattr(owner, attribute)))


def measure(folder: Path, replicates: int) -> None:
  """Prints a Markdown table, and the metrics."""
  stages, before, started = Stages(), cpu_seconds(), time.perf_counter()
  for name, attribute in {
    'templates of four modes': 'template_embeddings',
    'scores': 'pair_scores',
    'ROC': 'roc_curve',
    'histograms': 'histogram',
    'hardest pairs': '_hardest',
  }.items():
    stages.count(name, protocol, attribute)
  stages.count('intervals', protocol.Weights, 'intervals')
  stages.count('subjects of pairs', protocol, 'Weights')
  benchmark = stages.counted('read', open_benchmark)(str(folder), 112)
  results = measure_benchmark(benchmark, np.load(folder / 'embeddings.npy', mmap_mode='r'), replicates=replicates)
  print('| stage | CPU-s | largest memory, MB |\n| --- | --- | --- |')
  for name, cpu in stages.cpu.items():
    print(f'| {name} | {cpu:.1f} | {stages.peak[name]:.0f} |')
  print(f'| all | {cpu_seconds() - before:.1f} | {max(stages.peak.values()):.0f} |')
  print(f'{time.perf_counter() - started:.0f} s; {results[0].counts}')
  for result in results:
    metrics = {name: f'{value:.4f} {result.intervals.get(name)}' for name, value in result.metrics.items()}
    print(result.mode, metrics)


def main() -> None:
  """Makes the set and measures in a process of its own, whose memory is printed."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--folder', type=Path, help='where the data is made; default: the system temporary folder')
  parser.add_argument('--small', action='store_true', help='a hundredth of the pairs')
  parser.add_argument('--replicates', type=int, default=1000, help='of the bootstrap')
  parser.add_argument('--workdir', type=Path, help='a run whose network embeds pictures; default: ready embeddings')
  parser.add_argument('--made', type=Path, help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.made:
    return measure(arguments.made, arguments.replicates)
  with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
    make(Path(name), SMALL if arguments.small else IJBC, pictures=arguments.workdir is not None)
    call = [sys.executable, '-m', 'benchmarks.evaluation.ijb', f'--made={name}']
    if arguments.workdir:
      workdir = shutil.copytree(arguments.workdir / 'checkpoints', Path(name) / 'run' / 'checkpoints').parent
      call = [sys.executable, '-m', 'gif_jax', 'evaluate', f'--workdir={workdir}', f'--benchmarks={name}']
    subprocess.run([*call, f'--replicates={arguments.replicates}'], cwd=ROOT, env=os.environ, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f'all: {used.ru_utime + used.ru_stime:.0f} CPU-s, largest memory {used.ru_maxrss * 1024 / 1e6:.0f} MB')


if __name__ == '__main__':
  main()
