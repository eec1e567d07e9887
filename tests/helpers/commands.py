"""How tests start `python -m gif_jax VERB ARGUMENTS`: by a start of Python, or warm, by tests/helpers/warm.py."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from multiprocessing import connection
from pathlib import Path
from subprocess import CompletedProcess, Popen

from tests.helpers import cpu_time
from tests.helpers.places import ROOT

_ASKED = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
_HEARD = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True}


def environment(devices: int) -> dict[str, str]:
  """The variables of a command on `devices` virtual CPU devices."""
  return os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': str(devices)}


class _Server:
  """A process of tests/helpers/warm.py."""

  def __init__(self):
    self.process = Popen([sys.executable, '-m', 'tests.helpers.warm'], cwd=ROOT, env=environment(1), **_ASKED)

  def ask(self, **request) -> dict:
    print(json.dumps(request), file=self.process.stdin, flush=True)
    return json.loads(self.process.stdout.readline())


class Started:
  """A process that a server forked, with the methods of subprocess.Popen."""

  def __init__(self, server: _Server, output: Path, **request):
    self.server, self.output = server, output
    self.pid = server.ask(output=str(output), **request)['pid']
    self.exit = os.pidfd_open(self.pid)
    self.returncode: int | None = None

  def poll(self) -> int | None:
    with contextlib.suppress(subprocess.TimeoutExpired):
      self.wait(0)
    return self.returncode

  def wait(self, timeout: float | None = None) -> int:
    if self.returncode is None:
      if not connection.wait([self.exit], timeout):
        raise subprocess.TimeoutExpired(f'process {self.pid}', timeout)
      os.close(self.exit)
      ended = self.server.ask(pid=self.pid)
      self.returncode = ended['status']
      cpu_time.spent_elsewhere(ended['seconds'])
    return self.returncode

  def communicate(self, timeout: float | None = None) -> tuple[str, None]:
    self.wait(timeout)
    return self.output.read_text(), None

  def send_signal(self, number: int) -> None:
    if self.returncode is None:
      with contextlib.suppress(ProcessLookupError):
        os.kill(self.pid, number)

  def kill(self) -> None:
    self.send_signal(signal.SIGKILL)


class Commands:
  """Starts commands, in the project's root unless told otherwise. folder: for files of its own.

  There are two servers, 0 and 1, each with its own order of what is hashed. Processes that have to agree, or to go on
  with what the other did, should be of both. cold: by a start of Python, for tests of how commands start.
  """

  def __init__(self, folder: Path):
    self.folder = folder
    self.servers: dict[int, _Server] = {}
    self.count = 0

  def start(
    self, verb: str, *arguments, devices: int = 1, folder: Path = ROOT, cold: bool = False, server: int = 1
  ) -> Started | Popen[str]:
    """Starts a command, for tests that look at a process while it runs."""
    call = [verb, *map(str, arguments)]
    if not cold and hasattr(os, 'pidfd_open'):  # of Linux; elsewhere a fork need not have what was imported
      return self._fork(server, program='', arguments=call, devices=devices, folder=str(folder))
    return Popen([sys.executable, '-m', 'gif_jax', *call], cwd=folder, env=environment(devices), **_HEARD)

  def run(self, verb: str, *arguments, server: int = 0, **how) -> CompletedProcess[str]:
    """Runs a command to its end."""
    process = self.start(verb, *arguments, server=server, **how)
    output = process.communicate()[0]
    return CompletedProcess([verb, *map(str, arguments)], process.returncode, output)

  def start_program(self, program: str, *arguments, server: int = 1) -> Started | Popen[str]:
    """Starts what stands after `python -c`."""
    call = list(map(str, arguments))
    if hasattr(os, 'pidfd_open'):
      return self._fork(server, program=program, arguments=call, devices=1, folder=str(ROOT))
    return Popen([sys.executable, '-c', program, *call], cwd=ROOT, env=environment(1), **_HEARD)

  def _fork(self, server, **request):
    if server not in self.servers:
      self.servers[server] = _Server()
    self.count += 1
    return Started(self.servers[server], self.folder / f'{self.count}.txt', **request)

  def close(self) -> None:
    for server in self.servers.values():
      server.process.communicate()
