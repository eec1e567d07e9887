"""Commands of clusters that are not here (srun, gcloud, kubectl ...): they record how they were called."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.places import LAUNCH, ROOT

_FAKE = """#!{python}
import json, os, subprocess, sys
with open({record!r}, 'a') as file:
  file.write(json.dumps([{name!r}, *sys.argv[1:]]) + '\\n')
status = subprocess.run(['bash', '-c', {script!r}, {name!r}, *sys.argv[1:]]).returncode
sys.exit(status if status >= 0 else 128 - status)  # as a shell says that a signal killed it
"""


class Fakes:
  """A folder of fake commands, first on PATH; `calls()` gives what was called: [[name, argument ...] ...]."""

  def __init__(self, folder: Path):
    self.folder, self.record = folder, folder / 'calls.jsonl'
    folder.mkdir()
    self.record.touch()

  def add(self, name: str, script: str = '') -> None:
    """`script`: what bash does in the command's place, with its arguments as "$@"."""
    path = self.folder / name
    path.write_text(_FAKE.format(python=sys.executable, record=str(self.record), name=name, script=script))
    path.chmod(0o755)

  def calls(self) -> list[list[str]]:
    return [json.loads(line) for line in self.record.read_text().splitlines()]

  def launch(self, script: str, *arguments, cwd=ROOT, **environment) -> subprocess.CompletedProcess:
    """Runs launch/SCRIPT with the fakes in reach."""
    path = f'{self.folder}{os.pathsep}{os.environ["PATH"]}'
    clean = {k: v for k, v in os.environ.items() if not k.startswith(('SLURM', 'SRUN', 'JAX_LOCAL'))}
    call = [LAUNCH / script, *map(str, arguments)]
    return subprocess.run(
      call, cwd=cwd, env=clean | {'PATH': path} | environment, capture_output=True, text=True, timeout=120
    )
