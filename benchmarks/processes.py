"""CPU-seconds and memory of this process and all it started, from /proc (Linux); measurements taken in turn.

Nothing but the standard library, so that any interpreter can run it.
"""

import os
import time
from collections.abc import Callable


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


def rate(take: Callable[[], int], warm: int, count: int) -> dict[str, float]:
  """Images per CPU-second and per second of `count` calls of take() -> images, after `warm` calls."""
  for _ in range(warm):
    take()
  cpu, wall = cpu_seconds(), time.perf_counter()
  images = sum(take() for _ in range(count))
  return {'cpu': images / (cpu_seconds() - cpu), 'wall': images / (time.perf_counter() - wall)}
