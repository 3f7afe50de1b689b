#!/bin/sh
# Proves the image without Docker and without a registry: makes a base image with
# mmdebstrap, builds the Dockerfile on it with podman, and runs one job in it.
#
# usage: prove-image.sh [RELEASE]
set -eu

release=${1:-forky}
here=$(cd "$(dirname "$0")" && pwd)
cache=${CONDOR_ISOLATION_CACHE:-$here/../.cache}
store=$cache/image
log=$cache/image.log
cgroup=condor-isolation-image
want='uid=1000(alice)'

# Of what podman leaves running or mounted nothing outlives these namespaces.
if [ -z "${IN_NAMESPACES:-}" ]; then
    [ "$(id -u)" = 0 ] || { echo "prove-image.sh: must run as root" >&2; exit 1; }
    IN_NAMESPACES=1 exec unshare --mount --pid --mount-proc --fork --kill-child "$0" "$@"
fi

start=$(date +%s)
say() { echo "prove-image: $(($(date +%s) - start)) s  $*" | tee -a "$log"; }

clean_up() {
    status=$?
    trap - EXIT
    [ $status = 0 ] || { tail -n 25 "$log"; say "failed: the whole log is $log"; } >&2
    rm -rf --one-file-system "$store"
    find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" -exec rmdir {} + 2>/dev/null
    exit $status
}

# vfs and runc work on any file system and with any layout of cgroups.
pod() {
    podman --root "$store/root" --runroot "$store/run" --tmpdir "$store/tmp" \
        --storage-driver vfs --cgroup-manager cgroupfs --runtime runc "$@" </dev/null
}

mkdir -p "$store"
: >"$log"
trap clean_up EXIT
trap 'exit 130' INT TERM

if ! command -v podman runc mmdebstrap >/dev/null; then
    say "apt-get install podman runc mmdebstrap"
    apt-get install -q -y --no-install-recommends podman runc mmdebstrap >>"$log" 2>&1
fi

say "base image: $release"
# shellcheck disable=SC2016 # the dollar is apt's
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | head -n 1)
mmdebstrap --quiet --variant=minbase --aptopt='Acquire::Check-Valid-Until false' \
    "$release" "$store/base.tar" "$mirror" >>"$log" 2>&1
pod import "$store/base.tar" localhost/base >>"$log" 2>&1

say "image"
pod build --isolation chroot --build-arg BASE=localhost/base --tag node "$here" >>"$log" 2>&1

say "job"
# A machine without CAP_SYS_RESOURCE cannot raise limits to podman's defaults.
got=$(pod run --rm --timeout 120 --hostname node --network none --privileged \
    --cgroupns private --cgroup-parent $cgroup \
    --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 \
    node su - alice -c 'timeout 60 condor_run id' 2>>"$log")
case $got in
    "$want"*) say "the job ran: $got" ;;
    *) say "expected $want, got: $got"; exit 1 ;;
esac
