"""How tests run `python -m gif_jax VERB ARGUMENTS`: by a start of Python, or warm, by tests/helpers/warm.py."""

import json
import os
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess, Popen

from tests.helpers import cpu_time
from tests.helpers.places import ROOT


def environment(devices: int) -> dict[str, str]:
  """The variables of a command on `devices` virtual CPU devices."""
  return os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': str(devices)}


class Commands:
  """Runs commands in the project's root. folder: for files of its own."""

  def __init__(self, folder: Path):
    self.output = folder / 'output.txt'
    self.warm: Popen[str] | None = None

  def start(self, verb: str, *arguments, devices: int = 1, folder: Path = ROOT) -> Popen[str]:
    """Starts Python, for tests that look at a process while it runs."""
    call = [sys.executable, '-m', 'gif_jax', verb, *map(str, arguments)]
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True}
    return Popen(call, cwd=folder, env=environment(devices), **pipes)

  def run(
    self, verb: str, *arguments, devices: int = 1, cold: bool = False, folder: Path = ROOT
  ) -> CompletedProcess[str]:
    """Runs a command to its end, in a folder. cold: with a start of Python, for tests of how commands start."""
    call = [verb, *map(str, arguments)]
    if cold or sys.platform != 'linux':  # elsewhere a fork need not have what was imported
      process = self.start(verb, *arguments, devices=devices, folder=folder)
      output = process.communicate()[0]
      return CompletedProcess(call, process.returncode, output)
    reply = self._ask({'arguments': call, 'devices': devices, 'folder': str(folder), 'output': str(self.output)})
    cpu_time.spent_elsewhere(reply['seconds'])
    return CompletedProcess(call, reply['status'], self.output.read_text())

  def _ask(self, request):
    if self.warm is None:
      call = [sys.executable, '-m', 'tests.helpers.warm']
      pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
      self.warm = Popen(call, cwd=ROOT, env=environment(1), **pipes)
    print(json.dumps(request), file=self.warm.stdin, flush=True)
    return json.loads(self.warm.stdout.readline())

  def close(self) -> None:
    if self.warm is not None:
      self.warm.communicate()
