"""The throughput benchmark: the PyTorch model is ours, traces are read right, tables say what was measured."""

import json
import re
import subprocess
import sys
import time
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from benchmarks.asking import Measured, timed
from benchmarks.throughput import device_time, report
from benchmarks.throughput.jax_step import experiment, random_batch, settings_for_torch, torch_weights
from benchmarks.throughput.variants import VARIANTS
from gif_jax.models import gif, iresnet
from tests.helpers import places
from tests.helpers.places import ROOT

GOLDEN = json.loads((places.GOLDEN / 'throughput_torch.json').read_text())
SETTINGS = {'dtype': 'float32', 'size': 112, 'batch': 4, 'l': 5, 'v': 13}


@pytest.mark.parametrize('backbone', GOLDEN)
def test_the_torch_network_has_our_names_and_shapes(backbone):
  config = experiment(SimpleNamespace(**SETTINGS, backbone=backbone))
  model = gif.build(config.model, 5, 13)
  images = jax.ShapeDtypeStruct((2, 112, 112, 3), jnp.uint8)
  ours = jax.eval_shape(lambda images: torch_weights(model.init(jax.random.key(0), images)), images)
  assert {name: list(x.shape) for name, x in ours.items()} == GOLDEN[backbone]


def test_kernels_are_laid_out_as_pytorch_has_them():
  kernel = jnp.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7)  # rows, columns, in, out
  weights = torch_weights({'params': {'a': {'b': {'kernel': kernel}}, 'c': {'kernel': kernel[0, 0]}}})
  assert weights['a.b.weight'].shape == (7, 5, 2, 3) and weights['a.b.weight'][6, 4, 1, 2] == kernel[1, 2, 4, 6]
  assert weights['c.weight'].tolist() == kernel[0, 0].T.tolist()


def test_pytorch_is_told_all_that_it_asks_for():
  """Every `s.NAME` in torch_step.py is a setting that it gets."""
  source = (ROOT / 'benchmarks' / 'throughput' / 'torch_step.py').read_text()
  asked = set(re.findall(r'\bs\.([a-z_]+)', source))
  config = experiment(SimpleNamespace(**SETTINGS, backbone='r50'))
  told = settings_for_torch(config, 5, 13).keys() | {'compile', 'seconds', 'checked', 'batch'}
  assert asked <= told
  assert config.loss.margin_type == 'cosface' and not config.joint.enabled  # what the script computes


def test_a_batch_of_noise_has_the_form_of_a_batch():
  batch = random_batch(SimpleNamespace(**SETTINGS), 16)
  assert {name: (x.shape, x.dtype.name) for name, x in batch.items()} == {
    'image': ((4, 112, 112, 3), 'uint8'),
    'code': ((4, 5), 'int32'),
    'code_vector': ((4, 16), 'float32'),
  }


@pytest.mark.slow
def test_it_runs_where_neither_grain_nor_tensorboard_is():
  blocked = "['grain', 'array_record', 'tensorboardX', 'tensorflow_datasets', 'cv2', 'torch']"
  code = (
    f'import sys; sys.modules.update(dict.fromkeys({blocked})); from benchmarks.throughput import __main__, jax_step'
  )
  subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT)


# ---- Where the time goes

PROGRAM = """HloModule jit_train_step, is_scheduled=true

%fused_computation.1 (param_0: f32[8]) -> f32[8] {
  %param_0 = f32[8]{0} parameter(0)
  ROOT %tanh.2 = f32[8]{0} tanh(%param_0)
}

%fused_computation.2 (param_0.1: f32[8,4]) -> (f32[8], f32[8]) {
  %param_0.1 = f32[8,4]{1,0} parameter(0)
  %constant.1 = f32[] constant(0)
  %reduce.1 = f32[8]{0} reduce(%param_0.1, %constant.1), dimensions={1}, to_apply=%add
  ROOT %tuple.3 = (f32[8]{0}, f32[8]{0}) tuple(%reduce.1, %reduce.1)
}

%fused_computation.3 (param_0.2: f32[8,4]) -> f32[4,8] {
  %param_0.2 = f32[8,4]{1,0} parameter(0)
  ROOT %transpose.1 = f32[4,8]{1,0} transpose(%param_0.2), dimensions={1,0}
}

ENTRY %main.9 (p0: f32[8]) -> f32[8] {
  %p0 = f32[8]{0} parameter(0)
  %loop_tanh_fusion.1 = f32[8]{0} fusion(%p0), kind=kLoop, calls=%fused_computation.1
  %input_reduce_fusion = (f32[8]{0}, f32[8]{0}) fusion(%p0), kind=kInput, calls=%fused_computation.2
  wrapped_transpose = f32[4,8]{1,0} fusion(%p0), kind=kInput, calls=%fused_computation.3
  %cudnn-conv.4 = (f32[8]{0}, u8[0]{0}) custom-call(%p0), custom_call_target="__cudnn$convForward"
  %gemm.5 = (f32[8]{0}, s8[4]{0}) custom-call(%p0), custom_call_target="__cublas$lt$matmul"
  %all-reduce.1 = f32[8]{0} all-reduce(%p0), to_apply=%add
  ROOT %call.1 = f32[8]{0} call(%p0), to_apply=%something
}
"""
KINDS = {
  'loop_tanh_fusion.1': device_time.ELEMENTWISE,
  'input_reduce_fusion': device_time.REDUCTIONS,
  'wrapped_transpose': device_time.COPIES,
  'cudnn-conv.4': device_time.CONVOLUTIONS,
  'gemm.5': device_time.PRODUCTS,
  'all-reduce.1': device_time.COLLECTIVES,
  'call.1': '',
}


def test_instructions_of_a_gpu_program_by_category():
  kinds = device_time.instructions(PROGRAM)
  assert {name: kinds[name] for name in KINDS} == KINDS


def _plane(name, lines):
  def event(name, start, duration, stats):
    return SimpleNamespace(name=name, start_ns=start, duration_ns=duration, stats=stats)

  lines = [SimpleNamespace(name=line, events=[event(*e) for e in events]) for line, events in lines.items()]
  return SimpleNamespace(name=name, lines=lines)


def test_device_time_of_a_gpu_trace(monkeypatch, tmp_path):
  ms = 1_000_000
  streams = {
    'Stream #13(Compute)': [
      ('sm90_xmma_fprop', 0, 4 * ms, {'hlo_op': 'cudnn-conv.4'}),
      ('loop_tanh_fusion_1', 4 * ms, 2 * ms, {}),  # of a command buffer: the kernel's name alone
      ('nvjet_hsh_128x256', 8 * ms, 1 * ms, {}),
      ('sm90_xmma_wgrad_implicit_gemm', 9 * ms, 1 * ms, {}),
    ],
    'Stream #14(MemcpyD2D)': [('MemcpyD2D', 5 * ms, 2 * ms, {})],
    'XLA Modules': [('jit_train_step', 0, 10 * ms, {})],
  }
  planes = [_plane('/device:GPU:0', streams), _plane('/host:CPU', {'python': [('train', 0, 99 * ms, {})]})]
  monkeypatch.setattr(jax.profiler.ProfileData, 'from_file', lambda _: SimpleNamespace(planes=planes), raising=False)
  (tmp_path / 'vm.xplane.pb').touch()
  spent = device_time.breakdown(tmp_path, PROGRAM, steps=2)
  expected = dict.fromkeys(device_time.CATEGORIES, 0.0) | {
    device_time.CONVOLUTIONS: 2.5,
    device_time.ELEMENTWISE: 1.0,
    device_time.PRODUCTS: 0.5,
    device_time.COPIES: 1.0,
    device_time.GAPS: 0.5,  # from 7 to 8 ms
  }
  assert spent['categories'] == pytest.approx(expected) and spent['span'] == 5.0
  assert spent['top'][0] == ['cudnn-conv.4', device_time.CONVOLUTIONS, 2.0]


def test_device_time_of_a_real_trace(tmp_path):
  @jax.jit
  def step(x, kernel, w):
    x = jax.lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    return jnp.tanh(x.mean((1, 2)) @ w)

  arguments = jnp.ones((8, 28, 28, 32)), jnp.ones((3, 3, 32, 64)), jnp.ones((64, 64))
  compiled = step.lower(*arguments).compile()
  with jax.profiler.trace(tmp_path):
    for _ in range(3):
      compiled(*arguments).block_until_ready()
  result = device_time.breakdown(tmp_path, compiled.as_text(), 3)
  spent = result['categories']
  assert spent[device_time.CONVOLUTIONS] > 0.2 * sum(spent.values()) and 0 <= spent[device_time.GAPS] < result['span']
  assert sum(spent.values()) >= result['span'] * (1 - 1e-6)  # what ran, once or several times over, and the gaps


# ---- Rounds and tables


def test_a_call_is_timed_over_several(monkeypatch):
  clock = iter([10.0, 10.5, 20.0, 24.0])
  monkeypatch.setattr('time.perf_counter', lambda: next(clock))
  done = []
  times = timed(lambda: done.append(1), lambda _: None, seconds=2.0)
  assert times['times'] == 4 and times['seconds'] == 1.0 and len(done) == 6


CHILD = """
from benchmarks.asking import answer
def task():
  print('what a library says')
  return {'x': 1}
answer({'task': task, 'fail': lambda: 1 / 0})
"""


def test_a_measured_process_answers_and_ends():
  process = Measured([sys.executable, '-c', CHILD], {}, time.monotonic() + 60)
  assert process.ask('task') == {'x': 1} == process.ask('task')
  process.close()
  assert process.process.returncode == 0


def test_a_measured_process_that_fails_is_an_error():
  process = Measured([sys.executable, '-c', CHILD], {}, time.monotonic() + 60)
  with pytest.raises(RuntimeError, match='exit 1: ZeroDivisionError'):
    process.ask('fail')
  process.close()


def _result(variant='base', torch=True):
  spent = dict.fromkeys(device_time.CATEGORIES, 1.5)
  trace = {'span': 10.0, 'categories': spent, 'top': [['fusion', 'elementwise', 3.0]]}
  start = {'device': 'NVIDIA X', 'version': '9', 'compile_seconds': 30.0, 'parameters': 5, 'steps': [[2.0, 3.0]] * 2}
  ours = {'start': start | {'peak_flops': 8e14, 'flops': 4e10, 'step_bytes': 10**9}, 'trace': trace}
  ours |= {task: [{'seconds': 0.1, 'cpu': 0.01, 'peak_bytes': 2 * 10**10}] * 3 for task in ('train', 'forward')}
  theirs = {'start': start | {'peak_flops': 7e14, 'compiled': True, 'not_compiled': ''}}
  theirs |= {task: [{'seconds': 0.2, 'cpu': 0.01, 'peak_bytes': None}] * 3 for task in ('train', 'forward')}
  settings = {'backbone': 'r50', 'batch': 256, 'variant': variant, 'dtype': 'bfloat16'}
  difference = {'z': 1e-6, 'cosines': 1e-6}
  return {'settings': settings, 'ours': ours, 'torch': theirs if torch else {}, 'difference': difference}


def test_the_report_says_what_was_measured(tmp_path):
  late = {'settings': {'backbone': 'r100', 'batch': 256, 'variant': 'base'}, 'error': 'not measured, --limit=9'}
  results = [_result(), _result('stem-padded', torch=False), late]
  text = report.report(results)
  # 2560 images/s at 40 GFLOP are 102.4 TFLOP/s of 800.
  assert '| r50, batch 256 | gif_jax | 2560.0 | 2.00 | 12.8% |' in text
  assert '| r50, batch 256 | PyTorch 9, compiled | 1280.0 |  | 6.4% |' in text
  assert '| r50, batch 256, stem-padded | gif_jax | 2560.0 |  | 12.8% |' in text
  assert 'r100, batch 256: not measured' in text and '| gaps | 1.50 (15%) | 1.50 (15%) |' in text
  report.plot(results, tmp_path / 'plot.png')
  assert (tmp_path / 'plot.png').read_bytes().startswith(b'\x89PNG')
  assert report.report([late]) == 'r100, batch 256: not measured, --limit=9'


def _program():
  """The network as it is now, traced."""
  settings = experiment(SimpleNamespace(**SETTINGS | {'dtype': 'bfloat16'}, backbone='r18')).model
  images = jax.ShapeDtypeStruct((2, 112, 112, 3), jnp.uint8)
  model = gif.build(settings, 5, 13)
  variables = jax.eval_shape(lambda images: model.init(jax.random.key(0), images), images)
  forward = partial(model.apply, train=True, mutable=['batch_stats'])
  (z, cosines, _), _ = jax.eval_shape(forward, variables, images)
  assert z.shape == (2, 512) and cosines.shape == (2, 5, 13)
  return str(jax.make_jaxpr(forward)(variables, images))


@pytest.fixture(scope='module')
def unchanged():
  return _program()


@pytest.mark.slow
@pytest.mark.parametrize('name', VARIANTS)
def test_every_variant_makes_a_network(name, unchanged, monkeypatch):
  for module, attribute in ((gif, 'GIF'), *((iresnet, name) for name in ('BatchNorm', 'PReLU', 'nn'))):
    monkeypatch.setattr(module, attribute, getattr(module, attribute))  # put back after the test
  variant = VARIANTS[name]
  variant.change()
  changes_network = variant.other or name in ('stem-padded', 'bn-flax')
  assert (_program() != unchanged) == changes_network == (not variant.flags and name != 'base')
