"""launch/slurm.sh in a Slurm that is not there: srun starts the tasks on this machine, scontrol only records."""

import json
import shlex
import socket
import sys

import pytest

from tests.helpers.fake_commands import Fakes

CONFIG = 'configs/quickstart.py'
# srun as JAX sees it: a process for each task, with what Slurm tells a task. The first word that is no option of srun
# is the command.
SRUN = """
while [[ $1 == -* ]]; do shift; done
pids=()
for ((i = 0; i < TASKS; i++)); do
  SLURM_NTASKS=$TASKS SLURM_PROCID=$i SLURM_LOCALID=$((i % SLURM_NTASKS_PER_NODE)) SLURM_STEP_NODELIST=localhost \
    SLURM_STEP_NUM_NODES=$((TASKS / SLURM_NTASKS_PER_NODE)) "$@" &
  pids+=($!)
done
status=0
for pid in "${pids[@]}"; do wait $pid || status=$?; done
exit $status
"""


@pytest.fixture
def fakes(tmp_path):
  fakes = Fakes(tmp_path / 'bin')
  fakes.add('srun', SRUN)
  fakes.add('scontrol')
  fakes.add('squeue', 'echo RUNNING')
  return fakes


def _job(fakes, workdir, *flags, tasks=1, per_node=1, gpus=8, **environment):
  """A job with `tasks` tasks, `per_node` on each node, whose nodes have `gpus` GPUs."""
  slurm = {
    'TASKS': str(tasks),
    'SLURM_JOB_ID': '7',
    'SLURM_NTASKS_PER_NODE': str(per_node),
    'SLURM_GPUS_ON_NODE': str(gpus),
  }
  return fakes.launch('slurm.sh', CONFIG, workdir, *flags, **slurm | environment)


def _requeued(fakes):
  return ['scontrol', 'requeue', '7'] in fakes.calls()


def test_a_dry_run_prints_the_step(fakes):
  done = fakes.launch('slurm.sh', CONFIG, '/shared/run', '--config.loss.margin=.1 ', DRY_RUN='1')
  export, step, comment = done.stdout.splitlines()
  assert export == 'export JAX_LOCAL_DEVICE_IDS=0,1,2,3,4,5,6,7'
  assert shlex.split(step) == [
    'srun',
    '--kill-on-bad-exit=1',
    '--cpu-bind=none',
    '--label',
    'python',
    '-m',
    'gif_jax.main',
    f'--config={CONFIG}',
    '--workdir=/shared/run',
    '--coordinator=auto',
    '--config.loss.margin=.1 ',
  ]
  assert comment.startswith('# ') and 'scontrol requeue' in comment


def test_outside_a_job_it_says_to_call_sbatch(fakes):
  done = fakes.launch('slurm.sh', CONFIG, '/shared/run')
  assert done.returncode == 2 and 'sbatch' in done.stderr


def test_another_folder_than_the_projects_is_an_error(fakes, tmp_path):
  done = fakes.launch('slurm.sh', CONFIG, tmp_path, cwd=tmp_path, SLURM_JOB_ID='7', SLURM_GPUS_ON_NODE='8')
  assert done.returncode == 2 and f'has no {CONFIG}' in done.stderr


@pytest.mark.parametrize(('per_node', 'gpus', 'word'), [(2, 8, '--ntasks-per-node'), (1, 0, '--gpus-per-node')])
def test_tasks_that_would_leave_gpus_idle_are_an_error(fakes, tmp_path, per_node, gpus, word):
  done = _job(fakes, tmp_path, per_node=per_node, gpus=gpus)
  assert done.returncode == 2 and word in done.stderr and not fakes.calls()


def _training(fakes, script):
  """A training that does what bash does with `script`; $WORKDIR is its working directory."""
  fakes.add('training', 'for a in "$@"; do case $a in --workdir=*) WORKDIR=${a#*=} ;; esac; done\n' + script)
  return {'PYTHON': 'training'}


def test_a_finished_run_is_not_requeued(fakes, tmp_path):
  done = _job(fakes, tmp_path, **_training(fakes, 'echo {} > $WORKDIR/summary.json'))
  assert done.returncode == 0 and 'finished' in done.stdout and not _requeued(fakes)


def test_a_run_that_was_stopped_is_requeued(fakes, tmp_path):
  done = _job(fakes, tmp_path, **_training(fakes, 'mkdir -p $WORKDIR/checkpoints/40; exit 0'))
  assert done.returncode == 0 and 'newest checkpoint: 40' in done.stdout and _requeued(fakes)


def test_the_summary_of_a_shorter_run_finishes_no_longer_one(fakes, tmp_path):
  (tmp_path / 'summary.json').write_text('{}')
  assert _job(fakes, tmp_path, **_training(fakes, 'exit 0')).returncode == 0
  assert _requeued(fakes)


@pytest.mark.parametrize(('state', 'requeued'), [('RUNNING', 1), ('COMPLETING', 0), ('PENDING', 0), ('', 1)])
def test_a_job_that_was_cancelled_or_preempted_is_left_to_slurm(fakes, tmp_path, state, requeued):
  fakes.add('squeue', f'echo {state}')
  assert _job(fakes, tmp_path, **_training(fakes, 'exit 0')).returncode == 0
  assert _requeued(fakes) == requeued


def test_an_error_is_not_requeued(fakes, tmp_path):
  done = _job(fakes, tmp_path, **_training(fakes, 'mkdir -p $WORKDIR/checkpoints/40; exit 1'))
  assert done.returncode == 1 and not _requeued(fakes)


def test_a_killed_run_is_requeued_while_it_comes_further(fakes, tmp_path):
  # The folder of step 60 is still being written.
  killed = _training(fakes, 'mkdir -p $WORKDIR/checkpoints/{9,40,60.orbax-checkpoint-tmp}; kill -9 $$')
  assert _job(fakes, tmp_path, **killed).returncode == 0
  assert fakes.calls().count(['scontrol', 'requeue', '7']) == 1
  done = _job(fakes, tmp_path, **killed)
  assert done.returncode == 137 and fakes.calls().count(['scontrol', 'requeue', '7']) == 1


def test_a_cluster_that_does_not_requeue_is_told_to_the_user(fakes, tmp_path):
  fakes.add('scontrol', 'exit 1')
  done = _job(fakes, tmp_path, **_training(fakes, 'exit 0'))
  assert done.returncode == 1 and 'same sbatch command' in done.stderr


def test_a_preemption_that_signals_the_shell_too_is_survived(fakes, tmp_path):
  # The parent's parent of the training, over srun's bash and python, is the job's shell.
  fakes.add('srun', 'kill -TERM $(cut -d " " -f 4 /proc/$PPID/stat); exit 0')
  assert _job(fakes, tmp_path).returncode == 0
  assert _requeued(fakes)


REPORT = """
import json, sys
import jax
from jax.experimental import multihost_utils
jax.distributed.initialize()
everybody = multihost_utils.process_allgather(jax.numpy.array([jax.process_index()]))
found = [jax.process_index(), jax.process_count(), jax.device_count(), everybody.ravel().tolist()]
with open(f'{sys.argv[1]}/{jax.process_index()}.json', 'w') as file:
  json.dump([*found, jax.config.read('jax_cuda_visible_devices')], file)
"""


def _free_job_id():
  """A job number for which the port that JAX makes of it (61440 + number mod 4096) is free."""
  for number in range(100, 4096):
    with socket.socket() as probe:
      if probe.connect_ex(('localhost', 61440 + number)):
        return str(number)
  raise AssertionError('no free port')


@pytest.mark.slow
@pytest.mark.parametrize(('per_node', 'seen'), [(1, ['0,1', '0,1']), (2, ['0', '1'])])
def test_jax_finds_its_processes_and_each_its_gpus(fakes, tmp_path, per_node, seen):
  """Two nodes with a process each see all GPUs; two processes on one node one each. JAX itself, on the CPU."""
  (tmp_path / 'report.py').write_text(REPORT)
  fakes.add('training', f'exec {sys.executable} {tmp_path}/report.py {tmp_path}')
  cpu = {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1', 'PYTHON': 'training', 'SLURM_JOB_ID': _free_job_id()}
  done = _job(fakes, tmp_path, tasks=2, per_node=per_node, gpus=2, **cpu)
  assert done.returncode == 0, done.stderr
  reports = [json.loads((tmp_path / f'{i}.json').read_text()) for i in range(2)]
  assert reports == [[0, 2, 2, [0, 1], seen[0]], [1, 2, 2, [0, 1], seen[1]]]
