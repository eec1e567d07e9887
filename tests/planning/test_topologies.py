"""The compilers of GPUs and TPUs, which need the extras plan-gpu and plan-tpu: `make test-plan`."""

import json

import pytest

from tests.helpers.places import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.topology]
TINY = f'--config={ROOT}/tests/helpers/tiny.py'


def _plan(command, file, topology, *flags):
  done = command('plan', TINY, f'--topology={topology}', f'--json={file}', *flags)
  assert done.returncode == 0, done.stdout
  return json.loads(file.read_text())


@pytest.mark.parametrize('form', ['fixed', 'joint'])
@pytest.mark.parametrize('topology', ['h200:4x2', 'v5e:2x4'])
def test_a_step_for_a_machine_that_is_not_there(command, tmp_path, topology, form):
  flags = (
    f'--config.joint.enabled={form == "joint"}',
    '--config.joint.negatives=6',
    '--config.model.batch_norm_group=2',
  )
  plan = _plan(command, tmp_path / 'plan.json', topology, *flags)
  step = plan['parts']['train step']
  assert (plan['devices'], plan['processes']) == (8, 2)
  assert step['memory']['total'] < plan['capacity'] and step['bytes'] > 1e6
  assert set(plan['bounds']) == {'arithmetic', 'memory traffic', 'sending'}
  sent = step['collectives']
  assert sum(each['times'] for each in sent if each['size'] > 1e5) == 1, 'the gradient, and nothing within the network'
  assert sum(each['times'] for each in sent) <= (6 if form == 'fixed' else 12)


def test_a_machine_that_its_compiler_does_not_know(command):
  done = command('plan', TINY, '--topology=v5e:3x5')
  line = done.stdout.splitlines()[-1]
  assert done.returncode == 1 and '--topology=v5e:3x5: its compiler refuses it' in line, done.stdout
