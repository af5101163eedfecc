#!/bin/sh
# audit-kill.sh - a strict log survives kill -9 of the program: what was committed verifies (incomplete,
# never tampered), the next run adds a recovery leaf, and then the log is valid again.
. "${0%/*}/check.inc"
verify=$(dirname "$MOESCOPE")/moescope-verify
mkdir keys
ok init audit init a.db --origin example.org/kill --key keys/k --sign-every 1
kills=0
n=0
for wait in 0.02 0.2 0.41 0.67 0.9; do
	"$MOESCOPE" run -d a.db -n 100000 --ignore-end --ctx 20000 -s 1 sample:balanced "Once upon a time" \
		>/dev/null 2>&1 &
	pid=$!
	n=$((n + 1))
	for i in $(seq 200); do # until its run is in the database
		[ "$(sqlite3 a.db "SELECT count(*) FROM run WHERE id = $n AND state = 'live'" 2>/dev/null)" = 1 ] && break
		sleep 0.1
	done
	sleep $wait
	kill -9 $pid 2>/dev/null
	wait $pid 2>/dev/null
	rm -f "$W/out"
	"$verify" --pubkey keys/k.pub --deep a.db >"$W/out" 2>"$W/err"
	got=$?
	[ $got = 2 ] || no "after kill $wait: exit $got: $(head -5 "$W/out" "$W/err")"
	grep -q '^TAMPERED\|^MISSING' "$W/out" && no "after kill $wait: a false alarm: $(head -5 "$W/out")"
	kills=$((kills + $(q a.db "SELECT count(*) FROM run WHERE state = 'live'" || echo 0)))
done
[ "$kills" -gt 0 ] || no "no run was killed while it was live"
ok "another run" run -d a.db -n 5 -s 1 sample:balanced Hello
ok anchor audit anchor a.db -o anchors
run_it audit verify a.db --pubkey keys/k.pub --deep --anchor anchors
[ $got = 0 ] || no "at the end: exit $got: $(head -20 "$W/out" "$W/err")"
same "recovery leaves" "$(sqlite3 a.db 'SELECT count(*) FROM audit_leaf WHERE kind = 10')" \
	"$(sqlite3 a.db "SELECT count(*) FROM event WHERE kind = 'recovery'")"
[ "$(sqlite3 a.db 'SELECT count(*) FROM audit_leaf WHERE kind = 10')" -gt 0 ] || no "no recovery leaf"

# A disk that is full: a strict log stops the run, shows nothing whose record could not be stored, and what
# is there verifies.
ok "a log" audit init full.db --origin example.org/full --key keys/full
"$MOESCOPE" run --no-log -n 3000 --ignore-end --ctx 4096 -s 1 sample:balanced "Once upon a time" >whole 2>/dev/null
(ulimit -f 500; exec "$MOESCOPE" run -d full.db -n 3000 --ignore-end --ctx 4096 -s 1 sample:balanced \
	"Once upon a time" >part 2>err)
got=$?
[ $got = 4 ] || no "a full disk: exit $got: $(cat err)"
size=$(wc -c <part)
[ "$size" -lt "$(wc -c <whole)" ] || no "a full disk: all of the text was shown"
head -c "$size" whole | cmp -s - part || no "a full disk: what was shown is not the beginning of the text"
"$verify" --pubkey keys/full.pub --deep full.db >out 2>err
[ $? = 2 ] || no "after a full disk: $(head -5 out err)"
finish
