#!/bin/sh
# sql.sh - `moescope sql` and the loadable extension: formats, errors, hostile text, read-only.
set -eu
build=$(dirname "$MOESCOPE")
tmp=$(mktemp -d)
trap 'chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT
db=$tmp/run.db
same() { # what, got, wanted
	[ "$2" = "$3" ] || { printf '%s: got\n%s\nexpected\n%s\n' "$1" "$2" "$3"; exit 1; }
}
fails() { # exit status, text of the message, then arguments of `sql`
	want=$1 text=$2
	shift 2
	status=0
	"$MOESCOPE" sql "$@" >"$tmp/out" 2>"$tmp/err" </dev/null || status=$?
	same "exit status of $*" $status "$want"
	grep -q "$text" "$tmp/err" || { echo "sql $*: no '$text' in: $(cat "$tmp/err")"; exit 1; }
	same "lines of the message" "$(wc -l <"$tmp/err")" 1
}

"$build/tests/feed" "$db" --layers 2 --first-layer 3 --experts 8 --k 2 --tokens 1000 >/dev/null
before=$(sha256sum <"$db")
same table "$("$MOESCOPE" sql "$db" "SELECT 'ab' AS a, 1 AS long_name, 0.5 AS x UNION ALL SELECT 'c', 22, NULL")" \
"a   long_name    x
--  ---------  ---
ab          1  0.5
c          22     "
same json "$(echo "SELECT 1 AS i, 0.5 AS r, NULL AS n, 'a\"b' AS t, x'00ff' AS b" | "$MOESCOPE" sql "$db" --json)" \
'[
 {"i": 1, "r": 0.5, "n": null, "t": "a\"b", "b": "00ff"}
]'
same csv "$("$MOESCOPE" sql "$db" --csv "SELECT 1 AS i, 'a,\"b' AS t, '=1+1' AS f, NULL AS n")" \
'i,t,f,n
1,"a,""b",'"'=1+1,"
same escapes "$("$MOESCOPE" sql "$db" "SELECT char(27) || '[2J' || char(8238) AS t" | tail -1)" '\x1b[2J\u202e'
same "long tables" "$("$MOESCOPE" sql "$db" "SELECT layer FROM routing" | sed 1,2d | sort | uniq -c | tr -s ' ')" \
" 2000 3
 2000 4"
fails 3 'near "SELEC"' "$db" 'SELEC 1'
fails 3 'only statements that read' "$db" 'DELETE FROM run'
fails 3 'only statements that read' "$db" "VACUUM INTO '$tmp/copy.db'"
fails 3 'no such table' "$db" 'SELECT * FROM nowhere'
fails 3 'no such file' "$tmp/none.db" 'SELECT 1'
fails 3 'not a SQLite database' "$0" 'SELECT 1'
fails 2 'exclude' "$db" 'SELECT 1' --json --csv
same "the database" "$(sha256sum <"$db")" "$before"
same "files beside it" "$(ls "$tmp" | tr '\n' ' ')" "err out run.db "

# One table, three ways to count it.
by_routing='SELECT layer, expert, count(*) FROM routing GROUP BY 1, 2'
by_sort='SELECT layer, expert, count(*) FROM (SELECT layer, expert, pos FROM routing LIMIT -1) GROUP BY 1, 2'
"$MOESCOPE" sql "$db" --csv "$by_routing" >"$tmp/a"
"$MOESCOPE" sql "$db" --csv "$by_sort" >"$tmp/b"
cmp "$tmp/a" "$tmp/b"
same "picks" "$("$MOESCOPE" sql "$db" --csv 'SELECT count(*) FROM routing' | tail -1)" 4000
same "run as text" "$("$MOESCOPE" sql "$db" --csv "SELECT count(*) FROM routing WHERE run = '1' AND layer = 3.0" | tail -1)" 2000
same "no such layer" "$("$MOESCOPE" sql "$db" --csv "SELECT count(*) FROM routing WHERE layer = 3.5 OR layer = -1" | tail -1)" 0
same "fixed columns" "$("$MOESCOPE" sql "$db" --csv "SELECT DISTINCT run, phase FROM routing WHERE run = 1 AND phase = 1" | tail -1)" 1,1
if command -v sqlite3 >/dev/null; then
	sqlite3 -csv -cmd ".load '$build/moescope_routing'" "$db" "$by_routing" | tr -d '\r' >"$tmp/c"
	sed 1d "$tmp/a" | cmp - "$tmp/c"
fi

# A finished database in a directory that cannot be written; root needs to become somebody else.
mkdir "$tmp/ro"
cp "$db" "$tmp/ro/plain.db"
cp "$db" "$tmp/ro/wal.db"
sqlite3 "$tmp/ro/wal.db" 'PRAGMA journal_mode = WAL' >/dev/null
chmod 755 "$tmp"
chmod 444 "$tmp/ro"/*.db
chmod 555 "$tmp/ro"
as=
[ "$(id -u)" != 0 ] || as='setpriv --reuid 65534 --regid 65534 --clear-groups'
if [ -z "$as" ] || { command -v setpriv >/dev/null && $as test -x "$MOESCOPE"; }; then
	for f in plain wal; do
		same "read-only directory, $f" "$($as "$MOESCOPE" sql "$tmp/ro/$f.db" --csv 'SELECT count(*) FROM run' | tail -1)" 1
	done
fi
