#!/usr/bin/env bash
# Fills launch/jobset.yaml in and hands it to kubectl.
set -euo pipefail

usage() {
  cat <<END
usage: $0 --image=IMAGE --claim=CLAIM [OPTIONS] CONFIG WORKDIR [--config.KEY=VALUE ...], for example:
  docker build -f launch/Dockerfile -t registry/gif_jax . && docker push registry/gif_jax
  $0 --image=registry/gif_jax --claim=faces --nodes=2 --gpus=8 \\
      configs/wf42m.py:r100 /shared/r100 --config.data.path=/shared/wf42m
Trains in a JobSet, one pod on each node. CLAIM (a PersistentVolumeClaim, ReadWriteMany) is /shared in the pods.
  --name=NAME        of the JobSet; default gif
  --nodes=N          default 1
  --gpus=N           of a node; default 8
  --tpu=KIND --topology=AxB --chips=N     instead of GPUs, on GKE: KIND as in cloud.google.com/gke-tpu-accelerator
                     (tpu-v6e-slice), the slice's shape, and the chips of a node (default 4); --nodes=N as the slice has
To continue a run whose JobSet has ended: kubectl delete jobset NAME, then the same command.
PLAN=h200:8x2 before it compiles the training here for that machine instead, and says what it needs.
DRY_RUN=1 prints the manifest and starts nothing.
END
}

fail() {
  echo "$0: $1" >&2
  usage >&2
  exit 2
}

name=gif nodes=1 gpus=8 chips=4 image='' claim='' tpu='' topology=''
while [[ ${1:-} == -* ]]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --image=* | --claim=* | --name=* | --nodes=* | --gpus=* | --tpu=* | --topology=* | --chips=*)
      option=${1%%=*}
      printf -v "${option#--}" %s "${1#*=}"
      ;;
    *) fail "$1 is no option that stands before CONFIG" ;;
  esac
  shift
done
[ $# -ge 2 ] || fail 'CONFIG and WORKDIR are needed'
[ -n "$image" ] || fail '--image is needed'
[ -n "$claim" ] || fail '--claim is needed'
[[ $2 == /shared/* ]] || fail "WORKDIR lies in /shared, which all pods see; it is $2"
# Names of pods are names of hosts: NAME-training-0-INDEX has at most 63 characters.
[[ $name =~ ^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$ ]] || fail "--name=$name: small letters, digits and hyphens, at most 32"
for count in nodes gpus chips; do
  [[ ${!count} =~ ^[1-9][0-9]*$ ]] || fail "--$count=${!count} is not a number from 1 up"
done

if [ -n "${PLAN:-}" ]; then exec "${PYTHON:-python}" -m gif_jax plan --topology="$PLAN" --config="$1" "${@:3}"; fi

device=nvidia.com/gpu devices=$gpus selector='{}' coordinator=$name-training-0-0.$name:8476
if [ -n "$tpu" ]; then
  [ -n "$topology" ] || fail '--tpu needs --topology'
  device=google.com/tpu devices=$chips coordinator=auto # GKE tells JAX who is who
  selector="{cloud.google.com/gke-tpu-accelerator: $tpu, cloud.google.com/gke-tpu-topology: $topology}"
fi

# The arguments as a list in JSON, which is YAML too.
arguments=''
for argument in "$@"; do
  argument=${argument//\\/\\\\}
  argument=${argument//\"/\\\"}
  arguments+="${arguments:+, }\"$argument\""
done

manifest=$(<"$(dirname "$0")/jobset.yaml")
fill() { manifest=${manifest//"__$1__"/"$2"}; }
fill NAME "$name"
fill NODES "$nodes"
fill SELECTOR "$selector"
fill DEVICE "$device"
fill DEVICES "$devices"
fill IMAGE "$image"
fill COORDINATOR "$coordinator"
fill CLAIM "$claim"
fill ARGUMENTS "[$arguments]" # last: nothing in it is filled in
if [ -n "${DRY_RUN:-}" ]; then
  echo "# kubectl apply --filename=-"
  echo "$manifest"
else
  kubectl apply --filename=- <<<"$manifest"
fi
