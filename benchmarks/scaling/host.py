"""What the host does for a step of `joint`: time and traffic of its rows, with a warm and with a cold page cache.

python -m benchmarks.scaling.host --folder=DIR --m 10000 1000000 10000000      # DIR: on the disk to be measured

A step reads N rows of d float32 from a file of m rows, puts them on the devices, takes as many back and writes them.
Parts are timed apart, median of --rounds; `read, cold` after the file was dropped from the page cache, without and with
notice of the rows --notice milliseconds ahead, as `RowFeed` gives it eight steps ahead. Needs Linux.
"""

import argparse
import mmap
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from benchmarks.device import processor
from benchmarks.scaling.row import BLOCK, vectors_of
from gif_jax.core.distributed.host_array import HostArray

WARM, COLD = ('read', 'to the device', 'from the device', 'write', 'notice'), ('read, cold', 'read, cold, with notice')
PARTS = (*WARM, *COLD)


def _file(folder: Path, m: int, d: int) -> HostArray:
  rows, block = HostArray.on_disk(folder, 'vectors', m, d, np.float32), vectors_of(np.arange(BLOCK), d)
  for start in tqdm(range(0, m, BLOCK), desc=f'writing {m} rows', unit='block'):
    rows.fill(block[: m - start], start)
  return rows


def _drop(rows: HostArray, path: Path) -> None:
  """Writes the file back and drops it from the page cache."""
  rows.own.flush()
  rows.own._mmap.madvise(mmap.MADV_DONTNEED)
  with open(path, 'rb') as file:
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read_from_disk() -> int:
  """Bytes that this process has had read from disks."""
  with open('/proc/self/io') as file:
    return next(int(line.split()[1]) for line in file if line.startswith('read_bytes'))


class Timed:
  """Seconds and bytes from the disk, by part."""

  def __init__(self):
    self.seconds, self.disk = {part: [] for part in PARTS}, {part: [] for part in PARTS}

  def __call__(self, part: str, action: Callable, *arguments: Any) -> Any:
    before, started = _read_from_disk(), time.perf_counter()
    result = action(*arguments)
    self.seconds[part].append(time.perf_counter() - started)
    self.disk[part].append(_read_from_disk() - before)
    return result


def measure(rows: HostArray, path: Path, n: int, rounds: int, notice: float) -> Timed:
  """All parts, `rounds` times, each with other rows."""
  timed, rng = Timed(), np.random.default_rng(0)

  def some():
    label = rng.integers(0, rows.m, n)
    return label, rows.own_place(label)[1]

  for _ in tqdm(range(rounds), desc=f'{rows.m} rows', unit='round'):
    label, place = some()
    timed('notice', rows.expect, label)
    read = timed('read', rows.own.__getitem__, place)
    moved = timed('to the device', lambda read: jax.block_until_ready(jax.device_put(read)), read) + 0
    moved.block_until_ready()
    back = timed('from the device', np.asarray, moved)
    distinct, first = np.unique(label, return_index=True)
    timed('write', rows.write, distinct, back[first])
  for part in COLD:
    for _ in tqdm(range(max(3, rounds // 5)), desc=part, unit='round'):
      label, place = some()
      _drop(rows, path)
      if part.endswith('notice'):
        rows.expect(label)
        time.sleep(notice / 1000)
      timed(part, rows.own.__getitem__, place)
  return timed


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    '--folder', type=Path, default=Path('runs/rows'), help='where the files lie while they are needed'
  )
  parser.add_argument('--m', type=int, nargs='+', default=[10**4, 10**6, 10**7])
  parser.add_argument('--n', type=int, default=2048, help='rows of a step')
  parser.add_argument('--d', type=int, default=512)
  parser.add_argument('--rounds', type=int, default=50)
  parser.add_argument('--notice', type=float, default=500, help='milliseconds')
  options = parser.parse_args()
  print(
    f'{time.strftime("%Y-%m-%d")}, {processor()}, {jax.devices()[0].device_kind}, N = {options.n}, d = {options.d}: '
  )
  print(f'{8 * options.n * options.d / 1e6:.1f} MB a step to and from the devices, half each way')
  print(f'| m | file | {" | ".join(f"{part}, ms" for part in PARTS)} | MB from the disk, cold |')
  print('| --- ' * (len(PARTS) + 3) + '|')
  for m in options.m:
    if 4 * m * options.d > 0.9 * shutil.disk_usage(options.folder.parent).free:
      print(f'| {m} | {4 * m * options.d / 1e9:.3g} GB: no room |')
      continue
    rows = _file(options.folder, m, options.d)
    timed = measure(rows, options.folder / 'vectors-0.npy', options.n, options.rounds, options.notice)
    cells = [f'{1e3 * np.median(timed.seconds[part]):.3g}' for part in PARTS]
    disk = np.median(timed.disk['read, cold']) / 1e6
    print(f'| {m} | {4 * m * options.d / 1e9:.3g} GB | {" | ".join(cells)} | {disk:.3g} |')
    rows.remove()


if __name__ == '__main__':
  main()
