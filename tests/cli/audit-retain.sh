#!/bin/sh
# audit-retain.sh - retention and holds by the log's own clock: nothing goes before its time, whatever the
# tables say; what is held stays; names go with payloads; a payload that went early is found; the wall clock
# that was set back leaves a leaf.
. "${0%/*}/check.inc"
verify=$(dirname "$MOESCOPE")/moescope-verify
so=$(dirname "$MOESCOPE")/tests/late.so
make -s -C "$root" "${so#"$root/"}" >make.log 2>&1 || { cat make.log; echo "late.so cannot be built here"; exit 77; }
# The run time of a sanitizer wants to be the first that is loaded.
preload=$(ldd "$MOESCOPE" | awk '/libasan/ { print $3 ":" }')$so
days() { # whole days ahead, arguments
	n=$1
	shift
	LD_PRELOAD=$preload LATE_SECONDS=$((n * 86400 + 60)) "$MOESCOPE" "$@" >"$W/out" 2>"$W/err" </dev/null
	got=$?
}
LD_PRELOAD=$preload LATE_SECONDS=864000 "$MOESCOPE" version >/dev/null 2>err || { cat err; echo "nothing can be loaded before the program here"; exit 77; }
mkdir keys
ok init audit init a.db --origin example.org/a --key keys/k --retain 200
run_it run -d a.db "$tiny" -n 4 -s 1 --name "first of all" Hello
run_it run -d a.db "$tiny" -n 4 -s 1 --name "the held one" Hello
ok hold audit hold a.db 2 1 --basis "case 7"
payloads() { sqlite3 a.db "SELECT count(*) FROM audit_leaf WHERE run = $1 AND kind IN (5, 6, 7) AND salt IS NOT NULL"; }
first=$(payloads 1)
same "payloads of the second" "$(payloads 2)" "$first"
refuse 2 'promised to keep payloads for 200' audit retain a.db --days 199
# The tables can be edited, the leaves' clock cannot.
sqlite3 a.db 'UPDATE run SET ended = 1'
ok "too early" audit retain a.db
says "too early" 'pruned 0 payloads' out
days 199 audit retain a.db
says "after 199 days" 'pruned 0 payloads' out
same "payloads after 199 days" "$(payloads 1)" "$first"
days 201 audit retain a.db
[ $got = 0 ] || no "retain: exit $got: $(cat err)"
says "after 201 days" "pruned $first payloads" out
same "payloads after 201 days" "$(payloads 1) $(payloads 2)" "0 $first"
same "decisions" "$(q a.db 'SELECT count(*) FROM chunk WHERE run = 1')" 0
same "names" "$(q a.db 'SELECT run, name FROM sequence ORDER BY run' | tr '\n' ' ')" "1, 2,the held one "
grep -aq 'first of all' a.db && no "the name of a pruned sequence is still in the file"
"$verify" -p keys/k.pub a.db --deep >out 2>err
[ $? = 2 ] || no "verify: $(cat out err)"
says "after pruning" "VALID|pruned $first|REMARK" out
grep -q 'the wall clock stepped by' out || no "the wall clock stepped and nothing says so: $(cat out)"
ok release audit hold a.db 2 1 --release --basis "over"
days 202 audit retain a.db
says "released" "pruned $first payloads" out

# Somebody with the key and another clock prunes at once: the leaves' own clocks tell.
ok init audit init b.db --origin example.org/b --key keys/b --retain 200
LD_PRELOAD=$preload LATE_SECONDS=0 "$MOESCOPE" run -d b.db "$tiny" -n 4 -s 1 Hello >/dev/null 2>&1
days 201 audit retain b.db
"$verify" -p keys/b.pub b.db >out 2>err
[ $? = 2 ] || no "pruned in time: $(cat out err)"
cp b.db c.db
sqlite3 c.db "UPDATE audit_leaf SET header = CAST(substr(header, 1, 56) || (SELECT substr(header, 57, 8) FROM audit_leaf
	WHERE idx = 1) || substr(header, 65) AS BLOB) WHERE kind = 14"
"$verify" -p keys/b.pub c.db --headers >out 2>err
"$verify" -p keys/b.pub c.db >out 2>err
[ $? = 1 ] || no "pruned early: $(cat out err)"
says "pruned early" 'promised to keep it for 200' out
finish
