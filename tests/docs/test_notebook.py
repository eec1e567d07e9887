"""The notebook, executed from top to bottom, twice, with a short setting; and what is committed of it."""

import json
import os
import re
import sys
from itertools import pairwise

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from configs import quickstart_joint
from gif_jax.training.summary import summary_table
from tests.helpers.places import ROOT

NOTEBOOK = ROOT / 'notebooks' / 'quickstart.ipynb'
pytestmark = pytest.mark.slow
IDENTITIES, STEPS = 100, 30


def _committed():
  return nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)


def _kernel(folder):
  """A manager of kernels that run this very interpreter, whatever kernels are installed for the user."""
  spec = {'argv': [sys.executable, '-m', 'ipykernel_launcher', '-f', '{connection_file}'], 'display_name': 'this'}
  (folder / 'python3').mkdir(parents=True)
  (folder / 'python3' / 'kernel.json').write_text(json.dumps(spec | {'language': 'python'}))
  kernels = KernelSpecManager(kernel_dirs=[str(folder)], ensure_native_kernel=False)
  return AsyncKernelManager(kernel_name='python3', kernel_spec_manager=kernels)


@pytest.fixture(scope='module')
def execute(tmp_path_factory):
  """Executes the notebook, always in one folder: gives it with its outputs, and its WORKDIR. Fails if a cell does."""
  kernels, workplace = tmp_path_factory.mktemp('kernels'), tmp_path_factory.mktemp('notebook')
  environment = os.environ | {
    'PYTHONPATH': os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]),
    'IPYTHONDIR': str(tmp_path_factory.mktemp('ipython')),  # nothing the user has set up
    'JAX_PLATFORMS': 'cpu',
    'GIF_JAX_IDENTITIES': str(IDENTITIES),
    'GIF_JAX_STEPS': str(STEPS),
  }

  def run(name):
    notebook = _committed()
    place = {'metadata': {'path': str(workplace)}}
    client = NotebookClient(notebook, km=_kernel(kernels / name), resources=place, timeout=600)
    client.execute(env=environment, cleanup_kc=True)
    return notebook, workplace / 'runs' / 'quickstart_notebook'

  return run


@pytest.fixture(scope='module')
def executed(execute):
  return execute('first')


def _cell(notebook, name):
  return next(cell for cell in notebook.cells if cell.id == name)


def _text(notebook, name):
  return ''.join(output.text for output in _cell(notebook, name).outputs if output.get('name') == 'stdout')


def _pictures(notebook):
  """Ids of the cells that show a PNG."""
  return {
    cell.id
    for cell in notebook.cells
    if cell.cell_type == 'code'
    for output in cell.outputs
    if output.get('data', {}).get('image/png', '').startswith('iVBOR')
  }


def test_every_cell_shows_what_it_promises(executed):
  notebook, _ = executed
  assert _pictures(notebook) == {'faces', 'prefixes', 'train', 'verification', 'pairs', 'answers'}
  assert f'm={IDENTITIES} people, l=2 digits of v=10 values' in _text(notebook, 'table')
  read = re.findall(r'^person +(\d+): code [\d ]+, read [\d ]+$', _text(notebook, 'decode'), re.MULTILINE)
  assert len(read) == 8 and len(set(read)) == 8


def test_no_cell_warns(executed):
  notebook, _ = executed
  for cell in notebook.cells:
    for output in cell.get('outputs', []):
      assert 'warning' not in output.get('text', '').lower(), (cell.id, output.text)


def test_figures_shown_are_those_of_the_run(executed):
  notebook, workdir = executed
  summary = json.loads((workdir / 'summary.json').read_text())
  assert summary['steps'] == STEPS and 0 <= summary['verification_accuracy'] <= 1
  assert _text(notebook, 'verification').strip() == summary_table(summary)
  shown = f'decoded {summary["decode_top1"]:.1%}, nearest code vector {summary["vector_top1"]:.1%}, by chance 1.0%'
  assert shown in _text(notebook, 'decode')


def test_answers_are_called_right_only_where_they_are(executed):
  notebook, _ = executed
  for block in _text(notebook, 'decode').split('person ')[1:]:
    person = block.split(':')[0]
    for answer, verdict in re.findall(r'(?:decoded|vector): (\d+) .*: (right|wrong)$', block, re.MULTILINE):
      assert (answer == person) == (verdict == 'right')
    assert len(re.findall(r'right|wrong', block.split('\n\n')[0])) == 2


def test_it_runs_again_in_the_same_folder(execute, executed):
  """Nothing is trained again: the run finds itself finished, and says the same of the same images."""
  before, _ = executed
  after, workdir = execute('second')
  assert json.loads((workdir / 'summary.json').read_text())['resumed_from_step'] == STEPS
  assert _pictures(after) == _pictures(before)
  assert _text(after, 'decode') == _text(before, 'decode')


def test_what_is_committed_is_a_valid_notebook_without_outputs():
  notebook = _committed()
  nbformat.validate(notebook)
  assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
  assert notebook.metadata.keys() == {'kernelspec', 'language_info'} and notebook.metadata.kernelspec.name == 'python3'
  for cell in notebook.cells:
    assert not cell.metadata, cell.id
    if cell.cell_type == 'code':
      assert cell.outputs == [] and cell.execution_count is None, cell.id


def test_every_code_cell_is_introduced():
  kinds = [cell.cell_type for cell in _committed().cells]
  assert all(before == 'markdown' for before, kind in pairwise(kinds) if kind == 'code')


def test_nothing_is_installed_where_the_package_is(executed):
  notebook, _ = executed
  assert '%pip' in _cell(notebook, 'install').source and _cell(notebook, 'install').outputs == []


def test_settings_are_those_of_the_config_file(monkeypatch):
  """Installed without configs/, the notebook writes its settings out; they must not drift apart."""
  for name in ('GIF_JAX_IDENTITIES', 'GIF_JAX_STEPS'):
    monkeypatch.delenv(name, raising=False)
  cell = {}
  exec(_cell(_committed(), 'settings').source, cell)
  assert cell['config'].to_dict() == quickstart_joint.get_config().to_dict()
