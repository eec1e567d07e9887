"""Worker processes: what they do first, and work spread over all cores."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import cv2


def prepare_worker(*_) -> None:
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


def on_all_cores(function: Callable, jobs: list) -> Iterator:
  """function(job) for every job, in order, from as many spawned processes as there are cores."""
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
  with ProcessPoolExecutor(min(cores, len(jobs)), get_context('spawn'), prepare_worker) as pool:
    yield from pool.map(function, jobs)
