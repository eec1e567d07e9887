#!/usr/bin/env bash
#SBATCH --job-name=gif_jax
#SBATCH --nodes=2
#SBATCH --gpus-per-node=8
# One process drives all GPUs of a node. `sbatch --ntasks-per-node=8` starts one process for each GPU instead.
#SBATCH --ntasks-per-node=1
# Whole nodes with all their cores and memory, which the input pipeline needs. Where nodes are shared, delete these two
# lines and give sbatch --cpus-per-task and --mem.
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=24:00:00
# SIGTERM five minutes before the time limit, so that there is time to save. Without "B:" it goes to the processes that
# srun started and not to this shell, which lives on and requeues the job. Slurm may send it up to a minute early.
#SBATCH --signal=TERM@300
# After a preemption or the loss of a node Slurm itself puts the job back into the queue.
#SBATCH --requeue
# A requeued job keeps its number, so its log file is the same: go on writing it.
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append

# No `set -e`: the exit status of srun decides what happens next.
set -uo pipefail

usage() {
  cat <<END
usage: sbatch [OPTIONS OF SBATCH] launch/slurm.sh CONFIG WORKDIR [--config.KEY=VALUE ...]
  in the project's folder, for example:
  sbatch --nodes=2 --gpus-per-node=8 launch/slurm.sh configs/wf42m.py:r100 /shared/r100 --config.data.path=/shared/wf42m
Trains on all nodes of the job, one process on each, and puts the job back into the queue until the run is finished.
WORKDIR and the data lie where all nodes see them. PYTHON=FILE names another Python than the one on PATH.
scancel ends it for good, with its state saved; the same sbatch command continues it.
PLAN=h200:8x2 launch/slurm.sh CONFIG WORKDIR ... compiles it for two nodes of 8 H200 instead, and says what it needs.
DRY_RUN=1 launch/slurm.sh CONFIG WORKDIR ... prints what a job would run and starts nothing.
END
}

fail() {
  echo "$0: $1" >&2
  usage >&2
  exit 2
}

case ${1:-} in -h | --help) usage; exit 0 ;; esac
[ $# -ge 2 ] || fail 'CONFIG and WORKDIR are needed'
config=$1
workdir=$2
shift 2
for name in "$config" "$workdir"; do
  case $name in -*) fail "$name stands where CONFIG and WORKDIR belong" ;; esac
done
if [ -n "${PLAN:-}" ]; then exec "${PYTHON:-python}" -m gif_jax plan --topology="$PLAN" --config="$config" "$@"; fi
if [ -n "${DRY_RUN:-}" ]; then # as the #SBATCH lines above ask for, where there is no job yet
  : "${SLURM_JOB_ID:=JOB}" "${SLURM_NTASKS_PER_NODE:=1}" "${SLURM_GPUS_ON_NODE:=8}"
fi
[ -n "${SLURM_JOB_ID:-}" ] || fail 'this is a job of Slurm: give it to sbatch'
# A job starts in the folder where sbatch was called, from a copy of this script that lies elsewhere.
file=${config%%.py:*} # configs/wf42m.py:r100 is configs/wf42m.py with an argument
file=${file%.py}.py
[ -f "$file" ] || fail "$PWD has no $file; call sbatch in the project's folder"
gpus=${SLURM_GPUS_ON_NODE:-0}
[ "$gpus" -gt 0 ] || fail 'the job has no GPUs; give sbatch --gpus-per-node'

# JAX takes a task of Slurm for the owner of one GPU, the one numbered SLURM_LOCALID: a lone process on a node would
# leave the others idle. With one process for each GPU that is right, as long as each sees all GPUs of its node: so do
# not give --gpus-per-task or --gpu-bind, which renumber them.
if [ "${SLURM_NTASKS_PER_NODE:-1}" -eq 1 ]; then
  JAX_LOCAL_DEVICE_IDS=$(seq -s, 0 $((gpus - 1)))
  export JAX_LOCAL_DEVICE_IDS
elif [ "$SLURM_NTASKS_PER_NODE" -ne "$gpus" ]; then
  fail "--ntasks-per-node is 1, or the number of GPUs of a node ($gpus); it is $SLURM_NTASKS_PER_NODE"
fi
# srun does not take this over from sbatch (since Slurm 22.05).
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi

# --kill-on-bad-exit: without one process the others would wait for it for ever.
# --cpu-bind=none: a process and its workers may use every core the job has, not only those of one task.
# --label: each line of the log says which process wrote it.
step=(srun --kill-on-bad-exit=1 --cpu-bind=none --label "${PYTHON:-python}" -m gif_jax.main
  --config="$config" --workdir="$workdir" --coordinator=auto "$@")

if [ -n "${DRY_RUN:-}" ]; then
  [ -z "${JAX_LOCAL_DEVICE_IDS:-}" ] || echo "export JAX_LOCAL_DEVICE_IDS=$JAX_LOCAL_DEVICE_IDS"
  printf '%q ' "${step[@]}"
  echo
  echo "# and, until $workdir/summary.json is written: scontrol requeue $SLURM_JOB_ID"
  exit 0
fi

# summary.json is the last file that a run writes. A new time on it, not its existence, means that the run is
# finished: one may be left from a shorter run that is now continued.
summary() { stat -c %y "$workdir/summary.json" 2>/dev/null; }
newest() { # the step of the newest checkpoint; what is still being written has more than digits in its name
  find "$workdir/checkpoints" -mindepth 1 -maxdepth 1 ! -name '*[!0-9]*' -printf '%f\n' 2>/dev/null | sort -n | tail -n1
}
summary_before=$(summary)
newest_before=$(newest)

# A preemption may signal this shell too; with a trap it outlives srun and says what happened.
trap : TERM
"${step[@]}"
status=$?

if [ "$(summary)" != "$summary_before" ]; then
  echo "finished: $workdir/summary.json"
  exit "$status"
fi
# Status 0 without a summary: stopped by a signal, state saved. Above 128: killed (memory, or evaluation ran into the
# time limit); again, but only if this attempt came further than the one before: what always fails must not go on.
if [ "$status" -eq 0 ] || { [ "$status" -gt 128 ] && [ "$(newest)" != "$newest_before" ]; }; then
  echo "not finished (srun: $status), newest checkpoint: $(newest)"
  # Before its time limit a job is RUNNING. A cancelled one is not and must not come back; a preempted one is not either
  # and is requeued by Slurm.
  case $(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T 2>/dev/null) in
    RUNNING | '') ;;
    *) exit "$status" ;;
  esac
  scontrol requeue "$SLURM_JOB_ID" && exit 0
  echo 'This cluster does not requeue: give the same sbatch command again, the run continues.' >&2
  exit 1
fi
exit "$status"
