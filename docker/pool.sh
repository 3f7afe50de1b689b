#!/bin/sh
# Starts HTCondor in a provisioned root, waits until it takes jobs, then runs
# the command given: how a node and a container start.
set -eu

wait_seconds=60
log=/var/log/condor

# What systemd-tmpfiles would have made.
install -d -o condor -g condor -m 775 /run/condor /run/lock/condor

# A shell's background process ignores SIGINT and SIGQUIT, and so would every job.
setsid env --default-signal=INT,QUIT /usr/sbin/condor_master -f </dev/null >$log/master.out 2>&1 &
master=$!

missing() {
    kill -0 $master 2>/dev/null || { echo "condor_master has ended"; return; }
    [ -n "$(condor_status -startd -af Name 2>/dev/null)" ] || { echo "no slot in the collector"; return; }
    condor_q -totals >/dev/null 2>&1 || echo "no answer from the schedd"
}

end=$(($(date +%s) + wait_seconds))
while why=$(missing) && [ -n "$why" ]; do
    if ! kill -0 $master 2>/dev/null || [ "$(date +%s)" -ge $end ]; then
        {
            echo "pool.sh: HTCondor is not ready after at most $wait_seconds s: $why"
            tail -n 20 $log/master.out $log/MasterLog $log/StartLog $log/SchedLog 2>/dev/null
        } >&2
        exit 125
    fi
    sleep 0.1
done

[ $# -gt 0 ] || { wait $master; exit; }
exec "$@"
