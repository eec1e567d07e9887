"""What a run writes while it trains: a JSONL file, TensorBoard events, a progress bar."""

import contextlib
import json
import os
import time
from pathlib import Path

import jax
import numpy as np
from tensorboardX import SummaryWriter
from tqdm import tqdm


class NonFiniteLossError(FloatingPointError):
  """The loss is NaN or infinite; the message says where and what to change."""


class MetricsLog:
  """DIR/metrics.jsonl and DIR/tensorboard: one row {'step': ..., name: value} at a time.

  Rows after `start`, the step a run resumes from, are dropped first: they will be written again. Process 0 writes; in
  the others nothing happens.
  """

  def __init__(self, workdir: Path, start: int):
    self.path = workdir / 'metrics.jsonl'
    self.file = self.board = None
    if jax.process_index() > 0:
      return
    kept = [row for row in self.rows() if row['step'] <= start]
    partial = self.path.with_suffix('.partial')
    partial.write_text(''.join(json.dumps(row) + '\n' for row in kept))
    os.replace(partial, self.path)
    self.file = self.path.open('a')
    self.board = SummaryWriter(str(workdir / 'tensorboard'), purge_step=start + 1)

  def rows(self) -> list[dict]:
    """All rows written so far, a line cut off by a crash left out."""
    if not self.path.exists():
      return []
    lines = self.path.read_text().split('\n')[:-1]
    return [json.loads(line) for line in lines]

  def write(self, step: int, values: dict) -> None:
    """Adds a row; values are floats or lists of floats."""
    if not self.file:
      return
    self.file.write(json.dumps({'step': step, **values}) + '\n')
    self.file.flush()
    for name, value in values.items():
      for i, item in enumerate(np.atleast_1d(value), 1):
        self.board.add_scalar(f'{name}/{i}' if isinstance(value, list) else name, item, step)

  def close(self) -> None:
    if self.file:
      self.file.close()
      self.board.close()


class Window:
  """Steps since the last row: their metrics stay on the device until `flush`, so that no step waits for the host.

  flops: model FLOPs of a training image; peak: FLOP/s of all devices in matrix products (training.flops).
  """

  def __init__(self, batch_size: int, flops: int, peak: float):
    self.batch_size, self.flops, self.peak = batch_size, flops, peak
    self.images, self.seconds = 0, 0.0  # of all windows
    self.restart()

  def restart(self) -> None:
    """Starts a new window now; what took place outside of steps (evaluation, saving) is not in its time."""
    self.pending, self.started, self.stalled = [], time.perf_counter(), 0.0

  @contextlib.contextmanager
  def outside(self):
    """What takes place in here is not in the window's time; the steps before it are waited for."""
    jax.block_until_ready(self.pending)
    before = time.perf_counter()
    yield
    self.started += time.perf_counter() - before

  def next(self, iterator):
    """The iterator's next batch; the wait for it counts as data stall."""
    before = time.perf_counter()
    batch = next(iterator)
    self.stalled += time.perf_counter() - before
    return batch

  def add(self, metrics) -> None:
    """Notes a step's metrics. Waits for the step before last, so that the host runs at most two steps ahead."""
    self.pending.append(metrics)
    if len(self.pending) > 2:
      jax.block_until_ready(self.pending[-3])

  def flush(self, step: int, rate: float) -> dict:
    """Means over the window as a row of floats and lists. Raises NonFiniteLossError naming the steps."""
    rows = jax.device_get(self.pending)
    seconds = max(time.perf_counter() - self.started, 1e-9)
    first = step - len(rows) + 1
    for i, row in enumerate(rows):
      if not np.isfinite(row['loss']):
        raise NonFiniteLossError(
          f'the loss is {row["loss"]} at step {first + i}. Checkpoints before it are kept. Lower config.optim.lr or '
          'config.loss.scale, lengthen config.optim.warmup, or lower config.optim.clip, and start again.'
        )
    values = {name: np.mean([row[name] for row in rows], axis=0).tolist() for name in rows[0]}
    images = len(rows) * self.batch_size
    flops = self.flops * images / seconds
    values |= {
      'learning_rate': rate,
      'images_per_second': images / seconds,
      'model_tflops_per_second': flops / 1e12,
      'utilisation': flops / self.peak,
      'data_stall': self.stalled / seconds,
    }
    self.images, self.seconds = self.images + images, self.seconds + seconds
    self.restart()
    return values


def progress(steps: int, start: int):
  """A progress bar over the steps of a run, with rate and ETA."""
  return tqdm(total=steps, initial=start, desc='training', unit='step', dynamic_ncols=True)


def describe(row: dict) -> str:
  """What the progress bar says of a row of `Window.flush`."""
  rate, flops, used = row['images_per_second'], row['model_tflops_per_second'], row['utilisation']
  loss, stall = row['loss'], row['data_stall']
  return f'{rate:.0f} img/s, {flops:.3g} TFLOP/s ({used:.1%} used), loss {loss:.3f}, waiting for data {stall:.0%}'
