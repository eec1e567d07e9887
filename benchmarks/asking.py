"""A benchmark and the processes that it measures in turn: how they speak, a task a line, an answer in JSON a line.

Needs nothing but the standard library, so that an interpreter with PyTorch alone can answer.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any


def timed(step: Callable[[], Any], wait: Callable[[Any], Any], seconds: float) -> dict:
  """Seconds and CPU-seconds of a call of step() -> result, over three calls or more, about `seconds`, after two.

  wait(result) returns when the device has done all it was given.
  """
  wait(step())
  started = time.perf_counter()
  wait(step())
  times = max(3, round(seconds / (time.perf_counter() - started)))
  cpu, started = time.process_time(), time.perf_counter()
  for _ in range(times):
    result = step()
  wait(result)
  return {
    'seconds': (time.perf_counter() - started) / times,
    'cpu': (time.process_time() - cpu) / times,
    'times': times,
  }


class Turns:
  """Times steps(n), which runs n of them and waits for the last, in turns of about `least` seconds."""

  def __init__(self, steps: Callable[[int], None], least: float):
    self._steps, self._least, self._count = steps, least, 1

  def warm(self) -> None:
    """Runs what compiles and allocates; then sees how many steps make a turn."""
    self._steps(1)
    self._count = max(1, min(1000, round(self._least / self.take()['wall'])))

  def take(self) -> dict:
    """Seconds of a step, as the clock (`wall`) and all cores (`cpu`) have it."""
    cpu, wall = time.process_time(), time.perf_counter()
    self._steps(self._count)
    return {'cpu': (time.process_time() - cpu) / self._count, 'wall': (time.perf_counter() - wall) / self._count}


def answer(tasks: dict) -> None:
  """Says it is ready, then does tasks[line]() -> dict for every line of standard input; for its end, exits."""
  replies = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)  # what libraries print goes to standard error
  print(json.dumps({'ready': True}), file=replies, flush=True)
  for line in sys.stdin:
    print(json.dumps(tasks[line.strip()]()), file=replies, flush=True)


class Measured:
  """A process that answers. Where it ends instead a RuntimeError says its status and its last words.

  deadline: when it is killed (time.monotonic()); None: never.
  """

  def __init__(self, command: list[str], environment: dict, deadline: float | None = None):
    self.ready, self.timer, self.errors = False, None, tempfile.TemporaryFile('w+')  # noqa: SIM115
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'stderr': self.errors, 'text': True}
    self.process = subprocess.Popen(command, env=os.environ | environment, **pipes)
    if deadline is not None:
      self.timer = threading.Timer(max(deadline - time.monotonic(), 0), self.process.kill)
      self.timer.daemon = True
      self.timer.start()

  def ask(self, task: str) -> dict:
    """What the process answers to a task."""
    self._read_ready()
    with contextlib.suppress(BrokenPipeError):  # it has ended: said by what follows
      print(task, file=self.process.stdin, flush=True)
    return self._read()

  def _read_ready(self):
    if not self.ready:
      self._read()
      self.ready = True

  def _read(self):
    line = self.process.stdout.readline()
    if not line:
      raise RuntimeError(self._last_words())
    return json.loads(line)

  def _last_words(self):
    status = self.process.wait()
    self.errors.seek(0)
    said = [line.strip() for line in self.errors if line.strip()]
    return f'exit {status}: {said[-1][:300] if said and status > 0 else "killed, as where memory or time runs out"}'

  def close(self) -> None:
    with contextlib.suppress(BrokenPipeError):
      self.process.stdin.close()
    self.process.wait()
    if self.timer:
      self.timer.cancel()
    self.process.stdout.close()
    self.errors.close()
