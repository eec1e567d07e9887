"""Files appear whole or not at all, and JSON is what every reader of JSON takes."""

import json
from types import MappingProxyType, SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from gif_jax.evaluation.files import write_json, write_text


class Pair(NamedTuple):
  first: int
  second: np.ndarray


def test_json_round_trip(tmp_path):
  content = {
    'a': np.float32(0.5), 'b': np.arange(3), 'c': [np.inf, {'d': float('nan')}], 0.1: True, 'e': 'text',
    'f': Pair(1, np.zeros((2, 2))), 'g': MappingProxyType({'h': np.bool_(True)}), 'i': [],
    'j': ['[\n1, 2]', '"[', '\ud800'],
  }  # fmt: skip
  write_json(tmp_path / 'deep' / 'summary.json', content)
  assert json.loads((tmp_path / 'deep' / 'summary.json').read_text()) == {
    'a': 0.5, 'b': [0, 1, 2], 'c': [None, {'d': None}], '0.1': True, 'e': 'text',
    'f': {'first': 1, 'second': [[0, 0], [0, 0]]}, 'g': {'h': True}, 'i': [], 'j': ['[\n1, 2]', '"[', '\ud800'],
  }  # fmt: skip


def test_a_list_of_numbers_takes_one_line(tmp_path):
  write_json(tmp_path / 'a.json', {'a': [1, 2.5, None], 'b': [[1, 2], [3, 4]]})
  assert '  "a": [1, 2.5, null],\n' in (tmp_path / 'a.json').read_text()
  assert len((tmp_path / 'a.json').read_text().splitlines()) == 7


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
  path = tmp_path / 'summary.json'
  write_json(path, {'a': 1})
  with pytest.raises(TypeError):
    write_json(path, {'a': SimpleNamespace()})
  monkeypatch.setattr('os.replace', lambda *_: (_ for _ in ()).throw(OSError('disk full')))
  with pytest.raises(OSError, match='disk full'):
    write_json(path, {'a': 2})
  assert json.loads(path.read_text()) == {'a': 1} and list(tmp_path.iterdir()) == [path]


def test_text_is_utf8(tmp_path):
  write_text(tmp_path / 'a.md', 'Zoë — 陈\n')
  assert (tmp_path / 'a.md').read_bytes() == 'Zoë — 陈\n'.encode()
