"""Rows that lie on hosts: each process has its share, reads and writes that alone, and knows what was written."""

import jax
import numpy as np
import pytest

from gif_jax.core.distributed import gather
from gif_jax.core.distributed.host_array import HostArray, bounds


def _of(process, processes, m, monkeypatch, rows):
  monkeypatch.setattr(jax, 'process_index', lambda: process)
  monkeypatch.setattr(jax, 'process_count', lambda: processes)
  cuts = bounds(m)
  return HostArray(rows[cuts[process] : cuts[process + 1]].copy(), m)


@pytest.mark.parametrize(('m', 'processes'), [(10, 1), (10, 3), (2, 4)])
def test_shares_make_the_whole(monkeypatch, m, processes):
  rows = np.arange(3 * m, dtype=np.float32).reshape(m, 3)
  label = np.array([m - 1, 0, m - 1, m // 2])
  read = np.zeros((4, 3), np.float32)
  for process in range(processes):
    array = _of(process, processes, m, monkeypatch, rows)
    assert array.shape == (m, 3) and array.nbytes == 12 * m and array.dtype == np.float32
    here, place = array.own_place(label)
    read[here] += array.own[place]
  np.testing.assert_array_equal(read, rows[label])


def test_a_process_writes_its_own_rows_and_notes_them(monkeypatch):
  rows = np.zeros((10, 2), np.float32)
  array = _of(1, 3, 10, monkeypatch, rows)  # has 3, 4, 5
  assert array.refilled
  array.settle()
  array.write(np.array([2, 4, 9]), np.array([[1, 1], [2, 2], [3, 3]], np.float32))
  np.testing.assert_array_equal(array.own, [[0, 0], [2, 2], [0, 0]])
  assert array.touched.tolist() == [False, True, False] and not array.refilled
  array.fill(np.arange(8, dtype=np.float32).reshape(4, 2), 0)  # of 0 to 3
  np.testing.assert_array_equal(array.own, [[6, 7], [2, 2], [0, 0]])
  assert array.refilled


def test_a_file_takes_its_space_and_is_removed(tmp_path):
  array = HostArray.on_disk(tmp_path / 'rows', 'vectors', 1000, 512, np.float32)
  (path,) = (tmp_path / 'rows').iterdir()
  assert path.stat().st_blocks * 512 >= 1000 * 2048 and not array.own.any()
  array.write(np.array([999]), np.ones((1, 512), np.float32))
  array.expect(np.array([0, 500, 999]))  # asks, and changes nothing
  assert array.own[999].all() and not array.own[:999].any()
  array.remove()
  assert not (tmp_path / 'rows').exists()


def test_rows_in_blocks_are_the_rows(monkeypatch):
  monkeypatch.setattr(gather, '_BLOCK', 24)
  rows = np.arange(21, dtype=np.float32).reshape(7, 3)
  blocks = list(gather.in_blocks(HostArray(rows, 7), 6))
  assert [len(block) for block in blocks] == [2, 2, 2]
  np.testing.assert_array_equal(np.concatenate(blocks), rows[:6])
