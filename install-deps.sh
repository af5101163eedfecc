#!/bin/sh
# install-deps.sh - install the distribution's packages that moescope needs and that are missing.
# Says what and why. Without the rights to install it prints the one command to run and stops.
# For Debian and Ubuntu; elsewhere it names the packages and leaves the rest to you.
set -eu
cd "$(dirname "$0")"

# package: why
need='
gcc: compiles the program
pkg-config: finds the libraries
libopenblas-dev: reference products for tests, and the measured peak in bench
libsqlite3-dev: the trace database
libncurses-dev: the dashboard
gnuplot-nox: the pictures in reports
libcmocka-dev: unit tests
libpcre2-dev: tokenizer regular expressions
libutf8proc-dev: widths and classes of Unicode characters
libcjson-dev: reading JSON
libmicrohttpd-dev: HTTP, for `moescope serve`
libcairo2-dev: pictures of dashboard screens (key P); the rest builds without it
fonts-dejavu-core: the font in them
libsodium-dev: SHA-256 and signatures
sqlite3: the database shell, for tests and for you
'
list() { # packages: each with its reason
	for p in "$@"; do
		printf '%s' "$need" | sed -n "s/^$p: \(.*\)/  $p - \1/p"
	done
}
all=$(printf '%s' "$need" | cut -d: -f1)

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	libs='openblas sqlite3 ncursesw libpcre2-8 libutf8proc libcjson libsodium libmicrohttpd cmocka'
	# shellcheck disable=SC2086
	pkg-config --exists $libs 2>/dev/null && command -v gnuplot >/dev/null && exit 0
	echo "moescope needs these (by the names of Debian's packages); please install what is missing:"
	# shellcheck disable=SC2086
	list $all
	exit 1
fi

missing=
for p in $all; do
	case $(dpkg-query -W -f='${Status}' "$p" 2>/dev/null || true) in
	*"ok installed"*) ;;
	*) missing="$missing $p" ;;
	esac
done
[ -z "$missing" ] && exit 0

echo "moescope needs these packages of the distribution:"
# shellcheck disable=SC2086
list $missing
if [ "$(id -u)" = 0 ]; then
	sudo=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
	sudo=sudo
else
	echo "No rights to install them here. Run this once, then try again:"
	if command -v sudo >/dev/null; then
		echo "  sudo ./install-deps.sh"
	else
		echo "  su -c $PWD/install-deps.sh"
	fi
	exit 1
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "Installing them with apt-get ..."
# shellcheck disable=SC2086
if ! { $sudo apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive \
	apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
	tail -20 "$log"
	echo "apt-get failed; the packages are:$missing"
	exit 1
fi
echo "Installed."
