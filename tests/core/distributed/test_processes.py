"""Two processes equal one, in real processes that talk to each other."""

import os
import subprocess
import sys

import numpy as np
import pytest

from gif_jax.codes.table import CodeTable
from tests.helpers import one_of_two
from tests.helpers.places import ROOT
from tests.helpers.ports import free_port


@pytest.mark.slow
def test_two_processes_equal_one(tiny_table, tmp_path):
  environment = os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '4'}
  address = f'localhost:{free_port()}'
  running = [
    subprocess.Popen(
      [sys.executable, '-m', 'tests.helpers.one_of_two', address, str(rank), tmp_path],
      cwd=ROOT,
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for rank in range(2)
  ]
  alone = one_of_two.results()
  for process in running:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
  for rank in range(2):
    together = np.load(tmp_path / f'{rank}.npz')
    assert set(together) == set(alone)
    alike = [name for name in alone if name.split()[0] in ('left', 'right', 'cosine')]
    np.testing.assert_array_equal(together['rows'], one_of_two.ROWS[:37].view(np.uint32))
    for name in ('z', 'rank', 'first', 'one', 'counts', 'rows', *alike):
      assert together[name].dtype == alone[name].dtype
      np.testing.assert_array_equal(together[name], alone[name])
    for name in ('means', 'embedding'):
      np.testing.assert_allclose(together[name], alone[name], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(together['within'], alone['within'], rtol=0, atol=1e-6 * alone['within'].max())
  made = CodeTable.open(tmp_path / 'table')
  np.testing.assert_array_equal(made.codes, tiny_table.codes)
  cosines, expected = (h @ h.T for h in (each.rows(np.arange(each.m))[1] for each in (made, tiny_table)))
  np.testing.assert_allclose(cosines, expected, atol=2e-3)  # axes of like variance may have turned
  assert made.meta['label_space'] == tiny_table.meta['label_space']
  assert not (tmp_path / '.table.draft').exists()
