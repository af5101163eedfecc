#!/bin/sh
# docblocks.sh - run what a page of documentation shows, so that the page cannot rot.
#
#	docblocks.sh FILE.md            in the current directory, blocks in order, moescope on PATH
#	docblocks.sh --update FILE.md   and put what was printed into the page
#
#	```sh       is run by `sh -e` and must succeed
#	```text     directly after one: what it prints on standard output, line by line. A line `...`
#	            stands for any lines; what depends on the clock (see `still`) is not compared
#	```console  each line `$ COMMAND` is run on a terminal; two seconds later `q` is typed. Lines
#	            `$ make ...` and `$ git ...` are left out: the caller is their test
set -eu
update=
[ "$1" != --update ] || { update=1; shift; }
page=$1
blocks=$(mktemp -d)
trap 'rm -rf "$blocks"' EXIT

# Blocks as files: 007.sh, 007.text, 007.console; numbers are those of the page's blocks in order.
awk -v dir="$blocks" '
/^```/ {
	if (on) { close(file); on = 0; next }
	on = 1
	kind = substr($0, 4)
	if (kind == "text" && after == "sh") name = last
	else name = sprintf("%03d", ++n)
	file = (kind == "text" && after != "sh") ? "/dev/null" : dir "/" name "." (kind == "" ? "none" : kind)
	printf "" > file
	after = kind; last = name
	next
}
on { print > file; next }
NF { after = "" }' "$page"

# What is allowed to differ from run to run: speeds, durations, dates, sizes of files on disk.
still() {
	sed -e 's/[0-9][0-9,.]* tokens\/s/N tokens\/s/g' -e 's/[0-9][0-9.]* s\([,. ]\|$\)/N s\1/g' \
		-e 's/20[0-9-]*T[0-9:]*Z/DATE/g' -e 's/[0-9][0-9]* [kM]B/N B/g'
}

differs() { # expected, got: 0 if they differ; `...` in expected stands for any lines
	awk '
	function match_from(i, j,  k) {
		for (; i <= n; i++) {
			if (want[i] == "...") {
				for (k = j; k <= m + 1; k++)
					if (match_from(i + 1, k)) return 1
				return 0
			}
			if (j > m || want[i] != got[j++]) return 0
		}
		return j > m
	}
	FILENAME == ARGV[1] { want[++n] = $0; next }
	{ got[++m] = $0 }
	END { exit match_from(1, 1) }' "$1" "$2"
}

bad=0
for b in "$blocks"/*.sh "$blocks"/*.console; do
	[ -e "$b" ] || continue
	echo "$b"
done | sort >"$blocks/list"
while read -r b; do
	case $b in
	*.console)
		sed -n 's/^\$ //p' "$b" | while read -r line; do
			case $line in make* | git* | cd* | sudo*) continue ;; esac
			command -v script >/dev/null || { echo "no script(1): left out: $line"; continue; }
			(sleep 2; printf q; sleep 1) | TERM=xterm-256color timeout 60 \
				script -qec "$line" /dev/null >"$blocks/out" 2>&1 || {
				echo "$page: on a terminal: $line"
				tail -5 "$blocks/out" | cat -v
				exit 1
			}
		done || bad=1
		continue ;;
	esac
	if ! sh -e "$b" >"$blocks/out" 2>"$blocks/err" </dev/null; then
		echo "$page: failed:"
		sed 's/^/  /' "$b"
		tail -5 "$blocks/err"
		bad=1
		continue
	fi
	text=${b%.sh}.text
	[ -e "$text" ] || continue
	still <"$text" >"$blocks/want"
	still <"$blocks/out" >"$blocks/got"
	if differs "$blocks/want" "$blocks/got"; then
		if [ -n "$update" ] && ! grep -qx '\.\.\.' "$text"; then
			cp "$blocks/out" "$text.new"
			continue
		fi
		echo "$page: this prints something else than the page says:"
		sed 's/^/  /' "$b"
		diff "$blocks/want" "$blocks/got" | head -40
		bad=1
	fi
done <"$blocks/list"

if [ -n "$update" ]; then
	awk -v dir="$blocks" '
	/^```/ {
		if (on) { on = skip = 0; print; next }
		on = 1
		kind = substr($0, 4)
		print
		if (kind == "text" && after == "sh") {
			file = dir "/" last ".text.new"
			while ((getline line < file) > 0) { print line; skip = 1 }
			close(file)
		} else last = sprintf("%03d", ++n)
		after = kind
		next
	}
	on && skip { next }
	!on && NF { after = "" }
	{ print }' "$page" >"$blocks/page"
	cat "$blocks/page" >"$page"
fi
exit $bad
