"""The report on a table: the command from end to end, what it draws and says, and errors with their cures."""

import shutil
from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pytest

from gif_jax.codes import tokenizer
from gif_jax.codes.quality import plots
from gif_jax.codes.quality.measure import measure
from gif_jax.codes.quality.text import spaced
from gif_jax.codes.table import CodeTable, TableError
from gif_jax.codes.tree import random_codes
from gif_jax.data.sets.open import open_faces
from tests.helpers.photographs import folder_config

SECTIONS = ['Table', 'Variance explained', 'Balance', 'Digit names', 'Nearest neighbours', 'Homogenisation']


def _pictures(folder):
  paths = [path for path in folder.iterdir() if not path.name.startswith('.')]
  assert {path.name for path in paths} == {'report.png', 'tree.png'}
  return {path.stem: matplotlib.image.imread(path)[..., :3] for path in paths}


def _colourful(pixels):
  """Share of the pixels that are not grey."""
  return np.mean(np.ptp(pixels, axis=2) > 0.05)


@pytest.mark.slow
def test_the_command(command, tiny_config, tiny_faces, tmp_path):
  config = tiny_config.copy_and_resolve_references()
  config.tokenizer.l, config.tokenizer.v = 2, 5
  table = tokenizer.make_table(config, tiny_faces, tmp_path / 'table')
  done = command('inspect', table.path, '--config=tests/helpers/tiny.py', f'--output={tmp_path / "report"}')
  assert done.returncode == 0, done.stdout
  places = [done.stdout.index(f'{number}. {title}') for number, title in enumerate(SECTIONS, 1)]
  assert places == sorted(places) and done.stdout.count('-> ') == 9
  for figure in ('m = 20 identities', 'd = 16', 'product codes of the initial vectors', 'as made of', '3 epochs'):
    assert figure in done.stdout
  assert 'nan' not in done.stdout and 'Traceback' not in done.stdout
  assert _colourful(_pictures(tmp_path / 'report')['tree']) > 0.1


def test_the_command_without_a_table(command):
  done = command('inspect', '--config=tests/helpers/tiny.py')
  assert done.returncode == 1 and done.stdout == 'ConfigError: TABLE is missing; --help says what it is.\n'


def test_a_table_that_is_missing(command, tmp_path):
  done = command('inspect', tmp_path / 'nowhere')
  assert done.returncode == 1 and len(done.stdout.splitlines()) == 1
  assert done.stdout.startswith(f'TableError: {tmp_path}/nowhere: no such table') and 'gif_jax tokenize' in done.stdout
  assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_made(command, tiny_table, tmp_path):
  (tmp_path / 'file').write_text('')
  done = command('inspect', tiny_table.path, f'--output={tmp_path / "file" / "folder"}')
  assert done.returncode == 1 and len(done.stdout.splitlines()) == 1
  assert done.stdout.startswith(f'ConfigError: --output={tmp_path}/file/folder cannot be written to (Not a directory)')
  assert done.stdout.endswith('name another place.\n')


@pytest.mark.parametrize(
  ('key', 'value', 'expected'), [('identities', 21, 'm=20.*m=21'), ('seed', 1, 'seed 0.*seed 1')]
)
def test_a_config_of_other_people(tiny_config, tiny_faces, tiny_table, key, value, expected):
  tokenizer.check_people(tiny_table, tiny_faces)
  other = tiny_config.copy_and_resolve_references()
  other.data[key] = value
  with pytest.raises(TableError, match=f'(?s){expected}.*Give the --config.*or leave --config out'):
    tokenizer.check_people(tiny_table, open_faces(other, cache=None))


@pytest.mark.slow
def test_people_are_called_by_their_names(photographs, tmp_path, monkeypatch):
  people = {'Anna $x$ B': r'Anna \$x\$ B', 'J\u00fcrgen': 'J\u00fcrgen'}
  people |= {'Maximilian of a long name': 'Maximilian of...'} | {str(number): str(number) for number in range(9)}
  for name, source in zip(people, sorted(photographs.iterdir())):
    shutil.copytree(source, tmp_path / 'faces' / name)
  config = folder_config(tmp_path / 'faces', people=(0, 0))
  config.tokenizer.l, config.tokenizer.v = 2, 4
  faces = open_faces(config, None)
  table = tokenizer.make_table(config, faces, tmp_path / 'table')
  drawn = []
  monkeypatch.setattr(plots, 'save', lambda figure, path: drawn.append(figure))
  text = plots.inspect(table, faces, tmp_path)
  near = measure(np.asarray(table.codes), table.vectors, progress=False).neighbours
  one = near.stranger_cosine.argmax()
  names = faces.names()
  for label in sorted((near.label[one], near.stranger[one])):
    assert f'{names[label]} ({spaced(table.codes[label])})' in text
  shown = [label.get_text() for label in drawn[1].get_axes()[0].texts]
  for name, label in zip(names, table.codes):
    assert f'{people[name]}\n{spaced(label)}' in shown
  assert any('Below a face: the name and the code' in text for text in shown)


def _table(path, codes, v, equal=False):
  vectors = np.random.default_rng(0).standard_normal((len(codes), 8)).astype(np.float32)
  vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
  vectors = vectors[:1].repeat(len(codes), 0) if equal else vectors
  return CodeTable.write(path, codes, vectors, v=v, encoder='', seed=0, label_space='', settings={})


@pytest.mark.slow
@pytest.mark.parametrize(
  ('m', 'l', 'v', 'equal', 'expected'),
  [
    (300, 2, 20, False, ['WARNING', 'closest people without']),
    (20, 1, 25, False, ['nothing to measure: with l = 1', 'no prefix to share', 'free codes: 5 of 25 (20.0 %)']),
    (1, 3, 5, False, ['cannot be measured: there is only one identity']),
    (2, 2, 5, False, ['m = 2 identities', 'all pairs are equally similar']),
    (125, 3, 5, True, ['all vectors are equal', 'all pairs are equally similar', 'free codes: 0 of 125']),
    (60, 9, 2, False, ['digits, v = 2 values']),
  ],
)
def test_any_table(tmp_path, m, l, v, equal, expected):
  table = _table(tmp_path / 'table', random_codes(m, l, v), v, equal)
  text = plots.inspect(table, None, tmp_path / 'report')
  for part in expected:
    assert part in text, text
  assert 'nan' not in text and '-0.0 ' not in text
  pictures = _pictures(tmp_path / 'report')
  assert pictures['report'].shape[1] > 1200 and _colourful(pictures['tree']) == 0


@pytest.mark.parametrize(
  ('m', 'l', 'v', 'rows'), [(900, 3, 10, 12), (900, 5, 4, 12), (300, 2, 20, 8), (9, 1, 9, 1), (2, 4, 3, 2)]
)
def test_branches_are_a_part_of_the_tree(m, l, v, rows):
  codes = random_codes(m, l, v)
  levels = plots.branches(codes)
  assert levels[0][0].size == m and len(levels) == min(l, 4) and len(levels[-1]) == rows
  for above, level in zip([None, *levels], levels):
    for node in level:
      assert above is None or node.prefix[:-1] in {parent.prefix for parent in above}
      below = np.flatnonzero((codes[:, : len(node.prefix)] == node.prefix).all(1))
      assert node.size == len(below) and set(node.people) <= set(below)
      assert len(set(node.people)) == min(node.size, plots.ACROSS)


def test_a_portrait_is_the_most_typical_photograph():
  images = np.full((6, 4, 4, 3), 50, np.uint8)
  images[1], images[3], images[5] = 250, 80, 60  # of person 1, whose mean is 130

  class Train:
    def labels(self):
      return np.arange(6) % 2

    def __getitem__(self, index):
      return images[index]

  np.testing.assert_array_equal(plots.portraits(SimpleNamespace(train=Train()))(1), images[3])
