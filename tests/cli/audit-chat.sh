#!/bin/sh
# audit-chat.sh - conversations in an audit log: every turn is recorded, the log verifies, and a replay feeds
# the turns as they were: the digests of logits are met whatever the threads and the batch. And logs that
# earlier versions wrote still verify and replay.
. "${0%/*}/check.inc"
verify=$(dirname "$MOESCOPE")/moescope-verify
mkdir keys
ok init audit init a.db --origin example.org/a --key keys/k
talk() { # lines as printf's format, options...
	lines=$1
	shift
	# shellcheck disable=SC2059
	printf "$lines" | "$MOESCOPE" run --chat sample:balanced --chat-template chatml -d a.db "$@" >"$W/out" 2>"$W/err"
	got=$?
	[ $got = 0 ] || no "a conversation: exit $got: $(cat "$W/err")"
}
exact() { # run, sequences, options of replay...
	run=$1 n=$2
	shift 2
	run_it audit replay a.db "$run" --unlogged --model sample:balanced "$@"
	[ $got = 0 ] || no "replay $run $*: exit $got: $(cat out err)"
	says "replay $run $*" "run $run: $n sequences, $n BIT_EXACT" out
}
talk 'One\nTwo two\n\nThree\n/reset\nAnother\nand more\n' -s 1 -n 12 -t 1
for how in "-t 1 -b 512" "-t 2 -b 1" "-t 3 -b 7"; do
	# shellcheck disable=SC2086
	exact 1 2 $how
done
same turns "$(sqlite3 a.db "SELECT CAST(payload AS TEXT) FROM audit_leaf WHERE kind = 7 AND seq = 2" |
	grep -c '^logit_at [0-9]*-[0-9]*,[0-9]*-[0-9]*$')" 1
# Replies of no token: two turns are read in one after the other.
talk 'One\nTwo two\n' -n 0
exact 2 1
same "positions of logits" "$(sqlite3 a.db "SELECT CAST(payload AS TEXT) FROM audit_leaf WHERE kind = 7 AND run = 2" |
	grep -c '^logit_at [0-9]*,[0-9]*$')" 1
talk 'Hello\nAnd now?\n' -s 7 -n 9 --ctx 64
exact 3 1
# What was said in another order is another conversation.
cp a.db b.db
sqlite3 b.db "UPDATE chunk SET tokens = (SELECT CAST(substr(c.tokens, 1, 20) || x'05000000' || substr(c.tokens, 25)
	AS BLOB) FROM chunk c WHERE c.id = chunk.id) WHERE run = 1 AND id = (SELECT min(id) FROM chunk WHERE run = 1)"
run_it audit replay b.db 1 --unlogged --model sample:balanced
[ $got -le 1 ] || no "another token: exit $got: $(cat err)"
says "another token" 'the logits have another digest' out
grep -q '^sequence 1 .*BIT_EXACT' out && no "another token is not noticed"

# ---- a strict log: what is shown is committed, and it is shown before the next turn ----
{
	printf 'Hello\n'
	i=0
	while [ $i -lt 100 ] && ! [ -s "$W/live" ]; do
		i=$((i + 1))
		sleep 0.1
	done
	cp "$W/live" "$W/snapshot"
	sqlite3 "file:$W/a.db?mode=ro" 'SELECT sum(n) FROM chunk WHERE run = 4' >"$W/committed"
} | "$MOESCOPE" run --chat sample:balanced --chat-template chatml -d a.db -s 3 -n 6 --ignore-end >"$W/live" 2>"$W/err"
[ -s snapshot ] || no "the reply of a strict log waits for the conversation's end"
[ "$(cat committed)" -ge 6 ] || no "a reply was shown with $(cat committed) tokens committed"
exact 4 1
ok anchor audit anchor a.db -o anchors
"$verify" -p keys/k.pub a.db --deep --anchor anchors >out 2>err || no "verify: exit $?: $(cat out err)"
ok explain audit explain a.db 1 30 --run 1 --model sample:balanced --layer 0
says explain 'position 30|masked' out

# ---- logs of earlier versions ----
for old in "$root"/tests/data/audit/*.db; do
	base=${old%.db}
	cp "$old" old.db
	"$verify" -p "$base.pub" old.db --deep --anchor "$base.anchor" >out 2>err || no "$old: exit $?: $(cat out err)"
	for run in 1 2; do
		run_it audit replay old.db $run --unlogged --model "$tiny"
		[ $got = 0 ] || no "$old: replay: exit $got: $(cat out err)"
		says "$old: replay" 'BIT_EXACT' out
		grep -q 'ROUTE\|DIVERGED\|NOT_' out && no "$old: $(cat out)"
	done
	cmp -s "$old" old.db || no "$old: reading changed it"
done
finish
