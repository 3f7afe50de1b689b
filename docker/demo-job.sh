#!/bin/sh
# What a job of the demo sees.  Each part is headed "### NAME".  Standard error goes along, so
# that the kernel's answers are part of the evidence.
exec 2>&1
part() { echo "### $1"; }
neighbour=$1    # host pid of the neighbour job's process
execute=${_CONDOR_SCRATCH_DIR%/dir_*}

part processes;   ps faux
part neighbour;   kill -0 "$neighbour" && echo "can signal $neighbour"
part os-release;  head -n 1 /etc/os-release
part hosts;       cat /etc/hosts
part root;        touch /usr/demo && echo "could write /usr"
part tmp;         touch /tmp/mine; ls -A /tmp; stat -c '%a %U' /tmp; ls -d "$_CONDOR_SCRATCH_DIR/tmp/mine"
part shm;         ls -A /dev/shm; df -k /dev/shm | tail -n 1
part sysvipc;     cat /proc/sysvipc/shm
part mqueue;      ls -A /dev/mqueue
part pts;         ls -A /dev/pts
part sandboxes;   ls -A "$execute"; echo "mine: $_CONDOR_SCRATCH_DIR"
part hidden;      for d in /var/log/condor /var/spool/condor; do find $d -mindepth 1 | wc -l; done
part sys;         touch /sys/kernel/demo
part identity;    id; grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs)' /proc/self/status
part setuid;      cp /bin/sh ./suid; chmod 4755 ./suid; ./suid -pc id
part mounts;      cat /proc/self/mountinfo
part namespaces;  for n in pid mnt ipc uts cgroup; do readlink /proc/self/ns/$n; done
part cgroup;      cat /proc/self/cgroup
sleep 1    # long enough to be looked at from outside
