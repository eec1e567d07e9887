"""Files that other programs read: forms, hooks, the workflow, the citation."""

import re

import pytest
import yaml

from tests.helpers.places import ROOT

FORMS = sorted((ROOT / '.github' / 'ISSUE_TEMPLATE').glob('[!c]*.yml'))


def _yaml(name):
  return yaml.safe_load((ROOT / name).read_text())


@pytest.mark.parametrize('form', FORMS, ids=lambda path: path.stem)
def test_forms_have_what_github_wants(form):
  content = yaml.safe_load(form.read_text())
  assert {'name', 'description', 'body'} <= content.keys()
  fields = [field for field in content['body'] if field['type'] != 'markdown']
  assert fields and all(field['attributes']['label'] for field in fields)
  assert len({field['id'] for field in fields}) == len(fields)


def test_the_workflow_runs_everything_and_the_fast_tests_on_two_versions_of_jax():
  jobs = _yaml('.github/workflows/ci.yml')['jobs']
  assert {'run': '.ci/run'} in jobs['complete']['steps']
  assert len({case['constraint'] for case in jobs['fast']['strategy']['matrix']['include']}) == 2
  commands = [step.get('run', '') for step in jobs['fast']['steps']]
  assert any('pytest -m "not slow"' in command for command in commands)


def test_hooks_need_no_network():
  for repository in _yaml('.pre-commit-config.yaml')['repos']:
    assert repository['repo'] == 'local' and {hook['language'] for hook in repository['hooks']} == {'system'}


def test_the_citation_is_that_of_the_readme():
  paper, readme = _yaml('CITATION.cff')['preferred-citation'], (ROOT / 'README.md').read_text()
  assert f'{{{paper["title"]}}}' in readme
  for author in paper['authors']:
    assert f'{author["family-names"]}, {author["given-names"]}' in readme


def test_make_has_what_contributors_are_told():
  targets = re.findall(r'^([\w-]+):$', (ROOT / 'Makefile').read_text(), re.MULTILINE)
  told = re.findall(r'`make ([\w-]+)`', (ROOT / 'CONTRIBUTING.md').read_text())
  assert len(told) > 5 and set(told) <= set(targets)
