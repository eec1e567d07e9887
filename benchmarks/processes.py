"""CPU-seconds and memory of this process and all it started, from /proc (Linux); measurements taken in turn.

Nothing but the standard library, so that any interpreter can run it.
"""

import json
import os
import sys
import time


def _family():
  """Process ids: this one's and its descendants'."""
  parents = {}
  for name in filter(str.isdigit, os.listdir('/proc')):
    if status := _fields(name):
      parents[int(name)] = int(status[1])
  family = {os.getpid()}
  while more := {child for child, parent in parents.items() if parent in family} - family:
    family |= more
  return family


def _fields(process):
  """What follows the name in /proc/PID/stat; None where the process has ended."""
  try:
    with open(f'/proc/{process}/stat') as file:
      return file.read().rsplit(')', 1)[1].split()
  except OSError:
    return None


def cpu_seconds() -> float:
  """User and system seconds so far, all threads, of all processes of the family that live."""
  ticks = sum(int(fields[11]) + int(fields[12]) for fields in map(_fields, _family()) if fields)
  return ticks / os.sysconf('SC_CLK_TCK')


def private_mb() -> float:
  """Anonymous memory of the family in MB: what is mapped from files, the page cache, is not counted."""
  total = 0
  for process in _family():
    with open(f'/proc/{process}/status') as file:
      total += sum(int(line.split()[1]) for line in file if line.startswith('RssAnon'))
  return total * 1024 / 1e6


def rate(take, warm: int, count: int) -> dict:
  """Images per CPU-second and per second of `count` calls of take() -> images, after `warm` calls."""
  for _ in range(warm):
    take()
  cpu, wall = cpu_seconds(), time.perf_counter()
  images = sum(take() for _ in range(count))
  return {'cpu': images / (cpu_seconds() - cpu), 'wall': images / (time.perf_counter() - wall)}


class Turns:
  """Times steps(n), which runs n of them and waits for the last, in turns of about `least` seconds."""

  def __init__(self, steps, least: float):
    self._steps, self._least, self._count = steps, least, 1

  def warm(self):
    """Runs what compiles and allocates; then sees how many steps make a turn."""
    self._steps(1)
    self._count = max(1, min(1000, round(self._least / self.take()['wall'])))

  def take(self) -> dict:
    """Seconds of a step, as the clock (`wall`) and all cores (`cpu`) have it."""
    cpu, wall = time.process_time(), time.perf_counter()
    self._steps(self._count)
    return {'cpu': (time.process_time() - cpu) / self._count, 'wall': (time.perf_counter() - wall) / self._count}


def answer(questions: dict) -> None:
  """Answers {question: function() -> dict} for every line of stdin with a line of JSON, until stdin ends."""
  for line in sys.stdin:
    print(json.dumps(questions[line.strip()]()), flush=True)
