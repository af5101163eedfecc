#!/bin/sh
# This engine and llama.cpp in turns over the same files: bench/peer.c says what is measured.
#
#	LLAMA_CPP=DIR bench/peer.sh [peer's options] MODEL.gguf...
#
# DIR has include/ and lib/ (tests/ref/README.md says how to get it).
set -u
if [ -z "${LLAMA_CPP:-}" ]; then
	echo "LLAMA_CPP is not set (tests/ref/README.md)" >&2
	exit 77
fi
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
make --no-print-directory -s -C "$root" build/libmoescope.a >&2 || exit 4
# shellcheck disable=SC2046
cc -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -I"$root/include" -I"$root/src" -isystem "$LLAMA_CPP/include" \
	"$root/bench/peer.c" "$root/build/libmoescope.a" "$LLAMA_CPP"/lib/libllama.*so \
	"$LLAMA_CPP"/lib/libggml.*so "$LLAMA_CPP"/lib/libggml-base.*so \
	$(pkg-config --libs sqlite3 libpcre2-8 libutf8proc libcjson libsodium) -lm -pthread \
	-Wl,-rpath,"$LLAMA_CPP/lib" -o "$root/build/peer" || exit 4
opts=
while [ $# -gt 0 ]; do
	case $1 in
	-q | -c | -m | -s) opts="$opts $1"; shift ;;
	-?) opts="$opts $1 $2"; shift 2 ;;
	*) break ;;
	esac
done
for model; do
	# shellcheck disable=SC2086
	"$root/build/peer" $opts "$model" "$LLAMA_CPP/lib" || exit
done
