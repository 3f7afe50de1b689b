#!/bin/sh
# Installs what the host needs for `make demo`, `make test` or `make bench`: host-packages.sh WHAT.
set -eu
packages="gcc libc6-dev musl-dev linux-libc-dev make python3 mmdebstrap debian-archive-keyring mount util-linux"
case ${1:-demo} in
demo) ;;
test) packages="$packages python3-venv python3-dev clang libclang-rt-dev shellcheck" ;;
bench) ;;
*) echo "host-packages.sh: demo, test or bench, not $1" >&2; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || { echo "host-packages.sh: must run as root" >&2; exit 1; }

missing=
for package in $packages; do
    dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^.i' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -q -y update >/dev/null
# shellcheck disable=SC2086 # a list of words
apt-get -q -y install --no-install-recommends $missing >/dev/null
