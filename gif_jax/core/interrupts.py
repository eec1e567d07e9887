"""Ctrl-C at moments that bear none: while modules are imported, sums are added up, workers are started."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def held() -> Iterator[None]:
  """Ctrl-C waits until what is done in here is done, and is a KeyboardInterrupt then.

  Extension modules that are interrupted while they are imported crash, or go on without a word.
  """
  before = signal.getsignal(signal.SIGINT)
  if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:  # nothing interrupts here
    yield
    return
  asked = []
  signal.signal(signal.SIGINT, lambda *_: asked.append(True))
  try:
    yield
  finally:
    signal.signal(signal.SIGINT, before)
  if asked:
    raise KeyboardInterrupt


@contextlib.contextmanager
def kept_from_children() -> Iterator[None]:
  """Processes that are started in here never hear of Ctrl-C and SIGTERM, which a terminal or Slurm sends to all.

  What is to be saved then is the business of the process that started them, which hears of it.
  """
  before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
