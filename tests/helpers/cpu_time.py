"""CPU time of each test: written to a file, and held to a limit where a test is not marked slow.

What counts is the time of the test's own process, all threads, and of children that it waited for: of the test and of
fixtures made for it alone. Fixtures of a wider scope belong to no single test: they have a limit of their own, and
tests that use a slow one are slow. Compiling what was never compiled before does not count: it is kept for all tests
(tests/helpers/compiled.py), and which of them comes first is chance.
"""

import json
import resource
from pathlib import Path

import jax
import pytest

_FIXTURES = 3  # times as much as a test may take
_TOO_SLOW = (
  '{name} took {seconds:.1f} CPU-seconds; where a test is not marked slow, {limit:g} are allowed. Make it faster '
  '(share what is compiled, start fewer processes, use smaller data) or mark it with @pytest.mark.slow'
)


_elsewhere: list[float] = []


def spent_elsewhere(seconds: float) -> None:
  """Counts the time of a process that worked for a test and is no child of ours."""
  _elsewhere.append(seconds)


class _Compilation:
  """CPU time that went into programs that nobody had compiled before: what JAX's events enclose."""

  def __init__(self):
    self.spent = self.began = 0.0
    self.is_new = False
    jax.monitoring.register_event_listener(self._note)
    jax.monitoring.register_event_duration_secs_listener(self._end)

  def _note(self, event, **_):
    if event.endswith('compile_requests_use_cache'):
      self.began, self.is_new = _used(), True
    elif event.endswith('cache_hits'):
      self.is_new = False

  def _end(self, event, seconds, **_):
    if event.endswith('backend_compile_duration') and self.is_new:
      self.spent, self.is_new = self.spent + _used() - self.began, False


_compilation = _Compilation()


def _used() -> float:
  usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
  return sum(usage.ru_utime + usage.ru_stime for usage in usages) + sum(_elsewhere)


def cpu_seconds() -> float:
  """CPU time of this process, the children it waited for and those named to us so far, but for what was compiled."""
  return _used() - _compilation.spent


class CpuTime:
  """A plugin of pytest. limit: CPU-seconds, 0 for none; report: a file that gets a line of JSON for each test."""

  def __init__(self, limit: float, report: Path | None):
    self.limit, self.report = limit, report
    self.started = self.of_fixtures = self.compiled = 0.0
    self.in_fixture = False

  @pytest.hookimpl(wrapper=True, tryfirst=True)
  def pytest_runtest_setup(self, item):
    self.started, self.compiled, self.of_fixtures = cpu_seconds(), _compilation.spent, 0.0
    return (yield)

  @pytest.hookimpl(wrapper=True, tryfirst=True)
  def pytest_fixture_setup(self, fixturedef):
    if fixturedef.scope == 'function' or self.in_fixture:
      return (yield)
    self.in_fixture, started = True, cpu_seconds()
    try:
      return (yield)
    finally:
      self.in_fixture = False
      self.of_fixtures += cpu_seconds() - started

  @pytest.hookimpl(wrapper=True)
  def pytest_runtest_makereport(self, item, call):
    report = yield
    if call.when == 'call':
      seconds = cpu_seconds() - self.started - self.of_fixtures
      self._write(item, seconds, _compilation.spent - self.compiled)
      judged = self.limit and report.passed and not item.get_closest_marker('slow')
      for name, taken, limit in (
        (item.name, seconds, self.limit),
        (f'what {item.name} is given', self.of_fixtures, _FIXTURES * self.limit),
      ):
        if judged and taken > limit:
          report.outcome = 'failed'
          report.longrepr = _TOO_SLOW.format(name=name, seconds=taken, limit=limit)
    return report

  def _write(self, item, seconds, compiling):
    if self.report:
      parts = {'seconds': seconds, 'fixtures': self.of_fixtures, 'compiling': compiling}
      row = {'test': item.nodeid} | {name: round(value, 3) for name, value in parts.items()}
      with open(self.report, 'a') as file:
        file.write(json.dumps(row) + '\n')
