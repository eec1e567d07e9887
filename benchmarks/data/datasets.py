"""Images per CPU-second of the commands that read whole data sets: convert, its outputs, audit.

python -m benchmarks.data.datasets --folder=DIR --copies=5     # 20 000 images; 1 GB in DIR, removed afterwards
python -m benchmarks.data.datasets --index=42474557 --people=2059906     # how long a set of that many takes to open

Rendered faces with noise, 112x112, JPEG of quality 95, 6.4 kB, 10 of each person, in one sub-folder per person; beyond
4000 of them copies. Time includes the start of the command and of its processes, CPU time that of all of them.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.data.jpegs import IMAGES, SIZE, render
from gif_jax import config
from gif_jax.data.formats.packed import write_index
from gif_jax.data.formats.records import Person
from gif_jax.data.sets.open import open_faces

BYTES = 6600  # of an image, in a set that is only opened
COMMANDS = {
  'convert, folder to training format': ['convert', '--input=faces', '--output=packed'],
  'convert, brought to 96x96 as PNG': ['convert', '--input=faces', '--output=small', '--size=96'],
  'convert, training format to RecordIO': ['convert', '--input=packed', '--output=recordio/train.rec'],
  'convert, RecordIO to training format': ['convert', '--input=recordio', '--output=again'],
  'audit': ['audit', '--input=packed', '--output=report'],
}


def make(folder: Path, copies: int) -> int:
  """Writes the folder of people; returns the number of images."""
  encoded = render()
  for copy in range(copies):
    for i, image in enumerate(encoded):
      path = folder / f'person{copy:03}{i // IMAGES:04}' / f'{i % IMAGES}.jpg'
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(image)
  return copies * len(encoded)


def write_empty(folder: Path, images: int, people: int) -> None:
  """The index of a set in the training format; its images.bin is a hole of the right length, which takes no disk."""
  folder.mkdir()
  with (folder / 'images.bin').open('wb') as file:
    file.truncate(images * BYTES)
  named = [Person(str(i), f'made up:{i}') for i in range(people)]
  lengths, crcs, labels = np.full(images, BYTES), np.zeros(images, np.uint32), np.arange(images) % people
  write_index(folder, np.arange(images) * BYTES, lengths, labels, crcs, named, size=SIZE, origin='')


def open_once(folder: Path, evaluated: int) -> None:
  """Opens the set as a run does, `evaluated` people kept apart, in this process, whose memory is printed."""
  settings = config.default()
  settings.data.source, settings.data.path, settings.data.held_out = 'records', str(folder), 0
  settings.eval.identities, settings.eval.validation_identities = evaluated, 0
  started = time.perf_counter()
  faces = open_faces(settings, None)
  seconds = time.perf_counter() - started
  peak = next(line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM'))
  memory = int(peak.split()[1]) * 1024 / 1e6  # a child's ru_maxrss would be that of the process that forked it
  print(f'{len(faces.train)} images of {faces.m} people: {seconds:.1f} s, {memory:.0f} MB at most, maps included')


def main() -> None:
  """Prints a Markdown table."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--folder', type=Path, help='where the data is made; default: the system temporary folder')
  parser.add_argument('--copies', type=int, default=5, help='of 4000 images')
  parser.add_argument('--index', type=int, default=0, help='images of a set that is only opened')
  parser.add_argument('--people', type=int, default=0, help='and its people')
  arguments = parser.parse_args()
  root = Path(__file__).parents[2]
  with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
    if arguments.index:
      write_empty(Path(name) / 'set', arguments.index, arguments.people)
      for evaluated in (0, 400):
        call = f'from benchmarks.data.datasets import *; open_once(Path({name!r}) / "set", {evaluated})'
        subprocess.run([sys.executable, '-c', call], cwd=root, check=True)
      return
    images = make(Path(name) / 'faces', arguments.copies)
    (Path(name) / 'recordio').mkdir()
    print('| command | images per CPU-second | images/s |\n| --- | --- | --- |')
    for title, command in COMMANDS.items():
      before, started = os.times(), time.perf_counter()
      call = [sys.executable, '-m', 'gif_jax', command[0], *command[1:]]
      subprocess.run(call, cwd=name, env=os.environ | {'PYTHONPATH': str(root)}, check=True, capture_output=True)
      wall, after = time.perf_counter() - started, os.times()
      cpu = after.children_user + after.children_system - before.children_user - before.children_system
      print(f'| {title} | {images / cpu:.0f} | {images / wall:.0f} |', flush=True)


if __name__ == '__main__':
  main()
