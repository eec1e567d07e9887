"""The garbage collector of a process that has imported much."""

import gc


def keep() -> None:
  """Everything that exists by now stays, and is not looked through again; what comes is, but less often.

  Tracing makes objects by the million, and with JAX and the package loaded the collector took an eighth of all time.
  """
  gc.collect()
  gc.freeze()
  gc.set_threshold(20_000, 20, 50)
