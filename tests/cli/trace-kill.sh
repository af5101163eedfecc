#!/bin/sh
# trace-kill.sh - kill -9 the writer at random moments, several times on one database. After each:
# the file is whole, load equals what `routing` counts from the chunks, every sequence's chunks are
# without holes, and the next writer marks the run failed and adds one recovery event.
set -eu
tools=$(dirname "$MOESCOPE")/tests
tmp=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true; rm -rf "$tmp"' EXIT
db=$tmp/run.db
q() { "$MOESCOPE" sql "$db" --csv "$1" | sed 1d; }
same() { # what, got, wanted
	[ "$2" = "$3" ] || { echo "$1: got '$2', expected '$3'"; exit 1; }
}

check() { # run: load against its chunks
	q "SELECT layer, expert, count(*) FROM routing WHERE run = $1 GROUP BY 1, 2" >"$tmp/routing"
	# load.counts is u64 little-endian; read with the shell, not with this program
	sqlite3 "$db" "WITH RECURSIVE e(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM e WHERE i < 15),
		b(i, v) AS (VALUES (1,1),(2,256),(3,65536),(4,16777216),(5,4294967296)),
		c AS (SELECT layer, i AS expert, (SELECT sum(v * (instr('0123456789ABCDEF',
			substr(hex(substr(counts, e.i * 8 + b.i, 1)), 1, 1)) * 16 - 16 +
			instr('0123456789ABCDEF', substr(hex(substr(counts, e.i * 8 + b.i, 1)), 2, 1)) - 1))
			FROM b) AS n FROM load, e WHERE run = $1)
		SELECT layer || ',' || expert || ',' || sum(n) FROM c GROUP BY layer, expert
		HAVING sum(n) > 0" >"$tmp/load"
	cmp -s "$tmp/routing" "$tmp/load" || { echo "run $1: load and routing differ"
		diff "$tmp/routing" "$tmp/load" | head -5; exit 1; }
	same "run $1: tokens" "$(q "SELECT sum(n) FROM chunk WHERE run = $1")" \
		"$(q "SELECT sum(tokens) FROM load WHERE run = $1 AND layer = 0")"
	same "run $1: holes" "$(q "SELECT count(*) FROM (SELECT pos, lag(pos + n) OVER
		(PARTITION BY sequence ORDER BY pos) AS before FROM chunk WHERE run = $1)
		WHERE before <> pos")" 0
}

run=0
for ms in 0.05 0.02 0.41 0.67 0.93 1.26; do
	run=$((run + 1))
	"$tools/feed" "$db" --tokens 0 --rate 40000 --commit 20 --seed $run >/dev/null 2>&1 &
	pid=$!
	sleep $ms
	kill -9 $pid
	wait $pid 2>/dev/null || true
	pid=
	if [ ! -s "$db" ] || [ "$(q 'SELECT max(id) FROM run' 2>/dev/null)" != $run ]; then
		run=$((run - 1)) # killed before the run had begun: the next one tells whether that hurt
		continue
	fi
	same "after kill $run" "$(q 'PRAGMA integrity_check')" ok
	same "runs" "$(q 'SELECT max(id) FROM run')" $run
	same "state of run $run" "$(q "SELECT state FROM run WHERE id = $run")" live
	check $run
	same "an earlier run" "$(q "SELECT count(*) FROM run WHERE id < $run AND state <> 'failed'")" 0
done
"$tools/feed" "$db" --tokens 1000 >/dev/null
same "runs marked failed" "$(q "SELECT count(*) FROM run WHERE state = 'failed'")" $run
same "recovery events" "$(q "SELECT count(*) FROM event WHERE kind = 'recovery'")" $run
same "the last run" "$(q "SELECT state FROM run WHERE id = $run + 1")" done
[ "$(q 'SELECT count(*) FROM chunk WHERE run <= 5')" -gt 10 ] || { echo "too little was written"; exit 1; }
for i in $(seq $((run + 1))); do check "$i"; done
[ ! -e "$db-lock" ] || { echo "a lock file is left"; exit 1; }
[ ! -e "$db-wal" ] || { echo "a write-ahead log is left after a clean close"; exit 1; }
