"""What checksums add to saving a checkpoint, and what they take when one is opened.

python -m benchmarks.faults.checksums

The state of a backbone (--backbone) with SGD's momentum is saved in turn with and without them, and then checked.
Ratios of the same run are what counts: disks differ, and so do processors (some have instructions for SHA-256).
"""

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
from tqdm import tqdm

from gif_jax.config import default
from gif_jax.core.storage import checksums
from gif_jax.models import gif
from gif_jax.models.checkpoint import reader
from gif_jax.models.checkpoint.manager import Checkpoints
from gif_jax.training.state import TrainState


def state_of(backbone: str) -> TrainState:
  """The state of a network with momentum, filled with numbers that do not compress."""
  config = default()
  config.model.backbone = backbone
  model = gif.build(config.model, 4, 18)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 112, 112, 3), jnp.uint8)))
  leaves, tree = jax.tree.flatten((shapes['params'], shapes['batch_stats'], shapes['params']))
  filled = [jax.random.normal(jax.random.key(i), leaf.shape) for i, leaf in enumerate(leaves)]
  params, batch_stats, momentum = jax.block_until_ready(tree.unflatten(filled))
  return TrainState(jnp.int32(1), params, batch_stats, momentum)


def save(state: TrainState, folder: Path, summed: bool) -> dict[str, float]:
  """Seconds and CPU-seconds until a checkpoint is on the disk, and seconds that the caller waits."""
  plain = contextlib.nullcontext() if summed else mock.patch.object(checksums, 'write_sums', lambda *_: None)
  with plain, Checkpoints(folder, 1, {}) as checkpoints:
    assert checkpoints.manager  # opened before the clock runs
    began, cpu = time.perf_counter(), time.process_time()
    checkpoints.save(1, state)
    waited = time.perf_counter() - began
    checkpoints.close()
    return {'seconds': time.perf_counter() - began, 'cpu': time.process_time() - cpu, 'waited': waited}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--backbone', default='r50')
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--output', type=Path, help='JSON with all rounds')
  options = parser.parse_args()
  state, rounds = state_of(options.backbone), {True: [], False: []}
  checks = []
  with tempfile.TemporaryDirectory() as name:
    for i in tqdm(range(2 * options.rounds + 2), desc='saving'):
      folder = Path(name) / str(i)
      row = save(state, folder, i % 2 == 1)
      if i > 1:  # the first two warm up
        rounds[i % 2 == 1].append(row)
      if i % 2:
        began = time.perf_counter()
        assert reader.fault(folder / '1') == ''
        checks.append(time.perf_counter() - began)
  bytes_ = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
  print(f'{options.backbone}: {bytes_ / 1e6:.0f} MB, {options.rounds} rounds in turn; medians')
  for key in ('seconds', 'cpu', 'waited'):
    with_sums, without = ([row[key] for row in rounds[summed]] for summed in (True, False))
    ratio = statistics.median(a / b for a, b in zip(with_sums, without))
    print(
      f'{key}: {statistics.median(with_sums):.3f} with checksums, {statistics.median(without):.3f} without; '
      f'ratio pair by pair {ratio:.2f}'
    )
  print(f'checked in {statistics.median(checks):.3f} s, {bytes_ / statistics.median(checks) / 1e9:.2f} GB/s')
  if options.output:
    options.output.write_text(json.dumps({'with': rounds[True], 'without': rounds[False], 'checks': checks}, indent=2))


if __name__ == '__main__':
  main()
