"""Work on all cores: results in order, few at a time, errors as they are."""

import operator
import os

import pytest

from gif_jax.core import workers


@pytest.mark.slow
def test_results_are_in_order_and_jobs_are_taken_as_wanted():
  taken = []

  def jobs():
    for i in range(10_000):
      taken.append(i)
      yield i

  results = workers.on_all_cores(operator.neg, jobs())
  assert [next(results) for _ in range(100)] == [-i for i in range(100)]
  assert len(taken) <= 100 + workers._AHEAD * os.cpu_count() + 1
  results.close()  # and returns, with the rest undone


def test_an_error_in_a_process_is_raised_here():
  with pytest.raises(ValueError, match=r"invalid literal for int.*'x'"):
    list(workers.on_all_cores(int, ['1', 'x', '2']))
