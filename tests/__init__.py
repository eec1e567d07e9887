"""Tests of gif_jax. Loaded before every library: each test process, and each that it starts, computes on one core."""

import os

# Two processes test on two cores. Threads of BLAS that wait for each other take more time than they save.
for _variable in ('OPENBLAS_NUM_THREADS', 'OMP_NUM_THREADS'):
  os.environ.setdefault(_variable, '1')
