#!/bin/sh
# The worked example of docs/AUDIT.md runs as it stands, with sha256sum and openssl.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD
MOESCOPE=${MOESCOPE:-$PWD/build/moescope}
build=$(dirname "$MOESCOPE")
command -v openssl >/dev/null || { echo "openssl is not installed"; exit 77; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
# Blocks share functions and variables here, so they run as one script; then what each printed is compared.
awk -v dir="$tmp" '
/^```/ { on = !on; kind = on ? substr($0, 4) : ""; if (on && kind == "sh") { n++; print "exec >out." n } next }
on && kind == "sh" { print > "/dev/stdout" }
on && kind == "text" { print > (dir "/want." n) }' "$root/docs/AUDIT.md" >script
PATH="$build:$PATH" sh -e script 2>err </dev/null || { echo "the example fails:"; tail -5 err; exit 1; }
bad=0
for w in want.*; do
	o=out.${w#want.}
	while IFS= read -r line; do
		case $line in
		...) ;;
		*...) grep -qF "${line%...}" "$o" || { echo "$w: no '$line' in:"; cat "$o"; bad=1; } ;;
		*) grep -qxF -- "$line" "$o" || { echo "$w: no '$line' in:"; cat "$o"; bad=1; } ;;
		esac
	done <"$w"
done
[ -e want.2 ] || { echo "no blocks were found"; bad=1; }
exit $bad
