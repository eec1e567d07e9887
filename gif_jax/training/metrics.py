"""What a run writes while it trains: a JSONL file, TensorBoard events, a progress bar."""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tensorboardX.summary import scalar
from tqdm import tqdm

from gif_jax.core.errors import UserError, removed
from gif_jax.core.storage.files import is_at, write_text, writing
from gif_jax.core.storage.json_lines import json_line, read_json_lines
from gif_jax.training.state import Metrics

_LOG = logging.getLogger(__name__)


class NonFiniteLossError(UserError):
  """The loss is NaN or infinite; the message says where and what to change."""


class MetricsLog:
  """DIR/metrics.jsonl and DIR/tensorboard: one row {'step': ..., name: value} at a time.

  Rows after `start`, the step a run resumes from, are dropped first: they will be written again. Process 0 writes; in
  the others nothing happens.
  """

  def __init__(self, workdir: Path, start: int):
    self.path = workdir / 'metrics.jsonl'
    self.file: TextIO | None = None
    self.board: EventsWriter | None = None
    if jax.process_index() > 0:
      return
    kept = [row for row in self.rows() if row['step'] <= start]
    last = kept[-1]['step'] if kept else 0
    if last < start:  # a checkpoint is saved after the row of its step
      _LOG.warning('%s is missing its rows of steps %d to %d: it was cut', self.path, last + 1, start)
    write_text(self.path, ''.join(map(json_line, kept)))
    with writing(workdir):
      self.file = self.path.open('a')
      (workdir / 'tensorboard').mkdir(exist_ok=True)
      # Written here and now: tensorboardX's own writer does so in a thread, which cannot say that a disk is full.
      self.board = EventsWriter(str(workdir / 'tensorboard' / 'events'))
      _note(self.board, start + 1, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))

  def rows(self) -> list[dict[str, Any]]:
    """All rows written so far, see `json_lines.read_json_lines`."""
    return read_json_lines(self.path, 'step')

  def write(self, step: int, values: Mapping[str, Any]) -> None:
    """Adds a row; values are floats or lists of floats."""
    if self.file is None or self.board is None:
      return
    with writing(self.path):
      if not is_at(self.file.fileno(), self.path):
        raise removed(self.path)
      self.file.write(json_line({'step': step, **values}))
      self.file.flush()
      for name, value in values.items():
        for i, item in enumerate(np.atleast_1d(value), 1):
          _note(self.board, step, summary=scalar(f'{name}/{i}' if isinstance(value, list) else name, item))
      self.board.flush()

  def close(self) -> None:
    """Raises DiskError where the last rows cannot be written."""
    if self.file is not None and self.board is not None:
      with writing(self.path):
        self.file.close()
        self.board.close()


def _note(board: EventsWriter, step: int, **content: Any) -> None:
  board.write_event(event_pb2.Event(wall_time=time.time(), step=step, **content))


class Window:
  """Steps since the last row: their metrics stay on the device until `flush`, so that no step waits for the host.

  flops: model FLOPs of a training image; peak: FLOP/s of all devices in matrix products (training.flops).
  """

  def __init__(self, batch_size: int, flops: float, peak: float):
    self.batch_size, self.flops, self.peak = batch_size, flops, peak
    self.images, self.seconds = 0, 0.0  # of all windows
    self.restart()

  def restart(self) -> None:
    """Starts a new window now; what took place outside of steps (evaluation, saving) is not in its time."""
    self.pending: list[Metrics] = []
    self.started, self.stalled = time.perf_counter(), 0.0

  @contextlib.contextmanager
  def outside(self) -> Iterator[None]:
    """What takes place in here is not in the window's time; the steps before it are waited for."""
    jax.block_until_ready(self.pending)
    before = time.perf_counter()
    yield
    self.started += time.perf_counter() - before

  def next(self, iterator: Iterator[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The iterator's next batch; the wait for it counts as data stall."""
    before = time.perf_counter()
    batch = next(iterator)
    self.stalled += time.perf_counter() - before
    return batch

  def add(self, metrics: Metrics) -> None:
    """Notes a step's metrics. Waits for the step before last, so that the host runs at most two steps ahead."""
    self.pending.append(metrics)
    if len(self.pending) > 2:
      jax.block_until_ready(self.pending[-3])

  def flush(self, step: int, rate: float) -> dict[str, Any]:
    """Means over the window as a row of floats and lists. Raises NonFiniteLossError naming the steps."""
    rows = jax.device_get(self.pending)
    seconds = max(time.perf_counter() - self.started, 1e-9)
    first = step - len(rows) + 1
    for i, row in enumerate(rows):
      if not np.isfinite(row['loss']):
        raise NonFiniteLossError(
          f'the loss is {row["loss"]} at step {first + i}. Checkpoints before it are kept. Lower config.optim.lr or '
          'config.loss.scale, lengthen config.optim.warmup, or lower config.optim.clip, and give the command again '
          'with --accept_changes, or with another --workdir.'
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


def progress(steps: int, start: int) -> tqdm:
  """A progress bar over the steps of a run, with rate and ETA."""
  return tqdm(total=steps, initial=start, desc='training', unit='step', dynamic_ncols=True)


def describe(row: Mapping[str, Any]) -> str:
  """What the progress bar says of a row of `Window.flush`."""
  rate, flops, used = row['images_per_second'], row['model_tflops_per_second'], row['utilisation']
  loss, stall = row['loss'], row['data_stall']
  return f'{rate:.0f} img/s, {flops:.3g} TFLOP/s ({used:.1%} used), loss {loss:.3f}, waiting for data {stall:.0%}'
