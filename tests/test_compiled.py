"""What tests compile is shared: a process with a folder of its own finds what another one left."""

import os
import subprocess
import sys

import pytest

from tests.helpers.compiled import Compiled
from tests.helpers.places import ROOT

PROGRAM = """
import jax
found = []
jax.monitoring.register_event_listener(lambda event, **_: found.append(event.endswith('cache_hits')))
jax.jit(lambda x: x * 2 + 1)(3.0).block_until_ready()
print(sum(found))
"""


@pytest.mark.slow
def test_what_one_process_compiled_another_finds(tmp_path):
  hits = []
  for name in ('one', 'other'):
    (tmp_path / name).mkdir()
    shared = Compiled(tmp_path / name, tmp_path / 'machine')
    shared.exchange()
    settings = {setting.upper(): str(value) for setting, value in shared.settings().items()}
    call = [sys.executable, '-c', PROGRAM]
    done = subprocess.run(call, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, check=True)
    hits.append(int(done.stdout))
    shared.exchange()
  assert hits == [0, 1]
