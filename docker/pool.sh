#!/bin/sh
# Starts HTCondor in a provisioned root, waits until it takes jobs, then runs
# the command given, or HTCondor itself: how a node and a container start.
#
# POOL_WAIT  seconds to wait at most
set -eu

wait_seconds=${POOL_WAIT:-60}
log=/var/log/condor
cgroup=/sys/fs/cgroup

# What systemd-tmpfiles would have made.
install -d -o condor -g condor -m 775 /run/condor /run/lock/condor
# A fresh volume belongs to root, and HTCondor then advertises a slot of no size.
install -d -o condor -g condor -m 755 /var/lib/condor/execute

# A version 2 cgroup hands its controllers on only if it has no processes itself.
if [ -w $cgroup/cgroup.procs ] && grep -qx 0::/ /proc/self/cgroup; then
    mkdir -p $cgroup/init
    while read -r pid; do
        echo "$pid" >$cgroup/init/cgroup.procs
    done <$cgroup/cgroup.procs 2>/dev/null
    for controller in cpu io memory pids; do
        echo +$controller >$cgroup/cgroup.subtree_control ||
            echo "pool.sh: no cgroup controller $controller here" >&2
    done
fi

# HTCondor knows this one name, also where the two are mounted apart.
if [ -d $cgroup/cpu ] && [ ! -e $cgroup/cpu,cpuacct ]; then
    ln -s cpu $cgroup/cpu,cpuacct
fi

# A shell's background process ignores SIGINT and SIGQUIT, and so would every job.
setsid env --default-signal=INT,QUIT /usr/sbin/condor_master -f </dev/null >$log/master.out 2>&1 &
master=$!

missing() {
    if [ -z "$(condor_status -constraint 'Memory > 0' -af Name 2>/dev/null)" ]; then
        echo "no usable slot in the collector"
    elif ! condor_q -totals >/dev/null 2>&1; then
        echo "no answer from the schedd"
    fi
}

give_up() {
    echo "pool.sh: HTCondor is not ready: $1" >&2
    tail -n 20 $log/master.out $log/MasterLog $log/StartLog $log/SchedLog >&2 2>/dev/null || :
    exit 125
}

end=$(($(date +%s) + wait_seconds))
while why=$(missing) && [ -n "$why" ]; do
    kill -0 $master 2>/dev/null || give_up "condor_master has ended"
    [ "$(date +%s)" -lt $end ] || give_up "$why after $wait_seconds s"
    sleep 0.1
done

[ $# -gt 0 ] || { wait $master; exit; }
exec "$@"
