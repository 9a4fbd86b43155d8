#!/bin/sh
# Installs what test/slurm starts a Slurm from, where that can be had: on Debian and Ubuntu, as root. Elsewhere it says what is missing,
# and the tests skip.
set -eu
. "$(dirname "$0")/lib.sh"

have_all() { for program in slurmctld slurmd munged sbatch ip; do command -v $program >/dev/null || return 1; done; }
PATH=$PATH:/usr/sbin:/sbin
! have_all || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "the tests of Slurm will skip: they need root, and slurmctld, slurmd, slurm-client and munge (Debian's packages)"
    exit 0
fi
{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge iproute2; } >&2 </dev/null ||
    say "the packages of Slurm cannot be installed; its tests will skip"
