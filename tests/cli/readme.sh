#!/bin/sh
# Every command that README.md shows is run, in order, in an empty folder, and prints what the page
# says. A small model stands for the reader's own.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD
MOESCOPE=${MOESCOPE:-$PWD/build/moescope}
[ -z "${SAN:-}" ] || { echo "too slow with sanitizers"; exit 77; }
"$MOESCOPE" inspect sample:balanced >/dev/null 2>&1 || { echo "no sample model in this build"; exit 77; }
"$MOESCOPE" help top >/dev/null 2>&1 || { echo "no command top in this build"; exit 77; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
cp "$root/tests/data/models/qwen3moe.gguf" model.gguf
for d in english french c; do
	mkdir -p my-texts/$d
	awk -v d=my-texts/$d '/^<\|endoftext\|>$/ { n++; next } n < 3 { print > (d "/" n ".txt") }' \
		"$root/models/texts/$d.txt"
done
PATH="$(dirname "$MOESCOPE"):$PATH" "$root/tests/tools/docblocks.sh" ${1:+"$1"} "$root/README.md"
