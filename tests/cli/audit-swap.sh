#!/bin/sh
# audit-swap.sh - the files that a run is made from are looked at again when it ends: model and adapters whose bytes
# changed meanwhile are found, also where time and size were put back; ones that were only touched, copied or
# renamed there and back are not.
. "${0%/*}/check.inc"
verify=$(dirname "$MOESCOPE")/moescope-verify
base=$models/qwen2moe.gguf
mkdir keys
n=0
swap() { # what, exit status of verify, what model_file says, commands while the run is live
	n=$((n + 1))
	cp "$base" m.gguf
	cp "$root/tests/data/lora/plain.gguf" l.gguf
	chmod 644 m.gguf l.gguf
	ok "$1: a log" audit init $n.db --origin example.org/swap --key keys/k
	"$MOESCOPE" run -d $n.db -n 100000 --ignore-end --ctx 100000 -s 1 --lora l.gguf m.gguf Hello >/dev/null 2>err &
	pid=$!
	for i in $(seq 200); do # until it decodes
		[ "$(sqlite3 $n.db "SELECT count(*) FROM chunk" 2>/dev/null || echo 0)" -gt 1 ] && break
		kill -0 $pid 2>/dev/null || break
		sleep 0.05
	done
	eval "$4"
	kill -INT $pid
	wait $pid
	same "$1: what the log says" "$(sqlite3 $n.db "SELECT CAST(payload AS TEXT) FROM audit_leaf WHERE kind = 3" |
		sed -n 's/^model_file //p')" "$3"
	"$verify" --pubkey keys/k.pub --deep $n.db >out 2>err
	same "$1: exit of verify" $? "$2"
	[ "$2" = 2 ] || says "$1" 'TAMPERED: run 1: when it ended' out
}
flip() { # a byte in the middle of a file, its times put back
	cp -p "$1" was
	printf '\377' | dd of="$1" bs=1 seek=$(($(wc -c <"$1") / 2)) conv=notrunc 2>/dev/null
	cmp -s "$1" was && printf '\0' | dd of="$1" bs=1 seek=$(($(wc -c <"$1") / 2)) conv=notrunc 2>/dev/null
	touch -r was "$1"
}
swap "nothing" 2 same :
swap "touched" 2 same 'touch m.gguf l.gguf'
swap "another file with the same bytes" 2 same 'cp m.gguf n.gguf; mv n.gguf m.gguf'
swap "edited, its time put back" 1 changed 'flip m.gguf'
swap "another file in its place" 1 changed 'cp m.gguf n.gguf; flip n.gguf; mv n.gguf m.gguf'
swap "the adapter edited" 1 changed 'flip l.gguf'
swap "gone" 1 gone 'rm m.gguf'
finish
