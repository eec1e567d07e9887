"""Machines by name, and what must be installed to compile for them."""

import re
from importlib import metadata

import pytest

from gif_jax.core.errors import ConfigError
from gif_jax.planning import machines
from gif_jax.planning.plan import bounds, capacity, largest


@pytest.mark.parametrize(
  ('name', 'kind', 'shape'),
  [
    ('h200:8', 'gpu', (8,)),
    ('h100:8x4', 'gpu', (8, 4)),
    ('v5e:16x16', 'tpu', (16, 16)),
    ('v5p:4x4x8', 'tpu', (4, 4, 8)),
    ('cpu:8', 'cpu', (8,)),
  ],
)
def test_a_machine_by_its_name(name, kind, shape):
  machine = machines.machine(name)
  assert (machine.kind, machine.shape) == (kind, shape)
  assert (machine.chip is None) == (kind == 'cpu')


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('h20:8', r'--topology=h20:8: h20 is no machine\. Did you mean h200\?'),
    ('', r'--topology=: nothing is no machine'),
    ('h200', r'--topology=h200: nothing is no shape of h200; give one as h200:8, or 8x4'),
    ('h200:0', r'0 is no shape of h200'),
    ('h200:2x2x2', r'2x2x2 is no shape of h200'),
    ('v5e:256', r'256 is no shape of v5e; give one as v5e:16x16'),
    ('v5p:8x8', r'8x8 is no shape of v5p; give one as v5p:4x4x8'),
    ('cpu:-1', r'-1 is no shape of cpu'),
    ('v5e:axb', r'axb is no shape of v5e'),
  ],
)
def test_what_is_no_machine(name, message):
  with pytest.raises(ConfigError, match=message) as error:
    machines.machine(name)
  assert '\n' not in str(error.value)


def _installed(monkeypatch, **versions):
  def version(name):
    if (key := name.replace('-', '_')) in versions:
      return versions[key]
    raise metadata.PackageNotFoundError(name)

  monkeypatch.setattr(metadata, 'version', version)


def test_a_compiler_that_is_missing_or_of_another_version(monkeypatch):
  gpu, tpu = machines.machine('h200:8'), machines.machine('v5e:4x4')
  _installed(monkeypatch, jaxlib='0.10.2', jax='0.10.2')
  for machine, extra in ((gpu, 'plan-gpu'), (tpu, 'plan-tpu')):
    with pytest.raises(ConfigError, match=rf"not installed: pip install 'gif-jax\[{extra}\]'\.$"):
      machines.check_installed(machine)
  _installed(monkeypatch, jaxlib='0.10.2', jax='0.10.2', jax_cuda12_plugin='0.10.1', libtpu='0.0.1')
  with pytest.raises(
    ConfigError, match=r'jax-cuda12-plugin 0\.10\.1 is installed, jax 0\.10\.2 needs .*==0\.10\.2: pip'
  ):
    machines.check_installed(gpu)
  with pytest.raises(ConfigError, match=r'libtpu 0\.0\.1 is installed, jax 0\.10\.2 needs libtpu==.*: pip install'):
    machines.check_installed(tpu)
  machines.check_installed(machines.machine('cpu:4'))


def test_a_gpu_has_what_jax_takes_of_it(monkeypatch):
  monkeypatch.delenv('XLA_PYTHON_CLIENT_MEM_FRACTION', raising=False)
  assert capacity(machines.machine('h200:1')) == 0.75 * 141e9
  monkeypatch.setenv('XLA_PYTHON_CLIENT_MEM_FRACTION', '.95')
  assert capacity(machines.machine('h200:1')) == pytest.approx(0.95 * 141e9)
  assert capacity(machines.machine('v5e:2x2')) == 16 * 2**30
  monkeypatch.setenv('XLA_PYTHON_CLIENT_MEM_FRACTION', 'most')
  with pytest.raises(ConfigError, match='XLA_PYTHON_CLIENT_MEM_FRACTION=most is no share of the memory: give one'):
    capacity(machines.machine('h200:1'))


def test_targets_name_their_numbers():
  text = machines.topology(machines.machine('a100:8x2'))
  assert text['topology'] == '1x2x8' and 'core_count: 108' in text['target_config']
  assert re.search(r'device_memory_size: 85899345920\b', text['target_config'])
  assert machines.topology(machines.machine('v5e:4x4')) == {'platform': 'tpu', 'topology_name': 'v5e:4x4'}


def test_bounds_by_hand():
  step = {'flops': 989e12, 'bytes': 9.6e12, 'collectives': [{'op': 'all-reduce', 'size': 450e9, 'times': 2}]}
  one_host, hosts = (
    bounds(step, machines.machine(name), devices, 1) for name, devices in (('h200:4', 4), ('h200:4x2', 8))
  )
  assert one_host == {'arithmetic': 1.0, 'memory traffic': 2.0, 'sending': 2 * 2 * 3 / 4}
  assert hosts['sending'] == 2 * 2 * 7 / 8 * 9
  assert bounds(step, machines.machine('cpu:4'), 4, 1) == {}
  assert 'memory traffic' not in bounds(step, machines.machine('h200:4'), 4, 2)


def test_the_largest_batch_is_the_largest_that_fits():
  trials = [{'images': 64, 'total': 5.0}, {'images': 128, 'total': 11.0}, {'images': 96, 'total': None}]
  assert largest({'capacity': 10.0, 'trials': trials}) == (64, False)
  assert largest({'capacity': 10.0, 'trials': [*trials, {'images': 72, 'total': None}]}) == (64, True)
  assert largest({'capacity': 1.0, 'trials': trials}) == (0, False)
