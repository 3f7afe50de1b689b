#!/bin/sh
# Process 1 of user-mode Linux: mounts what the node runner needs, runs
# /node/command on the consoles that uml.sh has tied to its output, powers off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
stty -F /dev/tty1 raw -echo
stty -F /dev/tty2 raw -echo

/node/command </dev/null >/dev/tty1 2>/dev/tty2
echo $? >/node/status

# Both take a setting only when all output has gone.
stty -F /dev/tty1 sane
stty -F /dev/tty2 sane
sync
echo o >/proc/sysrq-trigger
exec sleep 60
