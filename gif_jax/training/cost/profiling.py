"""Steps traced by JAX's profiler: what the devices did when, to be looked at."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import jax

from gif_jax.training.metrics import Window

_LOG = logging.getLogger(__name__)
FIRST = 10  # the step of a run that is traced first: those before it wait for caches and clocks to warm up


class Trace:
  """A context in which steps `first` to `first + steps - 1` are traced into `folder`; none if steps is 0.

  Starting and writing a trace is not in the time of `window`, which must know all steps so far.
  """

  def __init__(self, folder: Path, first: int, steps: int, window: Window):
    self.folder, self.window = folder, window
    self.steps = range(first, first + steps)
    self.running = False

  @contextlib.contextmanager
  def step(self, number: int) -> Iterator[None]:
    """What belongs to step `number`; `window` must know of the step before this context ends."""
    if number in self.steps and not self.running:
      self._start()
    with jax.profiler.StepTraceAnnotation('train', step_num=number):
      yield
    if self.running and number == self.steps[-1]:
      self._stop()

  def _start(self) -> None:
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # every Python call would be noted, which slows the host down
    with self.window.outside():
      jax.profiler.start_trace(self.folder, profiler_options=options)
    self.running = True

  def _stop(self) -> None:
    self.running = False
    with self.window.outside():
      jax.profiler.stop_trace()
    _LOG.info('%d steps traced into %s', len(self.steps), self.folder)

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *_: object) -> None:
    if self.running:  # the run ends in the middle
      self._stop()
    elif self.steps and not self.folder.exists():
      _LOG.warning('no step traced: the run ended before step %d', self.steps[0])
