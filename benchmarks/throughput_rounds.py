"""How benchmarks/throughput.py and the processes it measures speak: a task a line, an answer in JSON a line."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time


def timed(step, wait, seconds: float) -> dict:
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
    'seconds': (time.perf_counter() - started) / times, 'cpu': (time.process_time() - cpu) / times, 'times': times,
  }  # fmt: skip


def answer(tasks: dict) -> None:
  """Says it is ready, then does tasks[line]() -> dict for every line of standard input; for its end, exits."""
  replies = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)  # what libraries print goes to standard error
  print(json.dumps({'ready': True}), file=replies, flush=True)
  for line in sys.stdin:
    print(json.dumps(tasks[line.strip()]()), file=replies, flush=True)


class Measured:
  """A process that answers; it is killed at the `deadline` (time.monotonic()). Raises RuntimeError where it ended."""

  def __init__(self, command: list[str], environment: dict, deadline: float):
    self.command = command
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
    self.process = subprocess.Popen(command, env=os.environ | environment, **pipes)
    self.timer = threading.Timer(max(deadline - time.monotonic(), 0), self.process.kill)
    self.timer.daemon = True
    self.timer.start()
    self._read()

  def ask(self, task: str) -> dict:
    """What the process answers to a task."""
    with contextlib.suppress(BrokenPipeError):  # it has ended: said by what follows
      print(task, file=self.process.stdin, flush=True)
    return self._read()

  def _read(self):
    line = self.process.stdout.readline()
    if not line:
      status = self.process.wait()
      raise RuntimeError(f'{" ".join(self.command)} ended with status {status}')
    return json.loads(line)

  def close(self) -> None:
    with contextlib.suppress(BrokenPipeError):
      self.process.stdin.close()
    self.process.wait()
    self.timer.cancel()
    self.process.stdout.close()
