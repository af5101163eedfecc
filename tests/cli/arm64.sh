#!/bin/sh
# arm64.sh - the kernels for AArch64 give the bits of this machine, where `make check-arm64` has
# fetched what that needs: a cross compiler, qemu, libraries.
dir=$(dirname "$0")/..
[ -e "$dir/../build/arm64/sysroot/complete" ] ||
	{ echo "no libraries for AArch64; make check-arm64 fetches them"; exit 77; }
exec sh "$dir/arm64/check.sh"
