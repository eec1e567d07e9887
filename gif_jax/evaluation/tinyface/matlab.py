"""Lists of names in MATLAB files, which TinyFace's lists are."""

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from gif_jax.core.errors import DataError
from gif_jax.core.interrupts import kept_from_children
from gif_jax.core.workers import prepare_worker


def read_names(path: str | Path, variable: str) -> list[str]:
  """The strings of a cell array in a MATLAB file, in order, by scipy.io.loadmat.

  Raises DataError for a file that loadmat cannot read, or that has no such cell array of strings.
  """
  try:
    # In a process of its own: some damaged files take it down (segmentation faults, SciPy 1.17).
    with kept_from_children(), ProcessPoolExecutor(1, get_context('spawn'), prepare_worker) as pool:
      return pool.submit(_names, str(path), variable).result()
  except (ValueError, BrokenProcessPool) as error:
    reason = error if isinstance(error, ValueError) else 'it is damaged'
    raise DataError(f'{path} cannot be read as a list {variable}: {reason}; unpack the set again.') from error


def _names(path, variable):
  """The strings. Raises ValueError, which comes through to the process that asked, for whatever is wrong."""
  try:
    content = loadmat(path, variable_names=[variable])
  except Exception as error:  # of loadmat, for damaged files, almost any
    raise ValueError(str(error) or type(error).__name__) from None
  if variable not in content:
    raise ValueError('there is no such variable')
  cells = content[variable].ravel()
  if cells.dtype != object or not all(_is_string(cell) for cell in cells):
    raise ValueError('it is no cell array of strings')
  return [str(cell[0]) for cell in cells]


def _is_string(cell):
  return isinstance(cell, np.ndarray) and cell.dtype.kind == 'U' and cell.shape == (1,)
