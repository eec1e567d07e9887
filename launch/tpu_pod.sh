#!/usr/bin/env bash
# Trains on a slice of a Cloud TPU pod: creates it, installs this project on all its machines, runs, and starts again
# what was preempted. TPU7x and later are not served by this API: see kubernetes.sh --tpu.
set -euo pipefail

usage() {
  cat <<END
usage: $0 COMMAND, with the slice described by variables, for example:
  export TPU=gif ZONE=us-east5-b TYPE=v6e-16 RUNTIME=v2-alpha-tpuv6e SHARED=10.0.0.2:/volume SPOT=1
  $0 keep configs/wf42m.py:r100 /mnt/shared/r100 --config.data.path=/mnt/shared/wf42m
commands:
  plan CONFIG WORKDIR [FLAGS]   compiles it here for the machine PLAN (v6e:4x4) and says what it needs
  create                        asks for the slice: queued resource TPU of TYPE with RUNTIME in ZONE, spot with SPOT=1
  install                       mounts SHARED at /mnt/shared and installs this folder's code, on all machines
  run CONFIG WORKDIR [FLAGS]    starts, or continues, the training on all machines; needs no connection from then on
  status                        the slice, and what each machine does
  logs [WORKER]                 follows the log of one machine (default 0)
  stop                          SIGTERM: the state is saved, the training ends
  keep CONFIG WORKDIR [FLAGS]   create, install, run, and again after each preemption until the run is finished
  delete                        gives the slice back with all that lies on its machines; SHARED stays
SHARED is HOST:/PATH (NFS, such as Filestore) or gs://BUCKET (a bucket with hierarchical namespace); WORKDIR lies in it.
DRY_RUN=1 prints the commands and starts nothing.
END
}

fail() {
  echo "$0: $1" >&2
  usage >&2
  exit 2
}

need() {
  local name
  for name in "$@"; do [ -n "${!name:-}" ] || fail "$name is not set"; done
}

# Runs a command, or prints it.
call() {
  if [ -z "${DRY_RUN:-}" ]; then
    "$@"
  else
    printf '%q ' "$@"
    echo
  fi
}

queue() { call gcloud compute tpus queued-resources "$1" "$TPU" --zone="$ZONE" "${@:2}"; }
on() { call gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker="$1" --command="$2"; }

check_training() {
  [ $# -ge 2 ] || fail 'run and keep need CONFIG and WORKDIR'
  case $1 in -*) fail "$1 stands where CONFIG belongs" ;; esac
  case $2 in /*) ;; *) fail "WORKDIR is a path from the root, below /mnt/shared; it is $2" ;; esac
}

create() {
  need TYPE RUNTIME
  queue create --node-id="$TPU" --accelerator-type="$TYPE" --runtime-version="$RUNTIME" ${SPOT:+--spot}
}

delete() { queue delete --force --quiet; } # --force: with the machines

# The command that mounts SHARED, at the same place on all machines: all processes write to one folder.
# DPkg::Lock::Timeout: a new machine installs updates first.
mounting() {
  case $SHARED in
    gs://*)
      # A checkpoint is finished by renaming its folder: in one act only where the bucket has a hierarchical namespace.
      # No caching of metadata, so that each machine sees at once what another one wrote.
      cat <<END
mountpoint -q /mnt/shared || {
curl -sSf https://packages.cloud.google.com/apt/doc/apt-key.gpg |
  sudo tee /usr/share/keyrings/cloud.google.asc >/dev/null
echo "deb [signed-by=/usr/share/keyrings/cloud.google.asc] https://packages.cloud.google.com/apt \
gcsfuse-\$(lsb_release -cs) main" | sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
sudo apt-get -o DPkg::Lock::Timeout=600 -q update
sudo apt-get -o DPkg::Lock::Timeout=600 -qy install gcsfuse
sudo install -d -o "\$USER" /mnt/shared
gcsfuse --metadata-cache-ttl-secs=0 ${SHARED#gs://} /mnt/shared
}
END
      ;;
    ?*:/*)
      cat <<END
mountpoint -q /mnt/shared || {
sudo apt-get -o DPkg::Lock::Timeout=600 -q update
sudo apt-get -o DPkg::Lock::Timeout=600 -qy install nfs-common
sudo install -d /mnt/shared
sudo mount -t nfs -o hard $SHARED /mnt/shared
}
END
      ;;
    *) fail "SHARED=$SHARED is neither HOST:/PATH nor gs://BUCKET" ;;
  esac
}

# uv brings a Python: the machines' own is older than 3.11.
install() {
  need SHARED
  local mount archive=${TMPDIR:-/tmp}/gif_jax.tar.gz
  mount=$(mounting) || exit
  call tar -czf "$archive" --exclude=__pycache__ -C "$(dirname "$0")/.." \
    setup.cfg pyproject.toml README.md LICENSE gif_jax configs
  call gcloud compute tpus tpu-vm scp "$archive" "$TPU:gif_jax.tar.gz" --zone="$ZONE" --worker=all
  on all "set -e
$mount
rm -rf ~/gif_jax && mkdir ~/gif_jax && tar -xzf ~/gif_jax.tar.gz -C ~/gif_jax
curl -LsSf https://astral.sh/uv/install.sh | sh
~/.local/bin/uv venv --quiet --clear --python 3.12 ~/venv
~/.local/bin/uv pip install --quiet --python ~/venv/bin/python -e ~/gif_jax'[tpu]'"
}

# A unit of systemd outlives the connection, says how it ended, and gets SIGTERM when its machine shuts down.
# KillMode=mixed: only the training gets that signal, its worker processes do not. LimitMEMLOCK: memory that a TPU
# reads is locked.
run() {
  local training
  printf -v training '%q ' --config="$1" --workdir="$2" --coordinator=auto "${@:3}"
  on all "touch ~/gif_jax.started
sudo systemctl reset-failed gif_jax 2>/dev/null
sudo systemd-run --unit=gif_jax --uid=\"\$USER\" --working-directory=\"\$HOME/gif_jax\" \
--property=KillMode=mixed --property=TimeoutStopSec=300 --property=LimitMEMLOCK=infinity --property=LimitNOFILE=65536 \
--property=StandardOutput=append:\"\$HOME/gif_jax.log\" --property=StandardError=append:\"\$HOME/gif_jax.log\" \
\"\$HOME/venv/bin/python\" -m gif_jax.main $training"
}

status() {
  queue describe --format='value(state.state)'
  # shellcheck disable=SC2016 # these are the machines' variables
  on all 'echo "$(hostname): $(systemctl is-active gif_jax)"; tail -n 1 ~/gif_jax.log'
}

stop() { on all 'sudo systemctl stop --no-block gif_jax'; }

# What is to be done next for a run in WORKDIR: wait, create, delete, start, finished, failed.
next() {
  local slice unit summary
  slice=$(queue describe --format='value(state.state)' 2>/dev/null) || slice=MISSING
  case $slice in
    MISSING) echo create ;;
    SUSPENDED | FAILED) echo delete ;; # preempted, or never served: both are for ever
    ACTIVE)
      # summary.json is the last file that a run writes; an older one is left from a shorter run that is now continued.
      printf -v summary %q "$1/summary.json"
      unit=$(on 0 "if [ -e ~/gif_jax.started ] && [ $summary -nt ~/gif_jax.started ]; then echo finished
else systemctl is-active gif_jax; fi" 2>/dev/null) || true
      case $unit in
        finished | failed) echo "$unit" ;;
        inactive) echo start ;; # new, or stopped with its state saved
        *) echo wait ;;         # at work, or out of reach for now
      esac
      ;;
    *) echo wait ;;
  esac
}

keep() {
  need TYPE RUNTIME SHARED
  mounting >/dev/null
  local step before=''
  while :; do
    step=$(next "$2")
    [ "$step" = "$before" ] || echo "$(date +%FT%T) $step" >&2
    case $step in
      finished) return ;;
      # Machines of a slice are not lost all at once: those that wait for a lost one fail before the slice is SUSPENDED.
      failed) [ "$before" != failed ] || { echo "the training failed: $0 logs" >&2; exit 1; } ;;
      create) create || true ;;
      delete) delete || true ;;
      start) { install && run "$@"; } || stop || true ;; # a part of the machines would wait for the others
    esac
    before=$step
    sleep "${POLL_SECONDS:-120}"
  done
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in -h | --help) usage; exit 0 ;; esac
if [ "$command" = plan ]; then
  need PLAN
  check_training "$@"
  call "${PYTHON:-python}" -m gif_jax plan --topology="$PLAN" --config="$1" "${@:3}"
  exit
fi
need TPU ZONE
case $command in
  run) check_training "$@"; run "$@" ;;
  keep)
    check_training "$@"
    if [ -n "${DRY_RUN:-}" ]; then create; install; run "$@"; status; else keep "$@"; fi
    ;;
  logs) on "${1:-0}" 'tail -n 100 -F ~/gif_jax.log' ;;
  create | install | status | stop | delete) "$command" ;;
  *) fail "there is no command '$command'" ;;
esac
