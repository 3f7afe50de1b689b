#!/bin/sh
# Turns the Debian system it runs in (a chroot or a container, as root) into an
# HTCondor execution point that is also a pool of one machine.
#
# EXTRA_PACKAGES  more packages to install
# EXTRA_SUITE     Debian suite that EXTRA_PACKAGES come from, if not this one
set -eu

say() { echo "provision: $*"; }

[ "$(id -u)" = 0 ] || { echo "provision.sh: must run as root" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# Testing and unstable stop renewing old Release files; a pool that runs without
# any network has no use for their expiry date.
apt() { apt-get -q -y -o Acquire::Check-Valid-Until=false -o APT::Install-Recommends=false "$@"; }

# No package may start a daemon here: what runs is decided when the node boots.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
fi

say "package lists"
apt update

# minicondor comes as a file of configuration, which an earlier one would keep.
say "HTCondor and tools"
apt install minicondor python3 procps iproute2 util-linux strace bubblewrap \
    python3-pytest python3-hypothesis python3-click make

if [ -n "${EXTRA_PACKAGES:-}" ]; then
    say "extra packages: $EXTRA_PACKAGES"
    if [ -n "${EXTRA_SUITE:-}" ]; then
        # shellcheck disable=SC2016 # the dollar is apt's
        site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | head -n 1)
        echo "deb $site $EXTRA_SUITE main" >/etc/apt/sources.list.d/extra.list
        printf 'Package: *\nPin: release n=%s\nPin-Priority: 100\n' "$EXTRA_SUITE" \
            >/etc/apt/preferences.d/extra
        apt update
    fi
    # shellcheck disable=SC2086 # a list of words
    apt install $EXTRA_PACKAGES
    rm -f /etc/apt/sources.list.d/extra.list /etc/apt/preferences.d/extra
fi

say "configuration"
cat >/etc/condor/config.d/10-node <<'END'
# A pool of one machine that has no network but loopback.
CONDOR_HOST = 127.0.0.1
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
ENABLE_IPV6 = False

# The schedd and the startd are one machine: its users are the users of the jobs.
UID_DOMAIN = $(FULL_HOSTNAME)
STARTER_ALLOW_RUNAS_OWNER = True

# Claimed rather than measured, so that tests find the same slots everywhere.
NUM_CPUS = 8
MEMORY = 8192
JOB_DEFAULT_REQUESTMEMORY = 256
JOB_DEFAULT_REQUESTDISK = 65536
START = True

# Seconds count in a pool whose life is one test.
MASTER_BACKOFF_CONSTANT = 1
SCHEDD_INTERVAL = 1
SCHEDD_MIN_INTERVAL = 1
NEGOTIATOR_INTERVAL = 1
NEGOTIATOR_MIN_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
UPDATE_INTERVAL = 2
RUNBENCHMARKS = False
END

# HTCondor would make it at its first start, too late to mount something there.
install -d -o condor -g condor -m 755 /var/lib/condor/execute

say "users"
for user in alice bob; do
    id $user >/dev/null 2>&1 || useradd --create-home --shell /bin/bash $user
done

say "clean up"
apt-get clean
rm -rf /var/lib/apt/lists/*
say "done"
