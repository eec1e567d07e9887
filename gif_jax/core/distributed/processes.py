"""Several processes as one run: they find each other, do things in order, stop with the first that fails.

Everything here uses the service that process 0 runs for `jax.distributed`, a store of names and texts that all
processes reach without their devices. In a run of one process nothing is waited for and nothing is sent.
"""

import contextlib
import functools
import itertools
import json
import logging
import os
import socket
import sys
import threading
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
import tqdm
from absl import flags
from flax.traverse_util import flatten_dict

import gif_jax
from gif_jax.core.distributed import roll_call
from gif_jax.core.errors import ConfigError, explain
from gif_jax.core.storage import locks

_LOG = logging.getLogger(__name__)

_LOOK = 1.0  # seconds between two looks for the failure of another process
_STAY = 3 * _LOOK  # seconds a failed process stays: others see why before connections to it break. Process 0 twice that
_SEEN = 30.0  # seconds until a file of process 0 must be there for all
_FAILED = 'gif_jax/failed'
_ending = threading.Lock()  # taken by the thread that ends this process, and never given back
_numbers = itertools.count()  # of waits; every process comes to the same ones in the same order


def first() -> bool:
  """Whether this process is the one that writes what all of them share."""
  return jax.process_index() == 0


@contextlib.contextmanager
def together() -> Iterator[None]:
  """A command runs in it, as one of the processes that --coordinator, --processes and --process tell of, if any.

  Is entered before the first use of a device. A process that fails tells the others, which print whose failure it was
  and end with status 1, too; those that end well end together.
  """
  several, done = False, threading.Event()
  try:
    several = _start(flags.FLAGS['coordinator'].value, flags.FLAGS['processes'].value, flags.FLAGS['process'].value)
    if several:
      threading.Thread(target=_watch_failures, args=(done,), daemon=True).start()
      _one_voice()
      _check_devices()
    yield
    if several:
      wait()
  except BaseException as error:  # SystemExit and KeyboardInterrupt, too: nobody must be left waiting
    if isinstance(error, SystemExit) and not error.code:
      raise
    if several:
      _fail(error, explain(error))
    raise
  finally:
    done.set()


def _start(coordinator, processes, process):
  """Connects to the others; whether there are any to connect to. Raises ConfigError."""
  given = _checked(coordinator, processes, process)
  if not coordinator:
    return False
  jax.config.update('jax_enable_preemption_service', False)  # it would swallow SIGTERM: see core.distributed.preemption
  if given:
    host, port = roll_call.parse_address(coordinator)
    roll_call.call(host, port, processes, process)
    if process == 0:
      given['coordinator_bind_address'] = roll_call.listening_address(host, port)
  try:
    jax.distributed.initialize(**given, initialization_timeout=int(roll_call.PATIENCE))
  except (ValueError, KeyError, OSError) as error:
    raise ConfigError(
      f'--coordinator={coordinator}: no cluster is found here ({error}). Inside Slurm or on a TPU pod start one '
      'process per machine with its launcher; elsewhere give --coordinator=HOST:PORT --processes=N --process=I.'
    ) from error
  return True


def _checked(coordinator, processes, process):
  """The arguments for jax.distributed; none where the cluster knows. Raises ConfigError."""
  if coordinator in ('', 'auto'):
    if processes > 0 or process >= 0:
      raise ConfigError(
        '--processes and --process go with --coordinator=HOST:PORT, the address of process 0; leave them out for one '
        'process, and with --coordinator=auto, where the cluster says them.'
      )
    return {}
  roll_call.parse_address(coordinator)
  if not 0 <= process < processes:
    raise ConfigError(
      f'--coordinator={coordinator} needs --processes=N, how many there are, and --process=I, which one this is, from '
      f'0 to N - 1; given are --processes={processes} --process={process}.'
    )
  # Within Slurm JAX would also take one GPU alone for each process, whoever says how many processes there are.
  return {
    'coordinator_address': coordinator,
    'num_processes': processes,
    'process_id': process,
    'cluster_detection_method': 'deactivate',
  }


def _one_voice():
  """What is true of all processes is said by one; warnings and errors by whoever has them."""
  if first():
    _LOG.info(
      '%d processes with %d devices in all, %d of them here',
      jax.process_count(),
      jax.device_count(),
      jax.local_device_count(),
    )
    return
  logging.getLogger('gif_jax').setLevel(logging.WARNING)
  tqdm.tqdm.__init__ = functools.partialmethod(tqdm.tqdm.__init__, disable=True)  # bars of all modules


def _check_devices():
  counts = Counter(device.process_index for device in jax.devices())
  if len(set(counts.values())) > 1:
    each = ', '.join(f'process {process} {count}' for process, count in sorted(counts.items()))
    raise ConfigError(
      f'processes have unlike numbers of devices: {each}. Batches are split evenly: give every process as many '
      '(CUDA_VISIBLE_DEVICES, or as many processes on each machine as it has room for).'
    )


def _client():
  return ocp.multihost.get_jax_distributed_client()


def _look(name):
  """What is stored under a name, or None."""
  try:
    return _client().key_value_try_get(name)
  except (jax.errors.JaxRuntimeError, ValueError):  # nothing yet, or no service any more
    return None


def _watch_failures(done):
  while not done.wait(_LOOK):
    if failure := _look(_FAILED):
      process, message = json.loads(failure)
      if process != jax.process_index():
        _end(f'process {process} failed, so this one ends, too: {message}', stay=2 * _STAY if first() else 0)
      return


def _fail(error, line):
  """Ends this process for an error, printed in one line if there is one, and the others with it."""
  line = str(error.code) if isinstance(error, SystemExit) else line
  why = json.dumps([jax.process_index(), line or f'{type(error).__name__}: {error}'])
  _end(line or ''.join(traceback.format_exception(error)), tell=why, stay=2 * _STAY if first() else _STAY)


def _end(text, *, tell='', stay=0.0):
  """Prints why, tells the others, and ends this process after a while; a second thread that wants to waits for that."""
  _ending.acquire()
  print(text, file=sys.stderr, flush=True)
  sys.stdout.flush()
  if tell:
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # another one failed before; this may be for want of it
      _client().key_value_set(_FAILED, tell)
  time.sleep(stay)
  # Not sys.exit: the main thread may be waiting on a device for a process that is gone, and at its exit JAX would wait
  # minutes for the others.
  os._exit(1)


def wait(made: Path | None = None) -> None:
  """Returns when all processes have come here, however long that takes, and this one sees the file `made`.

  Raises ConfigError where it does not for half a minute: network disks remember for seconds what was not there.
  """
  if jax.process_count() == 1:
    return
  name = f'gif_jax/here/{next(_numbers)}'
  if _client().key_value_increment(name, 1) == jax.process_count():
    _client().key_value_set(f'{name}/all', 'here')
  _told(f'{name}/all')
  deadline = time.monotonic() + _SEEN
  while made and not made.exists():
    if time.monotonic() > deadline:
      raise ConfigError(
        f'{made} is not there on {socket.gethostname()} (process {jax.process_index()}), where process 0 wrote it: '
        'name a folder on a disk that all machines share.'
      )
    time.sleep(_LOOK)


def _told(name):
  """What a process stores under a name, now or later. A process that fails before ends this one, too."""
  while True:
    with contextlib.suppress(jax.errors.JaxRuntimeError):
      return _client().blocking_key_value_get(name, 10_000)  # milliseconds, after which Ctrl-C is noticed


def from_first(make: Callable[[], str]) -> str:
  """What `make` gives in process 0, where alone it is called."""
  if jax.process_count() == 1:
    return make()
  name = f'gif_jax/said/{next(_numbers)}'
  if first():
    _client().key_value_set(name, make())
  return _told(name)


def all_say(text: str) -> list[str]:
  """What each process says, in their order; the same everywhere."""
  if jax.process_count() == 1:
    return [text]
  name = f'gif_jax/all/{next(_numbers)}'
  _client().key_value_set(f'{name}/{jax.process_index()}', text or ' ')  # the service keeps no empty text
  return [_told(f'{name}/{i}').removesuffix(' ') for i in range(jax.process_count())]


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
  """Holds a lock, see `locks.locked`, for all processes of a run; process 0 has it."""
  with locks.locked(path, what) if first() else contextlib.nullcontext():
    wait()
    yield


def after_first(make: Callable[[], Any]) -> Any:
  """What `make` gives in every process; the others begin when process 0 is done, and find the files that it made."""
  made = make() if first() else None
  wait()
  return made if first() else make()


def check_same(what: dict[str, Any]) -> None:
  """Raises ConfigError, naming this process, where a JSON value is another one than in process 0."""
  here = json.dumps(flatten_dict(what | {'gif_jax': gif_jax.__version__, 'jax': jax.__version__}, sep='.'))
  first_has = json.loads(from_first(lambda: here))
  for name, value in json.loads(here).items():
    if json.dumps(value) != json.dumps(first_has.get(name)):  # as texts: NaN is no number that is equal to itself
      raise ConfigError(
        f'process {jax.process_index()} on {socket.gethostname()} has {name}={value!r}, process 0 has '
        f'{first_has.get(name)!r}. Start all processes with the same command, code, packages and data.'
      )
  wait()  # nobody goes on, or writes, while another may still find a difference


def check_shared(folder: Path) -> None:
  """Raises ConfigError where a folder is not the same one, on a disk that all processes share."""
  if jax.process_count() == 1:
    return
  mark = folder / from_first(lambda: f'.shared-{uuid.uuid4().hex}')
  if first():
    mark.touch()
  try:
    wait(mark)
    wait()
  finally:
    if first():
      mark.unlink()
