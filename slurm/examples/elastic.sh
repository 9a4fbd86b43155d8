#!/bin/bash
#SBATCH --job-name=first
#SBATCH --nodes=2-8
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --output=/shared/me/first-%j.log
#SBATCH --open-mode=append
#
# Written by ddprun slurm. srun starts one agent a node; the agents find each other and start the ranks of their nodes.
# 120 s before the time limit the agents get USR1, save a checkpoint and end with 75; then this job queues itself again.
# When a node is lost, the others go on while 2 are left, also without the first one, which runs this script.
# Exit codes: 0 done, 1 failed, 75 come again, 78 wrong configuration or input, 93 three failures without a newer checkpoint.
# shellcheck disable=SC1003,SC2016,SC2088,SC2089,SC2090 # words of others are quoted as they are
set -u

directory=/shared/me
output_dir=/shared/me/runs/first
min_nodes=2
max_requeues=100 # times that this job queues itself again; Slurm's own requeues (preemption, lost nodes) do not count
step=(--ntasks-per-node=1 --kill-on-bad-exit=0 --wait=0 --cpu-bind=none --label --no-kill)
agent=(/shared/bin/ddprun --nnodes=2:8 --nproc=8 --rejoin-timeout=1m0s)
config=/shared/me/train.yaml

own=$output_dir/.ddprun
outcome=$own/outcome.json
counts=$own/slurm-counts
key=$own/slurm-key-$SLURM_JOB_ID

say() { echo "ddprun slurm: $(date '+%F %T') job $SLURM_JOB_ID: $*"; }

# told: TERM comes to this script when Slurm ends the job (scancel, preemption, its time limit, a lost node). The agents get it too and
# save; what becomes of the job is Slurm's to say.
told=
trap 'told=1' TERM
trap 'rm -f -- "$key"' EXIT

cd -- "$directory" || exit 78
mkdir -p -- "$own" || exit 78

# The agents' key is made anew at each start, readable for nobody else, and never an argument or a variable.
rm -f -- "$key"
(umask 077 && head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$key")
[[ -s $key ]] || { say "cannot write $key"; exit 1; }

# What this job has counted so far: requeues of its own, failures since the newest checkpoint, and that checkpoint's step.
requeues=0 failures=0 newest=0
if read -r job a b c <"$counts" && [[ "$job $a $b $c" =~ ^$SLURM_JOB_ID(\ [0-9]+){3}$ ]]; then
    requeues=$a failures=$b newest=$c
fi 2>/dev/null
count() { echo "$SLURM_JOB_ID $requeues $failures $newest" >"$counts.new" && mv -- "$counts.new" "$counts"; }

# checkpoint: the step of the newest one in output_dir.
checkpoint() {
    local last=0 path
    for path in "$output_dir"/checkpoint-*; do
        [[ ${path##*/checkpoint-} =~ ^[0-9]+$ ]] && ((10#${path##*/checkpoint-} > last)) && last=$((10#${path##*/checkpoint-}))
    done
    echo "$last"
}

# left: seconds to the time limit.
left() {
    local end
    end=$(date -d "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%e)" +%s 2>/dev/null) || end=99999999999 # no limit
    echo $((end - $(date +%s)))
}

# requeue WHY: queues the job again; Slurm ends this script.
requeue() {
    if ((requeues >= max_requeues)); then
        say "$1; not queued again: that has been done $requeues times (--max-requeues). Submit it again to go on"
        exit 75
    fi
    requeues=$((requeues + 1))
    count
    rm -f -- "$key"
    say "$1; queued again (time $requeues of $max_requeues)"
    scontrol requeue "$SLURM_JOB_ID" || { say "Slurm does not queue this job again: submit it again to go on"; exit 75; }
    while [[ ! $told ]]; do sleep 1; done
    exit 75
}
# What runs on each node: the agent, then a last word. When the first node is lost, and with it this script and srun, Slurm lets the others
# run, but would keep the job when they have ended. So the first to see the run end, or the last agent where none has said how it ended, looks
# whether srun is there; if not, and Slurm has given up this script's node, it queues the job again: the next start goes on, or finds that all is done.
task='outcome=$1 host=$2 word=$3.$SLURM_STEP_ID
shift 3
left() { left=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%N) && left=$(scontrol show hostnames "$left"); }
others() { # whether an agent runs on a node that is left; the one on the node of the script has srun to look after it
    left || return 0
    for node in $left; do [[ $node != "$host" && -e $word.$node ]] && return 0; done
    return 1
}
trap : TERM USR1 # they come to the agent too, which heeds them
earlier=$(cat -- "$outcome" 2>/dev/null)
: >"$word.$SLURMD_NODENAME"
"$@"
code=$?
rm -f -- "$word.$SLURMD_NODENAME"
[[ $(cat -- "$outcome" 2>/dev/null) != "$earlier" ]] || ! others || exit "$code"
mkdir -- "$word" 2>/dev/null || exit "$code"
for ((i = 0; i < 120; i++)); do
    timeout 5 bash -c "</dev/tcp/$SLURM_SRUN_COMM_HOST/$SLURM_SRUN_COMM_PORT" 2>/dev/null && break
    left && ! grep -qxF -- "$host" <<<"$left" && scontrol requeue "$SLURM_JOB_ID" && break
    sleep 5
done
exit "$code"'
agent=(bash -c "$task" agent "$outcome" "$SLURMD_NODENAME" "$own/slurm-word-$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}" "${agent[@]}")
trap 'rm -f -- "$key"; rm -rf -- "$own/slurm-word-$SLURM_JOB_ID."*' EXIT

while :; do
    nodes=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%D) # those that are left, where Slurm has lost some
    [[ $nodes =~ ^[0-9]+$ ]] || nodes=$SLURM_JOB_NUM_NODES
    ((nodes >= min_nodes)) || requeue "$nodes of at least $min_nodes nodes are left"

    earlier=$(cat -- "$outcome" 2>/dev/null)
    # A 71 is srun's own failure, not an agent's. A failed agent ends no other one (kill-on-bad-exit, wait): they end together, with a checkpoint.
    SLURM_EXIT_ERROR=71 srun --nodes="$nodes" --ntasks="$nodes" "${step[@]}" "${agent[@]}" --key-file="$key" "$config" </dev/null &
    srun=$!
    wait "$srun"
    code=$?
    while kill -0 "$srun" 2>/dev/null; do # TERM interrupts wait
        wait "$srun"
        code=$?
    done

    # What counts is how the run ended, not how its processes did: an agent may be killed and the run go on without it.
    ended=$code
    if [[ $(cat -- "$outcome" 2>/dev/null) != "$earlier" ]]; then
        code=$(sed -n 's/^  "code": \([0-9]*\),*$/\1/p' "$outcome")
        say "the run ended with ${code:=1}, srun with $ended"
    else
        say "srun ended with $code"
    fi
    case $code in
    0 | 1 | 78 | 93) # done, or nothing that another start would mend
        rm -f -- "$counts"
        exit "$code"
        ;;
    esac
    if [[ $told ]]; then
        say "Slurm ends this job"
        exit "$code"
    fi
    if [[ $code = 75 && $ended = 75 ]]; then # every agent was asked to stop, and did
        failures=0
        requeue "stopped on request, with a checkpoint at step $(checkpoint)"
    fi

    # Agents were lost, crashed or could not start.
    step_now=$(checkpoint)
    ((step_now > newest)) && failures=0
    newest=$step_now failures=$((failures + 1))
    count
    if ((failures >= 3)); then
        say "three failures without a newer checkpoint"
        rm -f -- "$counts"
        exit 93
    fi
    [[ $ended = 71 ]] && requeue "srun could not start the agents"
    (($(left) < 120 + 90)) && requeue "the time limit is near" # Slurm may send USR1 a minute early, and once
    say "starting the agents again"
    sleep 5
done
