"""Worker processes: what they do first, and work spread over all cores."""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

import cv2

from gif_jax.core.interrupts import kept_from_children

_function: Callable  # what a worker does with every job, once it has begun
_AHEAD = 2  # jobs per process that wait or whose results wait, besides the one it is at


def prepare_worker(*_: object) -> None:
  """Leaves signals to the main process, which must still save a checkpoint, and ends when that process is gone.

  OpenCV has no threads of its own there: processes are as many as cores can feed.
  """
  cv2.setNumThreads(0)
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  parent = os.getppid()

  def watch():
    while os.getppid() == parent:
      time.sleep(1)
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()


def cores() -> int:
  """Cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def on_all_cores(function: Callable, jobs: Iterable) -> Iterator:
  """function(job) for every job, in order, from as many spawned processes as there are cores.

  `function` goes to every process once, so it may be an object that holds much; jobs go one by one and should be small.
  Jobs are taken, and results held, only a few ahead of what is asked for: memory does not grow with their number.
  """
  ahead: deque[Future] = deque()
  processes = cores()
  with ProcessPoolExecutor(processes, get_context('spawn'), _begin, (function,)) as pool:
    try:
      for job in jobs:
        with kept_from_children():  # more of them are started as jobs come
          ahead.append(pool.submit(_work, job))
        if len(ahead) > _AHEAD * processes:
          yield ahead.popleft().result()
      while ahead:
        yield ahead.popleft().result()
    finally:  # whoever asks no further has no use for the rest
      for future in ahead:
        future.cancel()


def _begin(function):
  global _function
  prepare_worker()
  _function = function


def _work(job):
  return _function(job)
