"""What is said of the compiled step, which steps are traced, and that nothing slips between host and devices."""

import contextlib
import logging
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from gif_jax.training import train
from gif_jax.training.cost.compilation import compile_step, describe, needed
from gif_jax.training.cost.profiling import Trace
from gif_jax.training.metrics import Window


def test_memory_of_a_step_counts_aliased_results_once():
  memory = jax.jit(lambda x: x + 1, donate_argnums=0).lower(jnp.zeros(1000)).compile().memory_analysis()
  assert memory.alias_size_in_bytes == 4000
  assert needed(memory) == 4000 + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes


def test_memory_in_words_with_the_cure_where_it_is_too_little():
  memory = SimpleNamespace(
    argument_size_in_bytes=3_000_000_000,
    output_size_in_bytes=2_500_000_000,
    alias_size_in_bytes=2_500_000_000,
    temp_size_in_bytes=6_000_000_000,
    generated_code_size_in_bytes=1_000_000,
  )
  assert needed(memory) == 9_001_000_000
  text = describe(memory, 0)
  assert text.startswith('a step needs 9.00 GB on each device: arguments 3.00 GB, temporaries 6.00 GB, output 2.50 GB')
  assert 'code 1.00 MB' in text and 'batch_size' not in text
  assert describe(memory, 10**10).startswith('a step needs 9.00 GB of 10.00 GB on each device')
  for key in ('train.batch_size', 'train.accumulate', 'model.remat', 'train.fsdp'):
    assert key not in describe(memory, 10**10) and key in describe(memory, 8 * 10**9)


def test_compiling_is_logged(caplog):
  with caplog.at_level(logging.INFO, 'gif_jax'):
    compiled = compile_step(jax.jit(lambda x: 2 * x), jnp.ones(3))
  assert compiled(jnp.ones(3)).tolist() == [2, 2, 2]
  assert 'compiled in' in caplog.text and 'a step needs' in caplog.text


@pytest.fixture
def profiler(monkeypatch):
  """What would be asked of JAX's profiler."""
  asked = []
  monkeypatch.setattr(jax.profiler, 'start_trace', lambda folder, profiler_options: asked.append('start'))
  monkeypatch.setattr(jax.profiler, 'stop_trace', lambda: asked.append('stop'))
  return asked


def _trace(profiler, first, steps, numbers, folder):
  with Trace(folder, first, steps, Window(1, 1, 1.0)) as trace:
    for number in numbers:
      with trace.step(number):
        profiler.append(number)
  return profiler


def test_only_the_steps_asked_for_are_traced(profiler, tmp_path):
  assert _trace(profiler, 2, 3, range(1, 7), tmp_path) == [1, 'start', 2, 3, 4, 'stop', 5, 6]


def test_none_are_traced_unless_asked_for(profiler, tmp_path):
  assert _trace(profiler, 2, 0, range(1, 7), tmp_path) == [1, 2, 3, 4, 5, 6]


def test_a_trace_ends_with_the_run(profiler, tmp_path):
  assert _trace(profiler, 2, 9, range(1, 4), tmp_path) == [1, 'start', 2, 3, 'stop']


def test_a_trace_ends_with_an_error(profiler, tmp_path):
  trace = Trace(tmp_path, 1, 9, Window(1, 1, 1.0))
  with contextlib.suppress(ZeroDivisionError), trace, trace.step(1):
    1 / 0  # noqa: B018
  assert profiler == ['start', 'stop']


def test_a_run_too_short_for_a_trace_says_so(profiler, tmp_path, caplog):
  assert _trace(profiler, 10, 2, range(1, 4), tmp_path / 'profile') == [1, 2, 3]
  assert 'the run ended before step 10' in caplog.text


def test_a_window_leaves_out_what_is_outside(monkeypatch):
  clock = iter([0.0, 10.0, 17.0, 20.0, 20.0])
  monkeypatch.setattr('time.perf_counter', lambda: next(clock))
  window = Window(5, 1, 1.0)
  with window.outside():
    pass
  window.add({'loss': 1.0})
  assert window.flush(1, 0.1)['images_per_second'] == pytest.approx(5 / 13)


@pytest.mark.slow
def test_nothing_reaches_the_devices_unasked(tiny_config, tiny_faces, tiny_table, tmp_path, monkeypatch):
  monkeypatch.setattr(train.sharding, 'put_batch', lambda batch, mesh: batch)  # arrays of the host go into the step
  with pytest.raises(jax.errors.JaxRuntimeError, match='Disallowed host-to-device transfer'):
    train.train(tiny_config, tmp_path, tiny_faces, tiny_table)
