#!/bin/sh
# Runs in a node: boots user-mode Linux on the node's root, where /node/command
# then runs, and exits with its status.
set -eu

# Its memory is a file that it maps as executable.
mkdir /tmp/uml
log=/tmp/uml/log

# The machine's kernel has modules of its own, or none.
ln -sfn /usr/lib/uml/modules /usr/lib/modules

# What UML itself has to say must not mix with the output of the command.
TMPDIR=/tmp/uml linux.uml mem=2048M root=/dev/root rootfstype=hostfs rootflags=/ rw quiet \
    init=/node/docker/uml-init.sh con=null con0=null,fd:1 con1=null,fd:3 con2=null,fd:4 \
    3>&1 4>&2 >$log 2>&1 </dev/null || :

if [ ! -s /node/status ]; then
    echo "uml.sh: user-mode Linux has ended without a status" >&2
    tail -n 25 $log >&2
    exit 125
fi
exit "$(cat /node/status)"
