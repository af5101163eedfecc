#!/bin/sh
# install-deps.sh - install the distribution's packages that moescope needs and that are missing.
# Says what and why. Without the rights to install it prints the one command to run and stops.
set -eu

# package: why
need='
gcc: compiles the program
pkg-config: finds the libraries
libopenblas-dev: dense matrix products
libsqlite3-dev: the trace database
libncurses-dev: the dashboard
gnuplot-nox: the pictures in reports
libcmocka-dev: unit tests
libpcre2-dev: tokenizer regular expressions
libutf8proc-dev: widths and classes of Unicode characters
libcjson-dev: reading JSON
libsodium-dev: SHA-256 and signatures
sqlite3: the database shell, for tests and for you
'
missing=
for p in $(printf '%s' "$need" | cut -d: -f1); do
	case $(dpkg-query -W -f='${Status}' "$p" 2>/dev/null || true) in
	*"ok installed"*) ;;
	*) missing="$missing $p" ;;
	esac
done
[ -z "$missing" ] && exit 0

echo "moescope needs these packages of the distribution:"
for p in $missing; do
	printf '%s' "$need" | grep "^$p:" | sed 's/^\([^:]*\): /  \1  - /'
done
cmd="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
	sudo=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
	sudo=sudo
else
	echo "No rights to install them here. Run this once, then try again:"
	echo "  sudo $cmd"
	exit 1
fi
$sudo apt-get update -q >/dev/null
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $sudo $cmd >/dev/null
echo "Installed."
