#!/bin/sh
# sysroot.sh DIR - the libraries that install-deps.sh names, for AArch64, in DIR: taken out of the
# distribution's packages, with an apt of its own. Nothing is installed, nothing of this machine's
# set of packages is touched, no rights are needed. DIR/complete names the libraries when all is there.
set -eu
[ $# = 1 ] || { echo "usage: sysroot.sh DIR" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
for tool in apt-get dpkg; do
	command -v $tool >/dev/null || { echo "no $tool: cannot fetch libraries for AArch64"; exit 77; }
done

apt=$(mktemp -d)
trap 'rm -rf "$apt"' EXIT
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/deb"
: >"$apt/status"
cat >"$apt/conf" <<EOF
APT::Architectures { "$(dpkg --print-architecture)"; "arm64"; };
APT::Sandbox::User "$(id -un)";
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
EOF
export APT_CONFIG="$apt/conf"

said() { # what failed, log
	tail -5 "$2"
	echo "cannot fetch libraries for AArch64: $1"
	exit 77
}
libs=$(sed -n 's/^\(lib[^ ]*-dev\): .*/\1:arm64/p' install-deps.sh)
[ -n "$libs" ] || { echo "install-deps.sh names no libraries"; exit 1; }
apt-get update >"$apt/log" 2>&1 || said "apt-get update failed" "$apt/log"
# Nothing counts as installed, so this lists all that the libraries depend on, the C library first.
# shellcheck disable=SC2086
apt-get install -y --no-install-recommends --print-uris libc6-dev:arm64 $libs >"$apt/list" 2>"$apt/log" ||
	said "packages are missing" "$apt/log"
names=$(sed -n "s/^'[^']*' \([^_ ]*\)_[^ ]*_arm64\.deb .*/\1:arm64/p" "$apt/list")
# shellcheck disable=SC2086
(cd "$apt/deb" && apt-get download $names) >"$apt/log" 2>&1 || said "apt-get download failed" "$apt/log"
for deb in "$apt"/deb/*.deb; do
	dpkg -x "$deb" "$dir"
done
printf '%s\n' "$libs" >"$dir/complete"
echo "$(printf '%s\n' "$names" | wc -l) packages for AArch64 in $1"
