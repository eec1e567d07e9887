#!/usr/bin/env bash
# Trains on all devices of this machine, in one process: JAX drives all GPUs of a machine from one process, so several
# would gain nothing here.
set -euo pipefail

usage() {
  cat <<END
usage: $0 CONFIG [WORKDIR] [--config.KEY=VALUE ...], for example: $0 configs/quickstart.py
Trains on all devices of this machine. WORKDIR: default runs/NAME for configs/NAME.py.
Run it again to continue a run that was stopped; Ctrl-C or SIGTERM saves first.
PLAN=MACHINE compiles it for that machine instead and says what it needs: see gif-jax plan --help.
DRY_RUN=1 prints the command and starts nothing.
END
}

case ${1:-} in
  -h | --help) usage; exit 0 ;;
  '' | -*) usage >&2; exit 2 ;;
esac
config=$1
shift
workdir=runs/$(basename "$config" .py)
if [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; then
  workdir=$1
  shift
fi
command=("${PYTHON:-python}" -m gif_jax.main --config="$config" --workdir="$workdir" "$@")
if [ -n "${PLAN:-}" ]; then command=("${PYTHON:-python}" -m gif_jax plan --topology="$PLAN" --config="$config" "$@"); fi
if [ -n "${DRY_RUN:-}" ]; then
  printf '%q ' "${command[@]}"
  echo
  exit 0
fi
exec "${command[@]}"
