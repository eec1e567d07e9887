"""README and docs name what exists: links, files, verbs, flags, settings. The README is a page."""

import re
import subprocess
import sys

import pytest

from gif_jax.commands import VERBS
from gif_jax.config import all_keys, default
from tests.helpers import markdown
from tests.helpers.markdown import PAGES
from tests.helpers.places import ROOT

LINKING = [*PAGES, *(ROOT / name for name in ('CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md', 'CODE_OF_CONDUCT.md'))]
LINKING += [ROOT / 'benchmarks' / 'README.md']
PROGRAM = re.compile(r'(?:python -m gif_jax|gif-jax)(\.main)?(?: ([a-z]+))?((?: [^`|\n]*)?)')
FOLDERS = 'gif_jax|tests|benchmarks|configs|launch|docs|notebooks'
ENDINGS = {'rec', 'idx', 'lst', 'npz', 'py', 'safetensors'}  # of files, which are no settings
# Flags of other programs.
OTHERS = {'root', 'write', 'ntasks-per-node', 'gpus-per-node', 'gpus', 'nodes', 'tpu', 'topology', 'build-arg'}
OTHERS |= {'only', 'rounds', 'verbosity'}


def _id(page):
  return page.stem


@pytest.fixture(scope='module')
def flags():
  """verb -> its flags, as its --help lists them."""

  def of(verb):
    text = subprocess.run([sys.executable, '-m', 'gif_jax', verb, '--help'], cwd=ROOT, capture_output=True, text=True)
    named = re.findall(r'^  --(\[no\])?(\w+)', text.stdout.partition('Settings of --config')[0], re.MULTILINE)
    return {name for _, name in named} | {f'no{name}' for negated, name in named if negated}

  return {verb: of(verb) for verb in VERBS}


def test_the_readme_is_a_page():
  assert 700 <= len((ROOT / 'README.md').read_text().split()) <= 950


@pytest.mark.parametrize('page', LINKING, ids=_id)
def test_links_lead_somewhere(page):
  for path, anchor in markdown.links(page):
    target = (page.parent / path).resolve() if path else page
    assert target.exists(), path
    if anchor and target.suffix == '.md':
      assert anchor in markdown.anchors(target), f'{path}#{anchor}'


def test_every_page_is_reached_from_the_readme():
  reached, waiting = set(), [ROOT / 'README.md']
  while waiting:
    page = waiting.pop()
    if page not in reached and page.suffix == '.md':
      reached.add(page)
      waiting += [(page.parent / path).resolve() for path, _ in markdown.links(page) if path]
  assert {*LINKING} - {ROOT / 'CODE_OF_CONDUCT.md', ROOT / 'CHANGELOG.md'} <= reached


@pytest.mark.parametrize('page', [*PAGES, ROOT / 'CONTRIBUTING.md'], ids=_id)
def test_files_that_are_named_exist(page):
  for code in markdown.inline_code(page):
    for path in re.findall(rf'(?:^|(?<= ))(?:{FOLDERS})/[\w./]*', code):
      assert (ROOT / path).exists() or path == 'configs/mine.py' or 'NAME' in path, path
  if page.stem == 'inputs':
    tests = [code for code in markdown.inline_code(page) if re.fullmatch(r'([\w/]+/)?test_\w+', code)]
    assert len(tests) > 40 and all((ROOT / 'tests' / f'{name}.py').exists() for name in tests)


@pytest.mark.parametrize('page', [*PAGES, ROOT / 'CONTRIBUTING.md'], ids=_id)
def test_commands_name_verbs_and_flags_that_exist(page, flags):
  text = '\n'.join(markdown.lines(page.read_text()))
  for door, verb, rest in PROGRAM.findall(text):
    verb = 'train' if door else verb
    assert not verb or verb in VERBS, verb
    for flag in re.findall(r'(?<!\S)--(\w+)(?=[= ]|$)', rest.partition('#')[0]):
      known = flags[verb] if verb else set.union(*flags.values())
      assert flag in known, f'{verb} --{flag}'


@pytest.mark.parametrize('page', PAGES, ids=_id)
def test_flags_and_settings_that_are_named_exist(page, flags):
  known = set.union(*flags.values()) | OTHERS
  keys, sections = all_keys(), '|'.join(default())
  for key in re.findall(r'--config\.([\w.]+)', page.read_text()):
    assert key in keys, key
  for code in markdown.inline_code(page):
    for flag in re.findall(r'^--([\w-]+)', code):
      assert flag in known or flag == 'config', flag
    for key in re.findall(rf'^(?:config\.)?((?:{sections})\.\w+)', code):
      assert key in keys or key.partition('.')[2] in ENDINGS, key
