#!/bin/bash
# A real Slurm on one machine, for tests: a host "ctl" with munged and slurmctld, hosts "node1".."nodeN" with slurmd each. A host is its own network, UTS,
# mount and PID namespace: its own name, address and process tree. Their bridge lies in ctl's network namespace, so the machine's own network
# is not touched. Needs root and Debian's slurmctld, slurmd, slurm-client, munge, iproute2.
#
#   cluster.sh up DIR NODES CPUS      starts one and waits until all nodes are idle; DIR is wiped
#   cluster.sh down DIR               ends every process of it and removes its namespaces; the logs stay
#   cluster.sh on DIR HOST COMMAND... runs a command there
#   cluster.sh power DIR HOST on|off  off: SIGKILL to everything on it
#   cluster.sh cable DIR NODE up|down
set -euo pipefail
what=${1:?} dir=$(realpath -m "${2:?}")
prefix=sl$(printf %s "$dir" | md5sum | cut -c1-6)
net=10.78.0
self=$(realpath "$0")

configure() { # NODES CPUS
    mkdir -p "$dir"/{etc,munge,state,log}
    chmod 755 "$dir" "$dir"/*
    { echo "127.0.0.1 localhost"; echo "$net.1 ctl"; for i in $(seq "$1"); do echo "$net.$((10 + i)) node$i"; done; } >"$dir/etc/hosts"
    dd if=/dev/urandom of="$dir/munge/munge.key" bs=128 count=1 status=none
    chmod 400 "$dir/munge/munge.key"
    # cred_expire is also how long a requeued job waits (120 s otherwise); a silent node is down after SlurmdTimeout (300 s); TERM is followed by
    # KILL after KillWait (30 s).
    cat >"$dir/etc/slurm.conf" <<EOF
ClusterName=test
SlurmctldHost=ctl($net.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$dir/munge/munge.socket,cred_expire=5
SlurmctldPidFile=$dir/slurmctld.pid
SlurmctldLogFile=$dir/log/slurmctld.log
StateSaveLocation=$dir/state
SlurmdPidFile=$dir/%n/slurmd.pid
SlurmdLogFile=$dir/log/slurmd.%n.log
SlurmdSpoolDir=$dir/%n/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,sched_min_interval=0,bf_interval=1,batch_sched_delay=0
ReturnToService=2
SlurmdTimeout=10
MessageTimeout=5
TCPTimeout=2
UnkillableStepTimeout=10
KillWait=8
MinJobAge=600
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=DEFAULT CPUs=$2 RealMemory=4000 Gres=gpu:2 State=UNKNOWN
$(for i in $(seq "$1"); do echo "NodeName=node$i NodeHostname=node$i NodeAddr=$net.$((10 + i))"; done)
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
    echo "CgroupPlugin=cgroup/v1" >"$dir/etc/cgroup.conf"
    touch "$dir"/gpu{0,1} # no devices: numbers that Slurm gives out
    echo "Name=gpu File=$dir/gpu[0-1]" >"$dir/etc/gres.conf"
}

# host NAME: the first process of a host, in its namespaces.
host() {
    mount --bind "$dir/etc/hosts" /etc/hosts
    hostname "$1"
    ip link set lo up
    export SLURM_CONF=$dir/etc/slurm.conf
    mkdir -p "$dir/$1/spool"
    if [[ $1 = ctl ]]; then
        munged --force --foreground --key-file="$dir/munge/munge.key" --socket="$dir/munge/munge.socket" --pid-file="$dir/munge/munged.pid" \
            --log-file="$dir/log/munged.log" --seed-file="$dir/munge/seed" --num-threads=2 >>"$dir/log/munged.out" 2>&1 &
        for _ in $(seq 100); do
            [[ -S $dir/munge/munge.socket ]] && munge -n -S "$dir/munge/munge.socket" >/dev/null 2>&1 && break
            sleep .05
        done
        slurmctld -D >>"$dir/log/slurmctld.out" 2>&1 &
    else
        slurmd -D -N "$1" >>"$dir/log/slurmd.$1.out" 2>&1 &
    fi
    while :; do wait -n || [[ -n $(jobs -r) ]] || break; done
}

start() { # HOST
    setsid ip netns exec "$prefix-$1" unshare --uts --mount --pid --fork --kill-child --mount-proc bash "$self" host "$dir" "$1" </dev/null >>"$dir/log/$1.out" 2>&1 &
    local unshare=$! child
    for _ in $(seq 500); do
        child=$(cat "/proc/$unshare/task/$unshare/children" 2>/dev/null) && [[ $child ]] && break
        sleep .02
    done
    echo "${child// /}" >"$dir/$1.pid"
}

stop() { # HOST
    local pid
    pid=$(cat "$dir/$1.pid" 2>/dev/null) || return 0
    # Only if it is still ours: its command line names this directory.
    tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF " host $dir " && kill -9 "$pid"
    for _ in $(seq 200); do kill -0 "$pid" 2>/dev/null || break; sleep .02; done
    rm -f "$dir/$1.pid"
}

down() {
    local file name
    for file in "$dir"/node*.pid "$dir"/ctl.pid; do
        [[ -e $file ]] || continue
        name=${file##*/}
        stop "${name%.pid}"
    done
    for name in $(ip netns list | awk '{print $1}'); do
        [[ $name = "$prefix"-* ]] && ip netns del "$name"
    done
    return 0
}

on() { # HOST COMMAND...
    local name=$1
    shift
    export SLURM_CONF=$dir/etc/slurm.conf
    exec nsenter -t "$(cat "$dir/$name.pid")" -n -u -m -p --wd="$PWD" -- "$@"
}

case $what in
up)
    down
    rm -rf "$dir"
    configure "$3" "$4"
    ip netns add "$prefix-ctl"
    ip -n "$prefix-ctl" link add br0 type bridge
    ip -n "$prefix-ctl" addr add $net.1/24 dev br0
    ip -n "$prefix-ctl" link set br0 up
    for i in $(seq "$3"); do
        ip netns add "$prefix-node$i"
        ip -n "$prefix-ctl" link add "v-node$i" type veth peer name eth0 netns "$prefix-node$i"
        ip -n "$prefix-ctl" link set "v-node$i" master br0 up
        ip -n "$prefix-node$i" addr add "$net.$((10 + i))/24" dev eth0
        ip -n "$prefix-node$i" link set eth0 up
    done
    start ctl
    for i in $(seq "$3"); do start "node$i"; done
    for _ in $(seq 300); do
        idle=$(bash "$self" on "$dir" ctl sinfo -h -N -o '%N %t' 2>/dev/null | grep -c ' idle$') || true
        [[ $idle = "$3" ]] && exit 0
        sleep .2
    done
    echo "only $idle of $3 nodes are idle; see $dir/log" >&2
    exit 1
    ;;
down) down ;;
host) host "$3" ;;
on) on "${@:3}" ;;
power) if [[ $4 = on ]]; then [[ -e $dir/$3.pid ]] || start "$3"; else stop "$3"; fi ;;
cable) ip -n "$prefix-ctl" link set "v-$3" "$4" ;;
*)
    echo "cluster.sh: unknown command $what" >&2
    exit 2
    ;;
esac
