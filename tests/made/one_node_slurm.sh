#!/usr/bin/env bash
# Runs a command beside a Slurm of its own: one node, this machine, reached on loopback only.
#   tests/one_node_slurm.sh srun hostname
# Needs slurmctld, slurmd and munged (apt-get install slurm-wlm munge) and installs nothing. Key,
# settings, state and logs are in a temporary folder, which goes with the daemons when the command
# ends, however it ends; a Slurm that the machine has already is not touched.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

for program in slurmctld slurmd munged sinfo srun; do
  command -v "$program" >/dev/null || {
    echo "error: no $program here; on Debian and Ubuntu: apt-get install slurm-wlm munge" >&2
    exit 69
  }
done

home=$(mktemp -d -t slurm.XXXXXX) # of a socket in it, which may have a path of 108 bytes at most
chmod 711 "$home" # else munged refuses to put its socket there
daemons=()
finish() {
  trap - EXIT
  timeout 10 scancel --user="$(id -un)" 2>/dev/null || true
  for _ in $(seq 20); do # what a job runs would outlive slurmd
    [ -n "$(timeout 10 squeue --noheader 2>/dev/null)" ] || break
    sleep 0.5
  done
  kill "${daemons[@]}" 2>/dev/null || true
  sleep 0.5
  # Steps of jobs that did not end wait for their daemon, and it for them.
  unset SLURM_CONF
  grep -lsz "^SLURM_CONF=$home/" /proc/[0-9]*/environ | cut -d / -f 3 | xargs -r kill -9 2>/dev/null || true
  wait "${daemons[@]}" 2>/dev/null || true
  rm -rf "$home"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

start() { # the name of its log, then the command; Ctrl-C is for the command beside it, not for it
  local name=$1
  shift
  setsid "$@" >"$home/$name.log" 2>&1 &
  daemons+=($!)
}

ready() { # what is waited for, then a command that succeeds once it is there
  local what=$1
  shift
  for _ in $(seq 120); do
    if "$@" >/dev/null 2>&1; then return; fi
    [ "$(jobs -pr | wc -l)" -eq "${#daemons[@]}" ] || break # one of them has ended
    sleep 0.25
  done
  echo "error: $what did not start; the last lines of the logs:" >&2
  tail -n 8 "$home"/*.log >&2
  exit 70
}

idle() { sinfo --noheader --format=%t | grep -q '^idle$'; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'; }

mkdir "$home/state" "$home/spool" "$home/bin"
head -c 1024 /dev/urandom >"$home/munge.key"
chmod 0400 "$home/munge.key"
start munged munged --foreground --key-file="$home/munge.key" --socket="$home/munge.socket" \
  --pid-file="$home/munged.pid" --seed-file="$home/munge.seed" --log-file="$home/munged.log"

node=$(hostname -s)
export SLURM_CONF=$home/slurm.conf
cat >"$SLURM_CONF" <<END
ClusterName=one
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$home/munge.socket
CredType=cred/munge
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/slurmd.pid
# No control groups, no accounting: neither can be counted on in a container.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MailProg=/bin/true
KillWait=1
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
# Snakemake's job steps drop SLURM_CONF from the environment of their srun.
cat >"$home/bin/srun" <<END
#!/bin/sh
SLURM_CONF=$SLURM_CONF exec $(command -v srun) "\$@"
END
chmod +x "$home/bin/srun"
export PATH="$home/bin:$PATH"

ready munged test -S "$home/munge.socket"
start slurmctld slurmctld -D
start slurmd slurmd -D -N "$node"
ready Slurm idle
"$@"
