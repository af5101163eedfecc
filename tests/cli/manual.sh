#!/bin/sh
# docs/moescope.1 and `moescope help` name the same commands and options, with the same arguments,
# and groff has nothing to complain about.
set -eu
cd "$(dirname "$0")/../.."
man=docs/moescope.1
moescope=${MOESCOPE:-build/moescope}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
bad=0

# Options of section $1 of the manual: "-d --db FILE", a line each.
manual_options() {
	awk -v want="$1" '
	/^\.S[sh] / { on = ($0 == ".Ss " want) }
	on && /^\.It Fl / {
		gsub(/ , Fl -/, " --"); sub(/^\.It Fl /, "-"); sub(/ Ar /, " ")
		print
	}' $man
}

"$moescope" help >"$tmp/help"
sed -n 's/^  \([a-z][a-z]*\)  .*/\1/p' "$tmp/help" | sort >"$tmp/commands"
awk '/^\.Sh / { on = $2 == "COMMANDS" } on && /^\.Ss [a-z]/ { print $2 }' $man | sort >"$tmp/in_man"
if ! diff "$tmp/commands" "$tmp/in_man" >"$tmp/diff"; then
	echo "commands: < help, > $man"
	cat "$tmp/diff"
	bad=1
fi
[ -s "$tmp/commands" ] || { echo "\`moescope help\` names no command"; exit 1; }

for c in $(cat "$tmp/commands"); do
	"$moescope" help "$c" >"$tmp/help"
	sed -n '/^Options:/,$ s/^  *\(-[^ ].*\)/\1/p' "$tmp/help" | sed 's/   *.*//; s/, / /' | sort >"$tmp/a"
	manual_options "$c" >"$tmp/b"
	# A section that refers to the engine's options has those too.
	if awk -v want="$c" '/^\.S[sh] / { on = ($0 == ".Ss " want) } on && /^\.Sx Engine options/ { f = 1 }
			END { exit !f }' $man; then
		manual_options "Engine options" >>"$tmp/b"
	fi
	sort -o "$tmp/b" "$tmp/b"
	if ! diff "$tmp/a" "$tmp/b" >"$tmp/diff"; then
		echo "options of $c: < help, > $man"
		cat "$tmp/diff"
		bad=1
	fi
	# Defaults: what help calls a default, the manual does too.
	for d in $(sed -n 's/.*(default \([0-9.]*[0-9]\)[,) ].*/\1/p' "$tmp/help"); do
		grep -q -i "default.* $d\b" $man || { echo "$c: default $d is not in $man"; bad=1; }
	done
done

if command -v groff >/dev/null; then
	groff -mandoc -Tutf8 -ww -z $man >"$tmp/out" 2>&1 || bad=1
	if [ -s "$tmp/out" ]; then
		cat "$tmp/out"
		bad=1
	fi
fi
if command -v mandoc >/dev/null; then
	mandoc -T lint -W warning $man || bad=1
fi
exit $bad
