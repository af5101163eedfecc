#!/bin/sh
# top-live.sh - the dashboard beside a writer that is as fast as it can be: the write-ahead log stays
# bounded, nothing is lost, and what the dashboard takes for following is small. Needs tmux.
set -eu
build=$(dirname "$MOESCOPE")
command -v tmux >/dev/null || { echo "tmux is not installed"; exit 77; }
tmp=$(mktemp -d)
feed=
tm() { LC_ALL=C.UTF-8 tmux -L "moescope-live-$$" -f /dev/null "$@"; }
trap '[ -z "$feed" ] || kill "$feed" 2>/dev/null || true; tm kill-server 2>/dev/null || true; rm -rf "$tmp"' EXIT
fail() { echo "$1"; tm capture-pane -p 2>/dev/null || true; exit 1; }
db=$tmp/run.db

# ---- the log beside readers of every screen ----
"$build/tests/feed" "$db" --layers 12 --experts 64 --k 4 --bucket 500 --tokens 0 >/dev/null 2>&1 &
feed=$!
while [ ! -s "$db" ]; do sleep 0.1; done
tm new-session -d -x 110 -y 32 "TERM=tmux-256color '$MOESCOPE' top '$db'"
most=0
for i in $(seq 60); do
	tm send-keys $((i % 8 + 1))
	sleep 0.15
	wal=$(wc -c <"$db-wal" 2>/dev/null || echo 0)
	[ "$wal" -le "$most" ] || most=$wal
done
tm send-keys 1
tm capture-pane -p | grep -q live || fail "the run is not shown as live"
# A checkpoint at 1000 pages (4 MiB) is behind by what one commit brings and by the longest read.
[ "$most" -lt $((64 << 20)) ] || fail "the write-ahead log grew to $most bytes"
kill "$feed"
wait "$feed" 2>/dev/null || true
feed=
tm kill-server
lost=$(sqlite3 "$db" "SELECT total(value) FROM event WHERE kind = 'gap'")
[ "$lost" = 0.0 ] || fail "the writer lost $lost tokens"
echo "write-ahead log at most $((most >> 10)) KiB"

# ---- what following costs ----
# CPU time of all threads over 10 s, once the first computations are done. The aim is a hundredth of a
# core, which is 100 ms; a busy machine makes every cycle dearer, hence the room.
"$build/tests/feed" "$tmp/slow.db" --layers 24 --experts 64 --k 8 --rate 200 --tokens 0 >/dev/null 2>&1 &
feed=$!
while [ ! -s "$tmp/slow.db" ]; do sleep 0.1; done
tm new-session -d -x 110 -y 32 "exec env TERM=tmux-256color '$MOESCOPE' top '$tmp/slow.db'"
sleep 6
pid=$(tm list-panes -F '#{pane_pid}')
ns() { cat "/proc/$pid"/task/*/schedstat | awk '{ n += $1 } END { printf "%d", n / 1000 }'; }
[ -e "/proc/$pid/schedstat" ] || { echo "no schedstat: the cost was not measured"; exit 0; }
before=$(ns)
sleep 10
after=$(ns)
used=$(((after - before) / 1000))
echo "following took $used ms of CPU time in 10 s"
[ "$used" -lt 400 ] || fail "following takes $used ms of 10 s"

# ---- one refresh by itself ----
# The aim is 5 ms for figures and drawing.
"$build/tests/refresh" "$tmp/slow.db" --times 5 --pause 300 >"$tmp/refresh" || fail "refresh failed"
cat "$tmp/refresh"
awk '/^(figures|drawing)/ { sum += $3; n++ } END { exit !(n == 2 && sum < 20) }' "$tmp/refresh" ||
	fail "a refresh takes too long"
