#!/bin/sh
# no-memory.sh - the Nth allocation of a command fails, once or from then on, for many N: no crash,
# and where the command cannot go on, one line and exit 4. The database stays whole.
case ${SAN-} in ?*) echo "a sanitizer has its own allocator"; exit 77 ;; esac
. "$(dirname "$0")/check.inc"
so=$(dirname "$MOESCOPE")/tests/fail_alloc.so
if [ ! -e "$so" ]; then
	make -s -C "$root" "${so#"$root/"}" >make.log 2>&1 || { cat make.log; echo "fail_alloc.so cannot be built here"; exit 77; }
fi

# One command over N = 1, 2, ...: all of the first, then ever longer steps, until it never happens.
sweep() { # what, all, step by which N grows: N / step; ARGS
	what=$1 all=$2 step=$3
	shift 3
	n=1 failed=0 hit=1
	while [ $hit = 1 ] && [ $n -lt 1000000 ]; do
		rm -f mark sweep.db*
		env FAIL_AT=$n ${all:+FAIL_ALL=1} FAIL_MARK="$W/mark" LD_PRELOAD="$so" "$MOESCOPE" "$@" >out 2>err </dev/null
		got=$?
		hit=0
		[ ! -e mark ] || hit=1
		if [ $got != 0 ]; then
			failed=$((failed + 1))
			[ $got = 4 ] || no "$what, allocation $n$all: exit $got: $(head -c 200 err)"
			line= second=
			{ IFS= read -r line && ! IFS= read -r second; } <err || no "$what, allocation $n$all: not one line: $(head -c 300 err)"
			case $line in
			moescope*) ;;
			*) no "$what, allocation $n$all: $line" ;;
			esac
		fi
		n=$((n + 1 + n / step))
	done
	[ $hit = 0 ] || no "$what: no end at $n"
	[ $failed -gt 10 ] || no "$what: only $failed failures ($n)"
}

sweep inspect '' 60 inspect "$tiny"
sweep inspect ' and all after it' 30 inspect "$tiny"
sweep run '' 25 run "$tiny" 'Hello world' -n 4 --seed 1 --threads 2 --db sweep.db
sweep run ' and all after it' 15 run "$tiny" 'Hello world' -n 4 --seed 1 --threads 2 --db sweep.db
sweep quantize '' 25 quantize "$tiny" sweep.db --type Q8_0 --threads 2
run_it run "$tiny" 'Hello world' -n 4 --seed 1 --db good.db
sweep stat '' 25 stat good.db --by expert

# A database in which a run failed for want of memory is whole and can be gone on with.
for n in 200 400 800 1600; do
	env FAIL_AT=$n FAIL_ALL=1 LD_PRELOAD="$so" "$MOESCOPE" run "$tiny" 'Hello world' -n 4 --seed 1 --db good.db >out 2>err
done
same 'integrity' "$(q good.db 'PRAGMA integrity_check')" ok
run_it run "$tiny" 'Hello world' -n 4 --seed 1 --db good.db
same "a run with memory again: $(head -c 200 err)" $got 0
same 'the last run' "$(q good.db 'SELECT state FROM run ORDER BY id DESC LIMIT 1')" done
finish
