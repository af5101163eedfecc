#!/bin/sh
# full-disk.sh - no room for the database: the run stops with one line and exit 4, what was committed
# can be read and is consistent, and the next run with room goes on. Once by a limit on the size of
# files (EFBIG; SIGXFSZ must not kill), once on a tiny file system (ENOSPC) where one can be mounted.
. "$(dirname "$0")/check.inc"

awk 'BEGIN {
	for (i = 0; i < 1500; i++) {
		text = ""
		for (j = 0; j < 30; j++)
			text = text " w" (i * 7 + j * j) % 97
		printf "{\"domain\": \"d%d\", \"text\": \"%s\"}\n", i % 3, text
	}
}' >texts.jsonl

one_line() { # what, code
	same "$1: exit" "$got" "$2"
	same "$1: lines on stderr" "$(wc -l <err)" 1
	grep -q '^moescope' err || no "$1: $(cat err)"
}

whole() { # what, database
	same "$1: integrity" "$(q "$2" 'PRAGMA integrity_check')" ok
	same "$1: tokens of load and of the chunks" "$(q "$2" "SELECT count(*) FROM (SELECT l.t, c.t AS u FROM
		(SELECT run, layer, sum(tokens) AS t FROM load GROUP BY run, layer) l
		LEFT JOIN (SELECT run, sum(n) AS t FROM chunk GROUP BY run) c ON c.run = l.run WHERE l.t IS NOT u)")" 0
	same "$1: picks of load and of the chunks" \
		"$("$MOESCOPE" stat "$2" --by expert --csv | tr -d '\r' | awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "count") c = i }
			NR > 1 { n += $c } END { print n + 0 }')" \
		"$(q "$2" 'SELECT count(*) FROM routing WHERE run = (SELECT max(id) FROM run)')"
}

# ---- a file system of 6 MiB, in a mount namespace of its own ----
if [ "${1-}" = disk ]; then
	mkdir disk
	mount -t tmpfs -o size=6m none disk 2>err || { cat err; exit 77; }
	run_it profile "$tiny" texts.jsonl --db disk/p.db --detail full
	one_line 'a full disk' 4
	says 'a full disk' 'p.db|full' err
	whole 'a full disk' disk/p.db
	[ "$(q disk/p.db 'SELECT count(*) FROM chunk')" -gt 5 ] || no 'a full disk: nothing was stored'
	mount -o remount,size=20m disk
	run_it run "$tiny" 'With room' --db disk/p.db -n 20 --seed 1
	same "a disk with room again: $(head -c 200 err)" $got 0
	whole 'a disk with room again' disk/p.db
	same 'a disk with room again: runs left open' "$(q disk/p.db "SELECT count(*) FROM run WHERE state = 'live'")" 0
	head -c 30000000 /dev/zero >disk/fill 2>/dev/null
	run_it report disk/p.db -o disk/r.html
	one_line 'a report on a full disk' 4
	for left in disk/r.html*; do
		[ ! -e "$left" ] || no "a report on a full disk: $left is left"
	done
	umount disk
	finish
fi

# ---- a limit on the size of files, in blocks of 512 bytes ----
for how in run profile; do
	db=$how.db
	case $how in
	run) set -- run "$tiny" 'Once upon' -n 16000000 --ctx 16000 --ignore-end --seed 1 --detail full ;;
	profile) set -- profile "$tiny" texts.jsonl --detail full ;;
	esac
	for blocks in 0 8 80 1000 6000; do
		(ulimit -f $blocks && exec "$MOESCOPE" "$@" --db $db 2>"$W/pipe.err" >/dev/null)
		got=$?
		: >err
		[ ! -e pipe.err ] || grep -v 'warning: --ctx' pipe.err >err
		# With no bytes at all not even the message can be written.
		if [ $blocks != 0 ]; then
			one_line "$how within $blocks blocks" 4
			grep -q "$db" err || no "$how within $blocks blocks: the file is not named: $(cat err)"
		else
			same "$how within no blocks: exit" $got 4
		fi
	done
	runs=$(q $db 'SELECT count(*) FROM run')
	[ "$runs" -ge 2 ] || no "$how: $runs runs were begun"
	whole "$how within limits" $db
	[ "$(q $db 'SELECT count(*) FROM chunk')" -gt 5 ] || no "$how: nothing was stored before the disk was full"
	same "$how within limits: runs that say they are done" "$(q $db "SELECT count(*) FROM run WHERE state = 'done'")" 0
	run_it run "$tiny" 'With room' --db $db -n 20 --seed 1
	same "$how: a run with room: $(head -c 200 err)" $got 0
	whole "$how: a run with room" $db
	same "$how: runs left open" "$(q $db "SELECT count(*) FROM run WHERE state = 'live'")" 0
done

# ---- the part above ----
self=$root/tests/cli/full-disk.sh
for way in '-m' '-rm'; do
	if unshare $way true 2>/dev/null; then
		unshare $way sh "$self" disk >disk.out 2>&1
		status=$?
		[ $status = 77 ] || { cat disk.out; break; }
	fi
	status=77
done
case $status in
0) ;;
77) echo "no file system can be mounted here: only the limit on files was tried" ;;
*) bad=$((bad + 1)) ;;
esac
finish
