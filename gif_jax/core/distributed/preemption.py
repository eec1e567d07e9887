"""How a run is asked to stop: SIGTERM or SIGINT to any of its processes, and all of them stop after the same step."""

import signal
from collections import deque
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

_BEHIND = 2  # steps between a process's wish and the answer, so that no step waits for the host


class Stop:
  """Notices SIGTERM and SIGINT while it is entered; a second SIGINT ends the process at once.

  SIGTERM may come more than once: Slurm sends it to tasks and to srun, which passes it on.

  Several processes agree on the step by a sum over all devices, queued behind the training step. JAX's own service
  (`reached_preemption_sync_point`) would swallow SIGTERM from the start of the program to its end and know no SIGINT.
  """

  def __init__(self) -> None:
    self.wanted = False
    self.previous: dict[int, Any] = {}  # handlers of signals
    self.queued: deque[jax.Array] = deque()
    if jax.process_count() > 1:
      mesh = jax.make_mesh((jax.device_count(),), ('all',), axis_types=(AxisType.Auto,))
      self.place = NamedSharding(mesh, PartitionSpec('all'))
      self.any = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec()))

  def __enter__(self) -> Self:
    self.previous = {s: signal.signal(s, self._ask) for s in (signal.SIGTERM, signal.SIGINT)}
    return self

  def _ask(self, number, frame):
    del frame
    self.wanted = True
    if number == signal.SIGINT:
      signal.signal(number, self.previous[number])

  def __exit__(self, *_: object) -> None:
    for number, handler in self.previous.items():
      signal.signal(number, handler)

  def asked(self, *, last: bool) -> bool:
    """Whether the run is to end after this step; the same in all processes. To be called once a step. last: of all."""
    if jax.process_count() == 1:
      return self.wanted
    wish = np.full(jax.local_device_count(), self.wanted, np.int32)
    self.queued.append(self.any(jax.make_array_from_process_local_data(self.place, wish)))
    due = len(self.queued) if last else len(self.queued) - _BEHIND
    return any([bool(self.queued.popleft()) for _ in range(due)])
