#!/usr/bin/env bash
# Trains on all devices of this machine: launch/local.sh CONFIG [WORKDIR] [--config.KEY=VALUE ...]
# Run it again to continue a run that was stopped; Ctrl-C or SIGTERM saves first.
set -euo pipefail

if [ $# -lt 1 ]; then
  echo "usage: $0 CONFIG [WORKDIR] [--config.KEY=VALUE ...], for example: $0 configs/quickstart.py" >&2
  exit 2
fi
config=$1
shift
workdir=runs/$(basename "$config" .py)
if [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; then
  workdir=$1
  shift
fi
exec "${PYTHON:-python}" -m gif_jax.main --config="$config" --workdir="$workdir" "$@"
