#!/bin/sh
# The databases in sample-traces/ were written by earlier versions: every command that reads one still
# does, says what the sqlite3 shell finds in the file, and leaves it as it was.
set -eu
cd "$(dirname "$0")/../.."
MOESCOPE=${MOESCOPE:-$PWD/build/moescope}
ls sample-traces/*.db >/dev/null 2>&1 || { echo "no sample traces"; exit 77; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
same() { # what, got, wanted
	[ "$2" = "$3" ] || { echo "$db: $1: got '$2', expected '$3'"; exit 1; }
}

for db in sample-traces/*.db; do
	name=$(basename "$db")
	sum=$(sha256sum "$db" | cut -d' ' -f1)
	grep -q "$sum" sample-traces/README.md || { echo "$db: its SHA-256 is not in sample-traces/README.md"; exit 1; }

	"$MOESCOPE" stat "$db" --runs --csv >"$tmp/runs"
	same "runs" "$(sed 1d "$tmp/runs" | wc -l)" "$(sqlite3 "$db" 'SELECT count(*) FROM run')"
	"$MOESCOPE" stat "$db" --csv >"$tmp/layers"
	same "layer,tokens" "$(sed 1d "$tmp/layers" | cut -d, -f4,5)" \
		"$(sqlite3 -csv "$db" 'SELECT layer, sum(tokens) FROM load GROUP BY layer' | tr -d '\r')"
	"$MOESCOPE" stat "$db" --by expert --json >"$tmp/experts"
	# Every token picks k experts.
	same "picks" "$(sqlite3 :memory: "SELECT sum(value ->> 'count') FROM
		json_each(CAST(readfile('$tmp/experts') AS TEXT))")" \
		"$(sqlite3 "$db" 'SELECT sum(l.tokens * m.k) FROM load l JOIN moe_layer m USING (layer)')"
	"$MOESCOPE" sql "$db" --csv "SELECT count(*) FROM routing" | sed 1d >"$tmp/rows"
	case $(sqlite3 "$db" 'SELECT detail FROM run') in
	counts) same "rows of routing" "$(cat "$tmp/rows")" 0 ;;
	*) same "rows of routing" "$(cat "$tmp/rows")" \
		"$(sqlite3 "$db" 'SELECT sum(l.tokens * m.k) FROM load l JOIN moe_layer m USING (layer)')" ;;
	esac
	for what in --specialisation --locality --coactivation --alarms "--by domain"; do
		# shellcheck disable=SC2086
		"$MOESCOPE" stat "$db" $what >"$tmp/out" 2>"$tmp/err" || { cat "$tmp/err"; exit 1; }
	done
	"$MOESCOPE" top "$db" --once >"$tmp/out"
	"$MOESCOPE" report "$db" --format json --output "$tmp/report.json" 2>"$tmp/err"

	same "SHA-256 after reading" "$(sha256sum "$db" | cut -d' ' -f1)" "$sum"
	for f in "$db"?*; do
		[ ! -e "$f" ] || { echo "reading $db left $f behind"; exit 1; }
	done
	size=$(wc -c <"$db")
	[ "$size" -le 700000 ] || { echo "$db: $size bytes, at most 700000 are kept here"; exit 1; }
done
