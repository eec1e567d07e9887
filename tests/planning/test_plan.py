"""gif-jax plan: compiled in a process of its own, for processors, which every machine has; see also test_topologies."""

import json
from types import SimpleNamespace

import pytest

from gif_jax.planning import compiled
from gif_jax.planning.plan import GRAIN, largest
from tests.helpers.places import ROOT

TINY = f'--config={ROOT}/tests/helpers/tiny.py'


@pytest.mark.slow
def test_a_plan_for_processors(command, tmp_path):
  file = tmp_path / 'plan.json'
  done = command('plan', TINY, '--topology=cpu:2', f'--json={file}', '--config.model.batch_norm_group=8')
  assert done.returncode == 0, done.stdout
  assert '# cpu:2: 2 devices, 1 process(es)' in done.stdout and 'lie on' not in done.stdout
  plan = json.loads(file.read_text())
  step = plan['parts']['train step']
  assert set(plan['parts']) == {'train step', 'init', 'predict'} and plan['bounds'] == {}
  assert sum(step['parts'].values()) == step['memory']['total'] > step['parts']['activations'] > 0
  assert step['flops'] > 1e6 and step['bytes'] > 1e6
  assert sum(each['times'] for each in step['collectives'] if each['size'] > 1e5) == 1  # the gradient


@pytest.mark.slow
def test_groups_that_lie_on_several_devices_are_spoken_of(command):
  done = command('plan', TINY, '--topology=cpu:4')
  assert 'BatchNorm is over 16 images, which lie on 4 devices' in done.stdout


@pytest.mark.slow  # a process that imports JAX
@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--topology=cpu:3'], 'batch_size=16 cannot be split over 3 devices'),
    (['--topology=cpu:2', '--config.data.identities=300', '--config.tokenizer.l=1'], 'tokenizer.l=1'),
  ],
)
def test_what_cannot_be_is_one_line(command, flags, message):
  done = command('plan', TINY, *flags)
  assert done.returncode == 1 and message in done.stdout.splitlines()[-1], done.stdout


def test_a_machine_that_is_none_is_one_line(command):
  done = command('plan', TINY, '--topology=b200:8')
  assert done.returncode == 1 and '--topology=b200:8: b200 is no machine' in done.stdout.splitlines()[-1], done.stdout


def test_a_batch_that_was_compiled_is_not_compiled_again(monkeypatch):
  monkeypatch.setattr(compiled, '_total_of', lambda config, mesh, images: pytest.fail(f'{images} again'))
  config = SimpleNamespace(train=SimpleNamespace(batch_size=32))
  known = {8: 2.0, 16: 5.0}
  trials = list(compiled.largest_batch(config, SimpleNamespace(size=2), 4.0, known))
  assert trials == [{'images': 16, 'total': 5.0}, {'images': 8, 'total': 2.0}]


@pytest.mark.parametrize('limit', [2.1, 3.0, 10.0, 50.0, 1000.0])
@pytest.mark.parametrize('bend', [0.5, 1.0, 1.3])  # memory grows in proportion, or more slowly, or faster
@pytest.mark.parametrize('known', [True, False])  # whether the compiler says how much it would have been
def test_the_search_ends_at_the_largest_batch(monkeypatch, limit, bend, known):
  def needs(images):
    return 2.0 + 0.05 * images**bend

  def total_of(config, mesh, images):
    del config, mesh
    return needs(images) if known or needs(images) <= limit else None

  monkeypatch.setattr(compiled, '_total_of', total_of)
  config = SimpleNamespace(train=SimpleNamespace(batch_size=512))
  trials = list(compiled.largest_batch(config, SimpleNamespace(size=4), limit, {}))
  assert len({trial['images'] for trial in trials}) == len(trials)
  best, sure = largest({'capacity': limit, 'trials': trials})
  assert best == 0 or needs(best) <= limit
  if sure:
    assert needs(best + GRAIN) > limit
  assert sure or best > 10_000, trials  # images a device, which end the search early
