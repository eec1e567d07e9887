"""launch/tpu_pod.sh with a gcloud that is not there: what it is asked for, and how preemptions are answered."""

import os
import shlex
import subprocess
import tarfile

import pytest

from tests.helpers.fake_commands import Fakes
from tests.helpers.places import ROOT

POD = {
  'TPU': 'gif',
  'ZONE': 'us-east5-b',
  'TYPE': 'v6e-16',
  'RUNTIME': 'v2-alpha-tpuv6e',
  'SHARED': '10.0.0.2:/volume',
  'SPOT': '',
  'POLL_SECONDS': '0',
}
TRAINING = ['configs/quickstart.py', '/mnt/shared/my run', '--config.data.path=/mnt/shared/a "b" $HOME']
QUEUE = ['gcloud', 'compute', 'tpus', 'queued-resources']
SSH = ['gcloud', 'compute', 'tpus', 'tpu-vm', 'ssh', 'gif', '--zone=us-east5-b']


@pytest.fixture
def fakes(tmp_path):
  fakes = Fakes(tmp_path / 'bin')
  fakes.add('gcloud')
  return fakes


def _launch(fakes, *arguments, **environment):
  return fakes.launch('tpu_pod.sh', *arguments, **POD | environment)


def _remote(fakes, *arguments, **environment):
  """The commands that machines are given: [(worker, command) ...]."""
  done = _launch(fakes, *arguments, **environment)
  assert done.returncode == 0, done.stderr
  calls = [call for call in fakes.calls() if call[: len(SSH)] == SSH]
  return [(worker.removeprefix('--worker='), command.removeprefix('--command=')) for *_, worker, command in calls]


@pytest.mark.parametrize('spot', [False, True])
def test_create_asks_for_the_slice(fakes, spot):
  assert _launch(fakes, 'create', SPOT='1' if spot else '').returncode == 0
  assert fakes.calls() == [
    [
      *QUEUE,
      'create',
      'gif',
      '--zone=us-east5-b',
      '--node-id=gif',
      '--accelerator-type=v6e-16',
      '--runtime-version=v2-alpha-tpuv6e',
      *(['--spot'] if spot else []),
    ]
  ]


def test_delete_takes_the_machines_too(fakes):
  assert _launch(fakes, 'delete').returncode == 0
  assert fakes.calls() == [[*QUEUE, 'delete', 'gif', '--zone=us-east5-b', '--force', '--quiet']]


def test_install_copies_the_code_to_all_machines(fakes, tmp_path):
  ((worker, command),) = _remote(fakes, 'install', TMPDIR=str(tmp_path))
  archive = tmp_path / 'gif_jax.tar.gz'
  copy = ['gcloud', 'compute', 'tpus', 'tpu-vm', 'scp', str(archive), 'gif:gif_jax.tar.gz', '--zone=us-east5-b']
  assert fakes.calls()[0] == [*copy, '--worker=all'] and worker == 'all'
  with tarfile.open(archive) as tar:
    names = tar.getnames()
  assert {'setup.cfg', 'gif_jax/main.py', 'configs/quickstart.py'} <= set(names)
  assert not [name for name in names if '__pycache__' in name]
  assert 'sudo mount -t nfs -o hard 10.0.0.2:/volume /mnt/shared' in command
  subprocess.run(['bash', '-n'], input=command, text=True, check=True)


def test_a_bucket_is_mounted_without_a_cache_of_metadata(fakes, tmp_path):
  ((_, command),) = _remote(fakes, 'install', SHARED='gs://faces', TMPDIR=str(tmp_path))
  assert 'gcsfuse --metadata-cache-ttl-secs=0 faces /mnt/shared' in command
  subprocess.run(['bash', '-n'], input=command, text=True, check=True)


def test_run_starts_a_unit_of_systemd_on_all_machines(fakes, tmp_path):
  ((worker, command),) = _remote(fakes, 'run', *TRAINING)
  assert worker == 'all'
  # What a machine does with the command: its shell, a sudo that records.
  machine = Fakes(tmp_path / 'machine')
  machine.add('sudo')
  environment = {'HOME': str(tmp_path), 'USER': 'me', 'PATH': f'{machine.folder}:{os.environ["PATH"]}'}
  subprocess.run(['bash', '-c', command], env=environment, check=True)
  reset, start = machine.calls()
  assert reset == ['sudo', 'systemctl', 'reset-failed', 'gif_jax']
  assert start[:3] == ['sudo', 'systemd-run', '--unit=gif_jax'] and '--uid=me' in start
  assert f'--property=StandardOutput=append:{tmp_path}/gif_jax.log' in start
  python = start.index(f'{tmp_path}/venv/bin/python')
  assert start[python + 1 :] == [
    '-m',
    'gif_jax.main',
    f'--config={TRAINING[0]}',
    f'--workdir={TRAINING[1]}',
    '--coordinator=auto',
    TRAINING[2],
  ]
  assert (tmp_path / 'gif_jax.started').exists()


def test_stop_status_and_logs_reach_the_machines(fakes):
  assert _remote(fakes, 'stop') == [('all', 'sudo systemctl stop --no-block gif_jax')]
  assert _remote(fakes, 'logs', '3')[-1] == ('3', 'tail -n 100 -F ~/gif_jax.log')
  assert _remote(fakes, 'status')[-1][0] == 'all'
  assert [*QUEUE, 'describe', 'gif', '--zone=us-east5-b', '--format=value(state.state)'] in fakes.calls()


@pytest.mark.parametrize(
  ('arguments', 'environment', 'word'),
  [
    (['start'], {}, "'start'"),
    (['create'], {'ZONE': ''}, 'ZONE'),
    (['create'], {'TYPE': ''}, 'TYPE'),
    (['install'], {'SHARED': '/mnt'}, 'SHARED=/mnt'),
    (['keep', *TRAINING], {'SHARED': '/mnt'}, 'SHARED=/mnt'),
    (['run', 'configs/quickstart.py'], {}, 'WORKDIR'),
    (['run', 'configs/quickstart.py', 'runs/here'], {}, 'runs/here'),
    (['run', '--config.a=1', '/mnt/shared/run'], {}, '--config.a=1'),
  ],
)
def test_wrong_arguments_are_named(fakes, arguments, environment, word):
  done = _launch(fakes, *arguments, **environment)
  assert done.returncode == 2 and word in done.stderr.splitlines()[0] and not fakes.calls()


# A cloud that goes through given states: a line for each question about the slice, and for each about the unit.
CLOUD = """
case "$*" in
  *describe*) file=slice ;;
  *is-active*) file=unit ;;
  *) exit 0 ;;
esac
answer=$(head -n 1 STATES/$file)
sed -i 1d STATES/$file
[ "$answer" = - ] && exit 1
echo "$answer"
"""


def _keep(fakes, tmp_path, slices, units):
  """Keeps a run through these states; '-': gcloud has no answer. The verbs of what was done, questions left out."""
  (tmp_path / 'slice').write_text('\n'.join(slices.split()) + '\n')
  (tmp_path / 'unit').write_text('\n'.join(units.split()) + '\n')
  fakes.add('gcloud', CLOUD.replace('STATES', shlex.quote(str(tmp_path))))
  done = _launch(fakes, 'keep', *TRAINING, TMPDIR=str(tmp_path))
  verbs = []
  for call in fakes.calls():
    line = ' '.join(call)
    if 'describe' not in line and 'is-active' not in line:
      words = {'systemd-run': 'run', 'pip install': 'install', ' stop ': 'stop', ' scp ': 'copy'}
      verbs.append(next((verb for word, verb in words.items() if word in line), call[4]))
  assert not (tmp_path / 'slice').read_text().strip() and not (tmp_path / 'unit').read_text().strip()
  return done, verbs


@pytest.mark.slow
def test_keep_creates_installs_runs_and_ends_with_the_run(fakes, tmp_path):
  done, verbs = _keep(
    fakes, tmp_path, '- WAITING_FOR_RESOURCES PROVISIONING ACTIVE ACTIVE ACTIVE', 'inactive active finished'
  )
  assert done.returncode == 0 and verbs == ['create', 'copy', 'install', 'run']


@pytest.mark.slow
def test_keep_replaces_a_slice_that_was_preempted(fakes, tmp_path):
  done, verbs = _keep(
    fakes, tmp_path, 'ACTIVE SUSPENDING SUSPENDED DELETING - PROVISIONING ACTIVE ACTIVE', 'active inactive finished'
  )
  assert done.returncode == 0 and verbs == ['delete', 'create', 'copy', 'install', 'run']


def test_keep_gives_up_when_the_training_failed(fakes, tmp_path):
  done, verbs = _keep(fakes, tmp_path, 'ACTIVE ACTIVE ACTIVE', 'active failed failed')
  assert done.returncode == 1 and 'failed' in done.stderr and not verbs


@pytest.mark.slow
def test_keep_waits_where_a_failure_was_the_beginning_of_a_preemption(fakes, tmp_path):
  done, verbs = _keep(fakes, tmp_path, 'ACTIVE SUSPENDED - ACTIVE ACTIVE', 'failed inactive finished')
  assert done.returncode == 0 and verbs == ['delete', 'create', 'copy', 'install', 'run']


def test_keep_waits_for_machines_out_of_reach(fakes, tmp_path):
  done, verbs = _keep(fakes, tmp_path, 'ACTIVE ACTIVE', '- finished')
  assert done.returncode == 0 and not verbs


@pytest.mark.slow
def test_a_dry_run_prints_what_would_be_called(fakes, tmp_path):
  steps = [['create'], ['install'], ['run', *TRAINING], ['status']]
  printed = _launch(fakes, 'keep', *TRAINING, DRY_RUN='1', TMPDIR=str(tmp_path)).stdout
  assert not fakes.calls()
  for step in steps:
    assert _launch(fakes, *step, TMPDIR=str(tmp_path)).returncode == 0
  called = fakes.calls()
  fakes.record.write_text('')
  environment = os.environ | {'PATH': f'{fakes.folder}:{os.environ["PATH"]}'}
  subprocess.run(['bash', '-c', printed], cwd=ROOT, env=environment, check=True)
  assert fakes.calls() == called and len(called) == 6


@pytest.mark.parametrize(('age', 'word'), [(-10, 'active'), (10, 'finished'), (None, 'active')])
def test_only_a_summary_of_this_run_means_finished(fakes, tmp_path, age, word):
  """The question that keep puts to the first machine, answered by a shell."""
  work = tmp_path / 'my run'
  work.mkdir()
  (work / 'summary.json').write_text('{}')
  if age is not None:
    (tmp_path / 'gif_jax.started').touch()
    time = (tmp_path / 'gif_jax.started').stat().st_mtime + age
    os.utime(work / 'summary.json', (time, time))
  fakes.add('gcloud', 'case "$*" in *describe*) echo ACTIVE ;; *is-active*) echo finished ;; esac')
  assert _launch(fakes, 'keep', TRAINING[0], work).returncode == 0
  question = fakes.calls()[-1][-1].removeprefix('--command=')
  machine = Fakes(tmp_path / 'machine')
  machine.add('systemctl', 'echo active')
  environment = {'HOME': str(tmp_path), 'PATH': f'{machine.folder}:{os.environ["PATH"]}'}
  done = subprocess.run(['bash', '-c', question], env=environment, capture_output=True, text=True, check=True)
  assert done.stdout.strip() == word
