"""Data of others runs no code, leads nowhere outside of the output, and is text in every report and table."""

import csv
import importlib.util
import json
import os

import numpy as np
import pytest
import tensorflow_datasets as tfds

from gif_jax.audit.audit import Settings, audit
from gif_jax.core.errors import DataError
from gif_jax.data.alignment import photographs
from gif_jax.data.convert.convert import Settings as Conversion
from gif_jax.data.convert.convert import convert
from gif_jax.data.convert.merge import input_name
from gif_jax.data.formats.open import open_records
from gif_jax.data.formats.packed import Packed
from gif_jax.evaluation.registry import open_benchmark
from tests.helpers.landmark_files import write_points
from tests.helpers.photographs import write_people
from tests.helpers.portraits import prepare
from tests.helpers.tfds_examples import IMAGE, TEXT, examples

ODD = ('=HYPERLINK("http://x")', '+1', '-2+3', '@SUM(1)', "'quoted", '<b>bold</b>', '# head', '$x^2$', 'a\rb', 'a\nb')


def _written(root, name, value):
  """A data set of tfds whose features.json is changed before it is read."""
  path = prepare(root, {'image': IMAGE, 'label': TEXT}, examples(['a', 'b']))
  file = path / 'features.json'
  content = json.loads(file.read_text())
  inner = content['featuresDict']['features']['label']
  inner[name] = value
  if name != 'pythonClassName':
    del inner['pythonClassName']
  file.write_text(json.dumps(content))
  return path


@pytest.mark.parametrize('name', ['pythonClassName', 'python_class_name'])
@pytest.mark.parametrize('value', ['evil.Text', 'os.system', 'tests.evil.Text', 'tensorflow_datasets_evil.Text'])
def test_classes_that_a_data_set_names_are_not_imported(name, value, tmp_path, monkeypatch):
  module = value.split('.')[0]
  if importlib.util.find_spec(module) is None:
    (tmp_path / f'{module}.py').write_text(f'open({str(tmp_path / "ran")!r}, "w")\n')
  monkeypatch.syspath_prepend(tmp_path)
  path = _written(tmp_path / 'data', name, value)
  plain = tfds.features.FeatureConnector.__dict__['cls_from_name']
  with pytest.raises(DataError, match=r'features\.json names the class .*nothing of it was run.*source you trust'):
    open_records(f'tfds:{path}')
  assert not (tmp_path / 'ran').exists()
  assert tfds.features.FeatureConnector.__dict__['cls_from_name'] is plain  # others may still use features of theirs


def test_modules_that_a_data_set_says_it_is_of_are_not_imported(tmp_path, monkeypatch):
  (tmp_path / 'evil.py').write_text(f'open({str(tmp_path / "ran")!r}, "w")\n')
  monkeypatch.syspath_prepend(tmp_path)
  path = prepare(tmp_path / 'data', {'image': IMAGE, 'label': TEXT}, examples(['a', 'b']))
  content = json.loads((path / 'dataset_info.json').read_text())
  (path / 'dataset_info.json').write_text(json.dumps(content | {'moduleName': 'evil'}))
  assert len(open_records(f'tfds:{path}')) == 2
  assert not (tmp_path / 'ran').exists()


@pytest.fixture
def odd(tiny_faces, tmp_path):
  """People whose names do something in spreadsheets, Markdown or plots."""
  write_people(tmp_path / 'faces', tiny_faces.train, len(ODD))
  for folder, name in zip(sorted((tmp_path / 'faces').iterdir()), ODD):
    folder.rename(folder.with_name(name.replace('/', '\u2215')))
  return tmp_path / 'faces'


def test_names_are_no_formulas_in_tables_and_come_back_as_they_are(odd, tmp_path):
  convert(Conversion(str(odd), tmp_path / 'packed'))
  names = {name.replace('/', '\u2215') for name in ODD}
  assert {person.name for person in Packed(tmp_path / 'packed').people()} == names
  with (tmp_path / 'packed' / 'people.tsv').open(newline='') as lines:
    for row in csv.reader(lines, delimiter='\t'):
      assert not row[0].startswith(('=', '+', '-', '@', '\t', '\r'))
  (tmp_path / 'few.txt').write_bytes((tmp_path / 'packed' / 'people.tsv').read_bytes())
  convert(Conversion(str(odd), tmp_path / 'again', people=str(tmp_path / 'few.txt')))
  assert {person.name for person in Packed(tmp_path / 'again').people()} == names


@pytest.mark.slow
def test_names_are_text_in_the_report_of_an_audit(odd, tmp_path):
  for name in ODD[:2]:  # the same picture under two names, so that both are listed
    source = next((odd / name.replace('/', '\u2215')).iterdir())
    (odd / ODD[5].replace('/', '\u2215') / f'{len(name)}.png').write_bytes(source.read_bytes())
  inputs = tmp_path / '<script>alert(1)<'
  odd.rename(inputs)
  audit(Settings(str(inputs), tmp_path / 'report', encoder='pixels', similarity=0.01))
  assert '<script' not in (tmp_path / 'report' / 'audit.md').read_text().replace('\\<script', '')
  for name in ('duplicates.csv', 'similar_people.csv', 'overlapping_people.csv'):
    with (tmp_path / 'report' / name).open(newline='') as lines:
      for row in csv.reader(lines):
        assert not any(cell.startswith(('=', '+', '-', '@', '\t', '\r')) for cell in row), row


@pytest.mark.parametrize(('where', 'name'), [('a/b', 'b'), ('a/b/', 'b'), ('.', None), ('..', None), ('a/..', None)])
def test_inputs_have_names_that_lead_nowhere(where, name, tmp_path, monkeypatch):
  (tmp_path / 'a' / 'b').mkdir(parents=True)
  monkeypatch.chdir(tmp_path / 'a')
  assert input_name(where) == (name or os.path.basename(os.path.realpath(where)))


def test_crops_stay_below_the_output(tiny_faces, tmp_path):
  """A link that somebody has put into the output leads no file out of it."""
  write_people(tmp_path / 'faces', tiny_faces.train, 2)
  source = write_points(tmp_path / 'points.txt', tmp_path / 'faces')
  people = sorted(path.name for path in (tmp_path / 'faces').iterdir())
  photographs.align_people(tmp_path / 'faces', tmp_path / 'out', 32, source)
  elsewhere = tmp_path / 'elsewhere'
  elsewhere.mkdir()
  for file in (tmp_path / 'out' / people[0]).iterdir():
    file.unlink()
  (tmp_path / 'out' / people[0]).rmdir()
  (tmp_path / 'out' / people[0]).symlink_to(elsewhere)
  with pytest.raises(DataError, match='is a link that leads out of'):
    photographs.align_people(tmp_path / 'faces', tmp_path / 'out', 32, source)
  assert not list(elsewhere.iterdir())


def test_arrays_with_objects_are_not_unpickled(tmp_path):
  class Evil:
    def __reduce__(self):
      return os.mkdir, (str(tmp_path / 'ran'),)

  np.save(tmp_path / 'identities.npy', np.array([Evil()], object), allow_pickle=True)
  with pytest.raises(DataError, match='holds Python objects, which could run code'):
    open_benchmark(str(tmp_path / 'identities.npy'), 32)
  assert not (tmp_path / 'ran').exists()
