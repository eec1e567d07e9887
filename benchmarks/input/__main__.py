"""Speed and memory of the input pipeline: beside decoding alone, and beside PyTorch's DataLoader doing the same work.

python -m benchmarks.input --torch=PYTHON                  # PYTHON: an interpreter that has torch and cv2
python -m benchmarks.input --torch=PYTHON --records=1000000 --folder=DIR    # 7 GB in DIR, removed afterwards

Images are rendered faces with noise, 112x112, JPEG of quality 95, 6.4 kB; a few thousand of them are repeated. Every
number comes from a process of its own, and all are taken in turn, round after round, so that what else the machine does
meets all alike. Needs Linux.
"""

import argparse
import importlib.util
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from benchmarks.data.jpegs import IMAGES, PEOPLE, SIZE, render
from benchmarks.processes import cpu_seconds, private_mb, rate
from gif_jax.codes import size, tree
from gif_jax.codes.table import CodeTable
from gif_jax.data.augment import Chances
from gif_jax.data.crops import Crops
from gif_jax.data.formats.packed import Packed, write_index
from gif_jax.data.formats.records import Person
from gif_jax.training import input_pipeline

BATCH, WORKERS = 128, (0, 1, 2)


def make(folder: Path, records: int) -> None:
  """A set of so many records in the training format, and a code table of its people."""
  encoded = render()
  lengths = np.resize([len(image) for image in encoded], records)
  joined = b''.join(encoded)
  data = folder / 'data'
  data.mkdir(parents=True)
  with (data / 'images.bin').open('wb') as file:
    for _ in tqdm(range(-(-records // len(encoded))), desc='writing', unit='copy'):
      file.write(joined)
  people = -(-records // IMAGES)
  named = [Person(str(i), f'made up:{i}') for i in range(people)]
  crcs, labels = np.resize([zlib.crc32(image) for image in encoded], records), np.arange(records) // IMAGES
  write_index(data, np.cumsum(lengths) - lengths, lengths, labels, crcs, named, size=SIZE, origin='')
  vectors = np.random.default_rng(0).normal(size=(people, 512)).astype(np.float32)
  vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
  l, v = size.choose_size(people)
  codes = tree.random_codes(people, l, v)
  CodeTable.write(folder / 'table', codes, vectors, v=v, encoder='', seed=0, label_space='', settings={})


def _stream(folder, workers):
  records = Packed(folder / 'data')
  faces = Crops(records, SIZE, np.arange(len(records)), records.labels())
  table = CodeTable.open(folder / 'table')
  return input_pipeline.batches(faces, table, batch_size=BATCH, seed=0, workers=workers, chances=Chances(flip=0.5))


# Each measures one thing, in a process of its own: (folder, batches, workers) -> dict.


def _raw(folder, batches, workers):
  """cv2.imdecode alone, of bytes in memory."""
  del workers
  cv2.setNumThreads(0)
  records = Packed(folder / 'data')
  places = np.random.default_rng(0).integers(0, len(records), PEOPLE * IMAGES)
  encoded = iter([np.frombuffer(records[i], np.uint8) for i in places.tolist()] * (1 + batches * BATCH // len(places)))

  def take():
    for _ in range(BATCH):
      cv2.imdecode(next(encoded), cv2.IMREAD_COLOR_RGB)
    return BATCH

  return rate(take, 1, batches - 1)


def _ours(folder, batches, workers):
  """The full pipeline."""
  stream = _stream(folder, workers)
  speed = rate(lambda: len(next(stream)['image']), 2 + 2 * workers, batches)
  stream.close()
  return speed


def _first(folder, batches, workers):
  """When the first batch is ready."""
  del batches
  stream = _stream(folder, workers)
  next(stream)
  ready = {'at': time.time()}
  stream.close()
  return ready


def _reads(folder, batches, workers):
  """Random reads one by one: CPU time, memory after 0, 10 000 and 100 000 of them, what is sent to other processes."""
  del batches, workers
  records = Packed(folder / 'data')
  places = np.random.default_rng(0).integers(0, len(records), 100_000).tolist()
  memory, started = [private_mb()], cpu_seconds()
  for part in (places[:10_000], places[10_000:]):
    for i in part:
      records[i]
    memory.append(private_mb())
  return {'us': (cpu_seconds() - started) / len(places) * 1e6, 'mb': memory, 'pickled': len(pickle.dumps(records))}


def _memory(folder, batches, workers):
  """Memory of the pipeline after the first batch, 10 000 and 100 000 images."""
  del batches
  stream = _stream(folder, workers)
  memory, taken = [], 0
  for images in (BATCH, 10_000, 100_000):
    while taken < images:
      taken += len(next(stream)['image'])
    memory.append(private_mb())
  stream.close()
  return {'mb': memory}


MEASURES = {'raw': _raw, 'ours': _ours, 'first': _first, 'reads': _reads, 'memory': _memory}


def _apart(name, workers, options, python=sys.executable):
  """One measure from a process of its own."""
  arguments = ['-m', 'benchmarks.input', '--one', name, str(workers), '--folder', str(options.folder)]
  arguments += ['--batches', str(options.batches)]
  if name == 'torch':
    numbers = map(str, (workers, BATCH, options.batches))
    arguments = ['-m', 'benchmarks.input.torch_loader', str(options.folder / 'data'), *numbers]
  environment = os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.getcwd()}
  started = time.time()
  run = subprocess.run([python, *arguments], check=True, stdout=subprocess.PIPE, text=True, env=environment)
  return json.loads(run.stdout.splitlines()[-1]) | {'started': started}


def measure(options: argparse.Namespace) -> dict:
  """{'rates': {name: rounds of images per (CPU-second, second)}, 'first': ..., 'reads': ..., 'memory': ...}."""
  rows = [('raw', 0), *(('ours', w) for w in WORKERS), *(('torch', w) for w in WORKERS if options.torch)]
  rates = {f'{name} {workers}': [] for name, workers in rows}
  for _ in tqdm(range(options.rounds), desc='rates', unit='round'):
    for name, workers in rows:
      speed = _apart(name, workers, options, options.torch if name == 'torch' else sys.executable)
      rates[f'{name} {workers}'].append([speed['cpu'], speed['wall']])
  firsts = [[_apart('first', w, options) for _ in range(options.rounds)] for w in WORKERS]
  return {
    'records': options.records,
    'rates': rates,
    'first': [float(np.median([start['at'] - start['started'] for start in row])) for row in firsts],
    'reads': [_apart('reads', 0, options) for _ in range(options.rounds)],
    'memory': _apart('memory', 2, options)['mb'],
  }


def report(results: dict) -> str:
  """The table and numbers of benchmarks/README.md."""
  rates = {name: np.array(rounds) for name, rounds in results['rates'].items()}
  lines = ['| | workers | images per CPU-second | against decoding alone | against torch | images/s |']
  lines.append('| --- ' * 6 + '|')
  for name, rounds in rates.items():
    kind, workers = name.split()
    share = 100 * np.median(rounds[:, 0] / rates['raw 0'][:, 0])
    other = rates.get(f'torch {workers}')
    ratio = f'{np.median(rounds[:, 0] / other[:, 0]):.2f}' if kind == 'ours' and other is not None else ''
    cpu, wall = np.median(rounds, 0)
    lines.append(f'| {kind} | {workers} | {cpu:.0f} | {share:.0f} % | {ratio} | {wall:.0f} |')
  reads = results['reads']
  us = np.median([row['us'] for row in reads])
  lines += [
    '',
    f'{results["records"]} records',
    f'random read: {us:.1f} us of CPU time; the reader pickled: {reads[0]["pickled"]} bytes',
    f'anonymous memory of the reader after 0, 10 000, 100 000 reads: {_listed(reads[0]["mb"])} MB',
    f'of the pipeline with 2 workers after the first batch, 10 000, 100 000 images: {_listed(results["memory"])} MB',
    f'start of a process to its first batch with 0, 1, 2 workers: {_listed(results["first"])} s',
  ]
  return '\n'.join(lines)


def _listed(values):
  return ', '.join(f'{value:.1f}' for value in values)


def _torch_here():
  return sys.executable if importlib.util.find_spec('torch') else ''


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--records', type=int, default=100_000)
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--batches', type=int, default=200, help='in a measurement')
  parser.add_argument('--torch', default=_torch_here(), help='interpreter with torch and cv2; without, no rows for it')
  parser.add_argument('--folder', type=Path, help='where the records are written (and removed); a temporary folder')
  parser.add_argument('--output', type=Path, default=Path('runs/input.json'))
  parser.add_argument('--one', nargs=2, metavar=('NAME', 'WORKERS'), help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.one:
    name, workers = options.one
    print(json.dumps(MEASURES[name](options.folder, options.batches, int(workers))))
    return
  with tempfile.TemporaryDirectory(dir=options.folder) as folder:
    options.folder = Path(folder)
    make(options.folder, options.records)
    results = measure(options)
  options.output.parent.mkdir(parents=True, exist_ok=True)
  options.output.write_text(json.dumps(results, indent=2))
  print(report(results))


if __name__ == '__main__':
  main()
