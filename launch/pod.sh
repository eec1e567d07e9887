#!/usr/bin/env bash
# What each pod of jobset.yaml runs: one process of a training. Its exit status says whether the run is over.
set -uo pipefail

usage() {
  cat <<END
usage: $0 CONFIG WORKDIR [--config.KEY=VALUE ...], in a pod of launch/jobset.yaml
Needs COORDINATOR (HOST:PORT, or auto where TPUs say it), PROCESSES and JOB_COMPLETION_INDEX, which the pod has.
Exit status: 0 finished; 75 stopped with its state saved, to be started again; any other: failed.
DRY_RUN=1 prints the command and starts nothing.
END
}

case ${1:-} in -h | --help) usage; exit 0 ;; esac
for name in COORDINATOR PROCESSES JOB_COMPLETION_INDEX; do
  [ -n "${!name:-}" ] || { echo "$0: $name is not set" >&2; usage >&2; exit 2; }
done
[ $# -ge 2 ] || { echo "$0: CONFIG and WORKDIR are needed" >&2; usage >&2; exit 2; }
config=$1
workdir=$2
shift 2
command=("${PYTHON:-python}" -m gif_jax.main --config="$config" --workdir="$workdir" --coordinator="$COORDINATOR")
[ "$COORDINATOR" = auto ] || command+=(--processes="$PROCESSES" --process="$JOB_COMPLETION_INDEX")
command+=("$@")
if [ -n "${DRY_RUN:-}" ]; then
  printf '%q ' "${command[@]}"
  echo
  exit 0
fi

# summary.json is the last file that a run writes. A new time on it means that the run is finished; one may be left from
# a shorter run that is now continued.
summary() { stat -c %y "$workdir/summary.json" 2>/dev/null; }
before=$(summary)

# Kubernetes sends SIGTERM to this shell alone, which has to pass it on. The first `wait` ends when the signal comes,
# the second one when the training has saved.
"${command[@]}" &
training=$!
trap 'kill -TERM "$training"' TERM
wait "$training"
trap - TERM
wait "$training"
status=$?

# A training that saved because its pod is being moved ends with 0 too, and Kubernetes would take it for done. Process 0
# writes the summary, so it alone can tell; its 75 restarts all.
if [ "$status" -eq 0 ] && [ "$JOB_COMPLETION_INDEX" -eq 0 ] && [ "$(summary)" = "$before" ]; then exit 75; fi
exit "$status"
