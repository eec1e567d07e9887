"""The work of benchmarks.input by PyTorch's DataLoader; started by it, in an interpreter that has torch and cv2.

python -m benchmarks.input.torch_loader FOLDER WORKERS BATCH BATCHES
"""

import json
import os
import random
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.processes import rate


class Faces(torch.utils.data.Dataset):
  """The training format of gif_jax, read as fast as we know: image uint8 [112, 112, 3] RGB flipped at random, label."""

  def __init__(self, folder: Path):
    arrays = (np.load(folder / f'{name}.npy', mmap_mode='r') for name in ('offsets', 'lengths', 'labels'))
    self.offsets, self.lengths, self.labels = map(np.asarray, arrays)
    self.file = os.open(folder / 'images.bin', os.O_RDONLY)

  def __len__(self):
    return len(self.labels)

  def __getitem__(self, index):
    encoded = os.pread(self.file, self.lengths.item(index), self.offsets.item(index))
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
    if random.random() < 0.5:
      cv2.flip(image, 1, dst=image)
    return image, self.labels.item(index)


def main() -> None:
  folder, (workers, size, batches) = Path(sys.argv[1]), map(int, sys.argv[2:])
  cv2.setNumThreads(0)
  torch.set_num_threads(1)
  loader = torch.utils.data.DataLoader(
    Faces(folder),
    batch_size=size,
    shuffle=True,
    num_workers=workers,
    drop_last=True,
    worker_init_fn=lambda _: cv2.setNumThreads(0),
  )

  def endless():
    while True:
      yield from loader

  stream = endless()
  print(json.dumps(rate(lambda: len(next(stream)[0]), 2 + 2 * workers, batches)))


if __name__ == '__main__':
  main()
