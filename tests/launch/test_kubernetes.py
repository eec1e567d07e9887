"""launch/kubernetes.sh fills in a JobSet that says what it should; launch/pod.sh ends as Kubernetes has to be told."""

import os
import signal
import subprocess
import time

import pytest
import yaml

from tests.helpers.fake_commands import Fakes
from tests.helpers.places import LAUNCH, ROOT

TRAINING = ['configs/quickstart.py', '/shared/run', '--config.loss.margin=.1', r'--config.data.path="a" & \b __NAME__']
POD = {'COORDINATOR': 'gif-training-0-0.gif:8476', 'PROCESSES': '2', 'JOB_COMPLETION_INDEX': '0'}


@pytest.fixture
def fakes(tmp_path):
  return Fakes(tmp_path / 'bin')


def _manifest(fakes, *options):
  done = fakes.launch('kubernetes.sh', '--image=registry/gif:1', '--claim=faces', *options, *TRAINING, DRY_RUN='1')
  assert done.returncode == 0, done.stderr
  return yaml.safe_load(done.stdout)


def _job(manifest):
  (replicated,) = manifest['spec']['replicatedJobs']
  (container,) = replicated['template']['spec']['template']['spec']['containers']
  return replicated, replicated['template']['spec'], replicated['template']['spec']['template']['spec'], container


def test_a_pod_on_each_node_runs_a_process(fakes):
  manifest = _manifest(fakes, '--name=r100', '--nodes=3', '--gpus=4')
  assert (manifest['apiVersion'], manifest['kind']) == ('jobset.x-k8s.io/v1alpha2', 'JobSet')
  replicated, job, pod, container = _job(manifest)
  assert replicated['replicas'] == 1
  assert (job['completionMode'], job['completions'], job['parallelism']) == ('Indexed', 3, 3)
  assert container['image'] == 'registry/gif:1' and container['args'] == TRAINING
  environment = {entry['name']: entry['value'] for entry in container['env']}
  # JobSet's names of pods: <jobset>-<replicated job>-<job index>-<pod index>.<jobset>
  assert environment == {'COORDINATOR': f'r100-{replicated["name"]}-0-0.r100:8476', 'PROCESSES': '3'}
  assert container['resources']['limits'] == {'nvidia.com/gpu': 4} and pod['nodeSelector'] == {}


def test_working_directory_and_shared_memory_are_mounted(fakes):
  *_, pod, container = _job(_manifest(fakes))
  volumes = {volume['name']: volume for volume in pod['volumes']}
  paths = {mount['mountPath']: volumes[mount['name']] for mount in container['volumeMounts']}
  assert paths['/shared']['persistentVolumeClaim'] == {'claimName': 'faces'}
  assert paths['/dev/shm']['emptyDir']['medium'] == 'Memory'
  assert TRAINING[1].startswith('/shared/')


def test_what_was_saved_is_restarted_without_limit_and_failures_with_one(fakes):
  manifest = _manifest(fakes)
  _, job, pod, container = _job(manifest)
  policy = manifest['spec']['failurePolicy']
  assert policy['maxRestarts'] == 3
  assert [(rule['action'], rule['onJobFailureReasons']) for rule in policy['rules']] == [
    ('RestartJobSetAndIgnoreMaxRestarts', ['PodFailurePolicy'])
  ]
  codes, conditions = job['podFailurePolicy']['rules']
  assert codes['onExitCodes'] == {'containerName': container['name'], 'operator': 'In', 'values': [75]}
  assert conditions['onPodConditions'] == [{'type': 'DisruptionTarget'}]
  assert (job['backoffLimit'], pod['restartPolicy'], pod['terminationGracePeriodSeconds']) == (0, 'Never', 300)


def test_tpus_are_selected_by_kind_and_shape(fakes):
  *_, pod, container = _job(_manifest(fakes, '--tpu=tpu-v6e-slice', '--topology=4x4', '--nodes=4'))
  assert pod['nodeSelector'] == {
    'cloud.google.com/gke-tpu-accelerator': 'tpu-v6e-slice',
    'cloud.google.com/gke-tpu-topology': '4x4',
  }
  assert container['resources']['limits'] == {'google.com/tpu': 4}
  assert [toleration['key'] for toleration in pod['tolerations']] == ['google.com/tpu']
  assert {'name': 'COORDINATOR', 'value': 'auto'} in container['env']


@pytest.mark.parametrize(
  ('options', 'training', 'word'),
  [
    (['--image=i'], TRAINING, '--claim'),
    (['--claim=c'], TRAINING, '--image'),
    (['--image=i', '--claim=c', '--node=2'], TRAINING, '--node=2'),
    (['--image=i', '--claim=c', '--nodes=two'], TRAINING, '--nodes=two'),
    (['--image=i', '--claim=c', '--name=My_run'], TRAINING, '--name=My_run'),
    (['--image=i', '--claim=c', '--tpu=tpu-v6e-slice'], TRAINING, '--topology'),
    (['--image=i', '--claim=c'], ['configs/quickstart.py', 'runs/here'], '/shared'),
  ],
)
def test_wrong_options_are_named(fakes, options, training, word):
  fakes.add('kubectl')
  done = fakes.launch('kubernetes.sh', *options, *training)
  assert done.returncode == 2 and word in done.stderr.splitlines()[0] and not fakes.calls()


def test_kubectl_gets_the_manifest(fakes, tmp_path):
  fakes.add('kubectl', f'cat > {tmp_path}/manifest.yaml')
  assert fakes.launch('kubernetes.sh', '--image=registry/gif:1', '--claim=faces', *TRAINING).returncode == 0
  assert fakes.calls() == [['kubectl', 'apply', '--filename=-']]
  assert yaml.safe_load((tmp_path / 'manifest.yaml').read_text()) == _manifest(fakes)


def _pod(fakes, tmp_path, script, index=0):
  fakes.add('training', f'cd {tmp_path}; {script}')
  environment = POD | {'PYTHON': 'training', 'JOB_COMPLETION_INDEX': str(index)}
  return fakes.launch('pod.sh', 'configs/quickstart.py', tmp_path, '--config.loss.margin=.1', **environment)


def test_a_pod_runs_the_process_of_its_index(fakes, tmp_path):
  assert _pod(fakes, tmp_path, 'exit 0', index=1).returncode == 0
  assert fakes.calls() == [
    [
      'training',
      '-m',
      'gif_jax.main',
      '--config=configs/quickstart.py',
      f'--workdir={tmp_path}',
      '--coordinator=gif-training-0-0.gif:8476',
      '--processes=2',
      '--process=1',
      '--config.loss.margin=.1',
    ]
  ]


def test_a_pod_with_tpus_leaves_the_processes_to_jax(fakes):
  done = fakes.launch('pod.sh', 'configs/quickstart.py', '/shared/run', DRY_RUN='1', **POD | {'COORDINATOR': 'auto'})
  assert done.stdout.split()[-1] == '--coordinator=auto'


@pytest.mark.parametrize(
  ('script', 'status'),
  [('echo {} > summary.json', 0), ('exit 0', 75), ('exit 1', 1), ('kill -9 $$', 137), ('rm summary.json; exit 1', 1)],
)
def test_the_pod_of_process_0_tells_finished_from_stopped(fakes, tmp_path, script, status):
  (tmp_path / 'summary.json').write_text('{"steps": 1}')  # of a shorter run that is now continued
  assert _pod(fakes, tmp_path, script).returncode == status


def test_a_pod_passes_sigterm_on_and_waits_until_the_training_has_saved(fakes, tmp_path):
  saving = 'trap "sleep .3; touch saved; exit 0" TERM; touch started; while :; do sleep .05; done'
  fakes.add('training')
  (fakes.folder / 'training').write_text(f'#!/usr/bin/env bash\ncd {tmp_path}\n{saving}\n')
  environment = os.environ | POD | {'PYTHON': str(fakes.folder / 'training')}
  pod = subprocess.Popen([LAUNCH / 'pod.sh', 'configs/quickstart.py', tmp_path], cwd=ROOT, env=environment)
  try:
    deadline = time.monotonic() + 60
    while not (tmp_path / 'started').exists() and time.monotonic() < deadline:
      time.sleep(0.01)
    pod.send_signal(signal.SIGTERM)
    assert pod.wait(60) == 75
  finally:
    pod.kill()
  assert (tmp_path / 'saved').exists()
