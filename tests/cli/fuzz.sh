#!/bin/sh
# fuzz.sh - every fuzz target for a second, the model for five, without libFuzzer. FUZZ_SECONDS=60
# for longer. With
# clang: `make libfuzzer`, then build/fuzz/fuzz_gguf.
set -eu
cd "$(dirname "$0")/../.."
build=$(dirname "$MOESCOPE")
build=${build#"$PWD/"}
for f in tests/fuzz/fuzz_*.c; do
	name=$(basename "$f" .c)
	make --no-print-directory ${SAN:+SAN=$SAN} "$build/tests/$name"
	seconds=1
	[ "$name" != fuzz_model ] || seconds=5
	"$build/tests/$name" -t "${FUZZ_SECONDS:-$seconds}" -s "${FUZZ_SEED:-1}"
done
