#!/bin/sh
# The example of docs/HOOKS.md compiles, runs and writes what the page says.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD
MOESCOPE=${MOESCOPE:-$PWD/build/moescope}
build=$(dirname "$MOESCOPE")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/bin" "$tmp/source"
ln -s "$root/include" "$tmp/source/include"
ln -s "$build" "$tmp/source/build"
if [ -n "${SAN:-}" ]; then # the library needs the sanitizers' run time
	printf '#!/bin/sh\nexec %s -fsanitize=address,undefined "$@"\n' "$(command -v cc)" >"$tmp/bin/cc"
	chmod +x "$tmp/bin/cc"
fi
cd "$tmp"
awk '/^```c$/ { on = 1; next } /^```/ { on = 0 } on' "$root/docs/HOOKS.md" >engine.c
PATH="$tmp/bin:$build:$PATH" MOESCOPE_SOURCE="$tmp/source" \
	"$root/tests/tools/docblocks.sh" "$root/docs/HOOKS.md"
got=$("$MOESCOPE" stat engine.db --csv | cut -d, -f4,5 | tr '\n' ' ')
[ "$got" = "layer,tokens 0,416 1,416 2,416 " ] || { echo "layers and tokens: $got"; exit 1; }
